"""Revoke, suspend, resume (RFC 5280 5.3.1): one transaction each, with its audit entry.

    good ──suspend──▶ suspended ──resume──▶ good
      │                   │
      └──────revoke───────┴──▶ revoked       final; only the reason may rise to keyCompromise

Doing again what is done already changes nothing and is no error.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from ca import errors, events
from ca.register import IssuedCertificate, Reason, State, issued
from ca.tables import BlockedKeyRow, CertificateRow, SuspensionRow
from core.audit import AuditLog
from core.clock import Clock
from core.database import Database
from policies.profiles import load_profile

# certificateHold is what ``suspend`` sets; unspecified (0) is said by giving no reason.
REVOCATION_REASONS = frozenset(Reason) - {Reason.CERTIFICATE_HOLD}
REASON_NAMES = {reason.wire_name: reason for reason in REVOCATION_REASONS}


class Revocation:
    """Changes the status of certificates. Ids are those of the register."""

    def __init__(self, *, database: Database, audit: AuditLog, clock: Clock) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock

    def revoke(self, certificate_id: str, *, actor: str, reason: Reason | None = None) -> IssuedCertificate:
        """Revoke for good. ``reason`` None is unspecified. Raises ReasonNotAllowed, AlreadyRevoked.

        A certificate revoked during suspension counts as revoked since the suspension began.
        """
        if reason is not None and reason not in REVOCATION_REASONS:
            raise errors.ReasonNotAllowed("suspend a certificate instead of revoking it with certificateHold")
        with self._database.transaction() as session:
            row = _locked(session, certificate_id)
            if row.state == State.REVOKED:
                return self._revoked_again(session, row, reason, actor)
            moment = row.revoked_at if row.state == State.SUSPENDED and row.revoked_at else self._clock()
            self._end_suspension(session, row)
            self._set(row, State.REVOKED, moment, reason)
            self._tell(session, events.CERTIFICATE_REVOKED, row, actor)
            self._block_key(session, row, actor)
            return issued(row)

    def suspend(self, certificate_id: str, *, actor: str) -> IssuedCertificate:
        """Put on hold. Raises SuspensionNotAllowed, AlreadyRevoked."""
        with self._database.transaction() as session:
            row = _locked(session, certificate_id)
            if not load_profile(row.profile).may_be_suspended:
                raise errors.SuspensionNotAllowed(f"certificates of profile {row.profile} are revoked, not suspended")
            if row.state == State.REVOKED:
                raise errors.AlreadyRevoked("a revoked certificate cannot be suspended")
            if row.state == State.GOOD:
                now = self._clock()
                self._set(row, State.SUSPENDED, now, Reason.CERTIFICATE_HOLD)
                session.add(SuspensionRow(id=str(uuid.uuid4()), certificate_id=row.id, began_at=now, ended_at=None))
                self._tell(session, events.CERTIFICATE_SUSPENDED, row, actor)
            return issued(row)

    def resume(self, certificate_id: str, *, actor: str) -> IssuedCertificate:
        """Lift a suspension. Raises NotSuspended, AlreadyRevoked."""
        with self._database.transaction() as session:
            row = _locked(session, certificate_id)
            if row.state == State.REVOKED:
                raise errors.AlreadyRevoked("a revoked certificate cannot be resumed")
            if row.state == State.GOOD:
                raise errors.NotSuspended("the certificate is not suspended")
            self._end_suspension(session, row)
            self._set(row, State.GOOD, None, None)
            self._tell(session, events.CERTIFICATE_RESUMED, row, actor)
            return issued(row)

    def _revoked_again(
        self, session: Session, row: CertificateRow, reason: Reason | None, actor: str
    ) -> IssuedCertificate:
        if reason == Reason.KEY_COMPROMISE and row.reason != Reason.KEY_COMPROMISE:
            self._set(row, State.REVOKED, row.revoked_at, reason)
            self._tell(session, events.CERTIFICATE_REVOKED, row, actor)
            self._block_key(session, row, actor)
        elif (int(reason) if reason else None) != row.reason:
            raise errors.AlreadyRevoked("already revoked; the reason can only be raised to keyCompromise")
        return issued(row)

    def _set(self, row: CertificateRow, state: State, moment: datetime | None, reason: Reason | None) -> None:
        if row.state != state.value:
            row.state, row.state_since = state.value, self._clock()
        row.revoked_at, row.reason = moment, int(reason) if reason else None

    def _end_suspension(self, session: Session, row: CertificateRow) -> None:
        session.execute(
            update(SuspensionRow)
            .where(SuspensionRow.certificate_id == row.id, SuspensionRow.ended_at.is_(None))
            .values(ended_at=self._clock())
        )

    def _block_key(self, session: Session, row: CertificateRow, actor: str) -> None:
        if row.reason != Reason.KEY_COMPROMISE or session.get(BlockedKeyRow, row.spki_sha256) is not None:
            return
        session.add(BlockedKeyRow(spki_sha256=row.spki_sha256, certificate_id=row.id, blocked_at=self._clock()))
        facts = {"certificate": row.id}
        self._audit.append(session, events.KEY_BLOCKED, actor=actor, subject=row.spki_sha256.hex(), facts=facts)

    def _tell(self, session: Session, event: str, row: CertificateRow, actor: str) -> None:
        facts = {"issuer": row.issuer, "serial": issued(row).serial_text, "reason": row.reason, "holder": row.holder}
        self._audit.append(session, event, actor=actor, subject=row.id, facts=facts)


def _locked(session: Session, certificate_id: str) -> CertificateRow:
    """The row, held until the transaction ends, so that two changes of one certificate queue."""
    row = session.scalar(select(CertificateRow).where(CertificateRow.id == certificate_id).with_for_update())
    if row is None:
        raise errors.CertificateNotFound("the register knows no such certificate")
    return row
