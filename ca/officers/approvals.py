"""Approvals: what one person asks for and others permit with their signatures, once (four eyes, m of n).

    open ──enough signatures, take──▶ taken
      ├──reject──▶ rejected
      └──time────▶ expired                      nothing leaves these three again

A signature covers the whole request. Whether it counts is decided when the request is taken: its officer must then be
active, hold a role that approves such requests, and still have the key that signed.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidSignature
from sqlalchemy import select
from sqlalchemy.orm import Session

from ca.officers import events, keys
from ca.officers.errors import (
    ApprovalExpired,
    ApprovalMismatch,
    ApprovalMissing,
    ApprovalNotFound,
    ApprovalRejected,
    ApprovalSignatureRefused,
    ApprovalSigned,
    ApprovalSpent,
    ApprovalTextRefused,
    OwnRequest,
    RoleMissing,
)
from ca.officers.register import Officer, Officers
from ca.officers.roles import approvers
from ca.officers.tables import ApprovalRequestRow, ApprovalRow
from ca.settings import CaSettings
from core.audit import AuditLog, canonical
from core.clock import Clock
from core.database import Database

PURPOSE = "tamga approval 1"
OPEN, REJECTED, TAKEN, EXPIRED = "open", "rejected", "taken", "expired"
MAX_KIND, MAX_SUBJECT, MAX_DIGEST, MAX_REASON = 40, 200, 128, 200
MAX_FACTS_OCTETS = 16_384
MAX_LISTED = 1000


@dataclass(frozen=True)
class Approval:
    """One officer's signature; ``counts`` says whether it would if the request were taken now."""

    officer: str
    approved_at: datetime
    signature: bytes
    counts: bool


@dataclass(frozen=True)
class ApprovalRequest:
    """A request as it stands. ``digest`` is of what may be done; ``needed`` how many signatures that takes."""

    id: str
    kind: str
    subject: str
    digest: str
    facts: Mapping[str, str | int]
    requester: str
    requested_at: datetime
    expires_at: datetime
    state: str
    closed_by: str | None
    reason: str | None
    needed: int
    approvals: tuple[Approval, ...]
    text: bytes

    @property
    def valid(self) -> int:
        """How many signatures count now."""
        return sum(each.counts for each in self.approvals)


class Approvals:
    """Takes requests, signatures and rejections, and lets a request be used once."""

    def __init__(
        self, *, settings: CaSettings, database: Database, audit: AuditLog, clock: Clock, officers: Officers
    ) -> None:
        self._settings = settings
        self._database = database
        self._audit = audit
        self._clock = clock
        self._officers = officers

    def needed(self, kind: str, session: Session | None = None) -> int:
        """How many officers beside the requester must sign; none on a development instance without officers."""
        if self._settings.development and not self._officers.enrolled(session):
            return 0
        return self._settings.quorum.of(kind)

    def request(
        self, kind: str, subject: str, digest: str, *, actor: str, facts: Mapping[str, str | int]
    ) -> str:  # fmt: skip
        """Ask for approval and give the request's id. ``digest`` stands for exactly what is to be done.

        Raises ApprovalTextRefused.
        """
        with self._database.transaction() as session:
            return self.request_in(session, kind, subject, digest, actor=actor, facts=facts)

    def request_in(
        self, session: Session, kind: str, subject: str, digest: str, *, actor: str, facts: Mapping[str, str | int]
    ) -> str:
        """The same in the caller's transaction."""
        row = self._row(kind, subject, digest, actor, facts, self.needed(kind, session))
        session.add(row)
        told = {"kind": kind, "digest": digest, "request": row.id, "expires_at": _stamp(row.expires_at)}
        self._audit.append(session, events.APPROVAL_REQUESTED, actor=actor, subject=subject, facts=told)
        return row.id

    def get(self, request_id: str) -> ApprovalRequest:
        """The request of this id. Raises ApprovalNotFound."""
        with self._database.reading() as session:
            return self._view(session, _found(session, request_id))

    def all(self, *, state: str | None = None, kind: str | None = None) -> tuple[ApprovalRequest, ...]:
        """Requests, newest first, at most 1,000. ``state``: open, rejected, taken or expired."""
        query = select(ApprovalRequestRow)
        if kind is not None:
            query = query.where(ApprovalRequestRow.kind == kind)
        if state in (OPEN, EXPIRED):
            query = query.where(ApprovalRequestRow.state == OPEN)
            now = self._clock()
            late = ApprovalRequestRow.expires_at <= now
            query = query.where(late if state == EXPIRED else ~late)
        elif state is not None:
            query = query.where(ApprovalRequestRow.state == state)
        query = query.order_by(ApprovalRequestRow.requested_at.desc(), ApprovalRequestRow.id).limit(MAX_LISTED)
        with self._database.reading() as session:
            return tuple(self._view(session, row) for row in session.scalars(query).all())

    def approve(self, request_id: str, officer: Officer, signature: bytes) -> ApprovalRequest:
        """Add an officer's signature over the request's text.

        Raises ApprovalNotFound, ApprovalRejected, ApprovalSpent, ApprovalExpired, OwnRequest, RoleMissing,
        ApprovalMismatch, ApprovalSigned, ApprovalSignatureRefused.
        """
        with self._database.transaction() as session:
            row = _found(session, request_id, lock=True)
            self._check_open(row)
            officer = self._as_now(session, officer)
            _check_not_own(row, officer)
            _check_may_approve(row, officer)
            self._check_quorum(session, row)
            _check_signature(officer, self._text(row), signature)
            if session.get(ApprovalRow, (row.id, officer.name)) is not None:
                raise ApprovalSigned(f"{officer.name} has approved this already")
            session.add(
                ApprovalRow(
                    request_id=row.id,
                    officer=officer.name,
                    key_sha256=officer.key_sha256,
                    signature=signature,
                    approved_at=self._clock(),
                )
            )
            told = {"kind": row.kind, "digest": row.digest, "request": row.id, "signature": signature.hex()}
            self._audit.append(session, events.APPROVAL_GIVEN, actor=officer.actor, subject=row.subject, facts=told)
            return self._view(session, row)

    def reject(self, request_id: str, officer: Officer, *, reason: str) -> ApprovalRequest:
        """Close a request for good; its requester may do so too. ``reason`` is one line.

        Raises ApprovalNotFound, ApprovalRejected, ApprovalSpent, ApprovalExpired, RoleMissing, ApprovalTextRefused.
        """
        if not 1 <= len(reason) <= MAX_REASON or not reason.isprintable():
            raise ApprovalTextRefused(f"a reason is one line of at most {MAX_REASON} characters")
        with self._database.transaction() as session:
            row = _found(session, request_id, lock=True)
            self._check_open(row)
            if row.requester != officer.actor:
                _check_may_approve(row, self._as_now(session, officer))
            row.state, row.changed_at, row.closed_by, row.reason = REJECTED, self._clock(), officer.actor, reason
            told = {"kind": row.kind, "digest": row.digest, "request": row.id, "reason": reason}
            self._audit.append(session, events.APPROVAL_REJECTED, actor=officer.actor, subject=row.subject, facts=told)
            return self._view(session, row)

    def take(self, session: Session, request_id: str, *, kind: str, digest: str, actor: str) -> None:
        """Use a request up, in the transaction of the act it permits; when that rolls back, it is unused again.

        The request's row stays locked until the end, and so does the audit log's chain: lock your own rows first.
        Raises ApprovalNotFound, ApprovalRejected, ApprovalSpent, ApprovalExpired, ApprovalMismatch, ApprovalMissing.
        """
        row = _found(session, request_id, lock=True)
        self._check_open(row)
        if (row.kind, row.digest) != (kind, digest):
            raise ApprovalMismatch("what is to be done is not what was approved")
        counted = [each.officer for each in self._approvals(session, row) if each.counts]
        needed = max(row.needed, self.needed(kind, session))
        if len(counted) < needed:
            raise ApprovalMissing(
                f"{len(counted)} of {needed} signatures that {kind} needs", needed=needed, valid=len(counted)
            )
        row.state, row.changed_at, row.closed_by = TAKEN, self._clock(), actor
        told = {"kind": kind, "digest": digest, "request": row.id, "approved_by": counted}
        self._audit.append(session, events.APPROVAL_TAKEN, actor=actor, subject=row.subject, facts=told)

    def _row(
        self, kind: str, subject: str, digest: str, actor: str, facts: Mapping[str, str | int], needed: int
    ) -> ApprovalRequestRow:
        encoded = canonical(dict(facts))
        sizes = ((kind, MAX_KIND), (subject, MAX_SUBJECT), (digest, MAX_DIGEST), (actor, MAX_SUBJECT))
        if any(not 1 <= len(part) <= most or not part.isprintable() for part, most in sizes):
            raise ApprovalTextRefused("kind, subject, digest and requester are one line each")
        if len(encoded) > MAX_FACTS_OCTETS:
            raise ApprovalTextRefused(f"facts have at most {MAX_FACTS_OCTETS} octets")
        now = self._clock()
        return ApprovalRequestRow(
            id=str(uuid.uuid4()),
            kind=kind,
            subject=subject,
            digest=digest,
            facts=encoded.decode(),
            needed=needed,
            requester=actor,
            requested_at=now,
            expires_at=now + timedelta(days=self._settings.approval_days),
            state=OPEN,
            changed_at=now,
            closed_by=None,
            reason=None,
        )

    def _text(self, row: ApprovalRequestRow) -> bytes:
        """What an approving officer signs: everything that he saw, and on which instance."""
        return keys.signed_text(
            PURPOSE,
            (
                ("instance", self._settings.oidc_issuer),
                ("request", row.id),
                ("kind", row.kind),
                ("subject", row.subject),
                ("digest", row.digest),
                ("facts-sha256", hashlib.sha256(row.facts.encode()).hexdigest()),
                ("requester", row.requester),
                ("signatures-needed", str(row.needed)),
                ("expires", _stamp(row.expires_at)),
            ),
        )

    def _check_open(self, row: ApprovalRequestRow) -> None:
        if row.state == REJECTED:
            raise ApprovalRejected(f"the request was rejected by {row.closed_by}")
        if row.state == TAKEN:
            raise ApprovalSpent("the request was used; each permits one act")
        if self._clock() >= row.expires_at:
            raise ApprovalExpired("the request was not used in time")

    def _check_quorum(self, session: Session, row: ApprovalRequestRow) -> None:
        # Settings are read from the asking process's environment, too. Each approving one looks with its own.
        if row.needed < self.needed(row.kind, session):
            raise ApprovalMismatch(f"the request names {row.needed} signatures, {row.kind} needs more: ask anew")

    def _as_now(self, session: Session, officer: Officer) -> Officer:
        """The officer as the register has him in this transaction; whoever is not there any more holds no role."""
        for each in self._officers.all(session):
            if each.name == officer.name:
                return each
        raise RoleMissing(f"{officer.name} is no officer")

    def _approvals(self, session: Session, row: ApprovalRequestRow) -> tuple[Approval, ...]:
        officers = {each.name: each for each in self._officers.all(session)}
        query = select(ApprovalRow).where(ApprovalRow.request_id == row.id).order_by(ApprovalRow.approved_at)
        given = session.scalars(query.execution_options(populate_existing=True)).all()
        return tuple(
            Approval(
                officer=each.officer,
                approved_at=each.approved_at,
                signature=each.signature,
                counts=self._counts(row, each, officers.get(each.officer)),
            )
            for each in given
        )

    def _counts(self, row: ApprovalRequestRow, given: ApprovalRow, officer: Officer | None) -> bool:
        if officer is None or officer.actor == row.requester or not officer.holds(approvers(row.kind)):
            return False
        try:
            keys.verify(officer.spki, self._text(row), given.signature)
        except InvalidSignature:
            return False
        return True

    def _view(self, session: Session, row: ApprovalRequestRow) -> ApprovalRequest:
        state = EXPIRED if row.state == OPEN and self._clock() >= row.expires_at else row.state
        return ApprovalRequest(
            id=row.id,
            kind=row.kind,
            subject=row.subject,
            digest=row.digest,
            facts=json.loads(row.facts),
            requester=row.requester,
            requested_at=row.requested_at,
            expires_at=row.expires_at,
            state=state,
            closed_by=row.closed_by,
            reason=row.reason,
            needed=max(row.needed, self.needed(row.kind, session)),
            approvals=self._approvals(session, row),
            text=self._text(row),
        )


def _found(session: Session, request_id: str, *, lock: bool = False) -> ApprovalRequestRow:
    query = select(ApprovalRequestRow).where(ApprovalRequestRow.id == request_id)
    if lock:
        query = query.with_for_update()
    row = session.scalar(query.execution_options(populate_existing=True))
    if row is None:
        raise ApprovalNotFound("there is no such request for approval")
    return row


def _check_not_own(row: ApprovalRequestRow, officer: Officer) -> None:
    if officer.actor == row.requester:
        raise OwnRequest("nobody approves what he asked for himself")


def _check_may_approve(row: ApprovalRequestRow, officer: Officer) -> None:
    roles: Collection[str] = approvers(row.kind)
    if not officer.holds(roles):
        raise RoleMissing(f"a request of kind {row.kind} is decided by {' or '.join(sorted(roles))}")


def _check_signature(officer: Officer, text: bytes, signature: bytes) -> None:
    try:
        keys.verify(officer.spki, text, signature)
    except InvalidSignature as error:
        raise ApprovalSignatureRefused(f"this is not {officer.name}'s signature over the request") from error


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
