"""One history brings a database to exactly the tables that the rooms declare."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory

from app import schema
from core.database import Database
from tests.support.postgresql import PostgreSQL


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "SQLite":
        url = f"sqlite:///{tmp_path / 'schema.sqlite3'}"
    else:
        server: PostgreSQL = request.getfixturevalue("postgresql_server")
        url = server.database()
    held = Database(url)
    yield held
    held.close()


def _run(database: Database, act: Callable[..., object]) -> None:
    config = schema.configuration()
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        act(config)
        connection.commit()


def test_the_history_ends_at_the_tables(database: Database) -> None:
    schema.upgrade(database)
    _run(database, command.check)


def test_upgrading_twice_changes_nothing(database: Database) -> None:
    assert schema.upgrade(database) == schema.upgrade(database)
    schema.check(database)


def test_an_empty_database_is_refused(database: Database) -> None:
    with pytest.raises(schema.SchemaOutdated):
        schema.check(database)


def test_the_history_is_one_line() -> None:
    assert len(ScriptDirectory.from_config(schema.configuration()).get_heads()) == 1
