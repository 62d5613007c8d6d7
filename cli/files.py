"""What commands are given: files, and words of the form LABEL=TEXT."""

from __future__ import annotations

import os
from pathlib import Path

from core.errors import UsageError


def write_private(path: Path, text: str) -> None:
    """Write a file with mode 0600, whatever the process's umask."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(descriptor, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def read_given(path: Path) -> bytes:
    """The octets of a file that was named on the command line. Raises UsageError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def label_and_text(item: str) -> tuple[str, str]:
    """The two halves of ``LABEL=TEXT``. Raises UsageError."""
    label, separator, text = item.partition("=")
    if not separator:
        raise UsageError(f"{item!r} is not of the form LABEL=TEXT")
    return label, text
