"""The subject: string types, lengths in characters, the profile's attributes in its order, never a register number."""

from __future__ import annotations

from collections.abc import Iterator

from asn1crypto import x509

from policies import names
from policies.lints import Finding, error
from policies.profiles import CertificateProfile

_PRINTABLE = frozenset(rule.oid for rule in names.ATTRIBUTES.values() if rule.printable)


def lint(certificate: x509.Certificate, profile: CertificateProfile) -> Iterator[Finding]:
    """Read the name back from its octets and hold it against the profile."""
    subject = certificate["tbs_certificate"]["subject"]
    attributes = names.read_name(subject.dump())
    labels = [label for label, _ in attributes]
    if labels != [attribute.label for attribute in profile.subject if attribute.label in labels]:
        yield error("subject.order", "RFC 5280 4.1.2.6", f"attributes are {labels}")
    for attribute in profile.subject:
        if attribute.required and attribute.label not in labels:
            yield error("subject.missing", "EN 319 412-2 4.2.4", f"{attribute.label} is missing")
    for label, value in attributes:
        known = profile.attribute(label)
        try:
            names.check_attribute(label, value, form=known.form if known else None)
        except names.NameRefused as refusal:
            yield error(f"subject.{refusal.code.removeprefix('name.')}", "RFC 5280 A.1", f"{label}: {refusal}")
    yield from _string_types(subject)


def _string_types(subject: x509.Name) -> Iterator[Finding]:
    for rdn in subject.chosen:
        for attribute in rdn:
            expected = "printable_string" if attribute["type"].dotted in _PRINTABLE else "utf8_string"
            if attribute["value"].name != expected:
                yield error("subject.string_type", "RFC 5280 4.1.2.4", f"{attribute['type'].dotted} is no {expected}")
