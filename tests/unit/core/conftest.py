"""What the floor's tests stand on: a clock that is moved by hand, and databases with the floor's own tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.audit import AuditEntry
from core.database import Base, Database
from core.outbox import OutboxEntry
from tests.support.postgresql import PostgreSQL
from tests.unit.core.moving_clock import MovingClock

TABLES = [Base.metadata.tables[room.__tablename__] for room in (AuditEntry, OutboxEntry)]


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'tamga.db'}"


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[Database]:
    database = Database(sqlite_url, pool_size=20)
    Base.metadata.create_all(database.engine, tables=TABLES)
    yield database
    database.close()


@pytest.fixture
def postgresql(postgresql_server: PostgreSQL) -> Iterator[Database]:
    database = Database(postgresql_server.database(), pool_size=20)
    Base.metadata.create_all(database.engine, tables=TABLES)
    yield database
    database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Database:
    """The same promise on both databases."""
    database: Database = request.getfixturevalue(request.param)
    return database
