"""Orders and authorizations (RFC 8555 7.1.6, 7.4, 7.5): from the names asked for to the certificate.

An order is fulfilled once. Who finalises it takes it (``ready`` to ``processing``) under a name of the attempt; the
certificate is linked to the order in the very transaction that enters it in the register, and only for that attempt.
An attempt that died is given up after the time an issuance may take; what it may have signed is never released.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, or_, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from ca.acme import events, resource_id
from ca.acme.accounts import Account
from ca.acme.errors import AcmeError, AlreadyReplaced, OrderNotReady, Unauthorized
from ca.acme.identifiers import Identifier, restored, stored
from ca.acme.settings import DNS_01, AcmeSettings
from ca.acme.tables import AuthorizationRow, ChallengeRow, OrderAuthorizationRow, OrderRow
from core.audit import AuditLog
from core.clock import Clock
from core.database import Database

PENDING = "pending"
READY = "ready"
PROCESSING = "processing"
VALID = "valid"
INVALID = "invalid"
DEACTIVATED = "deactivated"
EXPIRED = "expired"
# A proof that ends while the order is being finalised would be of no use.
REUSE_MARGIN = timedelta(minutes=10)
MAX_LISTED = 100


@dataclass(frozen=True)
class Challenge:
    """One way to prove control of a name. ``error`` is a problem document."""

    id: str
    authorization_id: str
    account_id: str
    type: str
    status: str
    validated_at: datetime | None
    error: dict[str, Any] | None
    token: str = field(repr=False)


@dataclass(frozen=True)
class Authorization:
    """An account's proof of control over a name; ``identifier`` without an asterisk."""

    id: str
    account_id: str
    identifier: Identifier
    wildcard: bool
    status: str
    expires_at: datetime
    challenges: tuple[Challenge, ...]


@dataclass(frozen=True)
class Order:
    """An order as it stands now. ``error`` is a problem document."""

    id: str
    account_id: str
    status: str
    identifiers: tuple[Identifier, ...]
    replaces: str | None
    created_at: datetime
    expires_at: datetime
    authorization_ids: tuple[str, ...]
    certificate_id: str | None
    csr_sha256: bytes | None
    error: dict[str, Any] | None


@dataclass(frozen=True)
class Attempt:
    """Leave to fulfil an order once."""

    id: str
    order: Order


class Orders:
    """Makes orders and leads them to their end. Everything is asked for by the account it belongs to."""

    def __init__(
        self,
        *,
        settings: AcmeSettings,
        database: Database,
        audit: AuditLog,
        clock: Clock,
        attempt_seconds: int,
    ) -> None:
        self._settings = settings
        self._database = database
        self._audit = audit
        self._clock = clock
        self._attempt = timedelta(seconds=attempt_seconds)

    # Orders --------------------------------------------------------------------------------------------------------

    def create(
        self,
        account: Account,
        identifiers: Sequence[Identifier],
        *,
        replaces: str | None = None,
    ) -> Order:
        """A new order; names that the account has proven lately need no new proof. Raises AlreadyReplaced."""
        now = self._clock()
        row = OrderRow(
            id=resource_id.fresh(),
            account_id=account.id,
            status=PENDING,
            identifiers=stored(identifiers),
            replaces=replaces,
            created_at=now,
            expires_at=now + timedelta(seconds=self._settings.order_lifetime),
            attempt=None,
            attempted_at=None,
            csr_sha256=None,
            certificate_id=None,
            error=None,
        )
        with self._database.transaction() as session:
            if replaces is not None:
                self._refuse_replaced(session, replaces)
            held = [self._authorize(session, row, identifier) for identifier in identifiers]
            session.add_all(
                OrderAuthorizationRow(order_id=row.id, position=position, authorization_id=authorization.id)
                for position, authorization in enumerate(held)
            )
            if all(authorization.status == VALID for authorization in held):
                row.status = READY
            session.add(row)
            session.flush()
            facts = {"account": account.id, "identifiers": [each.value for each in identifiers], "replaces": replaces}
            self._audit.append(session, events.ORDER_CREATED, actor=account.actor, subject=row.id, facts=facts)
            return self._order(session, row)

    def get(self, account: Account, identifier: str) -> Order:
        """The account's order. Raises Unauthorized for any other."""
        with self._database.reading() as session:
            row = session.get(OrderRow, identifier)
            if row is None or row.account_id != account.id:
                raise Unauthorized("there is no such order of this account")
            return self._order(session, row)

    def of(self, account: Account, *, after: str | None = None) -> tuple[tuple[str, ...], str | None]:
        """Ids of the account's orders that are not invalid, newest first, and where the next page begins."""
        query = select(OrderRow).where(OrderRow.account_id == account.id, OrderRow.status != INVALID)
        query = query.order_by(OrderRow.created_at.desc(), OrderRow.id).limit(MAX_LISTED + 1)
        with self._database.reading() as session:
            if after is not None:
                last = session.get(OrderRow, after)
                if last is None or last.account_id != account.id:
                    raise Unauthorized("there is no such page")
                older = OrderRow.created_at < last.created_at
                query = query.where(or_(older, and_(OrderRow.created_at == last.created_at, OrderRow.id > last.id)))
            rows = list(session.scalars(query))
        shown = rows[:MAX_LISTED]
        following = shown[-1].id if len(rows) > MAX_LISTED else None
        return tuple(row.id for row in shown if self._status(row) != INVALID), following

    def by_certificate(self, certificate_id: str) -> Order | None:
        """The order that a certificate of the register fulfilled, None when it was not ordered here."""
        with self._database.reading() as session:
            row = session.scalar(select(OrderRow).where(OrderRow.certificate_id == certificate_id))
            return None if row is None else self._order(session, row)

    # Finalisation --------------------------------------------------------------------------------------------------

    def begin(self, account: Account, identifier: str, csr: bytes) -> Attempt | Order:
        """Take a ready order to fulfil it; the order itself when the same request came before.

        Raises OrderNotReady, AlreadyReplaced, Unauthorized.
        """
        digest = hashlib.sha256(csr).digest()
        with self._database.transaction() as session:
            self._hold_rivals(session, identifier)
            row = _owned(session, account, identifier)
            status = self._status(row)
            if status in (PROCESSING, VALID) and row.csr_sha256 == digest:
                return self._order(session, row)
            if status != READY:
                raise OrderNotReady(f"the order is {status}, not ready")
            self._check_proofs(session, row)
            if row.replaces is not None:
                self._refuse_replaced(session, row.replaces, but=row.id)
            row.status, row.attempt, row.attempted_at = PROCESSING, resource_id.fresh(), self._clock()
            row.csr_sha256 = digest
            session.flush()
            return Attempt(row.attempt, self._order(session, row))

    def fulfil(self, session: Session, attempt: Attempt, certificate_id: str, *, account: Account) -> None:
        """Link the certificate in the transaction that enters it. Raises OrderNotReady when the attempt was given
        up: the certificate is then not entered either."""
        done = session.execute(
            update(OrderRow)
            .where(OrderRow.id == attempt.order.id, OrderRow.status == PROCESSING, OrderRow.attempt == attempt.id)
            .values(status=VALID, certificate_id=certificate_id, attempt=None)
        )
        assert isinstance(done, CursorResult)  # noqa: S101 - an UPDATE gives a cursor
        if done.rowcount != 1:
            raise OrderNotReady("the order was taken back meanwhile")
        facts = {"certificate": certificate_id, "account": account.id}
        self._audit.append(session, events.ORDER_FULFILLED, actor=account.actor, subject=attempt.order.id, facts=facts)

    def release(self) -> None:
        """Make every order that was taken ready again; for a start that knows that nobody else fulfils orders."""
        with self._database.transaction() as session:
            taken = update(OrderRow).where(OrderRow.status == PROCESSING)
            session.execute(taken.values(status=READY, attempt=None, csr_sha256=None))

    def give_back(self, attempt: Attempt) -> None:
        """Make the order ready again after a failure that may pass."""
        with self._database.transaction() as session:
            session.execute(_taken_by(attempt).values(status=READY, attempt=None, csr_sha256=None))

    def fail(self, attempt: Attempt, error: AcmeError, *, account: Account) -> None:
        """End the order: it can never be fulfilled."""
        with self._database.transaction() as session:
            session.execute(_taken_by(attempt).values(status=INVALID, attempt=None, error=_problem(error)))
            facts = {"account": account.id, "code": error.code}
            self._audit.append(session, events.ORDER_FAILED, actor=account.actor, subject=attempt.order.id, facts=facts)

    # Authorizations ------------------------------------------------------------------------------------------------

    def authorization(self, account: Account, identifier: str) -> Authorization:
        """The account's authorization. Raises Unauthorized for any other."""
        with self._database.reading() as session:
            row = session.get(AuthorizationRow, identifier)
            if row is None or row.account_id != account.id:
                raise Unauthorized("there is no such authorization of this account")
            return self._authorization(session, row)

    def deactivate(self, account: Account, identifier: str) -> Authorization:
        """Give a proof up (RFC 8555 7.5.2); open orders that rest on it end."""
        with self._database.transaction() as session:
            orders = resting_on(session, identifier)
            row = session.scalar(select(AuthorizationRow).where(AuthorizationRow.id == identifier).with_for_update())
            if row is None or row.account_id != account.id:
                raise Unauthorized("there is no such authorization of this account")
            if self._authorization_status(row) in (PENDING, VALID):
                row.status = DEACTIVATED
                for order in orders:
                    order.status = INVALID
                session.flush()
                facts = {"account": account.id, "value": row.value}
                self._audit.append(
                    session, events.AUTHORIZATION_DEACTIVATED, actor=account.actor, subject=row.id, facts=facts
                )
            return self._authorization(session, row)

    def controls(self, account: Account, identifiers: Sequence[Identifier]) -> bool:
        """Whether the account holds a valid proof for every one of these names now (RFC 8555 7.6)."""
        query = select(AuthorizationRow).where(
            AuthorizationRow.account_id == account.id,
            AuthorizationRow.status == VALID,
            AuthorizationRow.expires_at > self._clock(),
        )
        with self._database.reading() as session:
            proven = {(row.type, row.value, row.wildcard) for row in session.scalars(query)}
        return all((each.type, each.base, each.wildcard) in proven for each in identifiers)

    def _authorize(self, session: Session, order: OrderRow, identifier: Identifier) -> AuthorizationRow:
        """A proof that still holds, or a new authorization with its challenges."""
        if self._settings.authorization_reuse:
            query = select(AuthorizationRow).where(
                AuthorizationRow.account_id == order.account_id,
                AuthorizationRow.type == identifier.type,
                AuthorizationRow.value == identifier.base,
                AuthorizationRow.wildcard == identifier.wildcard,
                AuthorizationRow.status == VALID,
                AuthorizationRow.expires_at > order.created_at + REUSE_MARGIN,
            )
            proven = session.scalar(query.order_by(AuthorizationRow.expires_at.desc()).limit(1))
            if proven is not None:
                return proven
        row = AuthorizationRow(
            id=resource_id.fresh(),
            account_id=order.account_id,
            type=identifier.type,
            value=identifier.base,
            wildcard=identifier.wildcard,
            status=PENDING,
            created_at=order.created_at,
            expires_at=order.expires_at,
            validated_at=None,
        )
        session.add(row)
        session.add_all(_new_challenge(row, kind) for kind in offered(self._settings.challenges, identifier))
        return row

    def _check_proofs(self, session: Session, order: OrderRow) -> None:
        """Every name is proven now, not only when the order became ready."""
        for row in _authorizations(session, order.id):
            if row.account_id != order.account_id or self._authorization_status(row) != VALID:
                raise OrderNotReady(f"the proof for {row.value} no longer holds; make a new order")

    @staticmethod
    def _hold_rivals(session: Session, identifier: str) -> None:
        """Take all orders that replace the same certificate, in one order, so that of two only one goes on."""
        replaces = select(OrderRow.replaces).where(OrderRow.id == identifier).scalar_subquery()
        rivals = select(OrderRow.id).where(OrderRow.replaces == replaces).order_by(OrderRow.id)
        session.execute(rivals.with_for_update())

    def _refuse_replaced(self, session: Session, replaces: str, *, but: str = "") -> None:
        """RFC 9773 5: a certificate is replaced once; an order that failed or expired does not count."""
        query = select(OrderRow).where(OrderRow.replaces == replaces, OrderRow.id != but)
        if any(self._status(row) in (VALID, PROCESSING) for row in session.scalars(query)):
            raise AlreadyReplaced("another order replaced this certificate")

    # What is stored, as it counts now ------------------------------------------------------------------------------

    def _status(self, row: OrderRow) -> str:
        now = self._clock()
        if row.status == PROCESSING and row.attempted_at is not None and row.attempted_at <= now - self._attempt:
            # Whoever took it died; ``fulfil`` refuses that attempt as soon as another one takes the order.
            return READY if row.expires_at > now else INVALID
        if row.status in (PENDING, READY) and row.expires_at <= now:
            return INVALID
        return row.status

    def _authorization_status(self, row: AuthorizationRow) -> str:
        if row.expires_at > self._clock():
            return row.status
        return {PENDING: INVALID, VALID: EXPIRED}.get(row.status, row.status)

    def _order(self, session: Session, row: OrderRow) -> Order:
        links = select(OrderAuthorizationRow.authorization_id).where(OrderAuthorizationRow.order_id == row.id)
        return Order(
            id=row.id,
            account_id=row.account_id,
            status=self._status(row),
            identifiers=restored(row.identifiers),
            replaces=row.replaces,
            created_at=row.created_at,
            expires_at=row.expires_at,
            authorization_ids=tuple(session.scalars(links.order_by(OrderAuthorizationRow.position))),
            certificate_id=row.certificate_id,
            csr_sha256=row.csr_sha256,
            error=json.loads(row.error) if row.error else None,
        )

    def _authorization(self, session: Session, row: AuthorizationRow) -> Authorization:
        query = select(ChallengeRow).where(ChallengeRow.authorization_id == row.id).order_by(ChallengeRow.type)
        return Authorization(
            id=row.id,
            account_id=row.account_id,
            identifier=Identifier("ip" if row.type == "ip" else "dns", row.value),
            wildcard=row.wildcard,
            status=self._authorization_status(row),
            expires_at=row.expires_at,
            challenges=tuple(map(challenge_value, session.scalars(query))),
        )


def offered(kinds: Sequence[str], identifier: Identifier) -> tuple[str, ...]:
    """The kinds of challenge by which control of this identifier can be shown."""
    if identifier.type == "ip":
        return tuple(kind for kind in kinds if kind != DNS_01)  # RFC 8738 7
    if identifier.wildcard:
        return tuple(kind for kind in kinds if kind == DNS_01)  # BR 3.2.2.4.19; RFC 8737 3
    return tuple(kinds)


def challenge_value(row: ChallengeRow) -> Challenge:
    """A challenge's row as a value."""
    return Challenge(
        id=row.id,
        authorization_id=row.authorization_id,
        account_id=row.account_id,
        type=row.type,
        status=row.status,
        validated_at=row.validated_at,
        error=json.loads(row.error) if row.error else None,
        token=row.token,
    )


def resting_on(session: Session, authorization_id: str) -> list[OrderRow]:
    """Open orders that rest on this authorization, held until the transaction ends.

    They are taken before the authorization is changed: two proofs of one order that arrive together then queue here,
    and the second one sees the first.
    """
    links = select(OrderAuthorizationRow.order_id).where(OrderAuthorizationRow.authorization_id == authorization_id)
    query = select(OrderRow).where(OrderRow.id.in_(links), OrderRow.status.in_((PENDING, READY)))
    return list(session.scalars(query.order_by(OrderRow.id).with_for_update()))


def settle(session: Session, orders: Sequence[OrderRow]) -> None:
    """Make those pending orders ready whose names are all proven."""
    session.flush()
    for order in orders:
        if order.status == PENDING and all(row.status == VALID for row in _authorizations(session, order.id)):
            order.status = READY


def _authorizations(session: Session, order_id: str) -> list[AuthorizationRow]:
    links = select(OrderAuthorizationRow.authorization_id).where(OrderAuthorizationRow.order_id == order_id)
    query = select(AuthorizationRow).where(AuthorizationRow.id.in_(links)).execution_options(populate_existing=True)
    return list(session.scalars(query))


def _new_challenge(authorization: AuthorizationRow, kind: str) -> ChallengeRow:
    return ChallengeRow(
        id=resource_id.fresh(),
        authorization_id=authorization.id,
        account_id=authorization.account_id,
        type=kind,
        token=secrets.token_urlsafe(32),  # RFC 8555 8.3: at least 128 bits
        status=PENDING,
        attempts=0,
        next_attempt_at=None,
        leased_until=None,
        validated_at=None,
        error=None,
    )


def _owned(session: Session, account: Account, identifier: str) -> OrderRow:
    row = session.scalar(select(OrderRow).where(OrderRow.id == identifier).with_for_update())
    if row is None or row.account_id != account.id:
        raise Unauthorized("there is no such order of this account")
    return row


def _taken_by(attempt: Attempt) -> Any:
    return update(OrderRow).where(
        OrderRow.id == attempt.order.id, OrderRow.status == PROCESSING, OrderRow.attempt == attempt.id
    )


def _problem(error: AcmeError) -> str:
    return json.dumps(error.document(), default=str)
