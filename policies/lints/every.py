"""All lints of ours, in the order they run."""

from __future__ import annotations

from collections.abc import Iterator

from asn1crypto import x509

from policies.lints import (
    Finding,
    Lint,
    locations,
    profile_conformity,
    qualified_statements,
    serial_number,
    subject_name,
    validity,
)
from policies.profiles import CertificateProfile

LINTS: tuple[Lint, ...] = (
    profile_conformity.lint,
    serial_number.lint,
    validity.lint,
    subject_name.lint,
    locations.lint,
    qualified_statements.lint,
)


def lint_certificate(der: bytes, profile: CertificateProfile) -> Iterator[Finding]:
    """Everything our lints find in a certificate."""
    certificate = x509.Certificate.load(der)
    for lint in LINTS:
        yield from lint(certificate, profile)
