"""An independent implementation agrees: pyHanko's own AdES process over the whole file, with the embedded evidence.

pyHanko judges a signature and what came after it separately (the sub-indication and the difference analysis); here a
later change that it calls suspicious counts as its TOTAL-FAILED.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any

import pytest
from asn1crypto import crl as asn1_crl
from asn1crypto import ocsp as asn1_ocsp
from asn1crypto import x509 as asn1_x509

from signing.pades import Evidence, SignerFacts, finish, prepare
from signing.validation import TrustAnchors, validate

from .conftest import NOW, Pki, make_identity, make_pki, sign
from .test_validation import Source, incrementally, replace_text

LATER = NOW + timedelta(minutes=10)
HOUR = timedelta(hours=1)
PASSED, FAILED, OPEN = "TOTAL-PASSED", "TOTAL-FAILED", "INDETERMINATE"


@dataclass(frozen=True)
class Case:
    """A document, what both are told besides it, and the verdicts. ``because`` says why they differ, if they do."""

    make: Callable[[Pki, bytes], bytes]
    ours: tuple[str, ...]
    theirs: tuple[str, ...] = ()
    because: str = ""
    evidence: Callable[[Pki], Evidence] | None = None


def inside(pki: Pki, pdf: bytes) -> bytes:
    """B-LT with the DSS in the signed revision: nothing follows the signature."""
    prepared = prepare(
        pdf, signer=SignerFacts("Бат"), chain=pki.chain, placement=None, language="mn", signing_time=NOW,
        evidence=Evidence(*vars(pki.evidence()).values()) + Evidence(certificates=pki.chain),
    )  # fmt: skip
    return finish(prepared, key=pki.signer.key, chain=pki.chain, time_stamp=pki.time_stamp(), evidence=None).data


def twice(pki: Pki, pdf: bytes) -> bytes:
    return bytes(sign(pki, sign(pki, pdf, placement=None).data, placement=None).data)


def flipped_content(pki: Pki, pdf: bytes) -> bytes:
    data = bytearray(sign(pki, pdf).data)
    data[data.index(b"595") + 2] ^= 1
    return bytes(data)


def flipped_cms(pki: Pki, pdf: bytes) -> bytes:
    """The last digit of the signature value, found by its place before the unsigned attributes."""
    data = sign(pki, pdf, level="B-B").data
    start = data.rindex(b"/Contents <") + 11
    end = start + len(data[start : data.index(b">", start)].rstrip(b"0")) - 1
    digit = b"0" if data[end : end + 1] != b"0" else b"1"
    return data[:end] + digit + data[end + 1 :]


def short_lived(pki: Pki, pdf: bytes) -> bytes:
    identity = make_identity("Богино", pki.authority, not_after=NOW + timedelta(minutes=5))
    chain = (identity.der, pki.authority.der, pki.root.der)
    return bytes(sign(pki, pdf, level="B-B", key=identity.key, chain=chain).data)


def current(pki: Pki) -> Evidence:
    return Evidence((pki.ocsp(at=LATER), pki.ocsp(pki.time_stamping, at=LATER)), (pki.crl(at=LATER),), pki.chain)


def revoked(moment: datetime) -> Callable[[Pki], Evidence]:
    def evidence(pki: Pki) -> Evidence:
        answers = (pki.ocsp(at=LATER, revoked_at=moment), pki.ocsp(pki.time_stamping, at=LATER))
        return Evidence(answers, (pki.crl(at=LATER),), pki.chain)

    return evidence


CASES = {
    "B-B": Case(lambda pki, pdf: sign(pki, pdf, level="B-B").data, (PASSED,), evidence=current),
    "B-T": Case(lambda pki, pdf: sign(pki, pdf, level="B-T").data, (PASSED,), evidence=current),
    "B-LT, evidence inside": Case(inside, (PASSED,)),
    "B-LT, evidence appended": Case(lambda pki, pdf: sign(pki, pdf).data, (PASSED,)),
    "two signatures": Case(twice, (PASSED, PASSED)),
    "content flipped": Case(flipped_content, (FAILED,)),
    "CMS flipped": Case(flipped_cms, (FAILED,), evidence=current),
    "octets appended": Case(
        lambda pki, pdf: sign(pki, pdf).data + b"%\n", (FAILED,), (PASSED,),
        "5.2.2: our format check refuses octets that belong to no revision; pyHanko does not look at them",
    ),
    "page changed": Case(lambda pki, pdf: incrementally(sign(pki, pdf).data, replace_text), (FAILED,)),
    "foreign authority": Case(lambda _, pdf: sign(make_pki(" (гадаад)"), pdf).data, (OPEN,)),
    "revoked before": Case(
        lambda pki, pdf: sign(pki, pdf, level="B-T").data, (FAILED,), (OPEN,),
        "5.3.4 wants a content time-stamp for REVOKED; ours believes the signer's own /M where it speaks against him",
        evidence=revoked(NOW - HOUR),
    ),
    "revoked after": Case(
        lambda pki, pdf: sign(pki, pdf, level="B-T").data, (PASSED,), evidence=revoked(NOW + HOUR / 12)
    ),
    "revoked, no time-stamp": Case(
        lambda pki, pdf: sign(pki, pdf, level="B-B").data, (OPEN,), evidence=revoked(NOW - HOUR)
    ),
    "expired, no time-stamp": Case(short_lived, (OPEN,), evidence=current),
    "no evidence": Case(lambda pki, pdf: sign(pki, pdf, level="B-T").data, (OPEN,)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_independent_implementation_agrees(pki: Pki, pdf: bytes, name: str) -> None:
    case = CASES[name]
    data = case.make(pki, pdf)
    evidence = case.evidence(pki) if case.evidence else Evidence()
    assert our_indications(data, pki, evidence) == case.ours
    assert pyhanko_indications(data, pki, evidence) == (case.theirs or case.ours), case.because


def our_indications(data: bytes, pki: Pki, evidence: Evidence) -> tuple[str, ...]:
    report = validate(data, trust=TrustAnchors((pki.root.der,)), evidence=Source(evidence), at=LATER).simple()
    return tuple(entry["indication"] for entry in report["signatures"])


def pyhanko_indications(data: bytes, pki: Pki, evidence: Evidence) -> tuple[str, ...]:
    from pyhanko.pdf_utils.reader import PdfFileReader

    reader = PdfFileReader(BytesIO(data))
    return tuple(_indication(embedded, pki, evidence) for embedded in reader.embedded_regular_signatures)


def _indication(embedded: Any, pki: Pki, evidence: Evidence) -> str:
    """EN 319 102-1 5.5 for signatures with a time-stamp, 5.3 for those without: pyHanko's 5.5 wants one."""
    from pyhanko.sign.ades.report import AdESStatus
    from pyhanko.sign.diff_analysis import SuspiciousModification
    from pyhanko.sign.validation.ades import ades_basic_validation, ades_with_time_validation
    from pyhanko_certvalidator.ltv.types import ValidationTimingInfo

    logging.getLogger("pyhanko").setLevel(logging.CRITICAL)
    embedded.compute_integrity_info()
    is_stamped = "unsigned_attrs" in embedded.signer_info and len(embedded.signer_info["unsigned_attrs"]) > 0
    process = ades_with_time_validation if is_stamped else ades_basic_validation
    result = asyncio.run(
        process(
            embedded.signed_data,
            _specification(pki, evidence + _store(embedded)),
            ValidationTimingInfo(LATER, LATER, point_in_time_validation=False),
            raw_digest=embedded.compute_digest(),
        )
    )
    if isinstance(embedded.diff_result, SuspiciousModification):
        return FAILED
    return {AdESStatus.PASSED: PASSED, AdESStatus.FAILED: FAILED}.get(result.ades_subindic.status, OPEN)


def _specification(pki: Pki, evidence: Evidence) -> Any:
    from pyhanko.sign.validation import policy_decl
    from pyhanko_certvalidator import policy_decl as certificate_policy
    from pyhanko_certvalidator.context import CertValidationPolicySpec
    from pyhanko_certvalidator.registry import SimpleTrustManager
    from pyhanko_certvalidator.revinfo.archival import CRLContainer, OCSPContainer

    rule = certificate_policy.RevocationCheckingRule.CRL_OR_OCSP_REQUIRED
    policy = CertValidationPolicySpec(
        trust_manager=SimpleTrustManager.build([asn1_x509.Certificate.load(pki.root.der)]),
        revinfo_policy=certificate_policy.CertRevTrustPolicy(certificate_policy.RevocationCheckingPolicy(rule, rule)),
    )
    knowledge = policy_decl.LocalKnowledge(
        known_ocsps=[OCSPContainer(asn1_ocsp.OCSPResponse.load(entry)) for entry in evidence.ocsp],
        known_crls=[CRLContainer(asn1_crl.CertificateList.load(entry)) for entry in evidence.crls],
        known_certs=[asn1_x509.Certificate.load(entry) for entry in evidence.certificates],
    )
    gathering = policy_decl.RevocationInfoGatheringSpec(policy_decl.RevinfoOnlineFetchingRule.LOCAL_ONLY)
    return policy_decl.SignatureValidationSpec(policy, gathering, local_knowledge=knowledge)


def _store(embedded: Any) -> Evidence:
    """The document's own evidence, as pyHanko reads it."""
    from pyhanko.sign.validation.dss import DocumentSecurityStore
    from pyhanko.sign.validation.errors import NoDSSFoundError

    try:
        store = DocumentSecurityStore.read_dss(embedded.reader)
    except NoDSSFoundError:
        return Evidence()
    return Evidence(
        tuple(entry.get_object().data for entry in store.ocsps),
        tuple(entry.get_object().data for entry in store.crls),
        tuple(entry.get_object().data for entry in store.certs.values()),
    )
