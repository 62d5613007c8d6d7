"""``tamga verify``: what the signatures in a PDF are worth. 0 passed, 1 failed, 2 indeterminate, 3 not processed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.context import Context, command_options
from core.errors import UsageError

if TYPE_CHECKING:
    from signing.validation import TrustAnchors, ValidationReport

EXIT_STATUS = {"TOTAL-PASSED": 0, "TOTAL-FAILED": 1, "INDETERMINATE": 2, "NO_SIGNATURE_FOUND": 2}


class NotUsable(UsageError):
    """The file or an option cannot be used; for this command that is status 3."""

    exit_code = 3


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--policy", default="mn-default", show_default=True, help="The validation policy's id.")
@click.option(
    "--trust", type=click.Path(path_type=Path), help="PEM file of trusted certificates; nothing is asked online."
)
@click.option("--at", "moment", help="Judge as at this time, RFC 3339; default now.")
@click.option("--language", type=click.Choice(["mn", "en"]), default="en", show_default=True)
@command_options
def verify(context: Context, file: Path, policy: str, trust: Path | None, moment: str | None, language: str) -> None:
    """Check every signature in FILE against the instance's issuers, or offline against --trust.

    Exit status: 0 all passed, 1 a signature failed, 2 indeterminate or no signature, 3 no readable PDF or wrong usage.
    """
    data = _read(file)
    at = _moment(moment)
    if trust is None and context.has_instance:
        pdf = context.services.signing.pdf
        report = pdf.validate(data, policy=policy, at=at, language=language, limit=len(data) or 1)
    else:
        report = _offline(data, policy=policy, anchors=_anchors(trust), at=at, language=language)
    context.emit(report.simple(), "\n".join(_lines(report)))
    sys.exit(EXIT_STATUS[report.document_status])


def _offline(data: bytes, *, policy: str, anchors: TrustAnchors, at: datetime, language: str) -> ValidationReport:
    from signing.validation import validate

    return validate(data, policy=policy, trust=anchors, at=at, language=language)


def _anchors(trust: Path | None) -> TrustAnchors:
    """Self-signed certificates are anchors, the others help to build paths; a file without any is all anchors."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from signing.validation import TrustAnchors

    if trust is None:
        Context.progress("tamga: no issuer is trusted here; name some with --trust")
        return TrustAnchors(())
    try:
        certificates = x509.load_pem_x509_certificates(_read(trust))
    except ValueError as error:
        raise NotUsable(f"{trust} holds no PEM certificates") from error
    own = [entry.public_bytes(Encoding.DER) for entry in certificates if entry.subject == entry.issuer]
    others = [entry.public_bytes(Encoding.DER) for entry in certificates if entry.subject != entry.issuer]
    return TrustAnchors(tuple(own), tuple(others)) if own else TrustAnchors(tuple(others))


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise NotUsable(f"{file} cannot be read: {error.strerror}") from error


def _moment(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise NotUsable("--at is a time such as 2026-11-21T12:00:00+08:00") from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _lines(report: ValidationReport) -> Iterator[str]:
    content = report.simple()
    yield f"{report.document_status}: {content['sentence']}"
    for finding in content["findings"]:
        yield f"  [{finding['code']}] {finding['sentence']}"
    for signature in content["signatures"]:
        yield from _signature_lines(signature)
    yield f"policy {content['policy']['id']} {content['policy']['version']}, judged at {content['validation_time']}"


def _signature_lines(signature: dict[str, Any]) -> Iterator[str]:
    signer = signature["signer"] or {}
    named = ", ".join(signature["field_names"])
    outcome = "/".join(filter(None, (signature["indication"], signature["sub_indication"])))
    yield f"{named}: {outcome}: {signature['sentence']}"
    yield f"  signer: {signer.get('display_name') or '?'}, certificate {signer.get('certificate_serial') or '?'}"
    yield f"  proven time: {signature['best_signature_time'] or '-'}"
    yield f"  claimed time: {signature['claimed_signing_time'] or '-'}"
    if signature["level"]:
        yield f"  level: {signature['level']}"
    for finding in (*signature["modifications"], *signature["findings"]):
        yield f"  [{finding['code']}] {finding['sentence']}"
    if signature["next_step"]:
        yield f"  {signature['next_step']}"
