"""The key of a time-stamping unit signs for a part of its certificate's life only."""

from __future__ import annotations

from collections.abc import Iterator

from policies.lints import Finding, error
from policies.lints.shape import Slots
from policies.profiles import CertificateProfile


def lint(slots: Slots, profile: CertificateProfile) -> Iterator[Finding]:
    """privateKeyUsagePeriod (RFC 3280 4.2.1.4) begins with the certificate and lasts as long as the profile says."""
    lasting = profile.private_key_usage_period
    expected = (slots.not_before, slots.not_before + lasting) if lasting else None
    if slots.usage_period != expected:
        yield error("usage_period", "RFC 3280 4.2.1.4", "the key's usage period differs from the profile")
