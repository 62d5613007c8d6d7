"""``tamga cert``: issue, look up, revoke, suspend and resume certificates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.ca import pem, stamp
from cli.context import Context, command_options, operator
from core.errors import CodedError, UsageError

if TYPE_CHECKING:
    from ca.register import IssuedCertificate

REASONS = ("keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation", "privilegeWithdrawn")


@click.group()
def cert() -> None:
    """Certificates of the register."""


@cert.command()
@click.option("--profile", required=True, help="The certificate profile, such as tls-client.")
@click.option("--csr", required=True, type=click.Path(path_type=Path, dir_okay=False), help="PKCS #10, PEM or DER.")
@click.option("--evidence", required=True, help="Where the proof of identity is kept.")
@click.option("--holder", default="unassigned", help="Person id or client id the certificate belongs to.")
@click.option("--subject", multiple=True, metavar="LABEL=TEXT", help="An attribute such as CN=Text. Repeatable.")
@click.option("--san", multiple=True, metavar="KIND=TEXT", help="URI=... or DNS=... Repeatable.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the certificate there, in PEM.")
@command_options
def issue(
    context: Context,
    profile: str,
    csr: Path,
    evidence: str,
    holder: str,
    subject: tuple[str, ...],
    san: tuple[str, ...],
    out: Path | None,
) -> None:
    """Issue a certificate. The request gives the key and its proof, nothing else. Status 3 when a rule refuses it."""
    parts = context.services.ca
    application = parts.registration.apply(
        profile=profile,
        csr=_read(csr),
        subject=dict(_pair(item) for item in subject),
        alternative_names=[_pair(item) for item in san],
        holder=holder,
        evidence=evidence,
    )
    issued = parts.issuance.certify(application, actor=operator())
    if out:
        out.write_text(pem(issued.der), "ascii")
    context.emit({**_row(issued), "certificate": pem(issued.der)}, f"issued {issued.serial_text} by {issued.issuer}")


@cert.command(name="list")
@click.option("--holder", help="Person id or client id.")
@click.option("--profile", help="Certificate profile.")
@click.option("--issuer", help="Slug of the authority.")
@click.option("--state", type=click.Choice(["good", "suspended", "revoked"]))
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@command_options
def list_certificates(
    context: Context, holder: str | None, profile: str | None, issuer: str | None, state: str | None, limit: int
) -> None:
    """List certificates, newest first."""
    from ca.register import State

    found = context.services.ca.register.certificates(
        holder=holder, profile=profile, issuer=issuer, state=State(state) if state else None, limit=limit
    )
    context.emit_lines([_row(each) for each in found], ("serial", "issuer", "profile", "state", "not_after", "holder"))


@cert.command()
@click.argument("serial")
@click.option("--issuer", help="Slug of the authority, should two have used the serial number.")
@command_options
def show(context: Context, serial: str, issuer: str | None) -> None:
    """Show a certificate with its status and suspensions. Status 4 when the register does not know it."""
    found = _found(context, serial, issuer)
    intervals = [
        {"began_at": stamp(each.began_at), "ended_at": stamp(each.ended_at) if each.ended_at else None}
        for each in context.services.ca.register.suspensions(found.id)
    ]
    row = {
        **_row(found),
        "subject": found.subject_text,
        "evidence": found.evidence,
        "sha256": found.sha256,
        "suspensions": intervals,
    }
    lines = [f"{name}: {value}" for name, value in row.items() if value not in (None, [])]
    context.emit({**row, "certificate": pem(found.der)}, "\n".join([*lines, pem(found.der)]))


@cert.command()
@click.argument("serial")
@click.option("--issuer", help="Slug of the authority, should two have used the serial number.")
@click.option("--reason", type=click.Choice(["unspecified", *REASONS]), default="unspecified", show_default=True)
@command_options
def revoke(context: Context, serial: str, issuer: str | None, reason: str) -> None:
    """Revoke for good, and publish the issuer's CRL. Status 5 when it was revoked for another reason."""
    from ca.revocation import REASON_NAMES

    found = _found(context, serial, issuer)
    changed = context.services.ca.revocation.revoke(found.id, actor=operator(), reason=REASON_NAMES.get(reason))
    _tell_change(context, changed)


@cert.command()
@click.argument("serial")
@click.option("--issuer", help="Slug of the authority, should two have used the serial number.")
@command_options
def suspend(context: Context, serial: str, issuer: str | None) -> None:
    """Suspend until resumed or revoked, and publish the issuer's CRL. Status 3 when its profile knows no suspension."""
    found = _found(context, serial, issuer)
    _tell_change(context, context.services.ca.revocation.suspend(found.id, actor=operator()))


@cert.command()
@click.argument("serial")
@click.option("--issuer", help="Slug of the authority, should two have used the serial number.")
@command_options
def resume(context: Context, serial: str, issuer: str | None) -> None:
    """Lift a suspension, and publish the issuer's CRL. Status 5 when it is not suspended."""
    found = _found(context, serial, issuer)
    _tell_change(context, context.services.ca.revocation.resume(found.id, actor=operator()))


def _tell_change(context: Context, changed: IssuedCertificate) -> None:
    """Publish and report. What was done stays done: a CRL that cannot be published now is a warning."""
    warning = None
    try:
        context.services.ca.crls.publish(changed.issuer, actor=operator(), attempts=3)
    except CodedError as error:
        warning = f"the CRL of {changed.issuer} was not published ({error.code}); run tamga crl publish"
        context.progress(f"warning: {warning}")
    context.emit({**_row(changed), "warning": warning}, f"{changed.serial_text} is {changed.status.state}")


def _found(context: Context, serial: str, issuer: str | None) -> IssuedCertificate:
    from ca.serial_number import parse

    try:
        number = parse(serial)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return context.services.ca.register.by_serial(number, issuer)


def _row(found: IssuedCertificate) -> dict[str, Any]:
    status = found.status
    return {
        "id": found.id,
        "serial": found.serial_text,
        "issuer": found.issuer,
        "profile": found.profile,
        "state": str(status.state),
        "revoked_at": stamp(status.revoked_at) if status.revoked_at else None,
        "reason": status.reason.wire_name if status.reason else None,
        "not_before": stamp(found.not_before),
        "not_after": stamp(found.not_after),
        "holder": found.holder,
    }


def _pair(item: str) -> tuple[str, str]:
    label, separator, text = item.partition("=")
    if not separator:
        raise UsageError(f"{item!r} is not of the form LABEL=TEXT")
    return label, text


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
