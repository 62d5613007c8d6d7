"""The shape of a certificate: its TBS octets with the slots empty, and what stands in the slots.

Two certificates of one shape differ in their slots only: serial number, dates, the values of the subject's attributes,
the key and its identifier, the alternative names, the shard of the revocation list. Every slot has its own rule in this
package, so what a full lint said about the rest of one of them holds for the other. Octets are read here as they are,
strictly, and not by the code that wrote them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

from policies import der, names, oids
from policies.der import DerMalformed, Element

_EXPLICIT_VERSION, _EXPLICIT_EXTENSIONS = 0xA0, 0xA3
# RFC 5280 4.2.1.13: points, a point, its name, the full name, and in there 4.2.1.6 uniformResourceIdentifier.
_POINT_DEPTH, _URI = 4, 0x86
_OCTET_KINDS = {0x82: "DNS", 0x86: "URI", 0x87: "IP"}
_LABELS = {der.object_identifier(rule.oid): label for label, rule in names.ATTRIBUTES.items()}
_EC_PUBLIC_KEY = der.object_identifier("1.2.840.10045.2.1")  # RFC 5480 2.1.1
_RSA_ENCRYPTION = der.object_identifier("1.2.840.113549.1.1.1")  # RFC 3279 2.3.1
# Scheme and country of an identifier (``PNOMN-``, EN 319 412-1 5.1.3) belong to the shape; what follows is the slot.
_IDENTIFIER_PREFIX = 6
# What a linter cannot see anything in but a name: letters, digits, spaces between, everyday punctuation.
_PLAIN_TEXT = re.compile(r"[^\W_](?:[^\W_]|[ .,'()«»№/-](?! ))*")
_PLAIN_DNS = re.compile(r"(?:[a-z0-9](?:[a-z0-9]|-(?!-)){0,61}(?<!-)\.)+[a-z]{2,63}")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._~-]*")
_SHARD = re.compile(r"[0-9a-z]{1,16}\.crl")


class ShapeUnreadable(ValueError):
    """The octets are not of the form in which certificates are written here."""


@dataclass(frozen=True)
class Attribute:
    """One attribute of the subject as it stands: label (or the hexadecimal octets of its type), string tag, text."""

    label: str
    tag: int
    text: str = field(repr=False)


@dataclass(frozen=True)
class Slots:
    """What differs from one certificate of a shape to the next. Moments are aware UTC, octets as encoded."""

    serial: bytes
    not_before: datetime
    not_after: datetime
    subject: tuple[Attribute, ...]
    spki: bytes = field(repr=False)
    key_identifier: bytes | None = None
    alternative_names: tuple[tuple[str, str], ...] = ()
    usage_period: tuple[datetime, datetime] | None = None
    shard: str | None = None

    def is_plain(self) -> bool:
        """Whether every value is of a kind about which a linter of everything else can have nothing to say.

        What is not plain is no error: a certificate that carries it is linted in full.
        """
        organisation = {attribute.text for attribute in self.subject if attribute.label == "O"}
        identifiers = {attribute.text for attribute in self.subject if attribute.label == "organizationIdentifier"}
        return (
            all(_is_plain_attribute(attribute) for attribute in self.subject)
            and all(_is_plain_name(kind, text) for kind, text in self.alternative_names)
            and not organisation & identifiers  # EN 319 412-3 4.2.1: they differ
            and (self.shard is None or bool(_SHARD.fullmatch(self.shard)))
        )


def dissect(tbs: bytes) -> tuple[bytes, Slots]:
    """The slot-free octets of a TBSCertificate and its slots. Raises ShapeUnreadable.

    The slot-free octets are values of the same structure with emptied slots, so different shapes never give the same.
    """
    try:
        return _dissect(tbs)
    except (DerMalformed, ValueError, IndexError) as error:
        raise ShapeUnreadable(f"the certificate is not of the form ours have: {error}") from error


def _dissect(tbs: bytes) -> tuple[bytes, Slots]:
    whole = der.element(tbs)
    version, serial, algorithm, issuer, validity, subject, spki, extensions = whole.children()
    _demand(version.tag == _EXPLICIT_VERSION and extensions.tag == _EXPLICIT_EXTENSIONS, "version or extensions")
    begin, end = validity.children()
    empty_subject, attributes = _subject(subject)
    (sequence,) = extensions.children()
    found: dict[str, Any] = {}
    emptied = [_extension(extension, found) for extension in sequence.children()]
    slots = Slots(serial.content, _moment(begin), _moment(end), attributes, spki.encoded, **found)
    empty = der.tlv(
        whole.tag,
        version.encoded,
        der.tlv(serial.tag),
        algorithm.encoded,
        issuer.encoded,
        der.tlv(validity.tag, der.tlv(begin.tag), der.tlv(end.tag)),
        empty_subject,
        _empty_key(spki),
        der.tlv(extensions.tag, der.tlv(sequence.tag, *emptied)),
    )
    return empty, slots


def _subject(name: Element) -> tuple[bytes, tuple[Attribute, ...]]:
    _demand(name.tag == der.SEQUENCE, "subject")
    emptied, attributes = [], []
    for rdn in name.children():
        (pair,) = rdn.children()  # ours hold one attribute in each RDN
        kind, value = pair.children()
        attribute = Attribute(_LABELS.get(kind.encoded, kind.content.hex()), value.tag, value.content.decode())
        kept = der.tlv(value.tag, _kept(attribute).encode())
        emptied.append(der.tlv(rdn.tag, der.tlv(pair.tag, kind.encoded, kept)))
        attributes.append(attribute)
    return der.tlv(name.tag, *emptied), tuple(attributes)


def _kept(attribute: Attribute) -> str:
    """What of an attribute's value belongs to the shape, because a linter looks it up in a list."""
    if attribute.label in ("organizationIdentifier", "serialNumber"):
        return attribute.text[:_IDENTIFIER_PREFIX]
    return "" if attribute.label in names.ATTRIBUTES and attribute.label != "C" else attribute.text


def _empty_key(spki: Element) -> bytes:
    """The key's algorithm and size; of an RSA key its exponent too."""
    algorithm, bits = spki.children()
    _demand(bits.tag == der.BIT_STRING and bits.content[:1] == b"\x00", "public key")
    kind = algorithm.children()[0].encoded
    if kind == _EC_PUBLIC_KEY:
        kept = bits.content[1:2] + len(bits.content).to_bytes(2, "big")
    elif kind == _RSA_ENCRYPTION:
        modulus, exponent = der.element(bits.content[1:]).children()
        kept = int.from_bytes(modulus.content, "big").bit_length().to_bytes(2, "big") + exponent.encoded
    else:
        kept = bits.content
    return der.tlv(spki.tag, algorithm.encoded, der.tlv(bits.tag, kept))


def _extension(extension: Element, found: dict[str, Any]) -> bytes:
    """The extension with its slot empty; what stood there goes to ``found``."""
    kind, *flag, value = extension.children()
    empty = _SLOTTED.get(kind.encoded)
    if empty is None:
        return extension.encoded
    _demand(value.tag == der.OCTET_STRING and len(flag) <= 1, "extension")
    name, emptied, slot = empty(der.element(value.content))
    _demand(name not in found, "an extension stands twice")
    found[name] = slot
    flags = [each.encoded for each in flag]
    return der.tlv(extension.tag, kind.encoded, *flags, der.tlv(value.tag, emptied))


def _key_identifier(value: Element) -> _Slot:
    return "key_identifier", der.tlv(value.tag), value.content


def _alternative_names(value: Element) -> _Slot:
    emptied, found = [], []
    for name in value.children():
        kind = _OCTET_KINDS.get(name.tag)
        emptied.append(name.encoded if kind is None else der.tlv(name.tag))
        found.append(_general_name(kind, name))
    return "alternative_names", der.tlv(value.tag, *emptied), tuple(found)


def _general_name(kind: str | None, name: Element) -> tuple[str, str]:
    if kind is None:
        return f"{name.tag:02x}", name.content.hex()
    return kind, str(ip_address(name.content)) if kind == "IP" else name.content.decode("ascii")


def _usage_period(value: Element) -> _Slot:
    begin, end = value.children()
    emptied = der.tlv(value.tag, der.tlv(begin.tag), der.tlv(end.tag))
    return "usage_period", emptied, (_generalized(begin.content), _generalized(end.content))


def _distribution_points(value: Element) -> _Slot:
    """One point with one address, whose last segment is the shard; any other form stays in the shape as it is."""
    inner, tags = value, []
    while inner.tag != _URI:
        tags.append(inner.tag)
        members = inner.children()
        if len(members) != 1 or len(tags) > _POINT_DEPTH:
            return "shard", value.encoded, None
        inner = members[0]
    address, _, shard = inner.content.decode("ascii").rpartition("/")
    emptied = der.tlv(inner.tag, address.encode())
    for tag in reversed(tags):
        emptied = der.tlv(tag, emptied)
    return "shard", emptied, shard


# The slot's name, the extension's value with the slot empty, and what stood there.
_Slot = tuple[str, bytes, object]
_SLOTTED: Mapping[bytes, Callable[[Element], _Slot]] = {
    der.object_identifier(oids.SUBJECT_KEY_IDENTIFIER): _key_identifier,
    der.object_identifier(oids.SUBJECT_ALTERNATIVE_NAME): _alternative_names,
    der.object_identifier(oids.PRIVATE_KEY_USAGE_PERIOD): _usage_period,
    der.object_identifier(oids.CRL_DISTRIBUTION_POINTS): _distribution_points,
}


def _moment(time: Element) -> datetime:
    if time.tag == der.UTC_TIME:
        short = time.content.decode("ascii")
        century = "19" if int(short[:2]) >= 50 else "20"  # RFC 5280 4.1.2.5.1
        return _generalized(f"{century}{short}".encode())
    _demand(time.tag == der.GENERALIZED_TIME, "validity")
    return _generalized(time.content)


def _generalized(octets: bytes) -> datetime:
    text = octets.decode("ascii")
    _demand(len(text) == 15 and text[:14].isdigit() and text[14] == "Z", "time")  # RFC 5280 4.1.2.5.2
    year, month, day = int(text[:4]), int(text[4:6]), int(text[6:8])
    return datetime(year, month, day, int(text[8:10]), int(text[10:12]), int(text[12:14]), tzinfo=UTC)


def _demand(holds: bool, what: str) -> None:
    if not holds:
        raise ShapeUnreadable(what)


def _is_plain_attribute(attribute: Attribute) -> bool:
    if attribute.label in ("C", "organizationIdentifier", "serialNumber"):
        return True  # listed values stand in the shape, and the rest has a form of its own
    return attribute.label in names.ATTRIBUTES and bool(_PLAIN_TEXT.fullmatch(attribute.text))


def _is_plain_name(kind: str, text: str) -> bool:
    if kind == "DNS":
        return len(text) <= names.MAX_DNS_NAME and bool(_PLAIN_DNS.fullmatch(text))
    if kind == "URI":
        scheme, _, rest = text.partition("://")
        host, _, path = rest.partition("/")
        return scheme == "https" and bool(_PLAIN_DNS.fullmatch(host)) and bool(_PLAIN_PATH.fullmatch(path))
    return kind == "IP"
