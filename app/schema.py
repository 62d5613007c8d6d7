"""The schema of the whole house: every room's tables, brought to their newest form by one history."""

from __future__ import annotations

import importlib
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData

from core.database import Base, Database
from core.errors import CodedError

TABLES = (
    "core.audit",
    "core.outbox",
    "ca.tables",
    "ca.acme.tables",
    "ca.officers.tables",
    "ca.applications.tables",
    "ca.est.tables",
    "ca.trust_list.tables",
    "sso.tables",
    "signing.tables",
)


class SchemaOutdated(CodedError):
    """The database is older or newer than this release."""

    code = "schema_outdated"
    status = 503
    exit_code = 6


def metadata() -> MetaData:
    """The tables of every room."""
    for module in TABLES:
        importlib.import_module(module)
    return Base.metadata


def upgrade(database: Database) -> str:
    """Bring the database to this release's revision and return its name."""
    with database.engine.connect() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
    return current(database) or ""


def check(database: Database) -> None:
    """Raise SchemaOutdated unless the database stands at this release's revision."""
    found, wanted = current(database), ScriptDirectory.from_config(configuration()).get_current_head()
    if found != wanted:
        raise SchemaOutdated(f"the database stands at {found or 'nothing'}, this release needs {wanted}: run "
                             "`tamga database upgrade`")  # fmt: skip


def current(database: Database) -> str | None:
    """The revision the database stands at, None for an empty one."""
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def configuration() -> Config:
    """Alembic's configuration; the history lies beside this file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config
