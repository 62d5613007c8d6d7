"""``tamga wrapping``: the generations of the key under which citizens' keys are wrapped."""

from __future__ import annotations

from typing import Any

import click

from cli.ca import stamp
from cli.context import Context, command_options

COLUMNS = ("label", "current", "credentials", "begun_at", "emptied_at")


@click.group()
def wrapping() -> None:
    """The token key that citizens' keys are wrapped under, and its successors."""


@wrapping.command(name="list")
@command_options
def list_generations(context: Context) -> None:
    """List the generations, with how many credentials each holds."""
    context.emit_lines(_rows(context), COLUMNS)


@wrapping.command()
@click.option("--execute", is_flag=True, help="Rotate; without it is only shown what would be moved.")
@command_options
def rotate(context: Context, execute: bool) -> None:
    """Make a new generation and wrap every key anew under it, while the service runs.

    A rotation that was broken off is gone on with. The old generation stays until it is destroyed.
    """
    if not execute:
        context.emit_lines(_rows(context), COLUMNS)
        context.progress("nothing was done; add --execute")
        return
    actor = context.acting("security-officer")
    moved = context.services.signing.wrapping_keys.rotate(actor=actor)
    rows = _rows(context)
    context.emit({"moved": moved, "generations": rows}, f"{moved} keys moved to {rows[-1]['label']}")


@wrapping.command()
@click.argument("label")
@click.option("--execute", is_flag=True, help="Destroy; without it is only shown what would be.")
@command_options
def destroy(context: Context, label: str, execute: bool) -> None:
    """Destroy an old generation that holds no keys any more. Old copies of what it held are then useless.

    Status 5 while it is current, holds keys, or was emptied less than an hour ago.
    """
    if execute:
        actor = context.acting("security-officer")
        context.services.signing.wrapping_keys.destroy(label, actor=actor)
    result = {"label": label, "destroyed": execute}
    context.emit(result, f"{label} was destroyed" if execute else "nothing was done; add --execute")


def _rows(context: Context) -> list[dict[str, Any]]:
    return [
        {
            "label": one.label,
            "current": one.current,
            "credentials": one.credentials,
            "begun_at": stamp(one.begun_at) if one.begun_at else None,
            "emptied_at": stamp(one.emptied_at) if one.emptied_at else None,
        }
        for one in context.services.signing.wrapping_keys.generations()
    ]
