"""The subject's key: of a kind that the profile takes, and none of the weak ones."""

from __future__ import annotations

from collections.abc import Iterator

from policies.keys import KeyRefused, check_public_key, load_public_key
from policies.lints import Finding, error
from policies.lints.shape import Slots
from policies.profiles import CertificateProfile


def lint(slots: Slots, profile: CertificateProfile) -> Iterator[Finding]:
    """BR 6.1.1.3, 6.1.5 and 6.1.6, once more on the octets that are to be certified."""
    try:
        check_public_key(load_public_key(slots.spki), profile.keys)
    except KeyRefused as refusal:
        yield error(refusal.code, "BR 6.1.1.3, 6.1.5, 6.1.6", str(refusal))
