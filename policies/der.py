"""Distinguished Encoding Rules (X.690 10): the few writers and the strict reader that hot paths need.

General libraries build a tree of objects for each value; a certificate, a status answer or a list is mostly octets
that were there before. What is written here is compared with such libraries in the tests.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OBJECT_IDENTIFIER = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
UTF8_STRING, PRINTABLE_STRING, UTC_TIME, GENERALIZED_TIME = 0x0C, 0x13, 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31
# No object of ours comes near it; it bounds the work on what a stranger sends.
MAX_LENGTH_OCTETS = 4


class DerMalformed(ValueError):
    """The octets are not what X.690 10 and 11 allow."""


class Element(NamedTuple):
    """One value: its tag octet, its content, and the octets of the whole."""

    tag: int
    content: bytes
    encoded: bytes

    def children(self) -> list[Element]:
        """The values inside a constructed one. Raises DerMalformed."""
        return elements(self.content)


def tlv(tag: int, *contents: bytes) -> bytes:
    """Tag, definite length in its shortest form, and the contents one after another (X.690 8.1.3, 10.1)."""
    content = b"".join(contents)
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def integer(value: int) -> bytes:
    """A non-negative INTEGER in its shortest form (X.690 8.3.2)."""
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def object_identifier(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER from its dotted form (X.690 8.19)."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    return tlv(OBJECT_IDENTIFIER, b"".join(_base_128(arc) for arc in (40 * first + second, *rest)))


def bit_string(octets: bytes) -> bytes:
    """A BIT STRING of whole octets (X.690 8.6)."""
    return tlv(BIT_STRING, b"\x00", octets)


def time(moment: datetime) -> bytes:
    """A Time as certificates carry it, in whole seconds: UTCTime through 2049, then GeneralizedTime (RFC 5280 4.1.2.5).

    ``moment`` is aware UTC.
    """
    text = f"{moment:%Y%m%d%H%M%S}Z"
    return tlv(UTC_TIME, text[2:].encode()) if moment.year < 2050 else tlv(GENERALIZED_TIME, text.encode())


def element(data: bytes) -> Element:
    """The one value that ``data`` is, nothing before or after it. Raises DerMalformed."""
    found = elements(data)
    if len(found) != 1:
        raise DerMalformed("there is not one value")
    return found[0]


def elements(data: bytes) -> list[Element]:
    """The values that ``data`` is, one after another. Raises DerMalformed."""
    found, offset, size = [], 0, len(data)
    while offset < size:
        if size - offset < 2:
            raise DerMalformed("a value is cut off")
        tag, length, begin = data[offset], data[offset + 1], offset + 2
        if tag & 0x1F == 0x1F:
            raise DerMalformed("tags of more than one octet are not used here")
        if length >= 0x80:
            length, begin = _long_length(data, begin, length & 0x7F)
        end = begin + length
        if end > size:
            raise DerMalformed("a value is cut off")
        found.append(Element(tag, data[begin:end], data[offset:end]))
        offset = end
    return found


def _long_length(data: bytes, begin: int, size: int) -> tuple[int, int]:
    """X.690 8.1.3.5 and 10.1: how long the content is and where it begins."""
    octets = data[begin : begin + size]
    if not 1 <= size <= MAX_LENGTH_OCTETS or len(octets) < size or octets[0] == 0:
        raise DerMalformed("a length is indefinite, cut off or too long")
    length = int.from_bytes(octets, "big")
    if length < 0x80:
        raise DerMalformed("a length is not in its shortest form")
    return length, begin + size


def _base_128(arc: int) -> bytes:
    octets = [arc & 0x7F]
    while arc := arc >> 7:
        octets.append(0x80 | arc & 0x7F)
    return bytes(reversed(octets))
