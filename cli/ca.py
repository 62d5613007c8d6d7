"""``tamga ca``: the authorities, and the ceremony that makes them."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.ca_recovery import reconcile, recover
from cli.ceremony import ceremony
from cli.context import UNATTENDED, Context, command_options
from cli.register_check import check
from core.errors import CodedError

if TYPE_CHECKING:
    from ca.dual_control import Act, Permit
    from ca.hierarchy import Authority
    from ca.renewal import ShortLived

NEGATIVE = 1


@click.group()
def ca() -> None:
    """Certificate authorities and key ceremonies."""


ca.add_command(ceremony)
ca.add_command(check)
ca.add_command(recover)
ca.add_command(reconcile)


@ca.command(name="list")
@command_options
def list_authorities(context: Context) -> None:
    """List the authorities."""
    rows = [authority_row(authority) for authority in context.services.ca.hierarchy.authorities()]
    context.emit_lines(rows, ("slug", "purpose", "issuer", "serial", "not_after", "retired_at"))


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
        **authority_row(authority),
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


@ca.command()
@click.argument("purpose")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the ceremony file there.")
@click.option("--execute", is_flag=True, help="Hold the ceremony at once, where no custodians are needed.")
@click.option("--transcript", "path", type=click.Path(path_type=Path, dir_okay=False), help="Where it is recorded.")
@command_options
def rollover(context: Context, purpose: str, out: Path | None, execute: bool, path: Path | None) -> None:
    """Write the ceremony file of PURPOSE's next generation, under the live root; for a root, with cross-certificates.

    Both generations live: new certificates come from the new one, and the old one answers for what it signed. With
    --execute the ceremony is held, on a development instance; elsewhere custodians approve the file first.
    """
    from ca.ceremony.transcript import Transcript

    authority = context.authority
    text = authority.drafting.next_generation(purpose)
    plan = authority.ceremony.read(text)
    if out is not None:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    result: dict[str, Any] = {"ceremony": plan.name, "plan_sha256": plan.sha256, "text": text, "executed": execute}
    if not execute:
        context.emit(result, text + "# nothing was done")
        return
    actor = context.acting("ca-administrator")
    path = path or context.configuration.resolve().parent / "ceremonies" / f"{plan.name}.jsonl"
    authority.ceremony.check_startable(plan, ())
    with Transcript.at(path) as transcript:
        authority.ceremony.hold(plan, actor=actor, transcript=transcript)
    result["authorities"] = [authority_row(each) for each in authority.hierarchy.authorities()]
    context.emit(result, "\n".join([*plan.lines(), f"{plan.name} is made; transcript: {path}"]))


def _controlled(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command ``--ask`` and ``--approval``: other officers permit the act."""
    asked = click.option("--ask", is_flag=True, help="Ask the other officers to approve this act, and do nothing else.")
    return asked(click.option("--approval", metavar="REQUEST", help="The request that they approved.")(command))


def _permit(context: Context, act: Act, *, ask: bool, approval: str | None) -> tuple[str, Permit] | None:
    """Who acts, and what takes the approval; None when it was only asked for."""
    control, actor = context.authority.dual_control, context.acting("ca-administrator")
    if not ask:
        return actor, control.permit(act, approval, actor=actor)
    request = control.ask(act, actor=actor)
    result = {"request": request, "act": act.name, "authority": act.authority, "digest": act.digest, **act.facts}
    context.emit(result, f"asked: {request}\nafter tamga approval approve, add --approval {request}")
    return None


@ca.command()
@click.argument("slug")
@click.option("--without-successor", is_flag=True, help="Retire it though nothing else certifies for its purpose.")
@click.option("--last-crl", is_flag=True, help="Publish its last CRL, once all it certified has ended.")
@click.option("--execute", is_flag=True, help="Retire it; without it nothing is done.")
@_controlled
@command_options
def retire(
    context: Context,
    slug: str,
    without_successor: bool,
    last_crl: bool,
    execute: bool,
    ask: bool,
    approval: str | None,
) -> None:
    """Let an authority certify nothing more. Its CRLs, responders and status go on. Status 5 without a successor.

    With --last-crl, when nothing that it certified is in force any more, its last CRL is published, which never ends.
    """
    from ca.dual_control import Act

    retirement = context.authority.retirement
    successor, living = retirement.successor(slug), retirement.living(slug)
    result: dict[str, Any] = {
        "slug": slug,
        "successor": successor.slug if successor else None,
        "certificates_in_force": living,
        "executed": execute,
    }
    after = f"from then on {successor.slug} certifies" if successor else "nothing else certifies for its purpose"
    if execute or ask:
        act = Act("retire", slug, {"last_crl": "yes" if last_crl else "no"})
        permitted = _permit(context, act, ask=ask, approval=approval)
        if permitted is None:
            return
        actor, permit = permitted
        if last_crl:
            retirement.check_ended(slug)
        retired = retirement.retire(slug, actor=actor, without_successor=without_successor, permit=permit)
        result |= authority_row(retired)
        result["last_crl"] = retirement.end(slug, actor=actor).sha256 if last_crl else None
    done = "it is retired" if execute else "nothing was done; add --execute"
    context.emit(result, f"{slug}: {living} certificates in force; {after}; {done}")


@ca.command()
@click.argument("slug")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the request there, PEM.")
@_controlled
@command_options
def request(context: Context, slug: str, out: Path | None, ask: bool, approval: str | None) -> None:
    """Ask an outside root for a certificate: PKCS #10 with the authority's name, signed by its key in the token."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from ca.dual_control import Act

    permitted = _permit(context, Act("request-certificate", slug), ask=ask, approval=approval)
    if permitted is None:
        return
    der = context.authority.subordination.request(slug, actor=permitted[0], permit=permitted[1])
    text = x509.load_der_x509_csr(der).public_bytes(Encoding.PEM).decode()
    if out is not None:
        out.write_text(text)
    context.emit({"slug": slug, "request": text}, f"the request is in {out}" if out else text.rstrip())


@ca.command()
@click.argument("slug")
@click.option("--certificate", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--chain", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--name", help="The slug of the certificate (default: SLUG-outside-N).")
@click.option("--serve", is_flag=True, help="Serve and embed this chain from now on, instead of our own.")
@_controlled
@command_options
def accept(
    context: Context,
    slug: str,
    certificate: Path,
    chain: Path,
    name: str | None,
    serve: bool,
    ask: bool,
    approval: str | None,
) -> None:
    """Take in an outside root's answer for an authority: the certificate, and in --chain those above it up to the root.

    Our own chain stays. Status 3 when the answer does not fit.
    """
    from ca.dual_control import Act

    name = name or _outside_name(context, slug)
    answer, above = certificate.read_bytes(), chain.read_bytes()
    digests = {"certificate_sha256": _sha256(answer), "chain_sha256": _sha256(above)}
    act = Act("accept-certificate", slug, {"slug": name, "served": "yes" if serve else "no", **digests})
    permitted = _permit(context, act, ask=ask, approval=approval)
    if permitted is None:
        return
    further = context.authority.subordination.accept(
        slug, slug=name, certificate=answer, chain=above, served=serve, actor=permitted[0], permit=permitted[1]
    )
    served = "and is served from now on" if serve else "; our own chain is served as before"
    result = {"slug": further.slug, "authority": slug, "served": serve, "chain": len(further.chain)}
    context.emit(result, f"{further.slug} is taken in {served}")


@ca.command(name="chain")
@click.argument("slug")
@click.option("--serve", "choice", metavar="NAME", help="Serve this outside certificate's chain, or `own`.")
@_controlled
@command_options
def chain_command(context: Context, slug: str, choice: str | None, ask: bool, approval: str | None) -> None:
    """Show the certificates of an authority, from every root, and choose which chain is served and embedded."""
    from ca.dual_control import Act

    parts = context.authority
    if choice is not None:
        permitted = _permit(context, Act("serve-chain", slug, {"chain": choice}), ask=ask, approval=approval)
        if permitted is None:
            return
        outside = None if choice == "own" else choice
        parts.subordination.serve(slug, outside, actor=permitted[0], permit=permitted[1])
    own = parts.hierarchy.authority(slug)
    further = [each for each in parts.hierarchy.further_certificates() if each.authority == slug]
    rows = [
        {"name": "own", "issuer": own.issuer, "served": not any(each.served for each in further)},
        *({"name": each.slug, "issuer": each.issuer or "outside", "served": each.served} for each in further),
    ]
    context.emit_lines(rows, ("name", "issuer", "served"))


def _sha256(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()


def _outside_name(context: Context, slug: str) -> str:
    taken = {each.slug for each in context.authority.hierarchy.further_certificates()}
    return next(name for number in count(1) if (name := f"{slug}-outside-{number}") not in taken)


def _renewable(context: Context, name: str | None) -> list[dict[str, Any]]:
    renewals = context.services.ca.renewals
    found = (renewals.of_name(name),) if name else renewals.short_lived()
    return [_short_lived_row(one, due=renewals.is_due(one)) for one in found]


def _renewed(context: Context, name: str | None) -> list[dict[str, Any]]:
    renewals, actor = context.services.ca.renewals, context.acting("ca-administrator", UNATTENDED)
    if name:
        return [_short_lived_row(renewals.renew(name, actor=actor), due=False)]
    return [
        {"name": each, "error": result.code} if isinstance(result, CodedError) else _short_lived_row(result, due=False)
        for each, result in renewals.renew_due(actor=actor)
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


def authority_row(authority: Authority) -> dict[str, Any]:
    """An authority as lists show it."""
    from ca.serial_number import text

    certificate = authority.certificate
    return {
        "slug": authority.slug,
        "purpose": authority.purpose,
        "issuer": authority.issuer,
        "serial": text(certificate.serial_number),
        "not_before": stamp(certificate.not_valid_before_utc),
        "not_after": stamp(certificate.not_valid_after_utc),
        "retired_at": stamp(authority.retired_at) if authority.retired_at else None,
    }


def _responder_until(context: Context, slug: str) -> str | None:
    from ca.errors import CertificateNotFound

    try:
        return stamp(context.services.ca.hierarchy.responder(slug).certificate.not_after)
    except CertificateNotFound:
        return None
