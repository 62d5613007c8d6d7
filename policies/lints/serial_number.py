"""Serial numbers: 18 octets, positive, the first octet naming the installation, the rest random."""

from __future__ import annotations

from collections.abc import Iterator

from policies.lints import Finding, error
from policies.lints.shape import Slots
from policies.profiles import CertificateProfile


def lint(slots: Slots, _profile: CertificateProfile) -> Iterator[Finding]:
    """RFC 5280 allows 20 octets and BR 7.1 asks for 64 random bits; ours are always 18 octets with 136."""
    octets = slots.serial
    if len(octets) != 18 or not 1 <= octets[0] <= 127:
        yield error("serial.form", "RFC 5280 4.1.2.2, BR 7.1", f"the serial number has {len(octets)} octets")
    elif len(set(octets[1:])) < 3:
        yield error("serial.entropy", "BR 7.1", "the serial number does not look random")
