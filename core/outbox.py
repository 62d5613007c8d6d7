"""Deliveries that must happen: written in the transaction that causes them, then carried out until they succeed."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, Index, Integer, String, Text, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.clock import Clock
from core.database import Base, Database, UtcDateTime

# Seconds after the first attempt: at once, 10 s, 1, 5 and 30 minutes, 2, 6, 12 and 24 hours.
SCHEDULE = (0, 10, 60, 300, 1800, 7200, 21600, 43200, 86400)
# An attempt that was begun and never reported back (its process died) may be begun again after this long.
LEASE = timedelta(seconds=60)
# Deliveries leased together are carried out one after the other: each waits this much longer for its turn, the most
# that one attempt takes (connection, TLS and answer each within the egress timeout).
TURN = timedelta(seconds=15)
LOST = "the attempt was begun and never reported back"


class OutboxEntry(Base):
    """One delivery: to whom, what, how often tried, and when to try next (never again once ``state`` is final)."""

    __tablename__ = "outbox"
    __table_args__ = (Index("ix_outbox_state_next_attempt_at", "state", "next_attempt_at"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    kind: Mapped[str] = mapped_column(String(40))
    destination: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(10))  # waiting, delivered, dead
    attempts: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime())
    next_attempt_at: Mapped[datetime] = mapped_column(UtcDateTime())
    last_result: Mapped[str | None] = mapped_column(String(200))


@dataclass(frozen=True)
class Delivery:
    """A delivery that the caller now holds the lease of; ``attempt`` counts from 1."""

    id: str
    kind: str
    destination: str
    body: Mapping[str, Any]
    attempt: int


class Outbox:
    """Writes, leases and settles deliveries."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def enqueue(self, session: Session, *, kind: str, destination: str, body: Mapping[str, Any]) -> str:
        """Add a delivery in ``session``'s transaction and return its id."""
        now = self._clock()
        entry = OutboxEntry(
            id=str(uuid.uuid4()),
            kind=kind,
            destination=destination,
            body=json.dumps(dict(body), ensure_ascii=False),
            state="waiting",
            attempts=0,
            created_at=now,
            next_attempt_at=now,
        )
        session.add(entry)
        session.flush()
        return entry.id

    def due(self, database: Database, *, kind: str, limit: int = 50) -> list[Delivery]:
        """Lease up to ``limit`` deliveries that are due; each is leased by exactly one caller.

        The caller carries them out in the order given and settles each: ``delivered`` or ``failed``. One whose lease
        ran out may be delivered twice, so receivers go by the id.
        """
        now = self._clock()
        with database.reading() as session:
            waiting = select(OutboxEntry).where(
                OutboxEntry.state == "waiting", OutboxEntry.kind == kind, OutboxEntry.next_attempt_at <= now
            )
            entries = session.scalars(waiting.order_by(OutboxEntry.next_attempt_at).limit(limit)).all()
        leased: list[Delivery] = []
        for entry in entries:
            delivery = self._lease(database, entry, now + LEASE + TURN * len(leased))
            if delivery:
                leased.append(delivery)
        return leased

    def _lease(self, database: Database, entry: OutboxEntry, until: datetime) -> Delivery | None:
        attempt = entry.attempts + 1
        # The last attempt of a delivery that takes the process down with it must be the last, too.
        lost = attempt > len(SCHEDULE)
        values = {"state": "dead", "last_result": LOST} if lost else {"attempts": attempt, "next_attempt_at": until}
        with database.transaction() as session:
            taken = cast(
                "CursorResult[Any]",
                session.execute(
                    update(OutboxEntry)
                    .where(
                        OutboxEntry.id == entry.id,
                        OutboxEntry.attempts == entry.attempts,
                        OutboxEntry.state == "waiting",
                        OutboxEntry.next_attempt_at == entry.next_attempt_at,
                    )
                    .values(**values)
                ),
            )
        if taken.rowcount != 1 or lost:
            return None
        return Delivery(entry.id, entry.kind, entry.destination, json.loads(entry.body), attempt)

    def delivered(self, database: Database, delivery: Delivery) -> None:
        """The other side took it."""
        self._settle(database, delivery, state="delivered", last_result="ok")

    def failed(self, database: Database, delivery: Delivery, result: str) -> None:
        """The attempt failed: the next one is set by SCHEDULE, and after the last the delivery is dead."""
        if delivery.attempt >= len(SCHEDULE):
            self._settle(database, delivery, state="dead", last_result=result[:200])
            return
        wait = timedelta(seconds=SCHEDULE[delivery.attempt] - SCHEDULE[delivery.attempt - 1])
        next_attempt = self._clock() + wait
        self._settle(database, delivery, state="waiting", last_result=result[:200], next_attempt_at=next_attempt)

    @staticmethod
    def _settle(database: Database, delivery: Delivery, **values: object) -> None:
        with database.transaction() as session:
            session.execute(
                update(OutboxEntry)
                .where(OutboxEntry.id == delivery.id, OutboxEntry.attempts == delivery.attempt)
                .values(**values)
            )
