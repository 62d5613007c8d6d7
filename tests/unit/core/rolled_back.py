"""A transaction that is given up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy.orm import Session

from core.database import Database


class GivenUp(Exception):
    """What the block raises when it has done everything."""


@contextmanager
def rolled_back(database: Database) -> Iterator[Session]:
    """Run the block in a transaction that fails at its end."""
    with suppress(GivenUp), database.transaction() as session:
        yield session
        raise GivenUp
