"""``tamga init``: a new instance in a folder, on embedded defaults."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from cli.context import Context, command_options, read_secret
from cli.files import write_private
from core.errors import Conflict

if TYPE_CHECKING:
    from hsm.settings import HsmSettings

CONFIGURATION = """\
# Tamga instance. Every setting and its meaning: docs/configuration.md. Unknown keys stop the start.
base_url = "{base_url}"

[floor]
database_url = "sqlite:///tamga.sqlite3"

[hsm]
module = "{module}"
token_label = "tamga"
pin_file = "token.pin"
softhsm_conf = "softhsm2.conf"

[serve]
host = "{host}"
port = {port}
"""
SOFTHSM_MODULE = "/usr/lib/softhsm/libsofthsm2.so"


@click.command()
@click.option("--dir", "folder", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="Where.")
@click.option("--base-url", default="http://localhost:8080", show_default=True, help="The public origin.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=int, default=None, help="The port to listen on (default: the base URL's).")
@click.option("--pin-stdin", is_flag=True, help="Read the token's PIN from standard input instead of drawing one.")
@command_options
def init(context: Context, folder: Path, base_url: str, host: str, port: int | None, pin_stdin: bool) -> None:
    """Make the configuration, a SoftHSM2 token with its PIN file (mode 0600) and the database."""
    pin = read_secret("Token PIN", from_stdin=True) if pin_stdin else None
    configuration = create_instance(context, folder.resolve(), base_url=base_url, host=host, port=port, pin=pin)
    context.emit(
        {"configuration": str(configuration)},
        f"instance made: {configuration}\nnext: tamga ca ceremony plan, then tamga ca ceremony run --execute",
    )


def create_instance(
    context: Context, folder: Path, *, base_url: str, host: str = "127.0.0.1", port: int | None = None,
    pin: str | None = None,
) -> Path:  # fmt: skip
    """Make an instance in ``folder`` and turn ``context`` to it. Raises Conflict when there is one already.

    The configuration gets its name last, so that a start which was broken off can simply be repeated.
    """
    from app import custody
    from app.schema import upgrade
    from core.database import Database
    from hsm.keystore import open_keystore

    configuration = folder / "tamga.toml"
    if configuration.exists():
        raise Conflict(f"{configuration} is there already; nothing was changed")
    folder.mkdir(parents=True, exist_ok=True)
    text = CONFIGURATION.format(
        base_url=base_url,
        module=SOFTHSM_MODULE,
        host=host,
        port=port or urlsplit(base_url).port or 8080,
    )
    unfinished = folder / "tamga.toml.new"
    write_private(unfinished, text)
    context.use(unfinished)
    _make_token(context.settings.hsm, pin)
    if not (folder / "tamga.sqlite3").exists():
        write_private(folder / "tamga.sqlite3", "")  # SQLite gives its journal the mode of its file
    keystore = open_keystore(context.settings.hsm)
    custody.prepare(keystore, context.settings)
    keystore.close()
    database = Database(context.settings.floor.database_url)
    upgrade(database)
    database.close()
    unfinished.rename(configuration)
    context.use(configuration)
    return configuration


def _make_token(settings: HsmSettings, pin: str | None) -> None:
    # The PIN is written down before the token has it: a token whose PIN nobody knows would be lost.
    from hsm.keystore import has_token, initialise_token

    if has_token(settings):
        return
    if pin is not None or not settings.pin_file.exists():
        write_private(settings.pin_file, (pin or secrets.token_urlsafe(18)) + "\n")
    initialise_token(settings, settings.pin_file.read_text("utf-8").strip())
