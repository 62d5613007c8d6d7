"""Validity: whole days of 86,400 seconds, the last second subtracted because notAfter is inclusive."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from asn1crypto import x509

from policies.lints import Finding, error
from policies.profiles import CertificateProfile


def lint(certificate: x509.Certificate, profile: CertificateProfile) -> Iterator[Finding]:
    """BR 6.3.2 counts the second at notAfter too."""
    validity = certificate["tbs_certificate"]["validity"]
    lasting = validity["not_after"].native - validity["not_before"].native + timedelta(seconds=1)
    if lasting > profile.longest_validity:
        yield error("validity.longest", "BR 6.3.2", f"valid for {lasting.days} days")
    if lasting % timedelta(days=1):
        yield error("validity.whole_days", "BR 6.3.2", "the validity is not a number of whole days")
