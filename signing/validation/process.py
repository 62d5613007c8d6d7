"""The validation processes of EN 319 102-1: facts and policy in, verdict out. Touches neither network nor clock.

Blocks in the standard's order: format checking 5.2.2, identification of the signing certificate 5.2.3, validation
context initialization 5.2.4, revocation freshness 5.2.5, X.509 validation 5.2.6, cryptographic verification 5.2.7,
signature acceptance 5.2.8; time-stamps 5.4, signatures with time 5.5, and the chain of document time-stamps 5.6.
Later changes of the document are a format-checking constraint of our policies and are judged first (traps P1, P14).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from policies.signature_validation import Severity, SignatureValidationPolicy
from signing.validation import cms, paths, time_stamps
from signing.validation.facts import DOCUMENT_TIME_STAMP, DocumentFacts, SignatureFacts
from signing.validation.findings import Finding
from signing.validation.revocation import (
    CLOCK_TOLERANCE,
    Evidence,
    Standing,
    Statement,
    covers_chain,
    issued,
    load_certificate,
    statements,
)

TRY_AGAIN_AFTER = timedelta(hours=1)
LEVELS = ("B-B", "B-T", "B-LT", "B-LTA")
HOLD = "certificateHold"


class Indication(StrEnum):
    """Main status indications, EN 319 102-1 5.1.3."""

    TOTAL_PASSED = "TOTAL-PASSED"
    TOTAL_FAILED = "TOTAL-FAILED"
    INDETERMINATE = "INDETERMINATE"


class SubIndication(StrEnum):
    """Sub-indications, EN 319 102-1 5.1.3, Table 6."""

    FORMAT_FAILURE = "FORMAT_FAILURE"
    HASH_FAILURE = "HASH_FAILURE"
    SIG_CRYPTO_FAILURE = "SIG_CRYPTO_FAILURE"
    REVOKED = "REVOKED"
    EXPIRED = "EXPIRED"
    NOT_YET_VALID = "NOT_YET_VALID"
    SIG_CONSTRAINTS_FAILURE = "SIG_CONSTRAINTS_FAILURE"
    CHAIN_CONSTRAINTS_FAILURE = "CHAIN_CONSTRAINTS_FAILURE"
    CERTIFICATE_CHAIN_GENERAL_FAILURE = "CERTIFICATE_CHAIN_GENERAL_FAILURE"
    CRYPTO_CONSTRAINTS_FAILURE = "CRYPTO_CONSTRAINTS_FAILURE"
    CRYPTO_CONSTRAINTS_FAILURE_NO_POE = "CRYPTO_CONSTRAINTS_FAILURE_NO_POE"
    POLICY_PROCESSING_ERROR = "POLICY_PROCESSING_ERROR"
    SIGNATURE_POLICY_NOT_AVAILABLE = "SIGNATURE_POLICY_NOT_AVAILABLE"
    TIMESTAMP_ORDER_FAILURE = "TIMESTAMP_ORDER_FAILURE"
    NO_SIGNING_CERTIFICATE_FOUND = "NO_SIGNING_CERTIFICATE_FOUND"
    NO_CERTIFICATE_CHAIN_FOUND = "NO_CERTIFICATE_CHAIN_FOUND"
    NO_CERTIFICATE_CHAIN_FOUND_NO_POE = "NO_CERTIFICATE_CHAIN_FOUND_NO_POE"
    REVOKED_NO_POE = "REVOKED_NO_POE"
    REVOKED_CA_NO_POE = "REVOKED_CA_NO_POE"
    OUT_OF_BOUNDS_NOT_REVOKED = "OUT_OF_BOUNDS_NOT_REVOKED"
    OUT_OF_BOUNDS_NO_POE = "OUT_OF_BOUNDS_NO_POE"
    REVOCATION_OUT_OF_BOUNDS_NO_POE = "REVOCATION_OUT_OF_BOUNDS_NO_POE"
    NO_POE = "NO_POE"
    TRY_LATER = "TRY_LATER"
    SIGNED_DATA_NOT_FOUND = "SIGNED_DATA_NOT_FOUND"
    GENERIC = "GENERIC"


FAILURES = frozenset(
    {
        SubIndication.FORMAT_FAILURE,
        SubIndication.HASH_FAILURE,
        SubIndication.SIG_CRYPTO_FAILURE,
        SubIndication.REVOKED,
        SubIndication.EXPIRED,
        SubIndication.NOT_YET_VALID,
    }
)
# Findings that a policy may fail, and what the failure is called when it is not one of the format.
_SUB_INDICATIONS = {
    "ALGORITHM": SubIndication.SIG_CRYPTO_FAILURE,
    "ALGORITHM_WEAK": SubIndication.CRYPTO_CONSTRAINTS_FAILURE,
    "CERTIFICATE_MALFORMED": SubIndication.CERTIFICATE_CHAIN_GENERAL_FAILURE,
    "ISSUER_NOT_ACCEPTED": SubIndication.NO_CERTIFICATE_CHAIN_FOUND,
    "KEY_USAGE": SubIndication.CHAIN_CONSTRAINTS_FAILURE,
    "LEVEL_TOO_LOW": SubIndication.SIG_CONSTRAINTS_FAILURE,
    "SIGNING_CERTIFICATE_ATTRIBUTE": SubIndication.SIG_CONSTRAINTS_FAILURE,
    "TIME_STAMP_NOT_TRUSTED": SubIndication.SIG_CONSTRAINTS_FAILURE,
    "UNRELATED_CERTIFICATE": SubIndication.SIG_CONSTRAINTS_FAILURE,
    "UNSIGNED_ATTRIBUTE_UNKNOWN": SubIndication.SIG_CONSTRAINTS_FAILURE,
}


class Stop(Exception):
    """A building block ended with something else than PASSED."""

    def __init__(self, sub_indication: SubIndication, *findings: Finding, try_after: datetime | None = None) -> None:
        super().__init__(sub_indication.value)
        self.sub_indication = sub_indication
        self.findings = findings
        self.try_after = try_after


@dataclass(frozen=True)
class TrustAnchors:
    """The certificates trust starts from, known issuers below them, and issuers no path may lead through; DER."""

    anchors: tuple[bytes, ...]
    intermediates: tuple[bytes, ...] = ()
    rejected: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Result:
    """What a signature or time-stamp came to."""

    indication: Indication
    sub_indication: SubIndication | None = None
    findings: tuple[Finding, ...] = ()
    path: tuple[bytes, ...] = ()
    revocation_time: datetime | None = None
    try_after: datetime | None = None


@dataclass(frozen=True)
class TimeStampVerdict:
    """A time-stamp token's result, and the time it says."""

    generation_time: datetime
    certificate: bytes | None
    result: Result


@dataclass(frozen=True)
class SignatureVerdict:
    """One signature's or document time-stamp's result. ``best_signature_time`` is proven, None without proof."""

    facts: SignatureFacts
    result: Result
    best_signature_time: datetime | None = None
    level: str | None = None
    time_stamps: tuple[TimeStampVerdict, ...] = ()
    modifications: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """Everything a report says, before words."""

    facts: DocumentFacts
    signatures: tuple[SignatureVerdict, ...]
    document_time_stamps: tuple[SignatureVerdict, ...]
    policy: SignatureValidationPolicy
    at: datetime
    findings: tuple[Finding, ...] = field(default=())


def judge(
    facts: DocumentFacts, *, policy: SignatureValidationPolicy, trust: TrustAnchors, evidence: Evidence, at: datetime
) -> Verdict:
    """The verdict on a document's facts. ``evidence`` is what was had beside the document's own."""
    court = _Court(facts, policy, trust, facts.evidence + evidence, at)
    stamps = [entry for entry in facts.signatures if entry.kind == DOCUMENT_TIME_STAMP]
    judged_stamps = court.document_time_stamps(stamps)
    signatures = [entry for entry in facts.signatures if entry.kind != DOCUMENT_TIME_STAMP and entry.counted]
    uncounted = tuple(note for entry in facts.signatures if not entry.counted for note in entry.notes)
    return Verdict(
        facts=facts,
        signatures=tuple(court.signature(entry) for entry in signatures),
        document_time_stamps=tuple(judged_stamps),
        policy=policy,
        at=at,
        findings=(*facts.findings, *uncounted),
    )


class _Court:
    """One validation: the inputs every block needs, and the proofs of existence gathered on the way."""

    def __init__(
        self,
        facts: DocumentFacts,
        policy: SignatureValidationPolicy,
        trust: TrustAnchors,
        evidence: Evidence,
        at: datetime,
    ) -> None:
        self._facts = facts
        self._policy = policy
        self._trust = trust
        self._evidence = evidence
        self._at = at
        self._proofs: list[tuple[int, datetime]] = []  # (octets covered, time) of valid document time-stamps

    # 5.6: from the last document time-stamp backwards, each proving the existence of what came before it

    def document_time_stamps(self, stamps: Sequence[SignatureFacts]) -> list[SignatureVerdict]:
        """Verdicts on the document time-stamps, in the order of the file; the valid ones become proofs."""
        verdicts = []
        for stamp in sorted(stamps, key=lambda entry: entry.covered, reverse=True):
            result = self._document_time_stamp(stamp, self._proven_time(stamp.covered) or self._at)
            proven = stamp.token.generation_time if stamp.token else None
            if result.indication is Indication.TOTAL_PASSED and proven is not None:
                self._proofs.append((stamp.covered, proven))
            verdicts.append(
                SignatureVerdict(
                    stamp, result, best_signature_time=proven, modifications=stamp.modifications, notes=stamp.notes
                )
            )
        return verdicts[::-1]

    def _document_time_stamp(self, stamp: SignatureFacts, control: datetime) -> Result:
        try:
            self._check_format(stamp)
            token = stamp.token
            if token is None:
                raise Stop(SubIndication.FORMAT_FAILURE, Finding("TIME_STAMP", "there is no token"))
            if stamp.content_digest is None:
                raise Stop(SubIndication.SIG_CRYPTO_FAILURE, Finding("ALGORITHM", token.hash_algorithm))
            if stamp.content_digest != token.message_imprint:
                raise Stop(SubIndication.HASH_FAILURE)
            if token.generation_time > self._at + CLOCK_TOLERANCE:
                raise Stop(SubIndication.TIMESTAMP_ORDER_FAILURE, Finding("TIME_STAMP", "it lies in the future"))
            return self._time_stamp(token, stamp.signer_certificate, control)
        except Stop as stop:
            return _result(stop)

    # 5.4

    def _time_stamp(self, token: time_stamps.TimeStampToken, certificate: bytes | None, control: datetime) -> Result:
        """A token at the control time; the signature over it counts as made then."""
        try:
            if certificate is None:
                raise Stop(SubIndication.NO_SIGNING_CERTIFICATE_FOUND)
            _verify_token(token, certificate)
            parsed = load_certificate(certificate)
            _check_time_stamping_usage(parsed)
            if cms.signing_certificate_matches(token.signed_data.signer, parsed) is None:  # RFC 3161 2.4.2
                self._fail_if("SIGNING_CERTIFICATE_ATTRIBUTE", "signing-certificate is missing in the time-stamp")
            if token.generation_time < parsed.not_valid_before_utc:
                raise Stop(SubIndication.OUT_OF_BOUNDS_NO_POE)
            self._check_related(token.signed_data.certificates, certificate)
            proven = control < self._at
            reference = token.generation_time if self._policy.time_stamp_evidence_at_token else control
            path = self._certificate(
                certificate, token.signed_data.certificates, control, reference, proven=proven, claimed=None
            )
            self._check_algorithms(token.signed_data, path, control, proven=proven, further=(token.hash_algorithm,))
        except Stop as stop:
            return _result(stop)
        return Result(Indication.TOTAL_PASSED, path=path)

    # 5.3 and 5.5

    def signature(self, facts: SignatureFacts) -> SignatureVerdict:
        """The verdict on a signature, with time."""
        verdict = SignatureVerdict(
            facts,
            Result(Indication.INDETERMINATE, SubIndication.GENERIC),
            modifications=facts.modifications,
            notes=facts.notes,
        )
        notes: list[Finding] = []
        stamps: tuple[TimeStampVerdict, ...] = ()
        best: datetime | None = None
        level: str | None = None
        path: tuple[bytes, ...] = ()
        try:
            self._check_format(facts)
            signed = facts.signed_data
            if signed is None:
                raise Stop(SubIndication.FORMAT_FAILURE, Finding("CMS", "there is no signature value"))
            certificate = self._signing_certificate(facts)
            self._verify(facts, certificate)
            stamps = tuple(self._signature_time_stamps(facts))
            _refuse_damaged(stamps)
            best = self._best_signature_time(facts, stamps)
            notes += [
                Finding("TIME_STAMP_NOT_TRUSTED", str(stamp.result.sub_indication or ""))
                for stamp in stamps
                if stamp.result.indication is not Indication.TOTAL_PASSED
            ]
            control = best or self._at
            path = self._certificate(
                facts.signer_certificate or b"", signed.certificates, control, control,
                proven=best is not None, claimed=facts.claimed_signing_time,
            )  # fmt: skip
            notes += self._suspension_notes(path)
            self._check_algorithms(signed, path, control, proven=best is not None)
            level = self._level(facts, path, stamps, best)
            self._accept(facts, certificate, level, notes)
        except Stop as stop:
            result = _result(stop, path)
        else:
            result = Result(Indication.TOTAL_PASSED, path=path)
        return replace(
            verdict,
            result=result,
            best_signature_time=best,
            level=level if _is_pades(facts) else None,
            time_stamps=stamps,
            notes=(*facts.notes, *notes),
        )

    # 5.2.2 format checking, with the constraints of our policies on the file around the signature

    def _check_format(self, facts: SignatureFacts) -> None:
        broken = [finding for stamp in facts.time_stamps for finding in stamp.findings]
        seen = (*facts.structure, *facts.modifications, *broken, *self._facts.findings, *facts.notes)
        failing = tuple(finding for finding in seen if self._policy.severity(finding.code) is Severity.FAIL)
        if failing:
            raise Stop(_SUB_INDICATIONS.get(failing[0].code, SubIndication.FORMAT_FAILURE), *failing)

    # 5.2.3

    def _signing_certificate(self, facts: SignatureFacts) -> x509.Certificate:
        signed = facts.signed_data
        if facts.signer_certificate is None or signed is None:
            odd = [entry for entry in (signed.certificates if signed else ()) if not _is_loadable(entry)]
            if odd:
                raise Stop(
                    SubIndication.CERTIFICATE_CHAIN_GENERAL_FAILURE, Finding("CERTIFICATE_MALFORMED", "in the CMS")
                )
            raise Stop(SubIndication.NO_SIGNING_CERTIFICATE_FOUND)
        certificate = load_certificate(facts.signer_certificate)
        if cms.signing_certificate_matches(signed.signer, certificate) is None:
            self._fail_if("SIGNING_CERTIFICATE_ATTRIBUTE", "signing-certificate is missing")
        return certificate

    # 5.2.7

    def _verify(self, facts: SignatureFacts, certificate: x509.Certificate) -> None:
        signed = facts.signed_data
        assert signed is not None  # noqa: S101 - checked before
        if facts.content_digest is None:
            raise Stop(SubIndication.SIG_CRYPTO_FAILURE, Finding("ALGORITHM", signed.signer.digest_algorithm))
        try:
            cms.verify_message_digest(signed, facts.content_digest)
            cms.verify_signature(signed, certificate.public_key(), facts.content_digest)
        except cms.HashMismatch as error:
            raise Stop(SubIndication.HASH_FAILURE) from error
        except cms.AlgorithmUnknown as error:
            raise Stop(SubIndication.SIG_CRYPTO_FAILURE, Finding("ALGORITHM", str(error))) from error
        except cms.SignatureMismatch as error:
            raise Stop(SubIndication.SIG_CRYPTO_FAILURE) from error
        except cms.CmsError as error:
            raise Stop(SubIndication.FORMAT_FAILURE, Finding(error.finding, str(error))) from error

    def _signature_time_stamps(self, facts: SignatureFacts) -> Iterator[TimeStampVerdict]:
        control = self._proven_time(facts.covered) or self._at
        for stamp in facts.time_stamps:
            if stamp.token is not None:
                result = self._time_stamp(stamp.token, stamp.token.certificate, control)
                yield TimeStampVerdict(stamp.token.generation_time, stamp.token.certificate, result)

    def _best_signature_time(self, facts: SignatureFacts, stamps: tuple[TimeStampVerdict, ...]) -> datetime | None:
        """5.5.4: the earliest valid proof of existence; time-stamps that contradict each other are no proof."""
        valid = [stamp.generation_time for stamp in stamps if stamp.result.indication is Indication.TOTAL_PASSED]
        archived = self._proven_time(facts.covered)
        if archived is not None and any(moment > archived for moment in valid):
            raise Stop(SubIndication.TIMESTAMP_ORDER_FAILURE)
        if any(moment > self._at + CLOCK_TOLERANCE for moment in valid):
            raise Stop(SubIndication.TIMESTAMP_ORDER_FAILURE, Finding("TIME_STAMP", "a time-stamp lies in the future"))
        return min((*valid, *([archived] if archived else ())), default=None)

    def _proven_time(self, covered: int) -> datetime | None:
        """The earliest time at which a valid document time-stamp proves the first ``covered`` octets existed."""
        return min((moment for octets, moment in self._proofs if octets > covered), default=None)

    # 5.2.6 with 5.2.5

    def _certificate(
        self,
        leaf: bytes,
        embedded: tuple[bytes, ...],
        control: datetime,
        reference: datetime,
        *,
        proven: bool,
        claimed: datetime | None,
    ) -> tuple[bytes, ...]:
        """A path that holds at the control time, with evidence that speaks for ``reference``."""
        pool = (*embedded, *self._evidence.certificates, *self._trust.intermediates)
        found = paths.build(leaf, pool, self._trust.anchors)
        candidates = [path for path in found if not set(path) & set(self._trust.rejected)]
        if not candidates:
            odd = [entry for entry in embedded if not _is_loadable(entry)]
            if odd:
                raise Stop(
                    SubIndication.CERTIFICATE_CHAIN_GENERAL_FAILURE, Finding("CERTIFICATE_MALFORMED", "in the CMS")
                )
            raise Stop(SubIndication.NO_CERTIFICATE_CHAIN_FOUND, Finding("ISSUER_NOT_ACCEPTED"))
        problems: list[Stop] = []
        for path in candidates:
            try:
                self._path(path, control, reference, proven=proven, claimed=claimed)
            except Stop as stop:
                problems.append(stop)
            else:
                return path
        raise problems[0]

    def _path(
        self, path: tuple[bytes, ...], control: datetime, reference: datetime, *, proven: bool, claimed: datetime | None
    ) -> None:
        certificates = [load_certificate(entry) for entry in path]
        for position, certificate in enumerate(certificates):
            self._check_validity(certificate, control, leaf=position == 0, proven=proven, claimed=claimed)
        try:
            paths.check(path, control)
        except paths.WeakAlgorithm as error:
            raise Stop(
                SubIndication.CRYPTO_CONSTRAINTS_FAILURE_NO_POE, Finding("ALGORITHM_WEAK", str(error))
            ) from error
        except paths.PathRejected as error:
            raise Stop(SubIndication.CHAIN_CONSTRAINTS_FAILURE, Finding("ISSUER_NOT_ACCEPTED", str(error))) from error
        for position, (certificate, issuer) in enumerate(itertools.pairwise(certificates)):
            self._check_revocation(
                certificate, issuer, control, reference, leaf=position == 0, proven=proven, claimed=claimed
            )

    def _check_validity(
        self, certificate: x509.Certificate, control: datetime, *, leaf: bool, proven: bool, claimed: datetime | None
    ) -> None:
        """notBefore and notAfter, both inclusive (RFC 5280 4.1.2.5)."""
        if control < certificate.not_valid_before_utc:
            raise Stop(SubIndication.NOT_YET_VALID if leaf and proven else SubIndication.OUT_OF_BOUNDS_NO_POE)
        if control <= certificate.not_valid_after_utc:
            return
        expired_before_signing = claimed is None or claimed > certificate.not_valid_after_utc
        if leaf and proven and expired_before_signing:
            raise Stop(SubIndication.EXPIRED)
        raise Stop(SubIndication.OUT_OF_BOUNDS_NO_POE)

    def _check_revocation(
        self,
        certificate: x509.Certificate,
        issuer: x509.Certificate,
        control: datetime,
        reference: datetime,
        *,
        leaf: bool,
        proven: bool,
        claimed: datetime | None,
    ) -> None:
        """S36: revoked after the proven time is no obstacle; before it is; without proof the order is unknown."""
        known = self._statements(certificate, issuer)
        revoked = _revocation(known)
        if revoked is not None and revoked.revocation_time is not None:
            moment = revoked.revocation_time
            if moment <= control or (moment <= self._at and not proven):
                raise self._revoked(moment, revoked, leaf=leaf, proven=proven, claimed=claimed)
            return
        self._check_freshness(certificate, issuer, known, reference)

    def _revoked(
        self, moment: datetime, statement: Statement, *, leaf: bool, proven: bool, claimed: datetime | None
    ) -> Stop:
        named = (Finding("SUSPENDED", moment.isoformat()),) if statement.reason == HOLD else ()
        if not leaf:
            return Stop(SubIndication.REVOKED_CA_NO_POE, *named)
        # The signer's own claim must not be earlier than the revocation: else only the order is unknown.
        if proven and (claimed is None or claimed >= moment):
            return Stop(SubIndication.REVOKED, *named)
        return Stop(SubIndication.REVOKED_NO_POE, *named)

    def _statements(self, certificate: x509.Certificate, issuer: x509.Certificate) -> tuple[Statement, ...]:
        latest = self._at + CLOCK_TOLERANCE
        return tuple(entry for entry in statements(certificate, issuer, self._evidence) if entry.this_update <= latest)

    def _check_freshness(
        self, certificate: x509.Certificate, issuer: x509.Certificate, known: tuple[Statement, ...], reference: datetime
    ) -> None:
        """5.2.5: some statement says good, speaks for the reference time, and its responder is itself in order."""
        good = [
            entry
            for entry in known
            if entry.standing is Standing.GOOD
            and entry.covers(certificate)
            and entry.is_fresh(reference, self._policy.maximum_age)
        ]
        if not good:
            again = max((entry.next_update for entry in known if entry.next_update), default=self._at)
            detail = "no evidence" if not known else f"latest of {known[0].this_update.isoformat()}"
            raise Stop(
                SubIndication.TRY_LATER,
                Finding("NO_REVOCATION_EVIDENCE", detail),
                try_after=max(again, self._at + TRY_AGAIN_AFTER),
            )
        if not any(self._responder_stands(entry, issuer, reference) for entry in good):
            raise Stop(SubIndication.REVOCATION_OUT_OF_BOUNDS_NO_POE)

    def _responder_stands(self, statement: Statement, issuer: x509.Certificate, reference: datetime) -> bool:
        """Whether the delegated responder's certificate is in its period now, and unrevoked unless it says nocheck."""
        if statement.responder is None:
            return True
        responder = load_certificate(statement.responder)
        if self._at > responder.not_valid_after_utc:
            return False
        if statement.responder_nocheck:
            return True
        about = self._statements(responder, issuer)
        return _revocation(about) is None and any(
            entry.standing is Standing.GOOD and entry.is_fresh(reference, self._policy.maximum_age)
            and (entry.responder is None or entry.responder_nocheck)
            for entry in about
        )  # fmt: skip

    def _suspension_notes(self, path: tuple[bytes, ...]) -> list[Finding]:
        if len(path) < 2:
            return []
        known = self._statements(load_certificate(path[0]), load_certificate(path[1]))
        current = known[0] if known else None
        if current is not None and current.standing is Standing.REVOKED and current.reason == HOLD:
            return [Finding("SUSPENDED", current.revocation_time.isoformat() if current.revocation_time else "")]
        return []

    # 5.2.8

    def _check_algorithms(
        self,
        signed: cms.SignedData,
        path: tuple[bytes, ...],
        control: datetime,
        *,
        proven: bool,
        further: tuple[str, ...] = (),
    ) -> None:
        """S37: accepted at the control time. Weak now but proven earlier passes. ``further`` are digests besides."""
        weak = sorted(set(self._weak(signed, path, control, further)))
        if weak:
            proven_weak = proven or all(self._always_weak(name) for name in weak)
            name = (
                SubIndication.CRYPTO_CONSTRAINTS_FAILURE
                if proven_weak
                else SubIndication.CRYPTO_CONSTRAINTS_FAILURE_NO_POE
            )
            raise Stop(name, Finding("ALGORITHM_WEAK", ", ".join(weak)))

    def _weak(
        self, signed: cms.SignedData, path: tuple[bytes, ...], control: datetime, further: tuple[str, ...]
    ) -> Iterator[str]:
        for oid in (signed.signer.digest_algorithm, cms.signature_digest(signed.signer), *further):
            name = cms.hash_algorithm(oid).name.lower() if oid in cms.DIGESTS else oid
            if not self._policy.hash_accepted(name, control):
                yield name
        for entry in path:
            key = load_certificate(entry).public_key()
            if isinstance(key, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey)):
                kind = "rsa" if isinstance(key, rsa.RSAPublicKey) else "ec"
                if not self._policy.key_accepted(kind, key.key_size, control):
                    yield f"{kind}-{key.key_size}"

    def _always_weak(self, name: str) -> bool:
        return name not in self._policy.hashes and "-" not in name

    def _accept(
        self, facts: SignatureFacts, certificate: x509.Certificate, level: str, notes: Iterable[Finding]
    ) -> None:
        signed = facts.signed_data
        assert signed is not None  # noqa: S101 - checked before
        usage = _key_usage(certificate)
        if usage is not None and not (usage.digital_signature or usage.content_commitment):
            self._fail_if("KEY_USAGE", "neither digitalSignature nor nonRepudiation")
        if not _is_for_documents(certificate):
            self._fail_if("KEY_USAGE", "the extended key usage does not include documents")
        self._check_related(signed.certificates, facts.signer_certificate or b"")
        for attribute in signed.signer.unsigned_attributes:
            if attribute.type != cms.ID_SIGNATURE_TIME_STAMP:
                self._fail_if("UNSIGNED_ATTRIBUTE_UNKNOWN", attribute.type)
        if LEVELS.index(level) < LEVELS.index(self._policy.minimum_level):
            self._fail_if("LEVEL_TOO_LOW", f"{level}, {self._policy.minimum_level} demanded")
        for note in notes:
            if note.code == "TIME_STAMP_NOT_TRUSTED":
                self._fail_if(note.code, note.detail)

    def _check_related(self, certificates: tuple[bytes, ...], leaf: bytes) -> None:
        """Every certificate in the CMS belongs to a chain of the signer: a stray one is damaged or smuggled in."""
        parsed = [load_certificate(entry) for entry in certificates if _is_loadable(entry)]
        if len(parsed) != len(certificates):
            self._fail_if("CERTIFICATE_MALFORMED", "in the CMS")
        reached = [load_certificate(leaf)]
        for current in reached:
            reached += [
                entry
                for entry in parsed
                if entry not in reached and entry.subject == current.issuer and issued(current, entry)
            ]
        if any(entry not in reached or not self._is_issued(entry, parsed) for entry in parsed):
            self._fail_if("UNRELATED_CERTIFICATE", "a certificate in the CMS belongs to no chain of the signer")

    def _is_issued(self, certificate: x509.Certificate, embedded: Sequence[x509.Certificate]) -> bool:
        """Whether somebody known signed these very octets; a certificate's copy may be damaged where its key is not."""
        known = (*self._trust.anchors, *self._trust.intermediates, *self._evidence.certificates)
        others = (load_certificate(entry) for entry in known if _is_loadable(entry))
        return any(entry.subject == certificate.issuer and issued(certificate, entry) for entry in (*embedded, *others))

    def _level(
        self,
        facts: SignatureFacts,
        path: tuple[bytes, ...],
        stamps: tuple[TimeStampVerdict, ...],
        best: datetime | None,
    ) -> str:
        """The PAdES level that what validates amounts to (EN 319 142-1 6.3)."""
        if best is None:
            return "B-B"
        own = self._facts.evidence
        signed = facts.signed_data
        known = replace(
            own, certificates=(*own.certificates, *(signed.certificates if signed else ()), *self._trust.intermediates)
        )
        chains = [path, *(s.result.path for s in stamps if s.result.indication is Indication.TOTAL_PASSED)]
        if own.is_empty or not all(_embedded(chain, known, best) for chain in chains):
            return "B-T"
        return "B-LTA" if self._proven_time(facts.covered) is not None else "B-LT"

    def _fail_if(self, code: str, detail: str) -> None:
        """Stop when the policy fails on this finding."""
        if self._policy.severity(code) is Severity.FAIL:
            raise Stop(_SUB_INDICATIONS.get(code, SubIndication.FORMAT_FAILURE), Finding(code, detail))


def _embedded(chain: tuple[bytes, ...], evidence: Evidence, at: datetime) -> bool:
    """Whether the document itself carries evidence for the chain up to its anchor."""
    return covers_chain(chain, evidence, at=at, anchored=True)


_DAMAGED = frozenset(
    {
        SubIndication.FORMAT_FAILURE,
        SubIndication.HASH_FAILURE,
        SubIndication.SIG_CRYPTO_FAILURE,
        SubIndication.SIG_CONSTRAINTS_FAILURE,
        SubIndication.CERTIFICATE_CHAIN_GENERAL_FAILURE,
    }
)


def _refuse_damaged(stamps: tuple[TimeStampVerdict, ...]) -> None:
    """A time-stamp that is not trusted proves nothing; a damaged one shows that somebody changed the signature."""
    for stamp in stamps:
        if stamp.result.sub_indication in _DAMAGED:
            raise Stop(SubIndication.SIG_CONSTRAINTS_FAILURE, Finding("TIME_STAMP_BROKEN"), *stamp.result.findings)


def _is_pades(facts: SignatureFacts) -> bool:
    return facts.sub_filter == "ETSI.CAdES.detached"


def _result(stop: Stop, path: tuple[bytes, ...] = ()) -> Result:
    failed = stop.sub_indication in FAILURES
    indication = Indication.TOTAL_FAILED if failed else Indication.INDETERMINATE
    return Result(indication, stop.sub_indication, stop.findings, path, try_after=stop.try_after)


def _revocation(known: tuple[Statement, ...]) -> Statement | None:
    """The revocation that stands: for good, or a suspension that the newest word has not lifted."""
    revoked = [entry for entry in known if entry.standing is Standing.REVOKED]
    final = [entry for entry in revoked if entry.reason != HOLD]
    if final:
        return min(final, key=lambda entry: entry.revocation_time or entry.this_update)
    return revoked[0] if revoked and revoked[0] is known[0] else None


def _verify_token(token: time_stamps.TimeStampToken, certificate: bytes) -> None:
    try:
        time_stamps.verify_token_signature(token, certificate)
    except cms.HashMismatch as error:
        raise Stop(SubIndication.HASH_FAILURE) from error
    except cms.AlgorithmUnknown as error:
        raise Stop(SubIndication.SIG_CRYPTO_FAILURE, Finding("ALGORITHM", str(error))) from error
    except cms.SignatureMismatch as error:
        raise Stop(SubIndication.SIG_CRYPTO_FAILURE) from error
    except cms.CmsError as error:
        raise Stop(SubIndication.FORMAT_FAILURE, Finding(error.finding, str(error))) from error


def _check_time_stamping_usage(certificate: x509.Certificate) -> None:
    """RFC 3161 2.3: the sole extended key usage is timeStamping, and it is critical."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        extension = None
    if extension is None or not extension.critical or list(extension.value) != [ExtendedKeyUsageOID.TIME_STAMPING]:
        raise Stop(SubIndication.CHAIN_CONSTRAINTS_FAILURE, Finding("KEY_USAGE", "not a time-stamping certificate"))


# RFC 5280 4.2.1.12, RFC 9336 3.1; e-mail protection, and what was used for documents before RFC 9336.
_DOCUMENT_PURPOSES = frozenset(
    {
        "2.5.29.37.0",  # any
        "1.3.6.1.5.5.7.3.36",  # documentSigning
        "1.3.6.1.5.5.7.3.4",  # emailProtection
        "1.3.6.1.4.1.311.10.3.12",  # Microsoft's document signing
        "1.2.840.113583.1.1.5",  # Adobe's authentic documents
    }
)


def _is_for_documents(certificate: x509.Certificate) -> bool:
    """Whether the certificate is for signing documents: a TLS client's or a responder's is not."""
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return any(purpose.dotted_string in _DOCUMENT_PURPOSES for purpose in purposes)


def _key_usage(certificate: x509.Certificate) -> x509.KeyUsage | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None


def _is_loadable(entry: bytes) -> bool:
    try:
        load_certificate(entry)
    except ValueError:
        return False
    return True
