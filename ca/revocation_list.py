"""The DER of a CertificateList (RFC 5280 5.1), written entry by entry so that a million of them stay cheap.

The library's builder keeps an object for every entry. Here an entry is its octets, about 50 of them, and what is said
of all of them is said while they pass: ascending serial numbers, so that none stands twice, and reasons that a CRL may
give.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from cryptography import x509

from ca.register import Reason

# A list up to this long is linted whole; of a longer one, so many entries are, under the same header and extensions.
LINTED_ENTRIES = 1000
_V2 = b"\x02\x01\x01"
_SEQUENCE, _INTEGER, _ENUMERATED, _OCTETS, _BITS = 0x30, 0x02, 0x0A, 0x04, 0x03
_UTC_TIME, _GENERALIZED_TIME, _EXTENSIONS = 0x17, 0x18, 0xA0
# RFC 5280 5.3.1: id-ce-cRLReasons, never critical.
_REASON_OID = bytes.fromhex("0603551d15")


@dataclass(frozen=True)
class Entry:
    """One revoked serial number; ``revoked_at`` in whole seconds, ``reason`` None for unspecified."""

    serial: int
    revoked_at: datetime
    reason: Reason | None


@dataclass(frozen=True)
class Header:
    """What a list says beside its entries. ``issuer`` and ``signature_algorithm`` are DER."""

    issuer: bytes
    signature_algorithm: bytes
    this_update: datetime
    next_update: datetime
    extensions: Sequence[tuple[x509.ExtensionType, bool]]


class Entries:
    """The octets of revokedCertificates, gathered from entries in ascending order of their serial numbers."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        """Raises ValueError for a serial number that does not rise: the same one twice, or a list out of order."""
        self._octets = bytearray()
        self._starts = array("Q")
        last = 0
        for entry in entries:
            if entry.serial <= last:
                raise ValueError("a serial number stands in the register twice")
            last = entry.serial
            self._starts.append(len(self._octets))
            self._octets += _entry(entry)

    def __len__(self) -> int:
        return len(self._starts)

    def serials(self) -> Iterator[int]:
        """The serial numbers, rising."""
        for start in self._starts:
            at, _, _ = _inside(self._octets, start)
            begin, _, end = _inside(self._octets, at)
            yield int.from_bytes(self._octets[begin:end], "big")

    def to_be_signed(self, header: Header) -> bytes:
        """The TBSCertList with all entries."""
        return _tbs(header, self._octets)

    def sample(self, header: Header) -> bytes:
        """The TBSCertList as it is linted: all entries of a short list; the first, the last and a random choice of a
        long one, under the same header and extensions, octet for octet."""
        if len(self) <= LINTED_ENTRIES:
            return self.to_be_signed(header)
        chosen = random.SystemRandom().sample(range(1, len(self) - 1), LINTED_ENTRIES - 2)
        octets = b"".join(self._at(index) for index in [0, *sorted(chosen), len(self) - 1])
        return _tbs(header, octets)

    def _at(self, index: int) -> bytes:
        end = self._starts[index + 1] if index + 1 < len(self) else len(self._octets)
        return bytes(self._octets[self._starts[index] : end])


def assembled(tbs: bytes, signature_algorithm: bytes, signature: bytes) -> bytes:
    """The CertificateList around its signed octets."""
    bits = _element(_BITS, b"\x00" + signature)
    length = len(tbs) + len(signature_algorithm) + len(bits)
    return b"".join((_head(_SEQUENCE, length), tbs, signature_algorithm, bits))


def entries_of(der: bytes) -> Iterator[Entry]:
    """The entries of a CertificateList of ours, in the order they stand. Raises ValueError for what is none."""
    try:
        start, end = _revoked_certificates(der)
        while start < end:
            entry, _, start = _inside(der, start, _SEQUENCE)
            yield _read_entry(der, entry, start)
    except IndexError as error:
        raise ValueError("the CRL ends before its time") from error


def _tbs(header: Header, entries: bytes | bytearray) -> bytes:
    before = b"".join(
        (_V2, header.signature_algorithm, header.issuer, _time(header.this_update), _time(header.next_update))
    )
    # RFC 5280 5.1.2.6: without entries the field is absent.
    entries_head = _head(_SEQUENCE, len(entries)) if entries else b""
    made = b"".join(_extension(extension, critical) for extension, critical in header.extensions)
    after = _element(_EXTENSIONS, _element(_SEQUENCE, made))
    length = len(before) + len(entries_head) + len(entries) + len(after)
    return b"".join((_head(_SEQUENCE, length), before, entries_head, entries, after))


def _entry(entry: Entry) -> bytes:
    size = entry.serial.bit_length() // 8 + 1  # DER: one sign bit, no octet more than needed
    serial = _head(_INTEGER, size) + entry.serial.to_bytes(size, "big")
    return _element(_SEQUENCE, serial + _time(entry.revoked_at) + _reason(entry.reason))


@lru_cache(maxsize=16)
def _reason(reason: Reason | None) -> bytes:
    if reason is None:  # RFC 5280 5.3.1: unspecified is said by leaving the extension out
        return b""
    value = _element(_OCTETS, _element(_ENUMERATED, bytes([reason])))
    return _element(_SEQUENCE, _element(_SEQUENCE, _REASON_OID + value))


@lru_cache(maxsize=4096)
def _time(moment: datetime) -> bytes:
    utc = moment.astimezone(UTC)
    if utc.year < 2050:  # RFC 5280 5.1.2.4: UTCTime through 2049
        return _element(_UTC_TIME, utc.strftime("%y%m%d%H%M%SZ").encode())
    return _element(_GENERALIZED_TIME, utc.strftime("%Y%m%d%H%M%SZ").encode())


def _extension(extension: x509.ExtensionType, critical: bool) -> bytes:
    oid = extension.oid.dotted_string.split(".")
    # All extensions of a CRL lie in id-ce, 2.5.29, whose last arc fits an octet.
    identifier = _element(0x06, bytes([0x55, 0x1D, int(oid[-1])]))
    flag = b"\x01\x01\xff" if critical else b""  # DER leaves a default FALSE out
    return _element(_SEQUENCE, identifier + flag + _element(_OCTETS, extension.public_bytes()))


def _element(tag: int, content: bytes) -> bytes:
    return _head(tag, len(content)) + content


def _head(tag: int, length: int) -> bytes:
    if length < 0x80:
        return bytes((tag, length))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets


def _inside(der: bytes | bytearray, at: int, tag: int | None = None) -> tuple[int, int, int]:
    """Where an element's content begins, its tag, and where the element ends. Raises ValueError for another tag."""
    found, length, start = der[at], der[at + 1], at + 2
    if tag is not None and found != tag:
        raise ValueError("the octets are no CRL of ours")
    if length & 0x80:
        size = length & 0x7F
        length, start = int.from_bytes(der[start : start + size], "big"), start + size
    if start + length > len(der):
        raise ValueError("the CRL ends before its time")
    return start, found, start + length


def _revoked_certificates(der: bytes) -> tuple[int, int]:
    at, _, _ = _inside(der, 0, _SEQUENCE)
    at, _, tbs_end = _inside(der, at, _SEQUENCE)
    for tags in ((_INTEGER,), (_SEQUENCE,), (_SEQUENCE,), (_UTC_TIME, _GENERALIZED_TIME)):
        _, found, at = _inside(der, at)
        if found not in tags:
            raise ValueError("the octets are no CRL of ours")
    if at < tbs_end and der[at] in (_UTC_TIME, _GENERALIZED_TIME):
        _, _, at = _inside(der, at)
    if at >= tbs_end or der[at] != _SEQUENCE:
        return at, at
    start, _, end = _inside(der, at)
    return start, end


def _read_entry(der: bytes, at: int, end: int) -> Entry:
    start, _, at = _inside(der, at, _INTEGER)
    serial = int.from_bytes(der[start:at], "big", signed=True)
    start, tag, at = _inside(der, at)
    return Entry(serial, _read_time(tag, der[start:at]), _read_reason(der[at:end]))


@lru_cache(maxsize=4096)
def _read_time(tag: int, text: bytes) -> datetime:
    form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(text.decode("ascii"), form).replace(tzinfo=UTC)


@lru_cache(maxsize=64)
def _read_reason(extensions: bytes) -> Reason | None:
    if not extensions:
        return None
    known = {_reason(reason): reason for reason in Reason}
    if extensions not in known:
        raise ValueError("an entry of the CRL says what our entries do not say")
    return known[extensions]
