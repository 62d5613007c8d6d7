"""``tamga approval``: what waits for more than one pair of eyes."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ca.officers.roles import CA_ADMINISTRATOR, RA_OFFICER, SECURITY_OFFICER
from cli.ca import stamp
from cli.context import Context, command_options
from core.errors import UsageError

if TYPE_CHECKING:
    from ca.officers.approvals import ApprovalRequest


@click.group()
def approval() -> None:
    """Requests that other officers approve before they are carried out."""


@approval.command(name="list")
@click.option("--state", type=click.Choice(["open", "rejected", "taken", "expired"]), help="Default: all.")
@click.option("--kind", help="Such as role-change or mass-revocation.")
@command_options
def list_requests(context: Context, state: str | None, kind: str | None) -> None:
    """List requests, newest first."""
    rows = [_row(each) for each in context.authority.approvals.all(state=state, kind=kind)]
    context.emit_lines(rows, ("id", "kind", "subject", "state", "valid", "needed", "requester", "expires_at"))


@approval.command()
@click.argument("request")
@click.option("--text-out", type=click.Path(path_type=Path, dir_okay=False), help="Write what is to be signed there.")
@command_options
def show(context: Context, request: str, text_out: Path | None) -> None:
    """Show a request: what it permits, in full, and who has signed. Status 4 when there is none."""
    found = context.authority.approvals.get(request)
    if text_out:
        text_out.write_bytes(found.text)
    row = {**_row(found), "facts": dict(found.facts), "approvals": _approvals(found), "text": found.text.decode()}
    lines = [f"{name}: {value}" for name, value in _row(found).items() if value is not None]
    lines += [f"  {name}: {value}" for name, value in found.facts.items()]
    lines += [f"signed by {each['officer']} at {each['approved_at']}{_doubt(each)}" for each in _approvals(found)]
    context.emit(row, "\n".join(lines))


@approval.command()
@click.argument("request")
@click.option("--officer", "name", help="Whose signature it is, with --signature.")
@click.option(
    "--signature",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A signature made elsewhere over the text of tamga approval show --text-out: raw or base64.",
)
@command_options
def approve(context: Context, request: str, name: str | None, signature: Path | None) -> None:
    """Sign a request with the officer's key. Status 3 when it is the officer's own or decided by other roles."""
    approvals = context.authority.approvals
    if (name is None) != (signature is None):
        raise UsageError("--officer and --signature belong together")
    if name is not None and signature is not None:
        # Made where this instance is not: the signature over the request is itself what shows who signed.
        changed = approvals.approve(request, context.authority.officers.get(name), _signature(signature))
    else:
        officer = context.officer(CA_ADMINISTRATOR, SECURITY_OFFICER)
        changed = approvals.approve(request, officer, context.officer_sign(approvals.get(request).text))
    context.emit(_row(changed), f"{changed.valid} of {changed.needed} signatures")


@approval.command()
@click.argument("request")
@click.option("--reason", required=True, help="One line, kept with the request.")
@command_options
def reject(context: Context, request: str, reason: str) -> None:
    """Close a request for good. Its requester may withdraw it so."""
    officer = context.officer(CA_ADMINISTRATOR, RA_OFFICER, SECURITY_OFFICER)
    changed = context.authority.approvals.reject(request, officer, reason=reason)
    context.emit(_row(changed), f"request {changed.id} is rejected")


def _signature(path: Path) -> bytes:
    from ca.officers.keys import MAX_SIGNATURE_OCTETS

    try:
        data = path.read_bytes()[: MAX_SIGNATURE_OCTETS * 2]
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return base64.b64decode(b"".join(data.split()), validate=True)
    except binascii.Error:
        return data


def _row(found: ApprovalRequest) -> dict[str, Any]:
    return {
        "id": found.id,
        "kind": found.kind,
        "subject": found.subject,
        "digest": found.digest,
        "state": found.state,
        "valid": found.valid,
        "needed": found.needed,
        "requester": found.requester,
        "requested_at": stamp(found.requested_at),
        "expires_at": stamp(found.expires_at),
        "closed_by": found.closed_by,
        "reason": found.reason,
    }


def _approvals(found: ApprovalRequest) -> list[dict[str, Any]]:
    return [
        {
            "officer": each.officer,
            "approved_at": stamp(each.approved_at),
            "counts": each.counts,
            "signature": base64.b64encode(each.signature).decode(),
        }
        for each in found.approvals
    ]


def _doubt(row: dict[str, Any]) -> str:
    return "" if row["counts"] else " (does not count any more)"
