"""``tamga officer``: who may act for the certificate authority."""

from __future__ import annotations

import os
import pwd
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ca.officers.roles import ROLES, SECURITY_OFFICER
from cli.ca import stamp
from cli.context import Context, command_options, operator, read_secret
from cli.files import write_private
from core.errors import Conflict, UsageError

if TYPE_CHECKING:
    from ca.officers.register import Officer
    from ca.officers.tables import OfficerVersionRow

MIN_PASSPHRASE_CHARACTERS = 12


@click.group()
def officer() -> None:
    """Officers: administrators, registration and security officers, auditors."""


@officer.command()
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The private key's file.")
@click.option("--algorithm", type=click.Choice(["Ed25519", "P-256"]), default="Ed25519", show_default=True)
@click.option("--passphrase-stdin", is_flag=True, help="Read the passphrase from standard input instead of asking.")
@command_options
def keygen(context: Context, out: Path, algorithm: str, passphrase_stdin: bool) -> None:
    """Make an officer's key on his own machine: OUT, encrypted, and OUT.pub, which is enrolled."""
    from ca.officers.keys import fingerprint, read_public_key

    public = out.with_name(out.name + ".pub")
    if out.exists() or public.exists():
        raise Conflict(f"{out} is there already; nothing was changed")
    passphrase = read_secret("Passphrase of the new key", from_stdin=passphrase_stdin)
    if len(passphrase) < MIN_PASSPHRASE_CHARACTERS:
        raise UsageError(f"a passphrase has at least {MIN_PASSPHRASE_CHARACTERS} characters")
    private_pem, public_pem = _new_key(algorithm, passphrase)
    write_private(out, private_pem)
    public.write_text(public_pem, "ascii")
    sha256 = fingerprint(read_public_key(public_pem.encode())).hex()
    context.emit({"file": str(out), "public_key": str(public), "key_sha256": sha256}, f"{public}: {sha256}")


@officer.command()
@click.option("--officer", "first", multiple=True, required=True, metavar="NAME:ACCOUNT:PUBLIC_KEY", help="Repeatable.")
@command_options
def bootstrap(context: Context, first: tuple[str, ...]) -> None:
    """Enrol the first security officers, two or more. Works once, for the owner of the instance and its token.

    From then on every acting command needs an officer, and every change of officers a second one.
    """
    from ca.officers.errors import NotTheOwner

    officers = [_first(item) for item in first]
    if context.configuration.stat().st_uid != os.getuid():
        raise NotTheOwner(f"the first officers are enrolled by the owner of {context.configuration}")
    context.services.keystore.status()  # whoever cannot open the token is not who runs the instance
    context.authority.role_changes.bootstrap(officers, actor=operator())
    _list(context)


@officer.command(name="list")
@command_options
def list_officers(context: Context) -> None:
    """List the officers."""
    _list(context)


@officer.command()
@click.argument("name")
@command_options
def show(context: Context, name: str) -> None:
    """Show everything an officer was, oldest first. Status 4 when there is none of this name."""
    columns = ("version", "state", "roles", "account", "key_sha256", "since", "actor", "approval")
    context.emit_lines([_version(row) for row in context.authority.officers.history(name)], columns)


@officer.command()
@click.argument("name")
@click.option("--role", "roles", multiple=True, type=click.Choice(ROLES), help="All roles he is to hold. Repeatable.")
@click.option("--account", help="The account of the system that he works from.")
@click.option("--public-key", type=click.Path(path_type=Path, dir_okay=False), help="His public key, PEM or DER.")
@click.option("--retire", is_flag=True, help="He is to act no more.")
@command_options
def propose(
    context: Context, name: str, roles: tuple[str, ...], account: str | None, public_key: Path | None, retire: bool
) -> None:
    """Ask for an officer to be enrolled, changed or retired; another security officer approves.

    What is not named stays as it is. Status 3 when the register could not hold such an officer.
    """
    actor = context.acting(SECURITY_OFFICER)
    wanted = replace(_before(context, name, account, public_key), active=not retire)
    if roles:
        wanted = replace(wanted, roles=frozenset(roles))
    if account:
        wanted = replace(wanted, os_uid=_uid(account), os_user=account)
    if public_key:
        wanted = replace(wanted, spki=_public_key(public_key))
    request = context.authority.role_changes.propose(wanted, actor=actor)
    context.emit({"request": request}, f"request {request}: another security officer runs tamga approval approve")


@officer.command()
@click.argument("request")
@command_options
def apply(context: Context, request: str) -> None:
    """Carry out an approved change. Status 3 while signatures are missing, 5 when it was carried out before."""
    changed = context.authority.role_changes.apply(request, actor=context.acting(SECURITY_OFFICER))
    context.emit(_row(changed), f"{changed.name}: {' '.join(sorted(changed.roles))}")


def _before(context: Context, name: str, account: str | None, public_key: Path | None) -> Officer:
    """The officer as he is, or a new one, for whom account and key must be named."""
    from ca.officers.errors import OfficerNotFound
    from ca.officers.register import Officer

    try:
        return context.authority.officers.get(name)
    except OfficerNotFound:
        if not account or not public_key:
            raise UsageError("a new officer needs --role, --account and --public-key") from None
        return Officer(name, 1, frozenset(), _uid(account), account, _public_key(public_key), active=True)


def _first(item: str) -> Officer:
    from ca.officers.register import Officer

    name, _, rest = item.partition(":")
    account, separator, path = rest.partition(":")
    if not separator:
        raise UsageError(f"{item!r} is not of the form NAME:ACCOUNT:PUBLIC_KEY")
    roles = frozenset({SECURITY_OFFICER})
    return Officer(name, 1, roles, _uid(account), account, _public_key(Path(path)), active=True)


def _uid(account: str) -> int:
    from ca.officers.errors import AccountUnknown

    try:
        return pwd.getpwnam(account).pw_uid
    except KeyError as error:
        raise AccountUnknown(f"this machine knows no account {account[:64]!r}") from error


def _public_key(path: Path) -> bytes:
    from ca.officers.keys import read_public_key

    try:
        return read_public_key(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _new_key(algorithm: str, passphrase: str) -> tuple[str, str]:
    """The private key in encrypted PKCS #8 and the public key, both PEM."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        PublicFormat,
    )

    from ca.officers.keys import OfficerPrivateKey

    key: OfficerPrivateKey = ec.generate_private_key(ec.SECP256R1())
    if algorithm == "Ed25519":
        key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase.encode()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def _list(context: Context) -> None:
    rows = [_row(each) for each in context.authority.officers.all()]
    context.emit_lines(rows, ("name", "state", "roles", "account", "key_sha256", "since"))


def _row(found: Officer) -> dict[str, Any]:
    return {
        "name": found.name,
        "state": "active" if found.active else "retired",
        "roles": " ".join(sorted(found.roles)),
        "account": found.os_user,
        "uid": found.os_uid,
        "key_sha256": found.key_sha256.hex(),
        "since": stamp(found.since),
    }


def _version(row: OfficerVersionRow) -> dict[str, Any]:
    from ca.officers.register import as_officer

    return {**_row(as_officer(row)), "version": row.version, "actor": row.actor, "approval": row.approval_id}
