"""All lints of ours, in the order they run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from asn1crypto import x509

from policies import der
from policies.lints import (
    Finding,
    Lint,
    SlotLint,
    alternative_names,
    certificate_policies,
    error,
    identifier_semantics,
    key_identifier,
    locations,
    profile_conformity,
    public_key,
    qualified_statements,
    serial_number,
    server_name,
    short_term,
    subject_name,
    usage_period,
    validity,
)
from policies.lints.shape import ShapeUnreadable, Slots, dissect
from policies.profiles import CertificateProfile

LINTS: tuple[Lint, ...] = (
    profile_conformity.lint,
    certificate_policies.lint,
    locations.lint,
    qualified_statements.lint,
    identifier_semantics.lint,
    short_term.lint,
)
SLOT_LINTS: tuple[SlotLint, ...] = (
    serial_number.lint,
    validity.lint,
    subject_name.lint,
    public_key.lint,
    key_identifier.lint,
    alternative_names.lint,
    server_name.lint,
    usage_period.lint,
)


def lint_certificate(encoded: bytes, profile: CertificateProfile) -> Iterator[Finding]:
    """Everything our lints find in a certificate."""
    certificate = x509.Certificate.load(encoded)
    for lint in LINTS:
        yield from lint(certificate, profile)
    try:
        _, slots = dissect(der.element(encoded).children()[0].encoded)
    except (ShapeUnreadable, der.DerMalformed) as unreadable:
        yield error("certificate.form", "RFC 5280 4.1", str(unreadable))
        return
    yield from lint_slots(slots, profile)


def lint_slots(slots: Slots, profile: CertificateProfile) -> Iterator[Finding]:
    """What our lints find in the slots alone."""
    for lint in SLOT_LINTS:
        yield from lint(slots, profile)


@cache
def lints_digest() -> str:
    """SHA-256 over the source of all lints of ours, hexadecimal: a changed rule is another linter."""
    folder = Path(__file__).parent
    sources = [path.read_bytes() for path in sorted(folder.glob("*.py"))]
    return hashlib.sha256(b"\0".join(sources)).hexdigest()
