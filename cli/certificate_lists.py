"""``tamga cert list`` and ``tamga cert export``: the register row by row, however long it is."""

from __future__ import annotations

import base64
import csv
import functools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from cli.ca import pem, stamp
from cli.context import SCHEMA, Context, command_options
from core.errors import UsageError

if TYPE_CHECKING:
    from ca.register import Filters, IssuedCertificate, Register

FORMATS = ("table", "json", "jsonl", "csv")
REASONS = ("keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation", "privilegeWithdrawn")
Row = Mapping[str, Any]
# What a table shows, and how wide: its rows are printed as they come, so nothing can be measured first.
_TABLE = {"serial": 36, "issuer": 20, "profile": 24, "state": 9, "reason": 20, "not_after": 20, "holder": 36}
# Certificates whose suspensions are asked for in one statement.
_TOGETHER = 500


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which certificates; it gets them as ``filters``."""
    moments = ("issued-from", "issued-until", "expires-from", "expires-until")
    options = [
        click.option("--issuer", help="Slug of the authority."),
        click.option("--profile", help="Certificate profile."),
        click.option("--holder", help="Person id or client id."),
        click.option("--state", type=click.Choice(["good", "suspended", "revoked"])),
        click.option("--with-reason", type=click.Choice([*REASONS, "certificateHold"]), help="Why it was revoked."),
        *(click.option(f"--{name}", metavar="TIME", help="A day or a moment, UTC.") for name in moments),
        click.option("--serial-prefix", metavar="HEX", help="How the serial number begins."),
    ]

    @functools.wraps(command)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        given = {option: named.pop(option.replace("-", "_")) for option in
                 ("issuer", "profile", "holder", "state", "with-reason", *moments, "serial-prefix")}  # fmt: skip
        return command(*arguments, filters=_filters(given), **named)

    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


@click.command(name="list")
@filter_options
@click.option("--subject-hash", metavar="HEX", help="SHA-256 of the subject's DER; looks at every certificate.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@click.option("--all", "without_limit", is_flag=True, help="However many there are.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
@command_options
def list_certificates(
    context: Context, filters: Filters, subject_hash: str | None, limit: int, without_limit: bool, form: str
) -> None:
    """List certificates, newest first. Rows are written as they are read, so a list may be as long as the register."""
    register = context.services.ca.register
    if subject_hash:
        found: Iterator[IssuedCertificate] = iter(register.with_subject(_digest(subject_hash)))
    else:
        found = register.stream(filters, limit=None if without_limit else limit)
    write_rows(map(row_of, found), "json" if context.json else form, sys.stdout, tuple(_TABLE))


@click.command()
@filter_options
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="A file instead of standard output.")
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True)
@click.option("--certificates", type=click.Choice(["none", "der", "pem"]), default="none", show_default=True,
              help="Add each certificate: DER in base64, or PEM.")  # fmt: skip
@command_options
def export(context: Context, filters: Filters, out: Path | None, form: str, certificates: str) -> None:
    """Write everything the register holds about certificates, for auditors. With --json the file is reported."""
    if context.json and out is None:
        raise UsageError("--json reports about a file: name it with --out")
    register = context.services.ca.register
    count = 0

    def counted() -> Iterator[Row]:
        nonlocal count
        for row in _full_rows(register, filters, certificates):
            count += 1
            yield row

    with _opened(out) as stream:
        write_rows(counted(), form, stream, ())
    if out is not None:
        context.emit({"certificates": count, "file": str(out)}, f"{count} certificates in {out}")


def row_of(found: IssuedCertificate) -> dict[str, Any]:
    """A certificate in a list."""
    status = found.status
    return {
        "id": found.id,
        "serial": found.serial_text,
        "issuer": found.issuer,
        "profile": found.profile,
        "state": str(status.state),
        "revoked_at": stamp(status.revoked_at) if status.revoked_at else None,
        "reason": status.reason.wire_name if status.reason else None,
        "not_before": stamp(found.not_before),
        "not_after": stamp(found.not_after),
        "holder": found.holder,
    }


def write_rows(rows: Iterator[Row], form: str, stream: TextIO, columns: Sequence[str]) -> None:
    """Write rows as they come. ``columns`` are those of a table; the other forms have every member of a row."""
    {"table": _table, "json": _json, "jsonl": _jsonl, "csv": _csv}[form](rows, stream, columns)


def moment(text: str) -> datetime:
    """A day (its beginning) or a moment, in UTC unless it says otherwise. Raises UsageError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text} is no time: write 2026-11-22 or 2026-11-22T13:00:00Z") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _filters(given: Mapping[str, str | None]) -> Filters:
    from ca.register import Filters, Reason, State

    reasons = {reason.wire_name: reason for reason in Reason}
    times = {name.replace("-", "_"): moment(text) for name, text in given.items() if text and name.endswith(_BOUNDS)}
    try:
        return Filters(
            issuer=given["issuer"],
            profile=given["profile"],
            holder=given["holder"],
            state=State(given["state"]) if given["state"] else None,
            reason=reasons[given["with-reason"]] if given["with-reason"] else None,
            serial_prefix=given["serial-prefix"].replace(":", "").lower() if given["serial-prefix"] else None,
            **times,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


_BOUNDS = ("-from", "-until")


def _full_rows(register: Register, filters: Filters, certificates: str) -> Iterator[Row]:
    found = register.stream(filters)
    while some := list(islice(found, _TOGETHER)):
        intervals = register.suspensions_of([each.id for each in some])
        for each in some:
            suspensions = [
                {"began_at": stamp(one.began_at), "ended_at": stamp(one.ended_at) if one.ended_at else None}
                for one in intervals.get(each.id, ())
            ]
            yield {
                **row_of(each),
                "profile_version": each.profile_version,
                "issued_at": stamp(each.issued_at),
                "state_since": stamp(each.status.since),
                "evidence": each.evidence,
                "key_label": each.key_label,
                "subject": each.subject_text,
                "sha256": each.sha256,
                "suspensions": suspensions,
                **_certificate(each.der, certificates),
            }


def _certificate(der: bytes, form: str) -> dict[str, str]:
    if form == "none":
        return {}
    return {"certificate": pem(der) if form == "pem" else base64.b64encode(der).decode()}


def _table(rows: Iterator[Row], stream: TextIO, columns: Sequence[str]) -> None:
    def line(cells: Sequence[str]) -> str:
        padded = (cell.ljust(_TABLE[column]) for cell, column in zip(cells, columns, strict=True))
        return "  ".join(padded).rstrip() + "\n"

    stream.write(line(columns))
    for row in rows:
        stream.write(line([_text(row[column]) for column in columns]))


def _json(rows: Iterator[Row], stream: TextIO, _columns: Sequence[str]) -> None:
    stream.write(f'{{"schema": {json.dumps(SCHEMA)}, "ok": true, "result": [')
    for number, row in enumerate(rows):
        stream.write((", " if number else "") + json.dumps(row, ensure_ascii=False))
    stream.write("]}\n")


def _jsonl(rows: Iterator[Row], stream: TextIO, _columns: Sequence[str]) -> None:
    for row in rows:
        stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def _csv(rows: Iterator[Row], stream: TextIO, _columns: Sequence[str]) -> None:
    first = next(rows, None)
    if first is None:
        return
    writer = csv.writer(stream, lineterminator="\r\n")  # RFC 4180 2
    writer.writerow(first)
    for row in chain((first,), rows):
        writer.writerow([_text(value) for value in row.values()])


def _text(value: object) -> str:
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)


@contextmanager
def _opened(out: Path | None) -> Iterator[TextIO]:
    if out is None:
        yield sys.stdout
        return
    with out.open("w", encoding="utf-8", newline="") as stream:
        yield stream


def _digest(text: str) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError as error:
        raise UsageError("a SHA-256 digest is 64 hexadecimal digits") from error
    if len(digest) != 32:
        raise UsageError("a SHA-256 digest is 64 hexadecimal digits")
    return digest
