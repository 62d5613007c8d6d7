"""``tamga audit``: prove that the log is what was written."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import click

from cli.context import Context, command_options
from core import audit as audit_log
from core.errors import UsageError


@click.group()
def audit() -> None:
    """The audit log."""


@audit.command()
@click.argument("export", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--head", help="A hash that was the chain's head once (hexadecimal): it must still be in the chain.")
@command_options
def verify(context: Context, export: Path | None, head: str | None) -> None:
    """Walk the chain of the database, or of EXPORT, which needs nothing but the file. Status 1 when it is broken.

    The chain alone cannot show that its end was cut off; the head of an earlier run, kept elsewhere, can.
    """
    if export:
        result = audit_log.verify(entries_of(export), known_head=head)
    else:
        with context.services.database.reading() as session:
            result = audit_log.verify(audit_log.export(session), known_head=head)
    context.emit(
        {"entries": result.entries, "head": result.head}, f"{result.entries} entries, unbroken; head {result.head}"
    )


@audit.command("export")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="A file instead of standard output.")
@command_options
def export_entries(context: Context, out: Path | None) -> None:
    """Write every entry as JSON Lines, enough for anybody to verify without the database."""
    with context.services.database.reading() as session:
        entries = audit_log.export(session)
        if out is None and context.json:
            context.emit(list(entries))
            return
        if out is None:
            _write(entries, sys.stdout)
            return
        with out.open("w", encoding="utf-8") as stream:
            count = _write(entries, stream)
    context.emit({"entries": count, "file": str(out)}, f"{count} entries in {out}")


def _write(entries: Iterator[dict[str, Any]], stream: TextIO) -> int:
    count = 0
    for count, entry in enumerate(entries, start=1):  # noqa: B007 - the last number is the sum
        stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
    return count


def entries_of(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of an export. Raises UsageError naming the line that is none."""
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise UsageError(f"line {number} of {path.name} is not JSON") from error
            if not isinstance(entry, dict):
                raise UsageError(f"line {number} of {path.name} is not an entry")
            yield entry
