"""``tamga est``: who may enrol machines over RFC 7030, and what became of it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from cli.ca import stamp
from cli.context import Context, command_options
from cli.files import label_and_text
from core.errors import UsageError

if TYPE_CHECKING:
    from ca.est.permits import Permit

OFFICER = "ra-officer"


@click.group()
def est() -> None:
    """Permits for enrolment over secure transport (EST, RFC 7030)."""


@est.command()
@click.option("--label", required=True, help="What may be enrolled for, such as tls-server.")
@click.option("--holder", required=True, help="Client id or name of the organisation it is for.")
@click.option("--evidence", required=True, help="Where the proof of the right to these names is kept.")
@click.option("--subject", multiple=True, metavar="LABEL=TEXT", help="An attribute such as O=Text. Repeatable.")
@click.option("--san", multiple=True, metavar="KIND=TEXT", help="DNS=..., IP=... or URI=... Repeatable.")
@click.option("--certificate", help="Serial number of a certificate of ours that is shown instead of a secret.")
@click.option("--hours", type=click.IntRange(1, 2160), help="How long it waits for its use (default: the setting).")
@click.option("--approval", is_flag=True, help="Another officer approves the request before it is granted.")
@command_options
def permit(
    context: Context,
    label: str,
    holder: str,
    evidence: str,
    subject: tuple[str, ...],
    san: tuple[str, ...],
    certificate: str | None,
    hours: int | None,
    approval: bool,
) -> None:
    """Let a machine enrol once, under these names. The one-time secret is printed now and never again."""
    actor = context.acting(OFFICER)
    made, secret = context.services.ca.est.permits.make(
        label=label,
        holder=holder,
        subject=dict(label_and_text(item) for item in subject),
        alternative_names=[label_and_text(item) for item in san],
        evidence=evidence,
        actor=actor,
        lifetime=timedelta(hours=hours) if hours else None,
        needs_approval=approval,
        bearer_certificate_id=_certificate_id(context, certificate) if certificate else None,
    )
    told = (
        f"user name: {made.id}\nsecret: {secret}" if secret else f"permit {made.id} for the certificate {certificate}"
    )
    context.emit({**_row(made), "user": made.id, "secret": secret}, told)


@est.command(name="list")
@click.option("--label", help="Only this label.")
@click.option("--state", type=click.Choice(["open", "pending", "approved", "spent", "withdrawn"]))
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@command_options
def list_permits(context: Context, label: str | None, state: str | None, limit: int) -> None:
    """List permits, newest first; no secrets."""
    found = context.services.ca.est.permits.listed(state=state, label=label, limit=limit)
    context.emit_lines([_row(each) for each in found], ("id", "label", "holder", "state", "names", "expires_at"))


@est.command()
@click.argument("permit_id")
@command_options
def approve(context: Context, permit_id: str) -> None:
    """Let the request through that waits under a permit. Status 3 for who made the permit, 5 when none waits."""
    actor = context.acting(OFFICER)
    _tell(context, context.services.ca.est.permits.approve(permit_id, actor=actor))


@est.command()
@click.argument("permit_id")
@command_options
def reject(context: Context, permit_id: str) -> None:
    """Refuse the request that waits under a permit, for good. Status 5 when none waits."""
    actor = context.acting(OFFICER)
    _tell(context, context.services.ca.est.permits.reject(permit_id, actor=actor))


@est.command()
@click.argument("permit_id")
@command_options
def revoke(context: Context, permit_id: str) -> None:
    """End a permit that was not used. Certificates are revoked by tamga cert revoke. Status 5 when it was used."""
    actor = context.acting(OFFICER)
    _tell(context, context.services.ca.est.permits.withdraw(permit_id, actor=actor))


def _tell(context: Context, changed: Permit) -> None:
    context.emit(_row(changed), f"{changed.id} is {changed.state}")


def _certificate_id(context: Context, serial: str) -> str:
    from ca.serial_number import parse

    try:
        number = parse(serial)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return context.services.ca.register.by_serial(number).id


def _row(permit: Permit) -> dict[str, Any]:
    return {
        "id": permit.id,
        "label": permit.label,
        "holder": permit.holder,
        "state": permit.state,
        "subject": dict(permit.subject),
        "names": ", ".join(f"{kind}={value}" for kind, value in permit.alternative_names),
        "evidence": permit.evidence,
        "needs_approval": permit.needs_approval,
        "certificate": permit.bearer_certificate_id,
        "made_by": permit.made_by,
        "decided_by": permit.decided_by,
        "expires_at": stamp(permit.expires_at),
    }
