"""A version of the list as a value, as JSON (signed) and as XML (which points at the signed JSON by its digest)."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

from core.audit import canonical
from policies import names

SCHEMA = "tamga-trust-list/1"
XML_NAMESPACE = "urn:tamga:trust-list:1"
PURPOSES = ("authentication", "signature", "seal", "time-stamp", "tls")


@dataclass(frozen=True)
class Entry:
    """An authority and what is thought of it. ``since`` is when that began; ``ours`` says that it is one of our own."""

    certificate: bytes = field(repr=False)
    accepted: bool
    purposes: tuple[str, ...]
    since: datetime
    reason: str
    ours: bool = False

    @property
    def sha256(self) -> str:
        """The certificate's fingerprint, by which the entry is named; hexadecimal."""
        return hashlib.sha256(self.certificate).hexdigest()

    @property
    def subject(self) -> str:
        """The authority's name on one line."""
        return names.name_text(names.subject_of(self.certificate))

    def as_json(self) -> dict[str, Any]:
        """The entry as it stands in the list."""
        return {
            "sha256": self.sha256,
            "subject": self.subject,
            "accepted": self.accepted,
            "purposes": list(self.purposes),
            "since": stamp(self.since),
            "reason": self.reason,
            "ours": self.ours,
            "certificate": base64.b64encode(self.certificate).decode(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Entry:
        """The entry from a list of ours."""
        return cls(
            certificate=base64.b64decode(value["certificate"]),
            accepted=value["accepted"],
            purposes=tuple(value["purposes"]),
            since=datetime.fromisoformat(value["since"]),
            reason=value["reason"],
            ours=value["ours"],
        )


@dataclass(frozen=True)
class TrustList:
    """One version. ``previous`` is the digest of the version before it, None for the first."""

    issuer: str
    number: int
    made_at: datetime
    previous: str | None
    entries: tuple[Entry, ...]

    def payload(self) -> str:
        """Canonical JSON: what is signed, and what ``sha256`` is over."""
        document = {
            "schema": SCHEMA,
            "issuer": self.issuer,
            "number": self.number,
            "made_at": stamp(self.made_at),
            "previous": self.previous,
            "entries": [entry.as_json() for entry in self.entries],
        }
        return canonical(document).decode()

    def entry(self, fingerprint: str) -> Entry | None:
        """The entry whose fingerprint begins so (16 hexadecimal digits or more), if exactly one does."""
        wanted = fingerprint.replace(":", "").lower()
        found = [entry for entry in self.entries if len(wanted) >= 16 and entry.sha256.startswith(wanted)]
        return found[0] if len(found) == 1 else None


def parsed(payload: str) -> TrustList:
    """A version of ours from its payload."""
    value = json.loads(payload)
    return TrustList(
        issuer=value["issuer"],
        number=value["number"],
        made_at=datetime.fromisoformat(value["made_at"]),
        previous=value["previous"],
        entries=tuple(Entry.from_json(entry) for entry in value["entries"]),
    )


def digest(payload: str) -> str:
    """By what a version is known: SHA-256 of its payload, hexadecimal."""
    return hashlib.sha256(payload.encode()).hexdigest()


def flattened(jws: str) -> bytes:
    """A compact JWS in the flattened JSON serialisation (RFC 7515 7.2.2)."""
    protected, payload, signature = jws.split(".")
    return json.dumps({"payload": payload, "protected": protected, "signature": signature}).encode()


def as_xml(listed: TrustList) -> bytes:
    """The list in XML of our own namespace. It is not signed: ``payloadSha256`` is the digest of the signed JSON."""
    root = ElementTree.Element(
        "trustList",
        {
            "xmlns": XML_NAMESPACE,
            "issuer": listed.issuer,
            "number": str(listed.number),
            "madeAt": stamp(listed.made_at),
            "payloadSha256": digest(listed.payload()),
            "signed": f"{listed.issuer}/trust-list.json",
            **({"previous": listed.previous} if listed.previous else {}),
        },
    )
    for entry in listed.entries:
        _append(root, entry)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _append(root: ElementTree.Element, entry: Entry) -> None:
    element = ElementTree.SubElement(
        root,
        "authority",
        {
            "sha256": entry.sha256,
            "accepted": str(entry.accepted).lower(),
            "ours": str(entry.ours).lower(),
            "since": stamp(entry.since),
        },
    )
    ElementTree.SubElement(element, "subject").text = entry.subject
    for purpose in entry.purposes:
        ElementTree.SubElement(element, "purpose").text = purpose
    ElementTree.SubElement(element, "reason").text = entry.reason
    ElementTree.SubElement(element, "certificate").text = base64.b64encode(entry.certificate).decode()


def stamp(moment: datetime) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def ordered(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Our own first, then the foreign ones, each by name: equal lists give equal octets."""
    return tuple(sorted(entries, key=lambda entry: (not entry.ours, entry.subject, entry.sha256)))
