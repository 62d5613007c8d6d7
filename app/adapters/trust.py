"""The certificates that validation starts from: our own roots, and what an operator trusts besides."""

from __future__ import annotations

from ca.hierarchy import Hierarchy


class RegisterAnchors:
    """Answers ``signing.ports.TrustAnchors``."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        self._hierarchy = hierarchy

    def anchors(self) -> tuple[bytes, ...]:
        """Every root of ours, DER."""
        return tuple(a.der for a in self._hierarchy.authorities() if a.issuer == a.slug)

    def intermediates(self) -> tuple[bytes, ...]:
        """Every authority below a root, DER."""
        return tuple(a.der for a in self._hierarchy.authorities() if a.issuer != a.slug)
