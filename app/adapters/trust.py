"""The certificates that validation starts from: our own roots, and the foreign authorities of the trust list."""

from __future__ import annotations

from ca.hierarchy import Hierarchy
from ca.trust_list.service import TrustLists

# What a document may be signed with. Time-stamps of foreign authorities are accepted where their signatures are.
DOCUMENT_PURPOSES = ("signature", "seal")


class RegisterAnchors:
    """Our own authorities."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        self._hierarchy = hierarchy

    def anchors(self) -> tuple[bytes, ...]:
        """Every root of ours, DER."""
        return tuple(a.der for a in self._hierarchy.authorities() if a.issuer == a.slug)

    def intermediates(self) -> tuple[bytes, ...]:
        """Every authority below a root, DER."""
        return tuple(a.der for a in self._hierarchy.authorities() if a.issuer != a.slug)


class ListedAnchors:
    """Answers ``signing.ports.TrustAnchors``: our own authorities, and whom the trust list accepts for documents.

    The list is read for each validation, so that a change of trust counts at once.
    """

    def __init__(self, own: RegisterAnchors, trust_lists: TrustLists) -> None:
        self._own = own
        self._trust_lists = trust_lists

    def anchors(self) -> tuple[bytes, ...]:
        """Our roots, and the highest foreign authorities accepted, DER."""
        return (*self._own.anchors(), *self._trust_lists.foreign(*DOCUMENT_PURPOSES)[0])

    def intermediates(self) -> tuple[bytes, ...]:
        """Known issuing authorities below these, DER."""
        return (*self._own.intermediates(), *self._trust_lists.foreign(*DOCUMENT_PURPOSES)[1])

    def rejected(self) -> tuple[bytes, ...]:
        """Foreign authorities that are expressly not accepted, DER."""
        return self._trust_lists.rejected()
