"""Transactions queue, commit whole or not at all, and reading stands in nobody's way."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError, StatementError

from core.clock import utc_now
from core.database import Database, UtcDateTime
from tests.unit.core.rolled_back import rolled_back
from tests.unit.core.together import together

# Tables of the test's own, apart from the service's metadata.
METADATA = MetaData()
THINGS = Table(
    "things",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("at", UtcDateTime()),
    Column("count", Integer, default=0),
    Column("note", String(20)),
    Column("parent", ForeignKey("things.id")),
)


@pytest.fixture
def things(database: Database) -> Database:
    METADATA.create_all(database.engine)
    with database.transaction() as session:
        session.execute(insert(THINGS).values(id=1, count=0))
    return database


def count_of(database: Database) -> int | None:
    with database.reading() as session:
        return session.scalar(select(THINGS.c.count).where(THINGS.c.id == 1))


def test_a_moment_comes_back_aware_in_utc_with_its_microseconds(things: Database) -> None:
    moment = datetime(2026, 3, 1, 16, 30, 0, 7, tzinfo=timezone(timedelta(hours=8)))
    with things.transaction() as session:
        session.execute(update(THINGS).values(at=moment))
    with things.reading() as session:
        found = session.scalar(select(THINGS.c.at))
    assert found is not None
    assert found.isoformat() == "2026-03-01T08:30:00.000007+00:00"
    with things.reading() as session:
        assert session.scalar(select(func.count()).where(THINGS.c.at == moment)) == 1
        assert session.scalar(select(func.count()).where(THINGS.c.at > moment)) == 0


def test_a_moment_without_a_time_zone_is_refused(things: Database) -> None:
    with pytest.raises(StatementError, match="without a time zone"), things.transaction() as session:
        session.execute(update(THINGS).values(at=datetime(2026, 3, 1)))  # noqa: DTZ001 - that is what is refused


def test_no_moment_stays_none(things: Database) -> None:
    with things.reading() as session:
        assert session.scalar(select(THINGS.c.at)) is None


def test_a_rollback_leaves_nothing(things: Database) -> None:
    with rolled_back(things) as session:
        session.execute(insert(THINGS).values(id=2))
    with things.reading() as session:
        assert session.scalars(select(THINGS.c.id)).all() == [1]


def test_a_row_of_nobody_is_refused(things: Database) -> None:
    with pytest.raises(IntegrityError), things.transaction() as session:
        session.execute(insert(THINGS).values(id=2, parent=99))


def test_an_error_of_the_database_does_not_tell_the_values(things: Database) -> None:
    with pytest.raises(IntegrityError) as caught, things.transaction() as session:
        session.execute(insert(THINGS).values(id=1, note="УБ99112233"))
    assert "УБ99112233" not in str(caught.value)


def test_writers_that_read_first_queue_and_lose_nothing(sqlite: Database) -> None:
    METADATA.create_all(sqlite.engine)
    with sqlite.transaction() as session:
        session.execute(insert(THINGS).values(id=1, count=0))

    def add_one(_number: int) -> None:
        with sqlite.transaction() as session:
            held = session.scalar(select(THINGS.c.count))
            session.execute(update(THINGS).values(count=(held or 0) + 1))

    together(20, add_one)
    assert count_of(sqlite) == 20


def test_the_second_writer_waits_until_the_first_has_committed(sqlite: Database) -> None:
    METADATA.create_all(sqlite.engine)
    begun = threading.Event()

    def second() -> list[int]:
        begun.set()
        with sqlite.transaction() as session:
            return list(session.scalars(select(THINGS.c.id)))

    with ThreadPoolExecutor(1) as pool:
        with sqlite.transaction() as session:
            session.execute(insert(THINGS).values(id=7))
            waiting = pool.submit(second)
            begun.wait()
            assert not waiting.done()
        assert waiting.result() == [7]


def test_all_who_open_a_new_file_at_once_get_in(sqlite_url: str) -> None:
    def enter(_number: int) -> str:
        database = Database(sqlite_url)
        try:
            with database.transaction() as session:
                return str(session.scalar(text("PRAGMA journal_mode")))
        finally:
            database.close()

    assert together(16, enter) == ["wal"] * 16


def test_reading_on_sqlite_holds_no_snapshot(sqlite: Database) -> None:
    METADATA.create_all(sqlite.engine)
    with sqlite.reading() as session, sqlite.connect() as connection:
        session.scalars(select(THINGS.c.id)).all()
        with sqlite.transaction() as writing:
            writing.execute(insert(THINGS).values(id=1))
        # (busy, …): a checkpoint that empties the log succeeds only when nobody reads from it.
        busy = connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)")).one()[0]
        assert busy == 0
        assert session.scalars(select(THINGS.c.id)).all() == [1]


def test_reading_on_postgresql_leaves_no_open_transaction(postgresql: Database) -> None:
    METADATA.create_all(postgresql.engine)
    with postgresql.reading() as session, postgresql.connect() as connection:
        session.scalars(select(THINGS.c.id)).all()
        states = connection.execute(
            text("SELECT state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
        ).scalars()
        assert "idle in transaction" not in set(states)


def test_a_transaction_after_a_read_is_still_a_transaction(things: Database) -> None:
    # The pool hands the reader's autocommit connection to the writer.
    for _ in range(3):
        count_of(things)
        with rolled_back(things) as session:
            session.execute(update(THINGS).values(count=5))
    assert count_of(things) == 0


def test_now_is_aware_utc() -> None:
    assert utc_now().tzinfo is UTC
