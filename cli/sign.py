"""``tamga sign`` and ``tamga deliver``: one file signed at the terminal, and webhooks that are due."""

from __future__ import annotations

from pathlib import Path

import click

from cli.context import Context, command_options, read_secret
from core.errors import Conflict


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--credential", required=True, help="The id of the signer's credential.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Where the result goes.")
@click.option("--level", type=click.Choice(["B-T", "B-LT"]), default="B-LT", show_default=True)
@click.option("--language", type=click.Choice(["mn", "en"]), default="mn", show_default=True)
@click.option("--pin-stdin", is_flag=True, help="Read the signing PIN from standard input's first line.")
@click.option("--overwrite", is_flag=True, help="Replace OUT when it exists.")
@command_options
def sign(
    context: Context,
    file: Path,
    credential: str,
    out: Path,
    level: str,
    language: str,
    pin_stdin: bool,
    overwrite: bool,
) -> None:
    """Sign FILE with a person's credential, in that person's presence: the PIN is theirs to type."""
    if out.exists() and not overwrite:
        raise Conflict(f"{out} exists; --overwrite replaces it")
    pin = read_secret("Signing PIN", from_stdin=pin_stdin)
    signed = context.services.signing.local_signing.sign(
        file.read_bytes(), credential_id=credential, pin=pin, level=level, language=language
    )
    out.write_bytes(signed.data)
    context.emit(
        {
            "file": str(out),
            "level": signed.level,
            "sdr": signed.sdr,
            "certificate_serial": signed.certificate_serial,
        },
        f"{out}: signed, level {signed.level}, certificate {signed.certificate_serial}",
    )


@click.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=500, show_default=True, help="At most so many.")
@command_options
def deliver(context: Context, limit: int) -> None:
    """Deliver the webhooks that are due, settle what a crash left, delete documents whose retention has ended, and
    publish the CRLs that changes of status wait for.

    Meant for a timer; any number may run at once.
    """
    signing = context.services.signing
    context.services.ca.recovery.settle()
    changes = context.services.ca.status_changes.run(limit=limit)
    settled = signing.recovery.settle()
    round_ = signing.deliveries.run(limit=limit)
    deleted = signing.sign_requests.delete_documents()
    signing.sign_requests.forget_idempotency_keys()
    context.emit(
        {
            "delivered": round_.delivered,
            "failed": round_.failed,
            "settled": {"intents": settled.intents, "credentials": settled.credentials, "expired": settled.expired},
            "documents_deleted": deleted,
            "status_changes": {"settled": changes.settled, "waiting": changes.waiting, "crls": changes.published},
        },
        f"{round_.delivered} delivered, {round_.failed} failed; {settled.expired} requests expired, "
        f"{settled.intents} interrupted; documents of {deleted} requests deleted",
    )
