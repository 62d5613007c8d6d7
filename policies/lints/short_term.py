"""Certificates that assure their validity for a short term point to no revocation list."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from asn1crypto import x509

from policies import oids
from policies.lints import Finding, error, extension_value
from policies.profiles import CertificateProfile

LONGEST = timedelta(days=1)  # ours; EN 319 412-1 5.2.2 leaves the term to the policy
_NULL = b"\x05\x00"


def lint(certificate: x509.Certificate, profile: CertificateProfile) -> Iterator[Finding]:
    """EN 319 412-1 5.2.2: the extension is a NULL; its certificate lives shorter than a revocation would take."""
    value = extension_value(certificate, oids.VALIDITY_ASSURED_SHORT_TERM)
    if not profile.validity_assured_short_term:
        return
    if value != _NULL:
        yield error("short_term.extension", "EN 319 412-1 5.2.2", "the validity is not assured for a short term")
    if extension_value(certificate, oids.CRL_DISTRIBUTION_POINTS) is not None:
        yield error("short_term.revocation", "EN 319 412-1 5.2.2", "a revocation list is pointed to")
    if profile.longest_validity > LONGEST:
        yield error("short_term.validity", "EN 319 412-1 5.2.2", "the term is not short")
