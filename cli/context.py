"""What every command shares: the settings, the services, one form of output and one form of failure."""

from __future__ import annotations

import functools
import json
import os
import pwd
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from app.settings import Settings
    from app.wiring import Services

SCHEMA = "tamga/1"
DEFAULT_CONFIGURATION = Path("tamga.toml")


class Context:
    """Settings and services on demand, and the way results are printed.

    With ``--json`` standard output holds one JSON document and nothing else; progress goes to standard error.
    """

    def __init__(self, *, configuration: Path | None = None) -> None:
        self._configuration = configuration
        self.json = False

    @property
    def configuration(self) -> Path:
        """The configuration file: ``--config``, else TAMGA_CONFIG, else ``tamga.toml`` here."""
        return self._configuration or Path(os.environ.get("TAMGA_CONFIG") or DEFAULT_CONFIGURATION)

    @property
    def has_instance(self) -> bool:
        """Whether there is an instance to work with. One that was named and is not there is an error, not a no."""
        named = self._configuration is not None or bool(os.environ.get("TAMGA_CONFIG"))
        return named or self.configuration.exists()

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings, read once. Raises ConfigurationError."""
        from app.settings import load_settings

        return load_settings(self.configuration, os.environ)

    @functools.cached_property
    def services(self) -> Services:
        """Every room's parts, built once for this process."""
        from app.wiring import build

        return build(self.settings)

    def acting(self, *roles: str) -> str:
        """Who acts, for the audit log; one of ``roles`` is needed."""
        return operator()

    def use(self, configuration: Path) -> None:
        """Turn to another instance's configuration (the demo does)."""
        self._configuration = configuration
        for name in ("settings", "services"):
            self.__dict__.pop(name, None)

    def emit(self, result: Any, text: str = "") -> None:
        """Print the result: as JSON when asked to, else ``text``."""
        if self.json:
            click.echo(json.dumps({"schema": SCHEMA, "ok": True, "result": result}, ensure_ascii=False, default=str))
        elif text:
            click.echo(text)

    def emit_lines(self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
        """Print rows: as one JSON array when asked to, else as lines with the named columns aligned."""
        listed = [dict(row) for row in rows]
        if self.json:
            self.emit(listed)
            return
        cells = [[_cell(row.get(column)) for column in columns] for row in listed]
        widths = [max([len(name), *(len(line[i]) for line in cells)]) for i, name in enumerate(columns)]
        for line in [list(columns), *cells]:
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

    @staticmethod
    def progress(text: str) -> None:
        """Tell the person at the terminal what is going on, on standard error."""
        click.echo(text, err=True)


def command_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--json`` and its Context as first argument."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
    @click.pass_context
    @functools.wraps(command)
    def wrapped(click_context: click.Context, /, *args: Any, as_json: bool, **kwargs: Any) -> Any:
        context = click_context.find_object(Context) or Context()
        context.json = as_json
        return command(context, *args, **kwargs)

    return wrapped


def operator() -> str:
    """Who typed the command, for the audit log."""
    try:
        return f"operator:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"operator:uid-{os.getuid()}"


def read_secret(prompt: str, *, from_stdin: bool) -> str:
    """A secret from standard input's first line or a prompt without echo; never from an argument."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(click.prompt(prompt, hide_input=True, err=True))


def _cell(value: object) -> str:
    return "" if value is None else str(value)
