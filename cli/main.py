"""``tamga``: the command's entrance. Commands are imported when they are typed, so that each starts fast."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import click

from cli.context import SCHEMA, Context
from core.errors import CodedError

# The noun typed, the module that holds it, the name of the command there.
COMMANDS = {
    "acme": ("cli.acme", "acme"),
    "application": ("cli.application", "application"),
    "approval": ("cli.approval", "approval"),
    "audit": ("cli.audit", "audit"),
    "ca": ("cli.ca", "ca"),
    "cert": ("cli.cert", "cert"),
    "client": ("cli.client", "client"),
    "config": ("cli.config", "config"),
    "crl": ("cli.crl", "crl"),
    "database": ("cli.database", "database"),
    "deliver": ("cli.sign", "deliver"),
    "demo": ("cli.demo", "demo"),
    "est": ("cli.est", "est"),
    "hsm": ("cli.hsm", "hsm"),
    "init": ("cli.init", "init"),
    "officer": ("cli.officer", "officer"),
    "person": ("cli.person", "person"),
    "profile": ("cli.profile", "profile"),
    "serve": ("cli.serve", "serve"),
    "sign": ("cli.sign", "sign"),
    "trust": ("cli.trust", "trust"),
    "verify": ("cli.verify", "verify"),
    "wrapping": ("cli.wrapping", "wrapping"),
}
USAGE = 2
INTERNAL = 70
NOT_PROCESSED = 3


class Nouns(click.Group):
    """The commands by noun, each loaded from its own file when needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)  # noqa: S101 - the table above is ours
        return command


@click.command(cls=Nouns)
@click.option(
    "--config",
    "configuration",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The instance's tamga.toml (default: TAMGA_CONFIG, else ./tamga.toml).",
)
@click.option(
    "--officer-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The acting officer's private key, an encrypted PEM file (default: TAMGA_OFFICER_KEY).",
)
@click.option(
    "--officer-passphrase-fd",
    type=click.IntRange(min=0),
    help="Read the key's passphrase from this file descriptor (0: standard input) instead of asking.",
)
@click.version_option(package_name="tamga")
@click.pass_context
def tamga(
    click_context: click.Context,
    configuration: Path | None,
    officer_key: Path | None,
    officer_passphrase_fd: int | None,
) -> None:
    """Tamga: single sign-on, certificates and their status, signatures, key custody."""
    click_context.obj = Context(
        configuration=configuration, officer_key=officer_key, officer_passphrase_fd=officer_passphrase_fd
    )


def main() -> None:
    """Run the command and leave with its exit status (docs/cli.md)."""
    as_json = "--json" in sys.argv[1:]
    try:
        tamga.main(standalone_mode=False)
    except CodedError as error:
        _fail(error.code, error.detail or error.code, error.exit_code, as_json)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(USAGE)
    except click.ClickException as error:
        _fail("usage", error.format_message(), USAGE, as_json)
    except click.Abort:
        _fail("aborted", "stopped before anything was done", USAGE, as_json)
    except BrokenPipeError:
        sys.exit(INTERNAL)
    except Exception as error:
        from core.logs import get_logger

        get_logger("cli.main").exception("command_failed")
        _fail("internal_error", type(error).__name__, INTERNAL, as_json)


def _noun(arguments: list[str]) -> str:
    rest = iter(arguments)
    for argument in rest:
        if argument in ("--config", "--officer-key", "--officer-passphrase-fd"):
            next(rest, None)
        elif not argument.startswith("-"):
            return argument
    return ""


def _fail(code: str, detail: str, status: int, as_json: bool) -> None:
    # `tamga verify` has exit statuses of its own: 1 and 2 are verdicts there, so whatever kept it from one is 3.
    status = NOT_PROCESSED if _noun(sys.argv[1:]) == "verify" else status
    if as_json:
        error = {"code": code, "detail": detail}
        click.echo(json.dumps({"schema": SCHEMA, "ok": False, "error": error}, ensure_ascii=False))
    else:
        click.echo(f"tamga: {detail} ({code})", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
