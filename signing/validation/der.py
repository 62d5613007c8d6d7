"""A strict reader for the distinguished encoding rules (X.690), as far as signatures and time-stamps need it.

It refuses what DER forbids (indefinite and overlong lengths), so that two readers cannot see two different values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

SEQUENCE, SET, INTEGER, BIT_STRING, OCTET_STRING, NULL, OBJECT_IDENTIFIER = 0x30, 0x31, 0x02, 0x03, 0x04, 0x05, 0x06
BOOLEAN, GENERALIZED_TIME = 0x01, 0x18
_CONSTRUCTED = 0x20
MAX_NESTING = 64


class MalformedDer(ValueError):
    """The octets are not DER, or not of the expected type."""


@dataclass(frozen=True)
class Element:
    """One value: ``tag`` is the identifier octet; ``raw`` the whole encoding, ``content`` what it holds."""

    tag: int
    raw: bytes
    content: bytes

    def children(self) -> tuple[Element, ...]:
        """The values inside a constructed value."""
        if not self.tag & _CONSTRUCTED:
            raise MalformedDer("a primitive value has no members")
        return tuple(elements(self.content))

    def members(self) -> Iterator[Element]:
        """The same, to be taken one after the other."""
        return iter(self.children())

    def expect(self, tag: int) -> Element:
        """This value, if it has the tag."""
        if self.tag != tag:
            raise MalformedDer(f"expected tag {tag:#04x}, found {self.tag:#04x}")
        return self

    def integer(self) -> int:
        """The value of an INTEGER."""
        octets = self.expect(INTEGER).content
        if not octets or (len(octets) > 1 and octets[0] in (0, 0xFF) and (octets[0] ^ octets[1]) < 0x80):
            raise MalformedDer("an integer is not in its shortest form")
        return int.from_bytes(octets, "big", signed=True)

    def oid(self) -> str:
        """The value of an OBJECT IDENTIFIER in dotted form."""
        return _dotted(self.expect(OBJECT_IDENTIFIER).content)


def parse(data: bytes, *, tag: int | None = None) -> Element:
    """The one value that ``data`` is. Raises MalformedDer when anything follows it."""
    element, rest = _take(data, 0)
    if rest != len(data):
        raise MalformedDer("octets follow the value")
    return element if tag is None else element.expect(tag)


def parse_first(data: bytes) -> tuple[Element, bytes]:
    """The value at the start of ``data`` and the octets after it."""
    element, rest = _take(data, 0)
    return element, data[rest:]


def elements(data: bytes) -> Iterator[Element]:
    """The values that follow one another in ``data``."""
    position = 0
    while position < len(data):
        element, position = _take(data, position)
        yield element


def from_ber(data: bytes) -> tuple[bytes, int]:
    """The value at the start of ``data`` with definite lengths and primitive strings, and how many octets it took.

    For old signatures in BER (X.690 8.1.3.6, 8.7.3.2). The order of sets stays as it is.
    """
    return _rewrite(data, 0, 0)


def _rewrite(data: bytes, position: int, depth: int) -> tuple[bytes, int]:
    if depth > MAX_NESTING or position + 2 > len(data):
        raise MalformedDer("the data nests too deeply or ends inside a value")
    tag, first = data[position], data[position + 1]
    if first != 0x80 and not tag & _CONSTRUCTED:
        element, end = _take(data, position)
        return element.raw, end
    start, stop = position + 2, None
    if first != 0x80:
        start, stop = _content_bounds(data, position)
    parts: list[bytes] = []
    here = start
    while here < stop if stop is not None else data[here : here + 2] != b"\x00\x00":
        part, here = _rewrite(data, here, depth + 1)
        parts.append(part)
    end = here if stop is not None else here + 2
    if tag == _CONSTRUCTED | OCTET_STRING:
        return _encode(OCTET_STRING, b"".join(parse(part, tag=OCTET_STRING).content for part in parts)), end
    return _encode(tag, b"".join(parts)), end


def _content_bounds(data: bytes, position: int) -> tuple[int, int]:
    """Where a value with definite length begins and ends; BER allows lengths longer than needed."""
    first, start = data[position + 1], position + 2
    length = first
    if first > 0x80:
        start += first & 0x7F
        length = int.from_bytes(data[position + 2 : start], "big")
    if start + length > len(data) or first == 0xFF:
        raise MalformedDer("a value is longer than the data")
    return start, start + length


def _encode(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def is_distinguished(element: Element, depth: int = 0) -> bool:
    """Whether every value inside obeys DER's lengths and every SET OF its order (X.690 10.1, 11.6)."""
    if depth > MAX_NESTING:
        return False
    if not element.tag & _CONSTRUCTED:
        return True
    try:
        inside = element.children()
    except MalformedDer:
        return False
    if element.tag == SET and [entry.raw for entry in inside] != sorted(entry.raw for entry in inside):
        return False
    return all(is_distinguished(entry, depth + 1) for entry in inside)


def generalized_time(element: Element) -> datetime:
    """A GeneralizedTime in UTC, with or without a fraction (RFC 3161 2.4.2)."""
    text = element.expect(GENERALIZED_TIME).content.decode("ascii", "replace")
    whole, _, fraction = text.removesuffix("Z").partition(".")
    if not text.endswith("Z") or len(whole) != 14 or not whole.isdigit() or (fraction and not fraction.isdigit()):
        raise MalformedDer("a time is not in the form YYYYMMDDHHMMSS[.f]Z")
    try:
        moment = datetime.strptime(whole, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError as error:
        raise MalformedDer("a time does not exist") from error
    return moment + timedelta(microseconds=int(fraction[:6].ljust(6, "0"))) if fraction else moment


def _take(data: bytes, position: int) -> tuple[Element, int]:
    if position + 2 > len(data):
        raise MalformedDer("the data ends inside a value")
    tag, first = data[position], data[position + 1]
    if tag & 0x1F == 0x1F:
        raise MalformedDer("a tag number above 30 is not expected here")
    start = position + 2
    length = first
    if first == 0x80:
        raise MalformedDer("indefinite lengths are not DER")
    if first > 0x80:
        count = first & 0x7F
        start += count
        length = int.from_bytes(data[position + 2 : start], "big")
        if count > 4 or length < 0x80 or data[position + 2] == 0:
            raise MalformedDer("a length is not in its shortest form")
    end = start + length
    if end > len(data):
        raise MalformedDer("a value is longer than the data")
    return Element(tag, data[position:end], data[start:end]), end


def _dotted(content: bytes) -> str:
    if not content or content[-1] & 0x80:
        raise MalformedDer("an object identifier is cut off")
    arcs, value = [], 0
    for octet in content:
        if value == 0 and octet == 0x80:
            raise MalformedDer("an object identifier is not in its shortest form")
        value = value << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(str(arc) for arc in (first, arcs[0] - 40 * first, *arcs[1:]))
