"""Time-stamps and revocation evidence for one signature: asked before the key is used, and again after the stamp."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import CodedError
from core.logs import get_logger
from signing.credentials import Credential
from signing.errors import DependencyUnavailable
from signing.ports import RevocationEvidence, TimeStamps
from signing.validation.revocation import Evidence

log = get_logger("signing.evidence")


@dataclass(frozen=True)
class EvidenceSource:
    """Everything a signed file needs from others, known to be there."""

    credential: Credential
    time_stamps: TimeStamps
    revocation_evidence: RevocationEvidence
    at_hand: Evidence

    @classmethod
    def ask(
        cls, credential: Credential, time_stamps: TimeStamps, revocation_evidence: RevocationEvidence
    ) -> EvidenceSource:
        """Ask every dependency. Raises DependencyUnavailable, so that no key is used in vain (S43)."""
        try:
            time_stamps.check()
            at_hand = _collect(credential, time_stamps, revocation_evidence)
        except CodedError as error:
            raise DependencyUnavailable("a service that signing needs does not answer", cause=error.code) from error
        return cls(credential, time_stamps, revocation_evidence, at_hand)

    def stamp(self, digest: bytes) -> bytes:
        """A time-stamp token over a SHA-256 digest."""
        return self.time_stamps.token(digest, "sha256")

    def younger(self) -> Evidence:
        """Evidence from after the time-stamp where it can be had, else that of a moment before it.

        The signature exists by now: losing it because a responder fell silent in this second would help nobody, and
        what is at hand was asked for this very signature.
        """
        try:
            return _collect(self.credential, self.time_stamps, self.revocation_evidence)
        except CodedError as error:
            log.warning("evidence_not_renewed", reason=error.code)
            return self.at_hand


def _collect(credential: Credential, time_stamps: TimeStamps, revocation_evidence: RevocationEvidence) -> Evidence:
    signer = revocation_evidence.for_chain((credential.certificate, *credential.chain))
    stamper = revocation_evidence.for_chain(time_stamps.chain())
    return Evidence(*signer) + Evidence(*stamper)
