"""Structured logs: one JSON line an event, constant names, facts as fields, secrets and personal numbers removed."""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

REDACTED = "[redacted]"
_SECRET_NAMES = re.compile(
    r"pin|password|passwd|passphrase|secret|token|authorization|cookie|csrf|assertion|verifier|otp|private"
    r"|api_?key|regnum|register_?n|registration_?n|civil|seed",
    re.IGNORECASE,
)
# A register number is two letters of the Mongolian alphabet and eight digits. People, keyboards and scripts put look-
# alikes of other alphabets in its place, so any two letters count, and any decimal digits.
_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        # One letter at least is not ASCII: nothing else of ours looks like that, wherever it stands.
        r"(?:[^\W\d_A-Za-z][^\W\d_]|[^\W\d_][^\W\d_A-Za-z])[\W_]{0,2}\d{8}(?!\d)",
        # Both are ASCII: hexadecimal digests and UUIDs hold such runs, so a word must begin there.
        r"(?<![0-9A-Za-z])(?<![0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-)[A-Za-z]{2}[ _-]?\d{8}(?!\d)",
        # The letters as URLs (RFC 3986 2.1) and JSON (RFC 8259 7) write them.
        r"(?:(?:%[0-9A-Fa-f]{2}){2,6}|(?:\\+u[0-9A-Fa-f]{4}){2})(?:[ _-]|%20|\+)?\d{8}(?!\d)",
        # Twelve digits: a civil id. The last group of a UUID may be twelve digits, too, and names nobody.
        r"(?<![0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-)(?<![0-9A-Fa-f])(?:PNOMN-)?\d{12}(?![0-9A-Fa-f])",
        # Signed and encrypted tokens in compact form (RFC 7515 7.1, RFC 7516 7.1).
        r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){1,4}",
        # Credentials in an Authorization header (RFC 9110 11.4) and in a URL (RFC 3986 3.2.1).
        r"(?i:(?<=bearer )|(?<=basic )|(?<=dpop ))[A-Za-z0-9._~+/=-]{16,}",
        r"(?<=://)[^/?#@\s]+(?=@)",
    )
)


def redact(text: str) -> str:
    """``text`` without register numbers, civil ids, tokens and credentials."""
    for pattern in _PATTERNS:
        text = pattern.sub(REDACTED, text)
    return text


class Logger:
    """A logger whose events are constants and whose facts are fields."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, event: str, **facts: object) -> None:
        """Something happened as it should."""
        self._logger.info(event, extra={"facts": facts})

    def warning(self, event: str, **facts: object) -> None:
        """Something happened that somebody should look at."""
        self._logger.warning(event, extra={"facts": facts})

    def error(self, event: str, **facts: object) -> None:
        """Something failed."""
        self._logger.error(event, extra={"facts": facts})

    def exception(self, event: str, **facts: object) -> None:
        """Something failed in a way nobody foresaw; the current exception's trace goes along."""
        self._logger.error(event, extra={"facts": facts}, exc_info=True)  # noqa: LOG014 - callers are handlers


def get_logger(name: str) -> Logger:
    """The logger of a module; ``name`` is ``room.module``."""
    return Logger(f"tamga.{name}")


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": redact(record.getMessage()),
        }
        if request_id.get():
            line["request_id"] = request_id.get()
        for name, value in getattr(record, "facts", {}).items():
            # A fact never takes the place of what the line is made of.
            line[f"{name}_" if name in line else name] = _fact(name, value)
        if record.exc_info and record.exc_info[0]:
            line["trace"] = redact("".join(traceback.format_exception(*record.exc_info)))
        return _one_line(json.dumps(line, ensure_ascii=False))


def configure(level: str = "info") -> None:
    """Send this process's logs to standard error as JSON lines; libraries speak from warning upwards."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("tamga").setLevel(level.upper())


def _fact(name: str, value: object) -> object:
    return REDACTED if _SECRET_NAMES.search(name) else _clean(value)


def _clean(value: object) -> object:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return REDACTED if redact(str(value)) != str(value) else value
    if isinstance(value, Mapping):
        return {str(name): _fact(str(name), item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item) for item in value]
    return redact(str(value))


def _one_line(text: str) -> str:
    # JSON escapes CR and LF but not the line ends, direction marks and half characters of Unicode, with which a
    # stranger's input could draw a line of its own on an operator's screen.
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
