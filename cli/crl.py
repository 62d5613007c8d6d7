"""``tamga crl``: publish and look at certificate revocation lists."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.ca import stamp
from cli.context import UNATTENDED, Context, command_options
from core.errors import CodedError, UsageError

if TYPE_CHECKING:
    from ca.crl import PublishedCrl

NEGATIVE = 1


@click.group()
def crl() -> None:
    """Certificate revocation lists."""


@crl.command()
@click.option("--issuer", help="Slug of one authority (default: all).")
@click.option("--due", is_flag=True, help="Only those older than 24 hours, and no root's; for a timer.")
@command_options
def publish(context: Context, issuer: str | None, due: bool) -> None:
    """Publish CRLs now. With several authorities one failure stops no other; the status is then 1."""
    crls, actor = context.services.ca.crls, context.acting("ca-administrator", UNATTENDED)
    if issuer:
        results: tuple[tuple[str, PublishedCrl | CodedError], ...] = ((issuer, crls.publish(issuer, actor=actor)),)
    else:
        results = crls.publish_all(actor=actor, only_due=due)
    rows = [_row(slug, result) for slug, result in results]
    context.emit_lines(rows, ("issuer", "number", "this_update", "next_update", "entries", "error"))
    if any(row["error"] for row in rows):
        sys.exit(NEGATIVE)


@crl.command()
@click.argument("source")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the CRL there, in DER.")
@command_options
def show(context: Context, source: str, out: Path | None) -> None:
    """Show the current CRL of an authority, by its slug, or a CRL in a file. Status 4 when none was published."""
    if Path(source).is_file():
        der, result = _from_file(Path(source))
    else:
        current = context.services.ca.crls.current(source)
        der, result = current.der, _row(source, current)
    if out:
        out.write_bytes(der)
    entries = _entries(der)
    lines = [f"{name}: {value}" for name, value in result.items() if value is not None]
    lines += [f"  {entry['serial']}  {entry['revoked_at']}  {entry['reason'] or ''}".rstrip() for entry in entries]
    context.emit({**result, "revoked": entries}, "\n".join(lines))


def _row(issuer: str, result: PublishedCrl | CodedError) -> dict[str, Any]:
    if isinstance(result, CodedError):
        return {"issuer": issuer, "error": result.code}
    return {
        "issuer": issuer,
        "shard": result.shard,
        "number": str(result.number),
        "this_update": stamp(result.this_update),
        "next_update": stamp(result.next_update),
        "entries": result.entries,
        "sha256": result.sha256,
        "error": None,
    }


def _from_file(path: Path) -> tuple[bytes, dict[str, Any]]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    data = path.read_bytes()
    try:
        parsed = x509.load_pem_x509_crl(data) if data.startswith(b"-----") else x509.load_der_x509_crl(data)
    except ValueError as error:
        raise UsageError(f"{path} is no certificate revocation list") from error
    following = parsed.next_update_utc
    return parsed.public_bytes(Encoding.DER), {
        "issuer": parsed.issuer.rfc4514_string(),
        "this_update": stamp(parsed.last_update_utc),
        "next_update": stamp(following) if following else None,
        "entries": len(parsed),
    }


def _entries(der: bytes) -> list[dict[str, Any]]:
    from cryptography import x509

    from ca.serial_number import text

    listed = []
    for entry in x509.load_der_x509_crl(der):
        try:
            reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
        except x509.ExtensionNotFound:
            reason = None
        revoked_at = stamp(entry.revocation_date_utc)
        listed.append({"serial": text(entry.serial_number), "revoked_at": revoked_at, "reason": reason})
    return listed
