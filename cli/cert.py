"""``tamga cert``: issue, look up, revoke, suspend and resume certificates, one or very many."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.application import submit_application
from cli.ca import pem, stamp
from cli.certificate_lists import REASONS, export, list_certificates, row_of
from cli.context import Context, command_options
from cli.files import label_and_text, read_given
from cli.mass_revocation import mass_revoke
from cli.register_check import check
from core.errors import CodedError, UsageError

if TYPE_CHECKING:
    from ca.register import IssuedCertificate

# Who may change the status of a certificate that is not his own.
DECIDERS = ("ra-officer", "security-officer")


@click.group()
def cert() -> None:
    """Certificates of the register."""


for command in (list_certificates, export, mass_revoke, check):
    cert.add_command(command)


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
    """Issue a certificate. The request gives the key and its proof, nothing else. Status 3 when a rule refuses it.

    Where officers are enrolled it applies for the certificate instead: another registration officer approves.
    """
    actor, parts = context.acting("ra-officer"), context.services.ca
    if parts.officers.enrolled():  # then nobody approves what he asks for
        submit_application(
            context,
            actor=actor,
            profile=profile,
            csr=read_given(csr),
            evidence=evidence,
            holder=holder,
            subject=dict(label_and_text(item) for item in subject),
            alternative_names=tuple(label_and_text(item) for item in san),
        )
        return
    application = parts.registration.apply(
        profile=profile,
        csr=read_given(csr),
        subject=dict(label_and_text(item) for item in subject),
        alternative_names=[label_and_text(item) for item in san],
        holder=holder,
        evidence=evidence,
    )
    issued = parts.issuance.certify(application, actor=actor)
    if out:
        out.write_text(pem(issued.der), "ascii")
    context.emit({**row_of(issued), "certificate": pem(issued.der)}, f"issued {issued.serial_text} by {issued.issuer}")


@cert.command()
@click.argument("serial")
@click.option("--issuer", help="Slug of the authority, should two have used the serial number.")
@command_options
def show(context: Context, serial: str, issuer: str | None) -> None:
    """Show a certificate with its status and suspensions. Status 4 when the register does not know it.

    SERIAL may be a SHA-256 fingerprint instead, 64 hexadecimal digits.
    """
    found = _found(context, serial, issuer)
    intervals = [
        {"began_at": stamp(each.began_at), "ended_at": stamp(each.ended_at) if each.ended_at else None}
        for each in context.services.ca.register.suspensions(found.id)
    ]
    row = {
        **row_of(found),
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

    actor = context.acting(*DECIDERS)
    found = _found(context, serial, issuer)
    changed = context.services.ca.revocation.revoke(found.id, actor=actor, reason=REASON_NAMES.get(reason))
    _tell_change(context, changed, actor)


@cert.command()
@click.argument("serial")
@click.option("--issuer", help="Slug of the authority, should two have used the serial number.")
@command_options
def suspend(context: Context, serial: str, issuer: str | None) -> None:
    """Suspend until resumed or revoked, and publish the issuer's CRL. Status 3 when its profile knows no suspension."""
    actor = context.acting(*DECIDERS)
    found = _found(context, serial, issuer)
    _tell_change(context, context.services.ca.revocation.suspend(found.id, actor=actor), actor)


@cert.command()
@click.argument("serial")
@click.option("--issuer", help="Slug of the authority, should two have used the serial number.")
@command_options
def resume(context: Context, serial: str, issuer: str | None) -> None:
    """Lift a suspension, and publish the issuer's CRL. Status 5 when it is not suspended."""
    actor = context.acting(*DECIDERS)
    found = _found(context, serial, issuer)
    _tell_change(context, context.services.ca.revocation.resume(found.id, actor=actor), actor)


def _tell_change(context: Context, changed: IssuedCertificate, actor: str) -> None:
    """Publish and report. What was done stays done: a CRL that cannot be published now is a warning."""
    warning = None
    try:
        context.services.ca.crls.publish(changed.issuer, actor=actor, attempts=3)
    except CodedError as error:
        warning = f"the CRL of {changed.issuer} was not published ({error.code}); run tamga crl publish"
        context.progress(f"warning: {warning}")
    context.emit({**row_of(changed), "warning": warning}, f"{changed.serial_text} is {changed.status.state}")


def _found(context: Context, serial: str, issuer: str | None) -> IssuedCertificate:
    from ca.serial_number import parse

    digits = serial.replace(":", "").strip().lower()
    if re.fullmatch("[0-9a-f]{64}", digits):
        return context.services.ca.register.by_sha256(bytes.fromhex(digits))
    try:
        number = parse(serial)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return context.services.ca.register.by_serial(number, issuer)
