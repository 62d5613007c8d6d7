"""Deliveries are written with the act that causes them, leased once, repeated on schedule, and never lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select

from core.database import Database
from core.outbox import LEASE, SCHEDULE, TURN, Delivery, Outbox, OutboxEntry
from tests.unit.core.moving_clock import MovingClock
from tests.unit.core.rolled_back import rolled_back
from tests.unit.core.together import together

DESTINATION = "https://bank.example/hook"


@pytest.fixture
def outbox(clock: MovingClock) -> Outbox:
    return Outbox(clock)


def enqueue(database: Database, outbox: Outbox, number: int = 0) -> str:
    with database.transaction() as session:
        return outbox.enqueue(session, kind="webhook", destination=DESTINATION, body={"нэр": "Ө", "n": number})


def lease(database: Database, outbox: Outbox) -> Delivery:
    (delivery,) = outbox.due(database, kind="webhook")
    return delivery


def state(database: Database) -> tuple[str, int, str | None]:
    with database.reading() as session:
        entry = session.scalars(select(OutboxEntry)).one()
        return entry.state, entry.attempts, entry.last_result


def test_a_delivery_is_due_at_once_with_what_was_written(database: Database, outbox: Outbox) -> None:
    written = enqueue(database, outbox)
    assert lease(database, outbox) == Delivery(written, "webhook", DESTINATION, {"нэр": "Ө", "n": 0}, 1)


def test_a_rolled_back_act_delivers_nothing(database: Database, outbox: Outbox) -> None:
    with rolled_back(database) as session:
        outbox.enqueue(session, kind="webhook", destination=DESTINATION, body={})
    assert outbox.due(database, kind="webhook") == []


def test_each_delivery_is_leased_by_one_of_many_threads(database: Database, outbox: Outbox) -> None:
    written = {enqueue(database, outbox, number) for number in range(6)}
    leased = [one.id for batch in together(8, lambda _n: outbox.due(database, kind="webhook")) for one in batch]
    assert len(leased) == 6
    assert set(leased) == written


def test_another_kind_is_left_alone_and_the_limit_is_kept(sqlite: Database, outbox: Outbox) -> None:
    for number in range(3):
        enqueue(sqlite, outbox, number)
    assert outbox.due(sqlite, kind="mail") == []
    assert len(outbox.due(sqlite, kind="webhook", limit=2)) == 2
    assert len(outbox.due(sqlite, kind="webhook", limit=2)) == 1


def test_what_was_delivered_is_never_due_again(sqlite: Database, outbox: Outbox, clock: MovingClock) -> None:
    enqueue(sqlite, outbox)
    outbox.delivered(sqlite, lease(sqlite, outbox))
    clock.advance(10 * SCHEDULE[-1])
    assert outbox.due(sqlite, kind="webhook") == []
    assert state(sqlite) == ("delivered", 1, "ok")


def test_failures_are_repeated_on_schedule_and_the_last_one_is_the_end(
    sqlite: Database, outbox: Outbox, clock: MovingClock
) -> None:
    begun = clock()
    enqueue(sqlite, outbox)
    for seconds in SCHEDULE:
        clock.now = begun
        clock.advance(seconds - 1)
        assert outbox.due(sqlite, kind="webhook") == []
        clock.advance(1)
        outbox.failed(sqlite, lease(sqlite, outbox), "HTTP 500")
    assert state(sqlite) == ("dead", len(SCHEDULE), "HTTP 500")
    clock.advance(10 * SCHEDULE[-1])
    assert outbox.due(sqlite, kind="webhook") == []


def test_an_attempt_whose_process_died_is_begun_again_when_its_lease_ends(
    database: Database, outbox: Outbox, clock: MovingClock
) -> None:
    enqueue(database, outbox)
    assert lease(database, outbox).attempt == 1
    clock.advance(LEASE.total_seconds() - 1)
    assert outbox.due(database, kind="webhook") == []
    clock.advance(1)
    assert lease(database, outbox).attempt == 2


def test_deliveries_leased_together_keep_their_lease_until_their_turn(
    sqlite: Database, outbox: Outbox, clock: MovingClock
) -> None:
    for number in range(3):
        enqueue(sqlite, outbox, number)
        clock.advance(1)
    first, second, third = outbox.due(sqlite, kind="webhook")
    clock.advance(LEASE.total_seconds())
    assert [one.id for one in outbox.due(sqlite, kind="webhook")] == [first.id]
    clock.advance(TURN.total_seconds())
    assert [one.id for one in outbox.due(sqlite, kind="webhook")] == [second.id]
    outbox.delivered(sqlite, third)


@pytest.mark.parametrize("settle", ["delivered", "failed"])
def test_who_reports_after_the_lease_was_lost_changes_nothing(
    sqlite: Database, outbox: Outbox, clock: MovingClock, settle: str
) -> None:
    enqueue(sqlite, outbox)
    late = lease(sqlite, outbox)
    clock.advance(LEASE.total_seconds())
    lease(sqlite, outbox)
    reports: dict[str, Callable[[], None]] = {
        "delivered": lambda: outbox.delivered(sqlite, late),
        "failed": lambda: outbox.failed(sqlite, late, "late"),
    }
    reports[settle]()
    assert state(sqlite) == ("waiting", 2, None)


def test_a_delivery_that_ends_its_process_every_time_is_given_up(
    sqlite: Database, outbox: Outbox, clock: MovingClock
) -> None:
    enqueue(sqlite, outbox)
    for _ in SCHEDULE:
        lease(sqlite, outbox)
        clock.advance(LEASE.total_seconds())
    assert outbox.due(sqlite, kind="webhook") == []
    assert state(sqlite)[:2] == ("dead", len(SCHEDULE))
