"""``tamga trust``: the list of accepted certification authorities."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.ca import stamp
from cli.context import UNATTENDED, Context, command_options
from core.errors import UsageError

if TYPE_CHECKING:
    from ca.trust_list.document import Entry
    from ca.trust_list.service import Version

ADMINISTRATOR = "ca-administrator"
# Repeated from the list's own module, so that asking for help imports nothing of the room.
PURPOSES = click.Choice(["authentication", "signature", "seal", "time-stamp", "tls"])
_COLUMNS = ("fingerprint", "accepted", "ours", "since", "purposes", "subject", "reason")


@click.group()
def trust() -> None:
    """The trust list: which authorities are accepted, for what, and why."""


@trust.command(name="import")
@click.option("--chain", required=True, type=click.Path(path_type=Path, dir_okay=False), help="PEM, or one in DER.")
@click.option("--purpose", "purposes", multiple=True, required=True, type=PURPOSES, help="Repeatable.")
@click.option("--reason", required=True, help="Why it is accepted, for everybody to read.")
@command_options
def import_chain(context: Context, chain: Path, purposes: tuple[str, ...], reason: str) -> None:
    """Accept the authorities of a foreign chain. Status 3 when one of them cannot be listed."""
    from ca.trust_list.chains import read_chain

    actor = context.acting(ADMINISTRATOR)
    certificates = read_chain(_octets(chain))
    lists = context.services.ca.trust_lists
    _tell(context, lists.add(certificates, purposes=purposes, reason=reason, actor=actor))


@trust.command()
@click.argument("fingerprint", required=False)
@click.option("--chain", type=click.Path(path_type=Path, dir_okay=False), help="A certificate that is not listed yet.")
@click.option("--reason", required=True, help="Why it is not accepted, for everybody to read.")
@command_options
def reject(context: Context, fingerprint: str | None, chain: Path | None, reason: str) -> None:
    """List an authority as not accepted: its refusal will say why.

    FINGERPRINT is the beginning of one that is listed, 16 digits or more; --chain names the file of another.
    """
    from ca.trust_list.chains import read_chain

    if (fingerprint is None) == (chain is None):
        raise click.UsageError("name a FINGERPRINT or a --chain")
    actor = context.acting(ADMINISTRATOR)
    subject = fingerprint if chain is None else read_chain(_octets(chain))[0]
    assert subject is not None  # noqa: S101 - one of the two was named
    _tell(context, context.services.ca.trust_lists.reject(subject, reason=reason, actor=actor))


@trust.command()
@click.argument("fingerprint")
@click.option("--reason", required=True, help="Why it goes.")
@command_options
def remove(context: Context, fingerprint: str, reason: str) -> None:
    """Take a foreign authority off the list. Status 4 when the list does not hold it, 3 when it is our own."""
    actor = context.acting(ADMINISTRATOR)
    _tell(context, context.services.ca.trust_lists.remove(fingerprint, reason=reason, actor=actor))


@trust.command()
@command_options
def publish(context: Context) -> None:
    """Make a new version if our own authorities or the signing key changed. For a timer; else nothing happens."""
    actor = context.acting(ADMINISTRATOR, UNATTENDED)
    _tell(context, context.services.ca.trust_lists.publish(actor=actor))


@trust.command(name="list")
@click.option("--versions", is_flag=True, help="The versions instead of the authorities.")
@command_options
def list_entries(context: Context, versions: bool) -> None:
    """List the authorities of the newest version."""
    lists = context.services.ca.trust_lists
    if versions:
        rows = [_version_row(version) for version in lists.versions()]
        context.emit_lines(rows, ("number", "made_at", "made_by", "change", "sha256"))
        return
    context.emit_lines([_row(entry) for entry in lists.current().listed.entries], _COLUMNS)


@trust.command()
@click.option("--format", "form", type=click.Choice(["json", "xml"]), default="json", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it there.")
@command_options
def export(context: Context, form: str, out: Path | None) -> None:
    """The newest version as it is served: JSON is a JWS (RFC 7515), XML names the JSON's digest."""
    from ca.trust_list.document import as_xml, flattened

    current = context.services.ca.trust_lists.current()
    text = (flattened(current.jws) if form == "json" else as_xml(current.listed)).decode()
    if out:
        out.write_text(text, "utf-8")
        context.emit({"number": current.listed.number, "out": str(out)}, f"version {current.listed.number} in {out}")
        return
    context.emit({"number": current.listed.number, "format": form, "content": text}, text)


@trust.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--purpose", required=True, type=PURPOSES)
@command_options
def check(context: Context, file: Path, purpose: str) -> None:
    """Judge a certificate by the list. FILE holds it first, then, if need be, its issuers.

    Status 3 when the issuer is not accepted, or when the certificate has ended or is not the issuer's.
    """
    from ca.trust_list.chains import read_chain

    found = context.services.ca.trust_lists.accepted(read_chain(_octets(file)), purpose)
    context.emit({**_row(found.entry), "path_length": len(found.path)}, f"accepted: {found.entry.subject}")


def _octets(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _tell(context: Context, version: Version) -> None:
    row = _version_row(version)
    context.emit(row, f"version {row['number']}: {row['change']}")


def _version_row(version: Version) -> dict[str, Any]:
    return {
        "number": version.listed.number,
        "made_at": stamp(version.listed.made_at),
        "made_by": version.made_by,
        "change": version.change,
        "sha256": version.sha256,
        "previous": version.listed.previous,
        "entries": len(version.listed.entries),
    }


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "fingerprint": entry.sha256,
        "subject": entry.subject,
        "accepted": entry.accepted,
        "ours": entry.ours,
        "purposes": ", ".join(entry.purposes),
        "since": stamp(entry.since),
        "reason": entry.reason,
    }
