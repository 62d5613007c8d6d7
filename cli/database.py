"""``tamga database``: the schema's history."""

from __future__ import annotations

import click

from cli.context import Context, command_options


@click.group()
def database() -> None:
    """The database's schema."""


@database.command()
@command_options
def upgrade(context: Context) -> None:
    """Bring the database to this release's schema; does nothing when it already is."""
    from app.schema import upgrade as upgrade_schema
    from core.database import Database

    held = Database(context.settings.floor.database_url)
    revision = upgrade_schema(held)
    held.close()
    context.emit({"revision": revision}, f"the database stands at {revision}")
