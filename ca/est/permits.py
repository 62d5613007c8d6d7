"""Permits: who may enrol once, for which label and under which names.

    open ──first request──▶ pending ──approve──▶ approved ──certificate──▶ spent      (when an officer must agree)
    open ──certificate──▶ spent                                                       (otherwise)
    open, pending, approved ──withdraw or reject──▶ withdrawn

The bearer shows a one-time secret or a certificate of ours. The secret is drawn here with 256 bits of chance, so its
SHA-256 gives nothing away that could be guessed, and looking it up costs a stranger's guess no work of ours.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from ca.errors import EvidenceMissing
from ca.est import errors, events
from ca.est.labels import Labels
from ca.est.settings import EstSettings
from ca.est.tables import PermitRow
from ca.register import Register
from ca.registration import fitted_alternative_names, fitted_subject
from core.audit import AuditLog, Fact
from core.clock import Clock
from core.database import Database

MAX_EVIDENCE_CHARACTERS = 120  # leaves room in the register's column for the permit's name
MAX_LISTED = 1000
SECRET_OCTETS = 32
_USABLE = ("open", "pending", "approved")


@dataclass(frozen=True)
class Permit:
    """Leave to enrol once. ``subject`` and ``alternative_names`` are what the certificate will hold."""

    id: str
    label: str
    holder: str
    subject: tuple[tuple[str, str], ...]
    alternative_names: tuple[tuple[str, str], ...]
    evidence: str
    bearer_certificate_id: str | None
    needs_approval: bool
    state: str
    made_by: str
    made_at: datetime
    expires_at: datetime
    decided_by: str | None
    spki_sha256: bytes | None = field(repr=False)


class Permits:
    """Makes permits, finds them by what their bearer shows, and lets officers decide on them."""

    def __init__(
        self, *, settings: EstSettings, country: str, labels: Labels, database: Database, audit: AuditLog,
        clock: Clock, register: Register,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._country = country
        self._labels = labels
        self._database = database
        self._audit = audit
        self._clock = clock
        self._register = register

    def make(
        self,
        *,
        label: str,
        holder: str,
        subject: Mapping[str, str],
        alternative_names: Sequence[tuple[str, str]],
        evidence: str,
        actor: str,
        lifetime: timedelta | None = None,
        needs_approval: bool = False,
        bearer_certificate_id: str | None = None,
    ) -> tuple[Permit, str | None]:
        """A permit and its one-time secret, which is told only now; None when a certificate is to be shown instead.

        Raises LabelUnknown, SubjectRefused, EvidenceMissing, CertificateNotFound.
        """
        profile = self._labels.profile(label)
        if not holder.strip() or not evidence.strip() or len(evidence) > MAX_EVIDENCE_CHARACTERS:
            raise EvidenceMissing(f"name the holder, and the evidence in {MAX_EVIDENCE_CHARACTERS} characters")
        if bearer_certificate_id is not None:
            self._register.get(bearer_certificate_id)
        secret = None if bearer_certificate_id else secrets.token_urlsafe(SECRET_OCTETS)
        now = self._clock()
        row = PermitRow(
            id=secrets.token_hex(8),
            label=label,
            holder=holder,
            subject=_dumped(fitted_subject(profile, {"C": self._country, **subject})),
            alternative_names=_dumped(fitted_alternative_names(profile, alternative_names)),
            evidence=evidence,
            secret_sha256=_digest(secret) if secret else None,
            bearer_certificate_id=bearer_certificate_id,
            needs_approval=needs_approval,
            state="open",
            spki_sha256=None,
            made_by=actor,
            made_at=now,
            expires_at=now + (lifetime or timedelta(hours=self._settings.permit_hours)),
            decided_by=None,
            changed_at=now,
        )
        with self._database.transaction() as session:
            session.add(row)
            self._tell(session, events.PERMIT_MADE, row, actor)
        return _permit(row), secret

    def listed(self, *, state: str | None = None, label: str | None = None, limit: int = 100) -> tuple[Permit, ...]:
        """Permits, newest first, at most ``limit`` (1,000)."""
        query = select(PermitRow)
        if state is not None:
            query = query.where(PermitRow.state == state)
        if label is not None:
            query = query.where(PermitRow.label == label)
        query = query.order_by(PermitRow.made_at.desc(), PermitRow.id).limit(min(limit, MAX_LISTED))
        with self._database.reading() as session:
            return tuple(_permit(row) for row in session.scalars(query))

    def get(self, permit_id: str) -> Permit:
        """The permit of this id. Raises PermitNotFound."""
        with self._database.reading() as session:
            return _permit(_row(session, permit_id))

    def of_secret(self, permit_id: str, secret: str) -> Permit:
        """The permit whose secret this is, usable or not. Raises SecretRefused."""
        with self._database.reading() as session:
            row = session.get(PermitRow, permit_id)
            known = row.secret_sha256 if row is not None else None
            if not hmac.compare_digest(known or bytes(32), _digest(secret)) or row is None:
                raise errors.SecretRefused("user name and secret do not belong together")
            return _permit(row)

    def of_certificate(self, certificate_id: str, label: str) -> Permit:
        """The newest usable permit whose bearer holds this certificate. Raises NotPermitted."""
        query = select(PermitRow).where(
            PermitRow.bearer_certificate_id == certificate_id,
            PermitRow.label == label,
            PermitRow.state.in_(_USABLE),
            PermitRow.expires_at > self._clock(),
        )
        with self._database.reading() as session:
            row = session.scalar(query.order_by(PermitRow.made_at.desc(), PermitRow.id).limit(1))
            if row is None:
                raise errors.NotPermitted("this certificate permits no enrolment here; ask for a permit or renew it")
            return _permit(row)

    def check_usable(self, permit: Permit, label: str) -> None:
        """Raise SecretSpent, PermitWithdrawn, PermitExpired or LabelRefused unless the permit serves now, and here."""
        if permit.label != label:
            raise errors.LabelRefused("this permit is for another label")
        if permit.state == "spent":
            raise errors.SecretSpent("this permit was used")
        if permit.state == "withdrawn":
            raise errors.PermitWithdrawn("this permit was withdrawn")
        if self._clock() >= permit.expires_at:
            raise errors.PermitExpired("this permit was not used in its time")

    def ask(self, permit: Permit, spki_sha256: bytes) -> None:
        """Lay the request with this key before an officer. The first key stays. Raises KeyChanged, PermitDecided."""
        if permit.spki_sha256 is not None:
            return _check_same_key(permit, spki_sha256)
        with self._database.transaction() as session:
            self._tell(session, events.PERMIT_ASKED, _row(session, permit.id), f"est:{permit.id}")
            self._moved(session, permit.id, ("open",), "pending", spki_sha256=spki_sha256)
        return None

    def check_approved(self, permit: Permit, spki_sha256: bytes) -> bool:
        """Whether the request with this key may be granted now. Raises KeyChanged."""
        if not permit.needs_approval:
            return True
        if permit.state != "approved":
            return False
        _check_same_key(permit, spki_sha256)
        return True

    def spend(self, session: Session, permit: Permit) -> None:
        """Take the permit in the transaction that enters its certificate: only one caller can.

        Raises SecretSpent, PermitWithdrawn.
        """
        before = ("approved",) if permit.needs_approval else ("open",)
        try:
            self._moved(session, permit.id, before, "spent")
        except errors.PermitDecided as error:
            if _row(session, permit.id).state == "withdrawn":
                raise errors.PermitWithdrawn("this permit was withdrawn meanwhile") from error
            raise errors.SecretSpent("this permit was used meanwhile") from error

    def approve(self, permit_id: str, *, actor: str) -> Permit:
        """Let the waiting request through. Raises PermitNotFound, PermitDecided, SelfApproval."""
        if self.get(permit_id).made_by == actor:
            raise errors.SelfApproval("who made the permit does not approve the request")  # K36
        return self._decide(permit_id, ("pending",), "approved", events.PERMIT_APPROVED, actor)

    def reject(self, permit_id: str, *, actor: str) -> Permit:
        """Refuse the waiting request for good. Raises PermitNotFound, PermitDecided."""
        return self._decide(permit_id, ("pending",), "withdrawn", events.PERMIT_REJECTED, actor)

    def withdraw(self, permit_id: str, *, actor: str) -> Permit:
        """End a permit that was not used. Raises PermitNotFound, PermitDecided."""
        return self._decide(permit_id, _USABLE, "withdrawn", events.PERMIT_WITHDRAWN, actor)

    def _decide(self, permit_id: str, before: tuple[str, ...], after: str, event: str, actor: str) -> Permit:
        with self._database.transaction() as session:
            # The audit chain first, as where a certificate is entered: two who lock in turns would block each other.
            self._tell(session, event, _row(session, permit_id), actor)
            return _permit(self._moved(session, permit_id, before, after, decided_by=actor))

    def _moved(
        self, session: Session, permit_id: str, before: tuple[str, ...], after: str, **values: object
    ) -> PermitRow:
        """Compare-and-set a permit's state; the row as it is then. Raises PermitDecided."""
        moved = session.execute(
            update(PermitRow)
            .where(PermitRow.id == permit_id, PermitRow.state.in_(before))
            .values(state=after, changed_at=self._clock(), **values)
        )
        assert isinstance(moved, CursorResult)  # noqa: S101 - an UPDATE gives a cursor
        row = session.get_one(PermitRow, permit_id, populate_existing=True)
        if moved.rowcount != 1:
            raise errors.PermitDecided(f"the permit is {row.state}")
        return row

    def _tell(self, session: Session, event: str, row: PermitRow, actor: str) -> None:
        facts: dict[str, Fact] = {"label": row.label, "holder": row.holder, "needs_approval": row.needs_approval}
        self._audit.append(session, event, actor=actor, subject=row.id, facts=facts)


def _row(session: Session, permit_id: str) -> PermitRow:
    row = session.get(PermitRow, permit_id)
    if row is None:
        raise errors.PermitNotFound(f"there is no permit {permit_id}")
    return row


def _check_same_key(permit: Permit, spki_sha256: bytes) -> None:
    if permit.spki_sha256 != spki_sha256:
        raise errors.KeyChanged("an officer decides on the key that was asked for first")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _dumped(pairs: Sequence[tuple[str, str]]) -> str:
    return json.dumps(pairs, ensure_ascii=False)


def _loaded(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((label, value) for label, value in json.loads(text))


def _permit(row: PermitRow) -> Permit:
    return Permit(
        id=row.id,
        label=row.label,
        holder=row.holder,
        subject=_loaded(row.subject),
        alternative_names=_loaded(row.alternative_names),
        evidence=row.evidence,
        bearer_certificate_id=row.bearer_certificate_id,
        needs_approval=row.needs_approval,
        state=row.state,
        made_by=row.made_by,
        made_at=row.made_at,
        expires_at=row.expires_at,
        decided_by=row.decided_by,
        spki_sha256=row.spki_sha256,
    )
