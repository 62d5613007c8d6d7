"""The database: one declarative base, one engine, transactions that end at their block's end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, CursorResult, DateTime, Dialect, Engine, MetaData, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, ORMExecuteState, Session
from sqlalchemy.pool import QueuePool
from sqlalchemy.types import TypeDecorator

NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
# How long a writer waits for another before the database says it is locked.
BUSY_TIMEOUT_SECONDS = 30
# Rows that a long reading takes from the database at a time.
SNAPSHOT_PORTION = 2000


class Base(DeclarativeBase):
    """What every room's tables stand on; rooms refer to each other's rows by identifier only."""

    metadata = MetaData(naming_convention=NAMING)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC moment; a naive one is refused, and what comes back is aware again."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a time zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class _ReadingSession(Session):
    """A session whose statements stand alone: a row added here would be real at once, whatever came after it."""

    def flush(self, objects: Sequence[object] | None = None) -> None:
        if self.new or self.dirty or self.deleted:
            raise RuntimeError("rows are written in a transaction(), not while reading()")
        super().flush(objects)


@event.listens_for(_ReadingSession, "do_orm_execute")
def _refuse_writing(state: ORMExecuteState) -> None:
    """The same for statements that write without an object."""
    if state.is_insert or state.is_update or state.is_delete:
        raise RuntimeError("rows are written in a transaction(), not while reading()")


class Database:
    """Engine and transactions. ``url`` is ``sqlite:///file`` or ``postgresql+psycopg://…``.

    The engine opens its connections lazily, so it may be built before a fork as long as nobody has used it. Its errors
    name the statement but never the values, which may be personal.
    """

    def __init__(self, url: str, *, pool_size: int = 5) -> None:
        self.url = url
        self.engine = _sqlite_engine(url, pool_size) if url.startswith("sqlite") else _engine(url, pool_size)
        self._reads: Engine = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session that commits when the block ends and rolls back when it raises.

        On SQLite the first statement, a read too, takes the write lock (``BEGIN IMMEDIATE``), so two writers queue
        instead of failing.
        """
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session for reading only: autocommit, so no lock outlives a statement. Flushing a change is refused."""
        with _ReadingSession(self._reads, expire_on_commit=False, autoflush=False) as session:
            yield session

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """An autocommit Core connection, for hot reads."""
        with self._reads.connect() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A Core connection that reads one moment of the database, however long the reading takes; it writes nothing.

        Rows come in portions (a server-side cursor on PostgreSQL), so memory does not grow with the answer. Writers
        are not held up by it.
        """
        if self.engine.dialect.name == "sqlite":
            with self._reads.connect() as connection:
                connection.exec_driver_sql("BEGIN")  # deferred: WAL gives the reader its moment and no lock
                try:
                    yield connection.execution_options(yield_per=SNAPSHOT_PORTION)
                finally:
                    connection.exec_driver_sql("ROLLBACK")
            return
        with self.engine.connect() as connection:
            whole = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            yield whole.execution_options(yield_per=SNAPSHOT_PORTION)

    def create_all(self) -> None:
        """Make every table without the schema history; for tests."""
        Base.metadata.create_all(self.engine)

    def close(self) -> None:
        """Give every pooled connection back to the system."""
        self.engine.dispose()


def _engine(url: str, pool_size: int) -> Engine:
    return create_engine(url, pool_size=pool_size, max_overflow=pool_size, pool_pre_ping=True, hide_parameters=True)


def insert_once(session: Session, row: type[Base], values: Mapping[str, object]) -> bool:
    """Write a row unless its key is there; whether this caller wrote it.

    Of two transactions that write the same key at once, the second waits for the first and finds the row there.
    """
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    result = session.execute(insert(row).values(**values).on_conflict_do_nothing())
    assert isinstance(result, CursorResult)  # noqa: S101 - an INSERT gives a cursor
    return result.rowcount == 1


def _sqlite_engine(url: str, pool_size: int) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=64,
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, see below
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")  # a committed certificate survives a power cut
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
