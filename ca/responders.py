"""Renewal of OCSP responders (RFC 6960 4.2.2.2): short-lived, renewed at half life, old and new overlapping."""

from __future__ import annotations

import re

from ca.errors import CertificateNotFound
from ca.hierarchy import RESPONDER_PROFILES, Hierarchy
from ca.issuance import Issuance
from ca.register import IssuedCertificate, Register
from ca.registration import Registration
from ca.settings import CaSettings
from ca.to_be_signed import PublicKey
from core.clock import Clock
from core.errors import CodedError
from core.logs import get_logger
from hsm.keystore import KeyAlgorithm, KeyPurpose, Keystore
from policies import names

log = get_logger("ca.responders")


class Responders:
    """Gives authorities new responders before the old ones end."""

    def __init__(
        self,
        *,
        settings: CaSettings,
        clock: Clock,
        keystore: Keystore,
        hierarchy: Hierarchy,
        register: Register,
        registration: Registration,
        issuance: Issuance,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._keystore = keystore
        self._hierarchy = hierarchy
        self._register = register
        self._registration = registration
        self._issuance = issuance

    def is_due(self, slug: str) -> bool:
        """Whether the authority's newest responder is past half its life."""
        newest = self._newest(slug)
        return self._clock() >= newest.not_before + (newest.not_after - newest.not_before) / 2

    def renew(self, slug: str, *, actor: str) -> IssuedCertificate:
        """A new responder with a new key and the old one's name. Raises CertificateNotFound without an old one."""
        old = self._newest(slug)
        label = next_label(old.key_label or "")
        application = self._registration.own(
            profile=old.profile,
            public_key=self._key(label),
            key_label=label,
            subject=dict(names.read_name(names.subject_of(old.der))),
            evidence=f"renewal of {old.id}",
        )
        return self._issuance.certify(application, actor=actor, issuer=slug)

    def renew_due(self, *, actor: str) -> tuple[IssuedCertificate, ...]:
        """Renew what is due, except for roots, which sign on an explicit command only. One failure stops no other."""
        renewed = []
        for authority in self._hierarchy.authorities():
            try:
                if authority.issuer != authority.slug and self.is_due(authority.slug):
                    renewed.append(self.renew(authority.slug, actor=actor))
            except CodedError as error:
                log.error("responder_not_renewed", issuer=authority.slug, code=error.code)
        return tuple(renewed)

    def _newest(self, slug: str) -> IssuedCertificate:
        found = [
            certificate
            for profile in RESPONDER_PROFILES
            for certificate in self._register.certificates(profile=profile, issuer=slug, limit=1)
        ]
        if not found:
            raise CertificateNotFound(f"{slug} never had a responder; a ceremony makes the first")
        return max(found, key=lambda certificate: certificate.issued_at)

    def _key(self, label: str) -> PublicKey:
        # A key of that name without a certificate was left by a renewal that did not end.
        if self._keystore.has(label):
            return self._keystore.key(label).public_key()
        return self._keystore.generate(label, KeyPurpose.OCSP, KeyAlgorithm.P256).public_key()


def next_label(label: str) -> str:
    """``ocsp-root-g1-2`` after ``ocsp-root-g1-1``."""
    match = re.fullmatch(r"(.+)-([0-9]+)", label)
    return f"{match[1]}-{int(match[2]) + 1}" if match else f"{label}-2"
