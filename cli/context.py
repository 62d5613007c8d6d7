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

from core.errors import UsageError

if TYPE_CHECKING:
    import ca.parts
    from app.settings import Settings
    from app.wiring import Services
    from ca.officers.keys import OfficerPrivateKey
    from ca.officers.register import Officer

SCHEMA = "tamga/1"
DEFAULT_CONFIGURATION = Path("tamga.toml")
# Stands among the roles of a command that a timer runs, too: without an officer's key it is the machine that acts.
UNATTENDED = "unattended"
# Stands among the roles of a key ceremony: before the first officers are enrolled its custodians alone permit it.
FOUNDING = "founding"


class Context:
    """Settings and services on demand, and the way results are printed.

    With ``--json`` standard output holds one JSON document and nothing else; progress goes to standard error.
    """

    def __init__(
        self,
        *,
        configuration: Path | None = None,
        officer_key: Path | None = None,
        officer_passphrase_fd: int | None = None,
    ) -> None:
        self._configuration = configuration
        self._officer_key_file = officer_key
        self._officer_passphrase_fd = officer_passphrase_fd
        self._officer: Officer | None = None
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

    @functools.cached_property
    def authority(self) -> ca.parts.Parts:
        """The certificate authority alone, without web code: what key ceremonies need."""
        if "services" in self.__dict__:
            return self.services.ca
        from app.offline import build_authority

        return build_authority(self.settings)

    def acting(self, *roles: str) -> str:
        """Who acts, for the audit log: an officer who holds one of ``roles`` and has shown his key.

        Before the first officers are enrolled that is whoever typed the command, on a development instance or with
        FOUNDING among the roles. With UNATTENDED it is also whoever typed the command without naming an officer's key.
        Raises OfficersMissing, OfficerUnknown, SecondFactorMissing, SecondFactorRefused, OfficerKeyUnprotected,
        RoleMissing.
        """
        named = tuple(role for role in roles if role not in (UNATTENDED, FOUNDING))
        if UNATTENDED in roles and (self._officer_key_path is None or not named):
            return operator()
        authority = self.authority
        if (authority.settings.development or FOUNDING in roles) and not authority.officers.enrolled():
            return operator()
        return self.officer(*named).actor

    def officer(self, *roles: str) -> Officer:
        """The officer who acts; asked for his key once in a command. Raises as ``acting`` does."""
        from ca.officers.authentication import Account
        from ca.officers.errors import OfficersMissing

        authority, command = self.authority, _command_path()
        if not authority.officers.enrolled():
            raise OfficersMissing("no officers are enrolled: tamga officer bootstrap")
        if self._officer is not None:
            authority.authentication.check_role(self._officer, roles, command)
            return self._officer
        account = Account(os.getuid(), account_name(os.getuid()))
        sign = self.officer_sign if self._officer_key_path is not None else None
        self._officer = authority.authentication.recognise(account, sign, roles=roles, command=command)
        return self._officer

    def officer_sign(self, text: bytes) -> bytes:
        """The signature of the officer's key over a text. Raises what ``cli.officer_key.load`` raises."""
        from ca.officers.keys import sign

        return sign(self._officer_key, text)

    @property
    def _officer_key_path(self) -> Path | None:
        named = os.environ.get("TAMGA_OFFICER_KEY")
        return self._officer_key_file or (Path(named) if named else None)

    @functools.cached_property
    def _officer_key(self) -> OfficerPrivateKey:
        from cli import officer_key

        path = self._officer_key_path
        if path is None:
            raise UsageError("an officer's key is needed: --officer-key or TAMGA_OFFICER_KEY")
        passphrase = officer_key.passphrase_from(self._officer_passphrase_fd)
        return officer_key.load(path, passphrase, may_be_plain=self.authority.settings.development)

    def use(self, configuration: Path) -> None:
        """Turn to another instance's configuration (the demo does)."""
        self._configuration, self._officer = configuration, None
        for name in ("settings", "services", "authority"):
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
    return f"operator:{account_name(os.getuid())}"


def account_name(uid: int) -> str:
    """What the system calls the account of this number. Neither USER nor SUDO_USER is asked: anybody can set them."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"


def read_secret(prompt: str, *, from_stdin: bool) -> str:
    """A secret from standard input's first line or a prompt without echo; never from an argument."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(click.prompt(prompt, hide_input=True, err=True))


def _command_path() -> str:
    """The words that were typed: ``cert revoke``."""
    current = click.get_current_context(silent=True)
    return "" if current is None else current.command_path.removeprefix(current.find_root().command_path).strip()


def _cell(value: object) -> str:
    return "" if value is None else str(value)
