"""The subject: string types, lengths in characters, the profile's attributes in its order, never a register number."""

from __future__ import annotations

from collections.abc import Iterator

from policies import der, names
from policies.lints import Finding, error
from policies.lints.shape import Attribute, Slots
from policies.profiles import CertificateProfile


def lint(slots: Slots, profile: CertificateProfile) -> Iterator[Finding]:
    """Hold the name, as it stands in the octets, against the profile."""
    labels = [attribute.label for attribute in slots.subject]
    if labels != [attribute.label for attribute in profile.subject if attribute.label in labels]:
        yield error("subject.order", "RFC 5280 4.1.2.6", f"attributes are {labels}")
    for demanded in profile.subject:
        if demanded.required and demanded.label not in labels:
            yield error("subject.missing", "EN 319 412-2 4.2.4", f"{demanded.label} is missing")
    for attribute in slots.subject:
        yield from _value(attribute, profile)


def _value(attribute: Attribute, profile: CertificateProfile) -> Iterator[Finding]:
    known, rule = profile.attribute(attribute.label), names.ATTRIBUTES.get(attribute.label)
    if rule is not None and attribute.tag != (der.PRINTABLE_STRING if rule.printable else der.UTF8_STRING):
        yield error("subject.string_type", "RFC 5280 4.1.2.4", f"{attribute.label} has the string tag {attribute.tag}")
    try:
        as_encoded = names.check_attribute(attribute.label, attribute.text, form=known.form if known else None)
    except names.NameRefused as refusal:
        yield error(f"subject.{refusal.code.removeprefix('name.')}", "RFC 5280 A.1", f"{attribute.label}: {refusal}")
        return
    if as_encoded != attribute.text:
        yield error("subject.normalisation", "RFC 5280 7.1", f"{attribute.label} is not in normalisation form C")
