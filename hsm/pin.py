"""The user PIN: read when it is needed, never kept, never shown."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hsm.errors import PinFileUnsafe

MIN_PIN_OCTETS = 4  # SoftHSM's own limits
MAX_PIN_OCTETS = 255


def read_pin(path: Path) -> str:
    """The PIN in ``path``. Raises PinFileUnsafe when somebody else could have read or written it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise PinFileUnsafe(f"the PIN file {path} cannot be read: {error.strerror}") from error
    with open(descriptor, "rb") as file:  # noqa: PTH123 - the checked descriptor, not the path a second time
        _check_owner_and_mode(os.fstat(descriptor), path)
        content = file.read(MAX_PIN_OCTETS + 2)
    return check_pin(_text(content, path))


def write_pin(path: Path, pin: str) -> None:
    """Keep ``pin`` in a new file of mode 0600. Raises PinFileUnsafe when the file is already there."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise PinFileUnsafe(f"the PIN file {path} cannot be written: {error.strerror}") from error
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(check_pin(pin) + "\n")


def check_pin(pin: str) -> str:
    """``pin`` itself when a token can take it. Raises PinFileUnsafe; the message never holds the PIN."""
    if not MIN_PIN_OCTETS <= len(pin.encode()) <= MAX_PIN_OCTETS:
        raise PinFileUnsafe(f"a PIN has {MIN_PIN_OCTETS} to {MAX_PIN_OCTETS} octets")
    if not pin.isprintable():
        raise PinFileUnsafe("a PIN is one line of printable characters")
    return pin


def _check_owner_and_mode(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise PinFileUnsafe(f"the PIN file {path} is not a regular file")
    if status.st_uid != os.geteuid():
        raise PinFileUnsafe(f"the PIN file {path} belongs to another user")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise PinFileUnsafe(f"the PIN file {path} is open to others; its mode must be 0600")


def _text(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise PinFileUnsafe(f"the PIN file {path} is not text") from None
