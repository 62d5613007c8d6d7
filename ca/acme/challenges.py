"""Challenges (RFC 8555 7.5.1, 8): answered by the client, looked at by us, outside its request.

A client that says it is ready makes the challenge ``processing`` and due; that stands in the database. A worker of any
process takes what is due under a lease, looks, and records the outcome. Should it die, the lease runs out and another
worker looks again: one in a serving process, woken by the client's next question, or ``tamga acme validate``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import or_, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from ca.acme import events
from ca.acme.accounts import Account
from ca.acme.errors import AcmeError, Caa, Malformed, RateLimited, ServerInternal, Unauthorized
from ca.acme.identifiers import Identifier
from ca.acme.orders import INVALID, PENDING, PROCESSING, VALID, Challenge, challenge_value, resting_on, settle
from ca.acme.resolver import Resolver
from ca.acme.settings import AcmeSettings
from ca.acme.tables import AccountRow, AuthorizationRow, ChallengeRow
from ca.acme.validation import Validation
from core.audit import AuditLog
from core.clock import Clock
from core.database import Database
from core.logs import get_logger
from core.one_time import OneTimeStore

log = get_logger("ca.acme.challenges")

# Longer than one look can take: five redirects with fifteen seconds each, and the name servers.
LEASE = timedelta(seconds=120)
# BR 3.2.2.8: what CAA records said holds for eight hours.
CAA_LIFETIME = timedelta(hours=8)
PAUSES = tuple(timedelta(seconds=seconds) for seconds in (2, 5, 15, 30, 60))
_FAILURES = "acme-failures"
HOUR_SECONDS = 3600


@dataclass(frozen=True)
class Due:
    """A challenge to look at, taken under a lease."""

    challenge: Challenge
    identifier: Identifier
    wildcard: bool
    thumbprint: str
    attempts: int
    leased_until: datetime


class Challenges:
    """Takes answers, looks at them, records what was seen."""

    def __init__(
        self,
        *,
        settings: AcmeSettings,
        database: Database,
        audit: AuditLog,
        clock: Clock,
        one_time: OneTimeStore,
        validation: Validation,
        resolver: Resolver,
    ) -> None:
        self._settings = settings
        self._database = database
        self._audit = audit
        self._clock = clock
        self._one_time = one_time
        self._validation = validation
        self._resolver = resolver

    def get(self, account: Account, identifier: str) -> Challenge:
        """The account's challenge. Raises Unauthorized for any other."""
        with self._database.reading() as session:
            return challenge_value(_owned(session.get(ChallengeRow, identifier), account))

    def answer(self, account: Account, identifier: str) -> Challenge:
        """The client is ready to be looked at. Saying so again changes nothing. Raises Malformed, RateLimited."""
        challenge = self.get(account, identifier)
        if challenge.status != PENDING:
            return challenge
        held = self._one_time.peek(_FAILURES, account.id)
        if held is not None:
            raise RateLimited(
                "too many failed validations; look at the errors before trying again", headers={"Retry-After": "3600"}
            )
        now = self._clock()
        with self._database.transaction() as session:
            authorization = session.get(AuthorizationRow, challenge.authorization_id)
            if authorization is None or authorization.status != PENDING or authorization.expires_at <= now:
                raise Malformed("the authorization is not pending")
            session.execute(
                update(ChallengeRow)
                .where(ChallengeRow.id == identifier, ChallengeRow.status == PENDING)
                .values(status=PROCESSING, next_attempt_at=now)
            )
            row = session.get_one(ChallengeRow, identifier, populate_existing=True)
            return challenge_value(row)

    # The worker's side ---------------------------------------------------------------------------------------------

    def next_due_at(self) -> datetime | None:
        """When the next open challenge is to be looked at, which may be past; None when none is open."""
        query = select(ChallengeRow.next_attempt_at, ChallengeRow.leased_until).where(
            ChallengeRow.status == PROCESSING, ChallengeRow.next_attempt_at.is_not(None)
        )
        with self._database.connect() as connection:
            rows = [(due, leased) for due, leased in connection.execute(query) if due is not None]
        return min((max(due, leased or due) for due, leased in rows), default=None)

    def take_due(self) -> Due | None:
        """Take one challenge that is due, so that nobody else looks at it meanwhile; None when there is none."""
        now = self._clock()
        free = or_(ChallengeRow.leased_until.is_(None), ChallengeRow.leased_until <= now)
        due = (ChallengeRow.status == PROCESSING, ChallengeRow.next_attempt_at <= now, free)
        query = select(ChallengeRow.id).where(*due).order_by(ChallengeRow.next_attempt_at).limit(20)
        with self._database.reading() as session:
            waiting = list(session.scalars(query))
        for identifier in waiting:
            with self._database.transaction() as session:
                taken = session.execute(
                    update(ChallengeRow)
                    .where(ChallengeRow.id == identifier, *due)
                    .values(leased_until=now + LEASE, attempts=ChallengeRow.attempts + 1)
                )
                assert isinstance(taken, CursorResult)  # noqa: S101 - an UPDATE gives a cursor
                if taken.rowcount == 1:
                    return _due(session, session.get_one(ChallengeRow, identifier, populate_existing=True), now + LEASE)
        return None

    def release(self) -> None:
        """Make everything that was taken due again; for a start that knows that nobody else looks."""
        with self._database.transaction() as session:
            session.execute(
                update(ChallengeRow).where(ChallengeRow.leased_until.is_not(None)).values(leased_until=None)
            )

    def look(self, due: Due) -> bool:
        """Look once at a challenge that was taken, and record the outcome; whether it was answered."""
        error = self._seen(due)
        if error is None:
            self._record_success(due)
            return True
        if due.attempts < self._settings.validation_attempts:
            self._record_retry(due, error)
        else:
            self._record_failure(due, error)
        return False

    def validate_due(self, *, limit: int = 1000) -> tuple[int, int]:
        """Look at everything that is due; how many were answered and how many were not (yet)."""
        answered = looked = 0
        while looked < limit and (due := self.take_due()) is not None:
            looked += 1
            answered += self.look(due)
        return answered, looked - answered

    def _seen(self, due: Due) -> AcmeError | None:
        try:
            self._validation.check(due.challenge.type, due.identifier, due.challenge.token, due.thumbprint)
            self._check_caa(due)
        except AcmeError as error:
            return error
        except Exception:
            # A stranger's answer must not stop the worker, nor leave the challenge open for ever.
            log.exception("acme_validation_broke", kind=due.challenge.type)
            return ServerInternal("the validation could not be carried out")
        return None

    def _check_caa(self, due: Due) -> None:
        """RFC 8659 4, for names; ``issuewild`` takes the place of ``issue`` where wildcards are asked for."""
        if not self._settings.caa_identities or due.identifier.type != "dns":
            return
        records = self._resolver.authorities(due.identifier.value)
        unknown = {tag for flags, tag, _ in records if flags & 128} - {"issue", "issuewild", "iodef"}
        if unknown:
            raise Caa("a critical CAA property is not understood")  # RFC 8659 4.1
        tag = "issuewild" if due.wildcard and any(tag == "issuewild" for _, tag, _ in records) else "issue"
        named = [value.partition(";")[0].strip().lower() for _, found, value in records if found == tag]
        if named and not set(named) & set(self._settings.caa_identities):
            raise Caa(f"CAA records of {due.identifier.value} name other authorities")

    def _record_success(self, due: Due) -> None:
        now = self._clock()
        with self._database.transaction() as session:
            orders = resting_on(session, due.challenge.authorization_id)
            if not self._close(session, due, VALID, None):
                return
            authorization = _authorization(session, due)
            if authorization.status == PENDING and authorization.expires_at > now:
                authorization.status, authorization.validated_at = VALID, now
                authorization.expires_at = self._holds_until(authorization.expires_at, now)
                settle(session, orders)
            session.flush()
            self._tell(session, events.AUTHORIZATION_VALIDATED, due, {"attempts": due.attempts})

    def _holds_until(self, order_expires_at: datetime, now: datetime) -> datetime:
        until = max(order_expires_at, now + timedelta(seconds=self._settings.authorization_reuse))
        return min(until, now + CAA_LIFETIME) if self._settings.caa_identities else until

    def _record_retry(self, due: Due, error: AcmeError) -> None:
        # RFC 8555 8.2: the client sees the last error while we go on.
        pause = PAUSES[min(due.attempts, len(PAUSES)) - 1]
        with self._database.transaction() as session:
            session.execute(
                update(ChallengeRow)
                .where(ChallengeRow.id == due.challenge.id, ChallengeRow.leased_until == due.leased_until)
                .values(next_attempt_at=self._clock() + pause, leased_until=None, error=_problem(error, due))
            )

    def _record_failure(self, due: Due, error: AcmeError) -> None:
        with self._database.transaction() as session:
            orders = resting_on(session, due.challenge.authorization_id)
            if not self._close(session, due, INVALID, _problem(error, due)):
                return
            authorization = _authorization(session, due)
            if authorization.status == PENDING:
                authorization.status = INVALID
                for order in orders:
                    order.status, order.error = INVALID, _problem(error, due)
            session.flush()
            self._tell(session, events.AUTHORIZATION_FAILED, due, {"code": error.code})
        self._count_failure(due.challenge.account_id)

    def _count_failure(self, account_id: str) -> None:
        count = self._one_time.count(f"{_FAILURES}-count", account_id, ttl=HOUR_SECONDS)
        if count >= self._settings.failures_per_hour:
            self._one_time.put(_FAILURES, account_id, {"count": count}, ttl=HOUR_SECONDS)

    def _close(self, session: Session, due: Due, status: str, error: str | None) -> bool:
        done = session.execute(
            update(ChallengeRow)
            .where(
                ChallengeRow.id == due.challenge.id,
                ChallengeRow.status == PROCESSING,
                ChallengeRow.leased_until == due.leased_until,
            )
            .values(
                status=status,
                error=error,
                next_attempt_at=None,
                leased_until=None,
                validated_at=self._clock() if status == VALID else None,
            )
        )
        assert isinstance(done, CursorResult)  # noqa: S101 - an UPDATE gives a cursor
        return done.rowcount == 1

    def _tell(self, session: Session, event: str, due: Due, more: dict[str, str | int]) -> None:
        facts = {"account": due.challenge.account_id, "type": due.challenge.type, "value": due.identifier.value, **more}
        self._audit.append(
            session, event, actor="service:acme-validation", subject=due.challenge.authorization_id, facts=facts
        )


def _owned(row: ChallengeRow | None, account: Account) -> ChallengeRow:
    if row is None or row.account_id != account.id:
        raise Unauthorized("there is no such challenge of this account")
    return row


def _authorization(session: Session, due: Due) -> AuthorizationRow:
    query = select(AuthorizationRow).where(AuthorizationRow.id == due.challenge.authorization_id)
    return session.scalars(query.with_for_update()).one()


def _due(session: Session, row: ChallengeRow, leased_until: datetime) -> Due:
    authorization = session.get_one(AuthorizationRow, row.authorization_id)
    account = session.get_one(AccountRow, row.account_id)
    return Due(
        challenge=challenge_value(row),
        identifier=Identifier("ip" if authorization.type == "ip" else "dns", authorization.value),
        wildcard=authorization.wildcard,
        thumbprint=account.thumbprint,
        attempts=row.attempts,
        leased_until=leased_until,
    )


def _problem(error: AcmeError, due: Due) -> str:
    return json.dumps({**error.document(), "identifier": due.identifier.document()}, default=str)
