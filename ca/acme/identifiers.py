"""Identifiers of orders (RFC 8555 7.1.3, 9.7.7; RFC 8738) and the rules by which an organisation may have them."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ca.acme.errors import EntitlementRefused, Malformed, RejectedIdentifier, UnsupportedIdentifier
from policies import names

MAX_IDENTIFIERS = 100
MAX_DNS_OCTETS = 253  # RFC 1035 2.3.4, in text form
# RFC 5890 2.3.1; an underscore stands in no host name.
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# What machines may order; nobody becomes a person here.
PROFILES = ("tls-server", "tls-client")
_CLIENT_ID = re.compile(r"[\x21-\x7e]{1,180}")


@dataclass(frozen=True)
class Identifier:
    """A name or address. A DNS value is in lower case and may begin with ``*.``; an address is in its shortest form."""

    type: Literal["dns", "ip"]
    value: str

    @property
    def wildcard(self) -> bool:
        """Whether it stands for every name one label below its value."""
        return self.type == "dns" and self.value.startswith("*.")

    @property
    def base(self) -> str:
        """The value without the asterisk: what an authorization names (RFC 8555 7.1.4)."""
        return self.value.removeprefix("*.") if self.wildcard else self.value

    def document(self) -> dict[str, str]:
        """As JSON."""
        return {"type": self.type, "value": self.value}


@dataclass(frozen=True)
class Entitlement:
    """What an external account key allows: whose certificates, of which profile, for which names.

    ``allowed`` holds DNS names (only that name), ``*.`` and a name (everything below it, wildcards too) and IP
    networks. ``client_id`` stands as URI in certificates of ``tls-client``.
    """

    organisation: str
    profile: str
    allowed: tuple[str, ...]
    organisation_identifier: str | None = None
    client_id: str | None = None

    @property
    def holder(self) -> str:
        """Under which holder the register keeps the certificates."""
        return self.client_id or f"organisation:{self.organisation_identifier or self.organisation}"

    def allows(self, identifier: Identifier) -> bool:
        """Whether certificates may name it."""
        if self.profile == "tls-client" and identifier.type == "ip":
            return False
        return any(_covers(pattern, identifier) for pattern in self.allowed)

    def text(self) -> str:
        """As it is kept."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)

    @classmethod
    def of(cls, text: str) -> Entitlement:
        """From what is kept."""
        document: dict[str, Any] = json.loads(text)
        return cls(**{**document, "allowed": tuple(document["allowed"])})


def checked_entitlement(entitlement: Entitlement) -> Entitlement:
    """The entitlement with its patterns in normal form. Raises EntitlementRefused."""
    if entitlement.profile not in PROFILES:
        raise EntitlementRefused(f"machines order certificates of {' or '.join(PROFILES)}")
    try:
        names.check_attribute("O", entitlement.organisation)
        if entitlement.organisation_identifier is not None:
            identifier = entitlement.organisation_identifier
            names.check_attribute("organizationIdentifier", identifier, form="organisation-identifier")
    except names.NameRefused as refusal:
        raise EntitlementRefused(str(refusal)) from refusal
    if entitlement.profile == "tls-client" and not (entitlement.organisation_identifier and entitlement.client_id):
        raise EntitlementRefused("tls-client needs the organisation's identifier and the client id")
    if entitlement.client_id is not None and not _CLIENT_ID.fullmatch(entitlement.client_id):
        raise EntitlementRefused("a client id is 1 to 180 printable ASCII characters")
    if not entitlement.allowed:
        raise EntitlementRefused("say which names or addresses are allowed")
    allowed = tuple(dict.fromkeys(_pattern(text) for text in entitlement.allowed))
    return Entitlement(**{**asdict(entitlement), "allowed": allowed})


def read_identifiers(given: object, entitlement: Entitlement) -> tuple[Identifier, ...]:
    """The identifiers of a new order, each once, DNS names first.

    Raises Malformed, UnsupportedIdentifier, RejectedIdentifier with one subproblem for each name that is not allowed.
    """
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_IDENTIFIERS:
        raise Malformed(f"an order names 1 to {MAX_IDENTIFIERS} identifiers")
    found = tuple(dict.fromkeys(_identifier(item) for item in given))
    refused = [identifier for identifier in found if not entitlement.allows(identifier)]
    if refused:
        raise RejectedIdentifier(
            "the external account key does not allow these names", subproblems=[_refusal(each) for each in refused]
        )
    return tuple(sorted(found, key=lambda identifier: identifier.type != "dns"))


def normal_dns(text: str) -> str:
    """A host name in lower case. Raises ValueError unless it has two labels of letters, digits and hyphens."""
    name = text.lower()
    labels = name.split(".")
    if len(name) > MAX_DNS_OCTETS or len(labels) < 2 or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("not a host name of at least two labels")
    if labels[-1].isdigit():
        raise ValueError("a host name does not end in a number")  # else it could be read as an address
    return name


def stored(identifiers: Sequence[Identifier]) -> str:
    """Identifiers as they are kept."""
    return json.dumps([identifier.document() for identifier in identifiers])


def restored(text: str) -> tuple[Identifier, ...]:
    """Identifiers from what is kept."""
    return tuple(Identifier(item["type"], item["value"]) for item in json.loads(text))


def alternative_names(identifiers: Iterable[Identifier]) -> list[tuple[str, str]]:
    """As registration takes them."""
    kinds = {"dns": "DNS", "ip": "IP"}
    return [(kinds[identifier.type], identifier.value) for identifier in identifiers]


def _identifier(item: object) -> Identifier:
    if not isinstance(item, dict) or not isinstance(item.get("value"), str):
        raise Malformed("an identifier is an object of type and value")
    kind, value = item.get("type"), item["value"]
    if kind not in ("dns", "ip"):
        raise UnsupportedIdentifier("identifiers are of type dns or ip")
    try:
        if kind == "ip":
            address = ipaddress.ip_address(value)
            if str(address) != value:
                raise ValueError("not the only form")  # RFC 8738 3: RFC 5952 4 for IPv6
            return Identifier("ip", value)
        wildcard, name = ("*.", value[2:]) if value.startswith("*.") else ("", value)
        return Identifier("dns", wildcard + normal_dns(name))
    except ValueError as error:
        raise Malformed(f"{kind} identifier {value[:MAX_DNS_OCTETS]!r} is not well formed") from error


def _refusal(identifier: Identifier) -> dict[str, object]:
    problem = RejectedIdentifier(f"{identifier.value} is not allowed", identifier=identifier.document()).document()
    problem.pop("status")
    return problem


def _pattern(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        return "*." + normal_dns(text[2:]) if text.startswith("*.") else normal_dns(text)
    except ValueError as error:
        raise EntitlementRefused(f"{text!r} is no host name, *.name or IP network") from error


def _covers(pattern: str, identifier: Identifier) -> bool:
    if "/" in pattern:
        if identifier.type != "ip":
            return False
        network, address = ipaddress.ip_network(pattern), ipaddress.ip_address(identifier.value)
        return address.version == network.version and address in network
    if identifier.type != "dns":
        return False
    if not pattern.startswith("*."):
        return identifier.value == pattern
    # A wildcard's names are all below its base, so *.a.mn is covered by *.a.mn; a.mn itself is not.
    return identifier.value.endswith(pattern[1:])
