"""``tamga application``: what is asked of the registration authority, and its decisions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ca.officers.roles import RA_OFFICER
from cli.ca import pem, stamp
from cli.context import UNATTENDED, Context, command_options
from cli.files import label_and_text, read_given
from core.errors import CodedError

if TYPE_CHECKING:
    from ca.applications.service import Application
    from ca.register import IssuedCertificate

NEGATIVE = 1


@click.group()
def application() -> None:
    """Applications for certificates."""


@application.command()
@click.option("--profile", required=True, help="The certificate profile, such as citizen-signature.")
@click.option("--csr", required=True, type=click.Path(path_type=Path, dir_okay=False), help="PKCS #10, PEM or DER.")
@click.option("--evidence", required=True, help="Where the proof of identity is kept.")
@click.option("--holder", required=True, help="Person id or client id the certificate will belong to.")
@click.option("--subject", multiple=True, metavar="LABEL=TEXT", help="An attribute such as CN=Text. Repeatable.")
@click.option("--san", multiple=True, metavar="KIND=TEXT", help="URI=..., DNS=... or IP=... Repeatable.")
@command_options
def submit(
    context: Context, profile: str, csr: Path, evidence: str, holder: str, subject: tuple[str, ...],
    san: tuple[str, ...],
) -> None:  # fmt: skip
    """Apply for somebody whose identity was seen. Another registration officer approves.

    The request gives the key and its proof, nothing else. Status 3 when a rule refuses it.
    """
    submit_application(
        context,
        actor=context.acting(RA_OFFICER),
        profile=profile,
        csr=read_given(csr),
        evidence=evidence,
        holder=holder,
        subject=dict(label_and_text(item) for item in subject),
        alternative_names=tuple(label_and_text(item) for item in san),
    )


@application.command(name="list")
@click.option("--state", type=click.Choice(["submitted", "approved", "rejected", "issued"]), help="Default: all.")
@click.option("--profile", help="Certificate profile.")
@click.option("--holder", help="Person id or client id.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@command_options
def list_applications(
    context: Context, state: str | None, profile: str | None, holder: str | None, limit: int
) -> None:  # fmt: skip
    """List applications, oldest first."""
    found = context.services.ca.applications.all(state=state, profile=profile, holder=holder, limit=limit)
    columns = ("id", "state", "profile", "holder", "applicant", "submitted_at", "decided_by", "reason")
    context.emit_lines([_row(each) for each in found], columns)


@application.command()
@click.argument("application_id", metavar="APPLICATION")
@command_options
def show(context: Context, application_id: str) -> None:
    """Show an application: names, evidence, key, and what was decided. Status 4 when there is none."""
    applications = context.services.ca.applications
    found = applications.get(application_id)
    certificate = applications.certificate(found)
    row = {
        **_row(found),
        "subject": dict(found.asked.subject),
        "alternative_names": [f"{kind}={value}" for kind, value in found.asked.alternative_names],
        "evidence": found.asked.evidence,
        "key_sha256": _key(found),
        "serial": certificate.serial_text if certificate else None,
    }
    context.emit(row, "\n".join(f"{name}: {value}" for name, value in row.items() if value not in (None, [])))


@application.command()
@click.argument("application_id", metavar="APPLICATION")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the certificate there, in PEM.")
@command_options
def approve(context: Context, application_id: str, out: Path | None) -> None:
    """Approve an application and issue its certificate. Nobody approves his own: status 3.

    Status 6 when it is approved and the certificate cannot be issued just now; tamga application issue does it later.
    """
    actor = context.acting(RA_OFFICER)
    issued = context.services.ca.applications.approve(application_id, actor=actor)
    if out:
        out.write_text(pem(issued.der), "ascii")
    context.emit({**_issued(issued), "certificate": pem(issued.der)}, f"issued {issued.serial_text} by {issued.issuer}")


@application.command()
@click.argument("application_id", metavar="APPLICATION")
@click.option("--reason", required=True, help="One line; the applicant reads it.")
@command_options
def reject(context: Context, application_id: str, reason: str) -> None:
    """Turn an application down. Status 5 when it was decided before."""
    actor = context.acting(RA_OFFICER)
    rejected = context.services.ca.applications.reject(application_id, actor=actor, reason=reason)
    context.emit(_row(rejected), f"application {rejected.id} is rejected")


@application.command()
@command_options
def issue(context: Context) -> None:
    """Issue what was approved and cut short; for a timer. One failure stops no other; the status is then 1."""
    done = context.services.ca.applications.issue_pending(actor=context.acting(RA_OFFICER, UNATTENDED))
    rows = [
        {"application": each, "error": result.code}
        if isinstance(result, CodedError)
        else {"application": each, **_issued(result), "error": None}
        for each, result in done
    ]
    context.emit_lines(rows, ("application", "serial", "issuer", "error"))
    if any(row["error"] for row in rows):
        sys.exit(NEGATIVE)


def submit_application(context: Context, *, actor: str, **asked: Any) -> None:
    """Submit what an officer asks for and print the application; ``asked`` are the fields of ``Asked``."""
    from ca.applications.service import Asked

    made = context.services.ca.applications.submit(Asked(**asked), applicant=actor)
    text = f"application {made.id}: another registration officer runs tamga application approve"
    context.emit(_row(made), text)


def _row(found: Application) -> dict[str, Any]:
    return {
        "id": found.id,
        "state": found.state,
        "profile": found.asked.profile,
        "holder": found.asked.holder,
        "applicant": found.applicant,
        "submitted_at": stamp(found.submitted_at),
        "decided_by": found.decided_by,
        "reason": found.reason,
        "certificate_id": found.certificate_id,
    }


def _issued(found: IssuedCertificate) -> dict[str, Any]:
    return {
        "id": found.id,
        "serial": found.serial_text,
        "issuer": found.issuer,
        "profile": found.profile,
        "not_after": stamp(found.not_after),
        "holder": found.holder,
    }


def _key(found: Application) -> str:
    import hashlib

    from ca.registration import proven_key

    return hashlib.sha256(proven_key(found.asked.csr)[1]).hexdigest()
