"""The subject key identifier: the hash of the key that the certificate holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from policies import der
from policies.lints import Finding, error
from policies.lints.shape import Slots
from policies.profiles import CertificateProfile


def lint(slots: Slots, _profile: CertificateProfile) -> Iterator[Finding]:
    """Method (1) of RFC 5280 4.2.1.2: status requests name a responder by the same hash (RFC 6960 4.2.1)."""
    _, bits = der.element(slots.spki).children()
    if slots.key_identifier != hashlib.sha1(bits.content[1:], usedforsecurity=False).digest():
        yield error("key_identifier", "RFC 5280 4.2.1.2", "the subject key identifier is not the key's hash")
