"""Validation of signed documents: facts, then process, then report (EN 319 102-1). One door, and it takes the file.

There is no way to ask about a CMS alone, because a verdict on the CMS says nothing about the file around it (trap P1).
"""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Protocol

from core.errors import CodedError
from policies.signature_validation import PolicyNotFound, load_policy
from signing.document_errors import PolicyUnknown
from signing.documents import MAX_DOCUMENT_OCTETS
from signing.validation import paths, process
from signing.validation.facts import DocumentFacts, SignatureFacts, gather
from signing.validation.process import Indication, SubIndication, TrustAnchors
from signing.validation.report import NO_SIGNATURE_FOUND, ValidationReport, render
from signing.validation.revocation import Evidence

__all__ = [
    "NO_SIGNATURE_FOUND",
    "Evidence",
    "EvidenceSource",
    "Indication",
    "SubIndication",
    "TrustAnchors",
    "ValidationReport",
    "check_policy",
    "fetch_evidence",
    "gather",
    "judge",
    "validate",
    "wanted_evidence",
]


class EvidenceSource(Protocol):
    """Fresh revocation evidence about certificates of our own issuers; never a fetch from a document's URL (S33)."""

    def evidence(self, certificate: bytes, issuer: bytes) -> Evidence:
        """OCSP responses and CRLs about ``certificate`` (DER), empty for issuers it does not know."""


def validate(
    data: bytes,
    *,
    policy: str = "mn-default",
    trust: TrustAnchors,
    evidence: EvidenceSource | None = None,
    at: datetime,
    language: str = "mn",
    limit: int = MAX_DOCUMENT_OCTETS,
) -> ValidationReport:
    """A report about every signature in the file, whatever they are worth.

    Raises only for what is no readable PDF at all: EmptyBody, NotAPdf, UnsupportedFormat, TooLarge, DocEncrypted; and
    PolicyUnknown.
    """
    check_policy(policy)
    facts = gather(data, limit=limit)
    fetched = fetch_evidence(evidence, wanted_evidence(facts, trust))
    return judge(facts, policy=policy, trust=trust, evidence=fetched, at=at, language=language)


def judge(
    facts: DocumentFacts, *, policy: str, trust: TrustAnchors, evidence: Evidence, at: datetime, language: str
) -> ValidationReport:
    """The report on facts that were gathered before. Touches neither network nor clock."""
    chosen = load_policy(policy)
    return render(process.judge(facts, policy=chosen, trust=trust, evidence=evidence, at=at), language)


def check_policy(policy: str) -> None:
    """Raise PolicyUnknown unless a policy of this id is shipped."""
    try:
        load_policy(policy)
    except PolicyNotFound as error:
        raise PolicyUnknown(f"there is no validation policy {policy!r}") from error


def wanted_evidence(facts: DocumentFacts, trust: TrustAnchors) -> tuple[tuple[bytes, bytes], ...]:
    """(certificate, issuer) of every link, below an anchor, that a verdict on these facts may ask about."""
    pairs: dict[tuple[bytes, bytes], None] = {}
    for signature in facts.signatures:
        for leaf, embedded in _leaves(signature):
            pool = (*embedded, *facts.evidence.certificates, *trust.intermediates)
            for path in paths.build(leaf, pool, trust.anchors):
                pairs.update(dict.fromkeys(itertools.pairwise(path)))
    return tuple(pairs)


def fetch_evidence(source: EvidenceSource | None, wanted: tuple[tuple[bytes, bytes], ...]) -> Evidence:
    """What the source has about the links; a source that cannot answer leaves the document's own evidence."""
    fetched = Evidence()
    for certificate, issuer in wanted if source is not None else ():
        try:
            fetched += source.evidence(certificate, issuer) if source is not None else Evidence()
        except CodedError:
            continue
    return fetched


def _leaves(signature: SignatureFacts) -> list[tuple[bytes, tuple[bytes, ...]]]:
    leaves = []
    if signature.signer_certificate is not None and signature.signed_data is not None:
        leaves.append((signature.signer_certificate, signature.signed_data.certificates))
    for stamp in signature.time_stamps:
        if stamp.token is not None and stamp.token.certificate is not None:
            leaves.append((stamp.token.certificate, stamp.token.signed_data.certificates))
    return leaves
