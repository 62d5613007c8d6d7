"""The transcript: what a ceremony did, line by line, each line bound to the one before it by a hash.

A line is one JSON object: what was done, what came out of it for everybody to see, when, and the hash of the line
before. Changing, dropping, inserting or reordering lines is found by walking the chain. The lines of the ceremony end
with one that says ``closed``; its hash is what the key that was made, and the custodians, sign.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from ca.errors import CeremonyHeld, TranscriptBroken
from core.audit import canonical
from core.clock import Clock

MAX_TRANSCRIPT_OCTETS = 33_554_432
GENESIS = "0" * 64
OPENED = "opened"
CLOSED = "closed"
SIGNED = "signed"
COUNTERSIGNED = "countersigned"
_CONTENT = ("sequence", "at", "act", "subject", "command", "output", "previous_hash")
_MEMBERS = frozenset({*_CONTENT, "hash"})
# Signatures over a transcript must not be mistaken for signatures over anything else, least of all a certificate:
# those octets begin with 0x30, these with a letter.
SIGNATURE_DOMAIN = b"tamga ceremony transcript v1\n"


@dataclass(frozen=True)
class Line:
    """One act. ``output`` holds public values only; octets are base64."""

    sequence: int
    at: datetime
    act: str
    subject: str
    command: str
    output: Mapping[str, Any] = field(repr=False)
    previous_hash: str
    hash: str

    def document(self) -> dict[str, Any]:
        """As it is written."""
        return {
            "sequence": self.sequence,
            "at": stamp(self.at),
            "act": self.act,
            "subject": self.subject,
            "command": self.command,
            "output": dict(self.output),
            "previous_hash": self.previous_hash,
            "hash": self.hash,
        }


class Transcript:
    """Lines that are only ever added to. One in a file is closed, or used as a context, when it is done with."""

    def __init__(self, lines: Iterable[Line] = (), descriptor: int | None = None) -> None:
        self._lines = list(lines)
        self._descriptor = descriptor

    @classmethod
    def at(cls, path: Path) -> Transcript:
        """The transcript in a file, gone on with when it is there; nobody else can add to it meanwhile.

        A last line without its line feed was being written when the power went: its act is recorded again. Raises
        TranscriptBroken, and CeremonyHeld while another process has it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(path)
        try:
            text = _read(path)
            whole = text[: text.rfind("\n") + 1]
            lines = read_lines(whole)
            if whole != text:
                os.ftruncate(descriptor, len(whole.encode()))
        except BaseException:
            os.close(descriptor)
            raise
        return cls(lines, descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def lines(self) -> tuple[Line, ...]:
        """All lines so far."""
        return tuple(self._lines)

    @property
    def head(self) -> str:
        """The hash of the last line."""
        return self._lines[-1].hash if self._lines else GENESIS

    @property
    def text(self) -> str:
        """All lines as they are written."""
        return "".join(_written(line) for line in self._lines)

    def find(self, act: str, subject: str) -> Line | None:
        """The line of this act, if it was recorded."""
        return next((line for line in self._lines if (line.act, line.subject) == (act, subject)), None)

    def append(self, clock: Clock, act: str, subject: str, command: str, output: Mapping[str, Any]) -> Line:
        """Record one act; when this returns, the line is on the disk."""
        document = {
            "sequence": len(self._lines) + 1,
            "at": stamp(clock()),
            "act": act,
            "subject": subject,
            "command": command,
            "output": dict(output),
            "previous_hash": self.head,
        }
        line = _line({**document, "hash": _hash(document)})
        if self._descriptor is not None:
            _write(self._descriptor, _written(line).encode())
        self._lines.append(line)
        return line


def signed_message(closed: Line) -> bytes:
    """What is signed at the end: the hash of the closing line, and so everything before it."""
    return SIGNATURE_DOMAIN + closed.hash.encode() + b"\n"


def load(path: Path) -> Transcript:
    """A transcript from a file, its chain walked. Raises TranscriptBroken."""
    return Transcript(read_lines(_read(path)))


def read_lines(text: str) -> tuple[Line, ...]:
    """Lines of a transcript, their chain walked. Raises TranscriptBroken naming the first line that does not fit."""
    lines: list[Line] = []
    previous = GENESIS
    # Only a line feed ends a line: a plan may hold other characters that do elsewhere.
    for position, written in enumerate(text.removesuffix("\n").split("\n") if text else (), start=1):
        line = _checked(written, position, previous)
        lines.append(line)
        previous = line.hash
    return tuple(lines)


def stamp(moment: datetime) -> str:
    """A moment as lines write it: UTC, microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _checked(written: str, position: int, previous: str) -> Line:
    try:
        document = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise TranscriptBroken(f"line {position} is no JSON", line=position) from error
    if not isinstance(document, dict) or set(document) != _MEMBERS:
        raise TranscriptBroken(f"line {position} has other members than a transcript's", line=position)
    if document["sequence"] != position or document["previous_hash"] != previous:
        raise TranscriptBroken(f"line {position} is missing or out of order", line=position)
    content = {name: document[name] for name in _CONTENT}
    if document["hash"] != _hash(content) or canonical(document).decode() != written:
        raise TranscriptBroken(f"line {position} is not as it was written", line=position)
    try:
        return _line(document)
    except (TypeError, ValueError) as error:
        raise TranscriptBroken(f"line {position} is malformed", line=position) from error


def _line(document: Mapping[str, Any]) -> Line:
    moment = datetime.fromisoformat(document["at"])
    if moment.tzinfo is None or not isinstance(document["output"], Mapping):
        raise ValueError("malformed")
    return Line(
        sequence=document["sequence"],
        at=moment,
        act=str(document["act"]),
        subject=str(document["subject"]),
        command=str(document["command"]),
        output=document["output"],
        previous_hash=document["previous_hash"],
        hash=document["hash"],
    )


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(content)).hexdigest()


def _written(line: Line) -> str:
    return canonical(line.document()).decode() + "\n"


def _locked(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise TranscriptBroken(f"the transcript {path} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise CeremonyHeld(f"another process is writing the transcript {path}") from error
    return descriptor


def _write(descriptor: int, octets: bytes) -> None:
    while octets:
        octets = octets[os.write(descriptor, octets) :]
    os.fsync(descriptor)


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_TRANSCRIPT_OCTETS:
            raise TranscriptBroken(f"{path} is too long for a transcript")
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TranscriptBroken(f"the transcript {path} cannot be read") from error
