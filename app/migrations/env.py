"""Alembic's environment: the tables of every room, on the connection that ``app.schema`` hands in."""

from __future__ import annotations

from typing import Literal

from alembic import context

import app.schema
from core.database import UtcDateTime


def _render(kind: str, thing: object, _context: object) -> str | Literal[False]:
    # A history must not change when a class of ours is renamed.
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(thing, UtcDateTime) else False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=app.schema.metadata(),
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
    render_item=_render,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
