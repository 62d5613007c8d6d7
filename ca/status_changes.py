"""Who must hear of a changed status: an event in the transaction that changes it, and a consumer that settles it.

A command that revokes publishes the CRL itself; whoever revokes otherwise, or could not publish, leaves an event, and
the timer's next round puts the change into a CRL. The status service needs no event: it reads the register.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, delete, func, select
from sqlalchemy.orm import Session

from ca.crl import Crls, is_issuing
from ca.hierarchy import Hierarchy
from ca.register import State
from ca.tables import MassRevocationBatchRow, MassRevocationRow
from core.clock import Clock
from core.database import Database
from core.errors import CodedError
from core.logs import get_logger
from core.outbox import Delivery, Outbox, OutboxEntry

log = get_logger("ca.status_changes")

KIND = "ca.status-changed"
ACTOR = "service:ca-status-changes"
# K17: a CRL shows a change within ten minutes. A mass revocation publishes once, at its end; one that stands still
# for so long has probably died, and what it did must be seen.
STANDSTILL = timedelta(minutes=10)
# Settled events are kept this long for whoever looks into a delay, those that were given up a good while longer.
KEPT = timedelta(days=7)
KEPT_DEAD = timedelta(days=90)


# A CRL this much younger than a change has surely seen it; no transaction of ours lasts so long.
CLOSE = timedelta(seconds=60)


@dataclass(frozen=True)
class Change:
    """What an event tells: when, and whether that serial number then stands in the CRL (None for many at once)."""

    at: datetime
    serial: int | None = None
    listed: bool = True

    @classmethod
    def of(cls, delivery: Delivery) -> Change:
        """From a delivery's body."""
        serial = delivery.body.get("serial")
        listed = delivery.body.get("state") != State.GOOD.value
        return cls(datetime.fromisoformat(str(delivery.body["at"])), int(str(serial), 16) if serial else None, listed)


@dataclass(frozen=True)
class Round:
    """How many events were settled, how many wait for a next attempt, whose CRLs were published, how many deleted."""

    settled: int
    waiting: int
    published: tuple[str, ...]
    deleted: int


def announce(outbox: Outbox, session: Session, *, issuer: str, at: datetime, **facts: str | int | None) -> None:
    """Put the event into the transaction that changes a status. ``at`` is the moment of the change."""
    body = {"issuer": issuer, "at": at.isoformat(), **facts}
    outbox.enqueue(session, kind=KIND, destination=f"crl:{issuer}", body=body)


class StatusChanges:
    """Sees to it that changes of status are published."""

    def __init__(self, *, database: Database, outbox: Outbox, clock: Clock, crls: Crls, hierarchy: Hierarchy) -> None:
        self._database = database
        self._outbox = outbox
        self._clock = clock
        self._crls = crls
        self._hierarchy = hierarchy

    def run(self, *, limit: int = 500) -> Round:
        """Settle the events that are due; at most one CRL for each issuer. Any number of processes may run this."""
        deliveries = self._outbox.due(self._database, kind=KIND, limit=limit)
        changes: dict[str, list[Change]] = {}
        for delivery in deliveries:
            changes.setdefault(str(delivery.body["issuer"]), []).append(Change.of(delivery))
        for issuer, at in self._stood_still().items():
            changes.setdefault(issuer, []).append(Change(at))
        failed: dict[str, str] = {}
        published = [issuer for issuer in sorted(changes) if self._publish(issuer, changes[issuer], failed)]
        waiting = 0
        for delivery in deliveries:
            waiting += not self._settle(delivery, failed)
        return Round(len(deliveries) - waiting, waiting, tuple(published), self._forget())

    def _publish(self, issuer: str, changes: Sequence[Change], failed: dict[str, str]) -> bool:
        try:
            authority = self._hierarchy.authority(issuer)
            if self._shown(issuer, changes):
                return False
            if not is_issuing(authority):  # a root signs on an explicit command only
                log.warning("crl_of_root_due", issuer=issuer)
                return False
            if self._under_way(issuer):
                return False  # the mass revocation publishes at its end
            self._crls.publish(issuer, actor=ACTOR, attempts=3)
        except CodedError as error:
            log.error("crl_not_published", issuer=issuer, code=error.code)
            failed[issuer] = error.code
            return False
        return True

    def _shown(self, issuer: str, changes: Sequence[Change]) -> bool:
        """Whether the newest CRL shows every change.

        One that reads the register at the very moment of a change may have missed it: then the list itself is asked.
        """
        published_at = self._crls.published_at(issuer)
        if published_at is None or any(published_at < change.at for change in changes):
            return False
        close = [each for each in changes if each.serial is not None and published_at - each.at < CLOSE]
        if not close:
            return True
        listed = self._crls.listed_among(issuer, {each.serial for each in close if each.serial is not None})
        newest = {each.serial: each.listed for each in sorted(close, key=lambda each: each.at)}
        return all((serial in listed) == wanted for serial, wanted in newest.items())

    def _settle(self, delivery: Delivery, failed: dict[str, str]) -> bool:
        issuer = str(delivery.body["issuer"])
        if issuer in failed:
            self._outbox.failed(self._database, delivery, failed[issuer])
            return False
        self._outbox.delivered(self._database, delivery)
        return True

    def _under_way(self, issuer: str) -> bool:
        return any(self._clock() - at < STANDSTILL for at in self._last_batches(issuer).values())

    def _stood_still(self) -> dict[str, datetime]:
        now = self._clock()
        return {issuer: at for issuer, at in self._last_batches().items() if now - at >= STANDSTILL}

    def _last_batches(self, issuer: str | None = None) -> dict[str, datetime]:
        """For each issuer of a mass revocation that has begun and not published: when its last batch was changed."""
        batch = MassRevocationBatchRow
        query = (
            select(batch.issuer, func.max(batch.changed_at))
            .join(MassRevocationRow, MassRevocationRow.number == batch.plan)
            .where(MassRevocationRow.state.in_(("running", "changed")), batch.changed_at.is_not(None))
            .group_by(batch.issuer)
        )
        if issuer is not None:
            query = query.where(batch.issuer == issuer)
        with self._database.reading() as session:
            return {slug: at for slug, at in session.execute(query) if at is not None}

    def _forget(self) -> int:
        now, deleted = self._clock(), 0
        ended: Sequence[tuple[str, timedelta]] = (("delivered", KEPT), ("dead", KEPT_DEAD))
        with self._database.transaction() as session:
            for state, kept in ended:
                query = delete(OutboxEntry).where(
                    OutboxEntry.kind == KIND, OutboxEntry.state == state, OutboxEntry.created_at < now - kept
                )
                deleted += cast("CursorResult[Any]", session.execute(query)).rowcount
        return deleted
