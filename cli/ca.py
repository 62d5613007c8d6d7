"""``tamga ca``: the authorities, and the ceremony that makes them."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.context import Context, command_options

if TYPE_CHECKING:
    from ca.hierarchy import Authority
    from ca.register import IssuedCertificate


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


@ca.command(name="renew-responder")
@click.argument("slug", required=False)
@command_options
def renew_responder(context: Context, slug: str | None) -> None:
    """Give the authority SLUG a new OCSP responder; without SLUG every issuing authority whose responder is due."""
    responders = context.services.ca.responders
    if slug:
        context.services.ca.hierarchy.authority(slug)
        renewed: tuple[IssuedCertificate, ...] = (responders.renew(slug, actor=operator()),)
    else:
        renewed = responders.renew_due(actor=operator())
    rows = [{"issuer": c.issuer, "serial": c.serial_text, "not_after": stamp(c.not_after)} for c in renewed]
    context.emit_lines(rows, ("issuer", "serial", "not_after"))


def operator() -> str:
    """Who typed the command, for the audit log."""
    try:
        return f"operator:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"operator:uid-{os.getuid()}"


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
