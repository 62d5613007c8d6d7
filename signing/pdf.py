"""What the ceremony asks of PDF work, in one place and in the ceremony's words.

A stranger's bytes are read in guarded worker processes; only the embedding of a signature into a revision that such a
worker prepared, which needs the key, happens here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from signing.documents import DocumentFacts
from signing.errors import LevelNotReached
from signing.ports import PersonFacts, RevocationEvidence, TrustAnchors

if TYPE_CHECKING:
    from signing.credentials import Credential
    from signing.evidence import EvidenceSource
    from signing.isolation import PdfWorkers
    from signing.pades import Placement
    from signing.token_signer import SigningKey
    from signing.validation import Evidence, ValidationReport

__all__ = ["DocumentFacts", "Pdf", "Prepared", "Signed"]

PASSED = "TOTAL-PASSED"


@dataclass(frozen=True)
class Prepared:
    """A revision ready to be signed: its state as bytes, and the digest over its byte range in hexadecimal."""

    data: bytes
    sdr: str


@dataclass(frozen=True)
class Signed:
    """A signed file and the level it was found to reach."""

    data: bytes
    level: str
    field_name: str


class Pdf:
    """Opens, draws, prepares, signs and judges documents."""

    def __init__(
        self, workers: PdfWorkers, trust_anchors: TrustAnchors, revocation_evidence: RevocationEvidence
    ) -> None:
        self._workers = workers
        self._trust_anchors = trust_anchors
        self._revocation_evidence = revocation_evidence

    def preflight(
        self, data: bytes, *, signer: PersonFacts, placement: Mapping[str, Any] | None, at: datetime, limit: int
    ) -> DocumentFacts:
        """The document's facts, or the coded error that says why this person cannot sign it at that place (S6).

        The revision is prepared for trial and thrown away: whatever would stop it later stops it now.
        """
        facts = self._workers.open_document(data, limit=limit)
        self._prepare(data, signer, (), placement, "mn", at, None)
        return facts

    def page_png(self, data: bytes, page: int) -> bytes:
        """One page as a picture."""
        return self._workers.page_png(data, page)

    def prepare(
        self,
        data: bytes,
        *,
        signer: PersonFacts,
        evidence: EvidenceSource,
        placement: Mapping[str, Any] | None,
        language: str,
        signing_time: datetime,
        level: str,
    ) -> Prepared:
        """Append the revision that will be signed. Uses no key; raises the document's coded errors.

        At B-LT the evidence is part of the revision, so that the signature covers the whole file.
        """
        from signing import pades

        chain = _chain(evidence.credential)
        embedded = evidence.at_hand if level == pades.B_LT else None
        prepared = self._prepare(data, signer, chain, placement, language, signing_time, embedded)
        return Prepared(prepared.to_bytes(), prepared.sdr)

    def _prepare(
        self,
        data: bytes,
        signer: PersonFacts,
        chain: tuple[bytes, ...],
        placement: Mapping[str, Any] | None,
        language: str,
        signing_time: datetime,
        evidence: Evidence | None,
    ) -> Any:
        from signing.pades import SignerFacts

        return self._workers.prepare(
            data,
            signer=SignerFacts(signer.display_name, signer.masked_identifier),
            chain=chain,
            placement=_placement(placement),
            language=language,
            signing_time=signing_time,
            evidence=evidence,
        )

    def finish(self, prepared: bytes, *, key: SigningKey, evidence: EvidenceSource, level: str) -> Signed:
        """Sign what was prepared: one key operation, then time-stamp and evidence; checked before it is returned."""
        from signing import pades

        signed = pades.finish(
            pades.PreparedSignature.from_bytes(prepared),
            key=key,
            chain=_chain(evidence.credential),
            time_stamp=evidence.stamp,
            evidence=evidence.younger if level == pades.B_LT else None,
            level=level,
        )
        return Signed(signed.data, signed.level, signed.field_name)

    def validate(self, data: bytes, *, policy: str, at: datetime, language: str, limit: int) -> ValidationReport:
        """A report on the document, whatever the verdict. Raises NotAPdf, TooLarge, PolicyUnknown and the like."""
        from signing import validation

        known = self._trust_anchors
        trust = validation.TrustAnchors(known.anchors(), known.intermediates(), known.rejected())
        return self._workers.validate(
            data, policy=policy, trust=trust, evidence=self, at=at, language=language, limit=limit
        )

    def evidence(self, certificate: bytes, issuer: bytes) -> Evidence:
        """Fresh revocation evidence about one certificate of an issuer of ours, as validation asks for it."""
        from signing.validation import Evidence

        return Evidence(*self._revocation_evidence.for_chain((certificate, issuer)))

    def check_result(self, signed: Signed, *, policy: str, at: datetime) -> None:
        """The full validation of a file just signed (S2): its new signature passes, at the level that was reached.

        Raises LevelNotReached otherwise. Signatures that were there before keep their own verdicts and do not count.
        """
        report = self.validate(signed.data, policy=policy, at=at, language="en", limit=len(signed.data))
        ours = [entry for entry in report.simple()["signatures"] if signed.field_name in entry["field_names"]]
        found = [(entry["indication"], entry["level"]) for entry in ours]
        if found != [(PASSED, signed.level)]:
            raise LevelNotReached(f"validation found {found} where {signed.level} was signed")

    def warm_up(self) -> None:
        """Start the workers before somebody waits for them."""
        self._workers.warm_up()

    def close(self) -> None:
        """End the worker processes; the next piece of work after that needs a new Pdf."""
        self._workers.close()


def _chain(credential: Credential) -> tuple[bytes, ...]:
    return (credential.certificate, *credential.chain)


def _placement(placement: Mapping[str, Any] | None) -> Placement | None:
    from signing.pades import Placement

    return Placement(**placement) if placement else None
