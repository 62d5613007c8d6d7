"""Validity: whole days of 86,400 seconds, the last second subtracted because notAfter is inclusive."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from policies.lints import Finding, error
from policies.lints.shape import Slots
from policies.profiles import MAX_BACKDATE, CertificateProfile


def lint(slots: Slots, profile: CertificateProfile) -> Iterator[Finding]:
    """BR 6.3.2 counts the second at notAfter too. Profiles that count in minutes are held to whole minutes."""
    lasting = slots.not_after - slots.not_before + timedelta(seconds=1)
    day = (slots.not_before + MAX_BACKDATE).date()
    if not timedelta(0) < lasting <= profile.longest_on(day):
        yield error("validity.longest", "BR 6.3.2", f"valid for {lasting.days} days")
    if lasting % profile.validity_unit:
        yield error("validity.whole_days", "BR 6.3.2", "the validity is not a number of whole days (or minutes)")
