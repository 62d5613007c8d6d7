"""Revoke, suspend, resume (RFC 5280 5.3.1): one transaction each, with its audit entry and the event for whoever must
hear of it.

    good ──suspend──▶ suspended ──resume──▶ good
      │                   │
      └──────revoke───────┴──▶ revoked       final; only the reason may rise to keyCompromise

Doing again what is done already changes nothing and is no error.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import datetime
from typing import Any, cast

from sqlalchemy import CursorResult, Select, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from ca import errors, events
from ca.register import IssuedCertificate, Reason, State, issued
from ca.status_changes import announce
from ca.tables import BlockedKeyRow, CertificateRow, SuspensionRow
from core.audit import AuditLog
from core.clock import Clock
from core.database import Database, UtcDateTime
from core.outbox import Outbox
from policies.profiles import load_profile

# certificateHold is what ``suspend`` sets; unspecified (0) is said by giving no reason.
REVOCATION_REASONS = frozenset(Reason) - {Reason.CERTIFICATE_HOLD}
REASON_NAMES = {reason.wire_name: reason for reason in REVOCATION_REASONS}


class Revocation:
    """Changes the status of certificates. Ids are those of the register."""

    def __init__(self, *, database: Database, audit: AuditLog, outbox: Outbox, clock: Clock) -> None:
        self._database = database
        self._audit = audit
        self._outbox = outbox
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

    def _tell(self, session: Session, event: str, row: CertificateRow, actor: str) -> None:
        now = self._clock()
        blocked = row.reason == Reason.KEY_COMPROMISE and block_keys(session, (row.id,), now)
        serial = issued(row).serial_text
        told = {"certificate": row.id, "serial": serial, "state": row.state, "reason": row.reason}
        announce(self._outbox, session, issuer=row.issuer, at=now, **told)
        # The audit log's chain is taken last, after every other row.
        facts = {"issuer": row.issuer, "serial": serial, "reason": row.reason, "holder": row.holder}
        self._audit.append(session, event, actor=actor, subject=row.id, facts=facts)
        if blocked:
            key, facts = row.spki_sha256.hex(), {"certificate": row.id}
            self._audit.append(session, events.KEY_BLOCKED, actor=actor, subject=key, facts=facts)


def block_keys(session: Session, certificate_ids: Collection[str] | Select[str], now: datetime) -> int:
    """Never certify the keys of those of these certificates again that are revoked for keyCompromise; how many were
    not blocked before.

    ``certificate_ids`` may be a query of ids.

    Two that block one key at the same time wait for each other and the second finds it done.
    """
    session.flush()
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    keys = select(CertificateRow.spki_sha256, CertificateRow.id, literal(now, UtcDateTime())).where(
        CertificateRow.id.in_(certificate_ids), CertificateRow.reason == int(Reason.KEY_COMPROMISE)
    )
    statement = insert(BlockedKeyRow).from_select(["spki_sha256", "certificate_id", "blocked_at"], keys)
    done = session.execute(statement.on_conflict_do_nothing().execution_options(preserve_rowcount=True))
    return cast("CursorResult[Any]", done).rowcount


def _locked(session: Session, certificate_id: str) -> CertificateRow:
    """The row, held until the transaction ends, so that two changes of one certificate queue."""
    row = session.scalar(select(CertificateRow).where(CertificateRow.id == certificate_id).with_for_update())
    if row is None:
        raise errors.CertificateNotFound("the register knows no such certificate")
    return row
