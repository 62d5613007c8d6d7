"""Names in certificates: which attribute takes which characters, how many, and in which string type.

The library that builds our certificates counts octets where RFC 5280 counts characters and never looks at what stands
in a PrintableString, so names are checked and encoded here, and read here too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from asn1crypto import x509 as asn1_x509

from policies import der, oids

MAX_DNS_NAME = 253  # RFC 1035 2.3.4
MAX_URI = 2048  # ours
_DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!#-;=?-Z\[\]_a-z~]+")  # RFC 3986 2; % included
# RFC 5280 A.1: the alphabet of PrintableString.
_PRINTABLE = re.compile(r"[A-Za-z0-9 '()+,\-./:=?]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_REGISTER_NUMBER = re.compile(r"(?<![^\W\d_])[А-Яа-яЁёӨөҮүЄѲЇєѳї]{2}[ -]?[0-9]{8}(?![0-9])")


class NameRefused(ValueError):
    """A name cannot stand in a certificate; ``code`` says which rule it breaks."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@dataclass(frozen=True)
class AttributeRule:
    """One attribute type: its identifier, its string type, how many characters it takes."""

    oid: str
    printable: bool
    longest: int


# RFC 5280 A.1 upper bounds, in characters. Given name and surname may be longer there (ub-name); 64 is ours.
ATTRIBUTES: Mapping[str, AttributeRule] = {
    "C": AttributeRule(oids.COUNTRY_NAME, printable=True, longest=2),
    "O": AttributeRule(oids.ORGANIZATION_NAME, printable=False, longest=64),
    "organizationIdentifier": AttributeRule(oids.ORGANIZATION_IDENTIFIER, printable=True, longest=64),
    "SN": AttributeRule(oids.SURNAME, printable=False, longest=64),
    "GN": AttributeRule(oids.GIVEN_NAME, printable=False, longest=64),
    "CN": AttributeRule(oids.COMMON_NAME, printable=False, longest=64),
    "serialNumber": AttributeRule(oids.SERIAL_NUMBER, printable=True, longest=64),
}
_LABELS = {rule.oid: label for label, rule in ATTRIBUTES.items()}
_TYPES = {label: der.object_identifier(rule.oid) for label, rule in ATTRIBUTES.items()}

# EN 319 412-1 5.1.3 and 5.1.4: three letters of type, country, hyphen, identifier.
_FORMS: Mapping[str, re.Pattern[str]] = {
    "natural-person-identifier": re.compile(r"PNO[A-Z]{2}-[0-9]{12}"),
    "organisation-identifier": re.compile(r"NTR[A-Z]{2}-[0-9]{7}"),
}


def check_attribute(label: str, value: str, *, form: str | None = None) -> str:
    """The value as it will be encoded (NFC). Raises NameRefused.

    ``label`` is a key of ATTRIBUTES; ``form`` is ``natural-person-identifier`` or ``organisation-identifier``.
    """
    rule = ATTRIBUTES.get(label)
    if rule is None:
        raise NameRefused("name.attribute", f"no certificate of ours carries the attribute {label}")
    value = unicodedata.normalize("NFC", value)
    if not value or value != value.strip():
        raise NameRefused("name.empty", f"{label} is empty or begins or ends with a space")
    if _CONTROL.search(value):
        raise NameRefused("name.control_character", f"{label} holds a control or invisible character")
    if not any(unicodedata.category(character)[0] in "LN" for character in value):
        raise NameRefused("name.insignificant", f"{label} holds no letter and no digit")  # BR 7.1.4.2
    # RFC 5280 A.1: the bounds are in characters, whatever the octets.
    if len(value) > rule.longest:
        raise NameRefused("name.length", f"{label} takes at most {rule.longest} characters; please shorten it")
    if rule.printable and not _PRINTABLE.fullmatch(value):
        raise NameRefused("name.printable", f"{label} takes Latin letters, digits and simple punctuation only")
    if label == "C" and not re.fullmatch("[A-Z]{2}", value):
        raise NameRefused("name.country", "C is a two-letter country code of ISO 3166")
    if form and not _FORMS[form].fullmatch(value):
        raise NameRefused("name.form", f"{label} is not a {form.replace('-', ' ')} of EN 319 412-1")
    if holds_register_number(value):
        raise NameRefused("name.register_number", f"{label} holds a register number, which no certificate may show")
    return value


def check_alternative_name(kind: str, value: str, *, wildcard: bool = False) -> str:
    """A subjectAltName value of kind ``DNS``, ``IP`` or ``URI``, as it will be encoded. With ``wildcard`` a DNS name
    may have ``*`` as its first label (RFC 9525 6.3). Raises NameRefused."""
    if kind == "DNS":
        # RFC 1034 3.5 and BR 7.1.4.2.1: letters, digits and hyphens, lower case so that no name exists twice.
        labels = (value.removeprefix("*.") if wildcard else value).split(".")
        if len(value) > MAX_DNS_NAME or len(labels) < 2 or not all(_is_dns_label(label) for label in labels):
            raise NameRefused("name.dns", "a DNS name is lower-case labels of letters, digits and hyphens, two or more")
        if labels[-1].isdigit():
            raise NameRefused("name.dns", "a DNS name does not end in a number")  # RFC 3696 2
    elif kind == "IP":
        _check_ip_address(value)
    elif kind == "URI":
        # RFC 5280 4.2.1.6: absolute, with a scheme and a host.
        parts = urlsplit(value)
        if not _URI.fullmatch(value) or len(value) > MAX_URI or not parts.scheme or not parts.netloc:
            raise NameRefused("name.uri", "a URI is absolute, in ASCII, with a scheme and a host")
    else:
        raise NameRefused("name.alternative", f"no certificate of ours carries alternative names of kind {kind}")
    return value


def _is_dns_label(label: str) -> bool:
    if not _DNS_LABEL.fullmatch(label):
        return False
    if label[2:4] != "--":
        return True
    try:  # RFC 5890 2.3.1: the only labels with hyphens there are A-labels, which decode
        return label.startswith("xn--") and bool(label[4:].encode().decode("punycode"))
    except UnicodeError:
        return False


def _check_ip_address(value: str) -> None:
    try:
        address = ip_address(value)
    except ValueError as error:
        raise NameRefused("name.ip", "this is no IP address") from error
    if str(address) != value or "%" in value:
        raise NameRefused("name.ip", f"the IP address is written {address}")  # RFC 5952
    if address.is_unspecified or address.is_multicast:
        raise NameRefused("name.ip", "no single server has this IP address")


def encode_name(attributes: Iterable[tuple[str, str]]) -> bytes:
    """The DER of a Name (RFC 5280 4.1.2.4) with one attribute in each RDN, in the order given. Raises NameRefused."""
    return der.tlv(der.SEQUENCE, *(_rdn(label, check_attribute(label, value)) for label, value in attributes))


def _rdn(label: str, value: str) -> bytes:
    rule = ATTRIBUTES[label]
    tag = der.PRINTABLE_STRING if rule.printable else der.UTF8_STRING  # RFC 5280 4.1.2.4
    return der.tlv(der.SET, der.tlv(der.SEQUENCE, _TYPES[label], der.tlv(tag, value.encode())))


def read_name(encoded: bytes) -> tuple[tuple[str, str], ...]:
    """The attributes of a DER Name in order: label (or dotted identifier) and text."""
    rdns = asn1_x509.Name.load(encoded).chosen
    return tuple(
        (_LABELS.get(attribute["type"].dotted, attribute["type"].dotted), str(attribute["value"].native))
        for rdn in rdns
        for attribute in rdn
    )


def name_text(encoded: bytes) -> str:
    """A DER Name on one line, first attribute first: ``C=MN, O=…, CN=…``."""
    return ", ".join(f"{label}={value}" for label, value in read_name(encoded))


def subject_of(certificate: bytes) -> bytes:
    """The DER of a certificate's subject, without parsing it further."""
    return bytes(asn1_x509.Certificate.load(certificate)["tbs_certificate"]["subject"].dump())


def holds_register_number(text: str) -> bool:
    """Whether two Cyrillic letters and eight digits stand somewhere in ``text``."""
    return bool(_REGISTER_NUMBER.search(text))


def natural_person_identifier(civil_id: str, country: str = "MN") -> str:
    """``PNOMN-<12 digits>`` (EN 319 412-1 5.1.3). Raises NameRefused unless the civil id is 12 digits."""
    return check_attribute("serialNumber", f"PNO{country}-{civil_id}", form="natural-person-identifier")


def organisation_identifier(register_number: str, country: str = "MN") -> str:
    """``NTRMN-<7 digits>`` (EN 319 412-1 5.1.4). Raises NameRefused unless the number is 7 digits."""
    value = f"NTR{country}-{register_number}"
    return check_attribute("organizationIdentifier", value, form="organisation-identifier")


def read_organisation_identifier(text: str) -> str:
    """The seven digits of an organisation's identifier, written with its prefix or without. Raises NameRefused."""
    match = re.fullmatch(r"(?:NTR[A-Z]{2}-)?([0-9]{7})", text.strip())
    if match is None:
        raise NameRefused("name.form", "an organisation's identifier is seven digits, NTRMN- before them or not")
    return match[1]


def public_name(given_name: str, patronymic: str | None) -> str:
    """How a person is named in public: ``Ж.Өлзийхүү``; without a patronymic the given name alone."""
    given = unicodedata.normalize("NFC", given_name).strip()
    initial = unicodedata.normalize("NFC", patronymic or "").strip()[:1].upper()
    return f"{initial}.{given}" if initial else given
