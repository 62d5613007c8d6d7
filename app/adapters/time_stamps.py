"""The time-stamping unit, from the certificate authority's hierarchy and the token."""

from __future__ import annotations

from ca.hierarchy import Credential, Hierarchy
from hsm.keystore import Keystore
from signing.time_stamp_authority import TimeStampingUnit


class HouseUnit:
    """Gives the time-stamp authority its present unit; a new one takes over without a restart."""

    def __init__(self, hierarchy: Hierarchy, keystore: Keystore) -> None:
        self._hierarchy = hierarchy
        self._keystore = keystore
        self._known: tuple[Credential, TimeStampingUnit] | None = None

    def __call__(self) -> TimeStampingUnit:
        """The unit in force. Raises CertificateNotFound, HsmUnavailable."""
        credential = self._hierarchy.time_stamping_unit()
        if self._known is None or self._known[0] != credential:
            chain = self._hierarchy.served_chain(credential.certificate.issuer)
            key = self._keystore.key(credential.key_label)
            self._known = (credential, TimeStampingUnit(credential.certificate.der, chain, key))
        return self._known[1]
