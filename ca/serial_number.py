"""Serial numbers: one octet naming the installation, then 136 random bits (RFC 5280 4.1.2.2, BR 7.1.2)."""

from __future__ import annotations

import re
import secrets
from typing import NewType

SerialNumber = NewType("SerialNumber", int)

SERIAL_OCTETS = 18
RANDOM_OCTETS = SERIAL_OCTETS - 1


def draw(instance: int) -> SerialNumber:
    """A new serial number. ``instance`` is 1 to 127, so the number is positive and always 18 octets long."""
    if not 1 <= instance <= 127:
        raise ValueError("instance must be 1 to 127")
    return SerialNumber(int.from_bytes(bytes([instance]) + secrets.token_bytes(RANDOM_OCTETS), "big"))


def octets(serial: int) -> bytes | None:
    """The form stored: 18 octets. None for a number that none of ours can be."""
    if serial < 1 or serial.bit_length() > 8 * SERIAL_OCTETS:
        return None
    return serial.to_bytes(SERIAL_OCTETS, "big")


def from_octets(stored: bytes) -> SerialNumber:
    """The number from its stored form."""
    return SerialNumber(int.from_bytes(stored, "big"))


def text(serial: int) -> str:
    """The form shown: 36 lower-case hexadecimal digits."""
    return f"{serial:0{2 * SERIAL_OCTETS}x}"


def parse(shown: str) -> SerialNumber:
    """A serial number as people copy it: hexadecimal, colons and case allowed. Raises ValueError."""
    digits = shown.replace(":", "").strip().lower()
    if not re.fullmatch("[0-9a-f]{1,40}", digits):
        raise ValueError("a serial number is hexadecimal digits")
    return SerialNumber(int(digits, 16))
