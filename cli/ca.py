"""``tamga ca``: the authorities, and the ceremony that makes them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.context import Context, command_options, operator
from core.errors import CodedError

if TYPE_CHECKING:
    from ca.hierarchy import Authority
    from ca.renewal import ShortLived

NEGATIVE = 1


@click.group()
def ca() -> None:
    """Certificate authorities and key ceremonies."""


@ca.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--execute", is_flag=True, help="Carry the plan out; without it the plan is only shown.")
@command_options
def ceremony(context: Context, file: Path | None, execute: bool) -> None:
    """Make the authorities that FILE describes (default: the first generation that ships).

    Status 3 when the file is refused, 5 when the ceremony was held already. One that was cut short goes on.
    """
    ceremonies = context.services.ca.ceremony
    plan = ceremonies.plan(file)
    result: dict[str, Any] = {
        "ceremony": plan.name,
        "plan_sha256": plan.sha256,
        "executed": execute,
        "steps": list(plan.lines()),
    }
    if not execute:
        context.emit(result, "\n".join([*plan.lines(), "nothing was done; add --execute"]))
        return
    ceremonies.hold(plan, actor=operator())
    result["authorities"] = [_row(authority) for authority in context.services.ca.hierarchy.authorities()]
    context.emit(result, "\n".join([*plan.lines(), f"the ceremony {plan.name} was held"]))


@ca.command(name="list")
@command_options
def list_authorities(context: Context) -> None:
    """List the authorities."""
    rows = [_row(authority) for authority in context.services.ca.hierarchy.authorities()]
    context.emit_lines(rows, ("slug", "purpose", "issuer", "serial", "not_after"))


@ca.command()
@click.argument("slug")
@command_options
def show(context: Context, slug: str) -> None:
    """Show an authority: names, key, chain, and its certificate in PEM. Status 4 when there is none."""
    from policies.names import name_text

    parts = context.services.ca
    authority = parts.hierarchy.authority(slug)
    chain = parts.hierarchy.chain(slug)
    result = {
        **_row(authority),
        "subject": name_text(authority.name),
        "key_label": authority.key_label,
        "subject_key_identifier": authority.subject_key_identifier.hex(),
        "chain": [above.slug for above in chain],
        "responder_until": _responder_until(context, slug),
        "certificate": pem(authority.der),
    }
    lines = [f"{name}: {value}" for name, value in result.items() if name not in ("certificate", "chain")]
    context.emit(result, "\n".join([*lines, f"chain: {' <- '.join(result['chain'])}", result["certificate"]]))


@ca.command()
@click.argument("name", required=False)
@click.option("--execute", is_flag=True, help="Renew; without it is only shown what would be.")
@command_options
def renew(context: Context, name: str | None, execute: bool) -> None:
    """Replace OCSP responders and the time-stamping unit before their keys stop signing.

    NAME is a key's label without its number, such as ocsp-root-g1 or tsa: that one is renewed now, due or not.
    Without NAME all that is due is renewed, except what a root signs. One failure stops no other; the status is then 1.
    """
    rows = _renewed(context, name) if execute else _renewable(context, name)
    context.emit_lines(rows, ("name", "key_label", "issuer", "serial", "state", "signs_until", "due", "error"))
    if any(row["error"] for row in rows):
        sys.exit(NEGATIVE)


def _renewable(context: Context, name: str | None) -> list[dict[str, Any]]:
    renewals = context.services.ca.renewals
    found = (renewals.of_name(name),) if name else renewals.short_lived()
    return [_short_lived_row(one, due=renewals.is_due(one)) for one in found]


def _renewed(context: Context, name: str | None) -> list[dict[str, Any]]:
    renewals = context.services.ca.renewals
    if name:
        return [_short_lived_row(renewals.renew(name, actor=operator()), due=False)]
    return [
        {"name": each, "error": result.code} if isinstance(result, CodedError) else _short_lived_row(result, due=False)
        for each, result in renewals.renew_due(actor=operator())
    ]


def _short_lived_row(one: ShortLived, *, due: bool) -> dict[str, Any]:
    return {
        "name": one.name,
        "key_label": one.key_label,
        "issuer": one.certificate.issuer,
        "serial": one.certificate.serial_text,
        "state": str(one.certificate.status.state),
        "signs_until": stamp(one.signs_until),
        "renew_from": stamp(one.renew_from),
        "due": due,
        "error": None,
    }


def pem(der: bytes) -> str:
    """A certificate in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()


def stamp(moment: Any) -> str:
    """A moment as RFC 3339 in UTC, whole seconds."""
    return str(moment.strftime("%Y-%m-%dT%H:%M:%SZ"))


def _row(authority: Authority) -> dict[str, Any]:
    from ca.serial_number import text

    certificate = authority.certificate
    return {
        "slug": authority.slug,
        "purpose": authority.purpose,
        "issuer": authority.issuer,
        "serial": text(certificate.serial_number),
        "not_before": stamp(certificate.not_valid_before_utc),
        "not_after": stamp(certificate.not_valid_after_utc),
    }


def _responder_until(context: Context, slug: str) -> str | None:
    from ca.errors import CertificateNotFound

    try:
        return stamp(context.services.ca.hierarchy.responder(slug).certificate.not_after)
    except CertificateNotFound:
        return None
