"""Signing a file with a person's credential at the operator's terminal: the ceremony's parts without its pages."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from core.audit import AuditLog
from core.clock import Clock
from core.database import Database
from signing import events
from signing.credentials import Credentials
from signing.errors import CredentialMissing, LevelNotReached
from signing.evidence import EvidenceSource
from signing.pdf import Pdf
from signing.ports import Persons, RevocationEvidence, TimeStamps


@dataclass(frozen=True)
class LocallySigned:
    """The signed file and what was reached."""

    data: bytes
    level: str
    sdr: str
    certificate_serial: str


class LocalSigning:
    """One signature at a time, each with the credential's PIN."""

    def __init__(
        self,
        *,
        database: Database,
        audit: AuditLog,
        clock: Clock,
        credentials: Credentials,
        persons: Persons,
        time_stamps: TimeStamps,
        revocation_evidence: RevocationEvidence,
        pdf: Pdf,
        limit: int,
        policy: str,
    ) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._credentials = credentials
        self._persons = persons
        self._time_stamps = time_stamps
        self._revocation_evidence = revocation_evidence
        self._pdf = pdf
        self._limit = limit
        self._policy = policy

    def sign(self, document: bytes, *, credential_id: str, pin: str, level: str, language: str) -> LocallySigned:
        """Sign ``document`` invisibly at ``level``.

        Raises the document's errors, PinInvalid, PinLocked, CertificateRefused, DependencyUnavailable,
        LevelNotReached. The intent is in the audit log before the key is used.
        """
        credential = self._credentials.get(credential_id)
        person = self._persons.person(credential.person_id)
        if person is None:
            raise CredentialMissing("the credential's owner is not active")
        self._pdf.preflight(document, signer=person, placement=None, at=self._clock(), limit=self._limit)
        self._credentials.check_pin(credential.id, credential.person_id, pin)
        self._credentials.check_standing(credential)
        evidence = EvidenceSource.ask(credential, self._time_stamps, self._revocation_evidence)
        prepared = self._pdf.prepare(
            document,
            signer=person,
            evidence=evidence,
            placement=None,
            language=language,
            signing_time=self._clock(),
            level=level,
        )
        facts = {"credential": credential.id, "certificate_serial": credential.certificate_serial, "sdr": prepared.sdr}
        with self._database.transaction() as session:
            self._audit.append(
                session, events.LOCAL_APPROVED, actor="operator", subject=credential.id, facts={**facts, "level": level}
            )
        with self._credentials.opened_key(credential) as key:
            signed = self._pdf.finish(prepared.data, key=key, evidence=evidence, level=level)
        if signed.level != level:
            raise LevelNotReached(f"{signed.level} was reached where {level} was asked for")
        self._pdf.check_result(signed, policy=self._policy, at=self._clock())
        digest = hashlib.sha256(signed.data).hexdigest()
        with self._database.transaction() as session:
            self._audit.append(
                session,
                events.LOCAL_SIGNED,
                actor="operator",
                subject=credential.id,
                facts={**facts, "level": signed.level, "signed_sha256": digest},
            )
        return LocallySigned(signed.data, signed.level, prepared.sdr, credential.certificate_serial)
