"""``tamga ca recover`` and ``tamga ca reconcile``: after a crash, and after a restore."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from cli.audit import entries_of
from cli.context import UNATTENDED, Context, command_options

# What a change of the register's memory takes; others look at the log before and after.
ACTING = ("ca-administrator", "security-officer")


@click.command()
@command_options
def recover(context: Context) -> None:
    """Settle issuances that a crash left open. `tamga deliver` does it too, every time it runs."""
    context.acting(*ACTING, UNATTENDED)
    settled = context.services.ca.recovery.settle()
    text = f"{settled.abandoned} abandoned, {settled.withdrawn} withdrawn"
    context.emit(asdict(settled), text)


@click.command()
@click.option("--audit", "export", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="A newer export of this instance's audit log.")  # fmt: skip
@click.option("--execute", is_flag=True, help="Do it; without it is only shown what would be done.")
@command_options
def reconcile(context: Context, export: Path, execute: bool) -> None:
    """After a restore: make the register know again what a newer export of the audit log tells.

    Status 1 when the export is not as it was written, 3 when it is not a newer log of this instance.
    """
    actor = context.acting(*ACTING)
    done = context.services.ca.reconciliation.reconcile(lambda: entries_of(export), actor=actor, execute=execute)
    lines = [
        f"{done.lost} entries after entry {done.common} are not in this log{'; it has forked' if done.forked else ''}",
        f"{done.withdrawn} serial numbers withdrawn, {done.changed} changes of status, {done.blocked} keys blocked",
        *(f"not done again: {event} ({count})" for event, count in sorted(done.others.items())),
        "done; publish the CRLs with tamga crl publish" if execute else "nothing was done; add --execute",
    ]
    context.emit({**asdict(done), "others": dict(done.others), "executed": execute}, "\n".join(lines))
