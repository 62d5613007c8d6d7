"""Renewal of what is short-lived: each authority's OCSP responder, and the time-stamping unit.

A new key and a new certificate each time, made while the old ones still count, so that both overlap.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from ca.errors import AuthorityNotInForce, CertificateNotFound, RekeyAfterRevocation
from ca.hierarchy import RESPONDER_PROFILES, UNIT_PROFILE, Hierarchy, usage_ends
from ca.issuance import Issuance
from ca.register import IssuedCertificate, Register, State
from ca.registration import Registration
from ca.to_be_signed import PublicKey
from core.clock import Clock
from core.errors import CodedError
from core.logs import get_logger
from hsm.keystore import KeyAlgorithm, KeyPurpose, Keystore
from policies import names
from policies.keys import algorithm_name
from policies.profiles import load_profile

log = get_logger("ca.renewal")

# A unit signs for a year (EN 319 422); two months leave room for failing timers and a new generation of authorities.
UNIT_MARGIN = timedelta(days=60)


@dataclass(frozen=True)
class ShortLived:
    """A responder or unit that is replaced before its key stops signing."""

    certificate: IssuedCertificate

    @property
    def name(self) -> str:
        """Its key's label without the number: ``ocsp-seal-g1``, ``tsa``."""
        return numbered(self.key_label)[0]

    @property
    def key_label(self) -> str:
        """Its key in the token."""
        return self.certificate.key_label or ""

    @property
    def is_unit(self) -> bool:
        """Whether it stamps time; else it answers for an authority."""
        return self.certificate.profile == UNIT_PROFILE

    @property
    def signs_until(self) -> datetime:
        """When its key stops signing."""
        return usage_ends(self.certificate)

    @property
    def renew_from(self) -> datetime:
        """When its renewal is due: half a responder's life, 60 days before a unit's key stops signing."""
        if self.is_unit:
            return self.signs_until - UNIT_MARGIN
        begin = self.certificate.not_before
        return begin + (self.certificate.not_after - begin) / 2


class Renewals:
    """Gives responders and the time-stamping unit successors in time."""

    def __init__(
        self,
        *,
        clock: Clock,
        keystore: Keystore,
        hierarchy: Hierarchy,
        register: Register,
        registration: Registration,
        issuance: Issuance,
    ) -> None:
        self._clock = clock
        self._keystore = keystore
        self._hierarchy = hierarchy
        self._register = register
        self._registration = registration
        self._issuance = issuance

    def short_lived(self) -> tuple[ShortLived, ...]:
        """The newest responder of each authority and the newest time-stamping unit, whatever their state."""
        found = [self._newest(RESPONDER_PROFILES, authority.slug) for authority in self._hierarchy.authorities()]
        found.append(self._newest((UNIT_PROFILE,), None))
        return tuple(ShortLived(certificate) for certificate in found if certificate is not None)

    def of_name(self, name: str) -> ShortLived:
        """The one of this name. Raises CertificateNotFound."""
        for one in self.short_lived():
            if one.name == name:
                return one
        raise CertificateNotFound(f"nothing that is renewed is named {name}; a ceremony makes the first")

    def is_due(self, one: ShortLived) -> bool:
        """Whether its successor should be made now. What lasts as long as its authority needs none."""
        end = self._hierarchy.authority(one.certificate.issuer).certificate.not_valid_after_utc
        return self._clock() >= one.renew_from and one.certificate.not_after < end - timedelta(days=1)

    def renew(self, name: str, *, actor: str) -> ShortLived:
        """Its successor, due or not, after a revocation too. Raises CertificateNotFound, and what issuance raises."""
        return self._succeed(self.of_name(name), actor)

    def renew_due(self, *, actor: str) -> tuple[tuple[str, ShortLived | CodedError], ...]:
        """Renew all that is due. What fails is returned in its place and stops no other.

        Left out is what a root signs: roots act on an explicit command only (BR 4.3.1.1). What was revoked is
        returned as RekeyAfterRevocation, since a re-key after revocation is no routine (RFC 3647 3.3.2).
        """
        results: list[tuple[str, ShortLived | CodedError]] = []
        for one in self.short_lived():
            try:
                if self._is_routine(one):
                    results.append((one.name, self._succeed(one, actor)))
            except CodedError as error:
                log.error("credential_not_renewed", name=one.name, code=error.code)
                results.append((one.name, error))
        return tuple(results)

    def _is_routine(self, one: ShortLived) -> bool:
        issuer = self._hierarchy.authority(one.certificate.issuer)
        if issuer.issuer == issuer.slug or not (one.is_unit or self._is_in_force(issuer.slug)):
            return False
        if one.certificate.status.state is not State.GOOD:
            raise RekeyAfterRevocation(f"{one.key_label} is revoked: its successor is asked for by name, {one.name}")
        return self.is_due(one)

    def _is_in_force(self, slug: str) -> bool:
        # What is revoked or has ended gets no responder any more; a timer that said so every day would be switched off.
        # A retired authority goes on answering for what it signed.
        try:
            self._hierarchy.check_in_force(slug, for_status=True)
        except AuthorityNotInForce:
            return False
        return True

    def _succeed(self, old: ShortLived, actor: str) -> ShortLived:
        label = next_label(old.key_label)
        application = self._registration.own(
            profile=old.certificate.profile,
            public_key=self._key(label, old),
            key_label=label,
            subject=_subject(old, label),
            evidence=f"renewal of {old.certificate.id}",
        )
        # A responder is signed by the authority it answers for, a unit by the newest authority for such certificates.
        issuer = None if old.is_unit else old.certificate.issuer
        return ShortLived(
            self._issuance.certify(application, actor=actor, issuer=issuer, validity=self._lasting(old))
        )

    def _lasting(self, old: ShortLived) -> timedelta | None:
        """How long a responder lasts: what its profile says, or whole days to the end of its authority."""
        if old.is_unit:
            return None
        end = self._hierarchy.authority(old.certificate.issuer).certificate.not_valid_after_utc
        left = timedelta(days=max(1, (end - self._clock()).days))
        return left if left < load_profile(old.certificate.profile).validity else None

    def _newest(self, profiles: tuple[str, ...], issuer: str | None) -> IssuedCertificate | None:
        found = [
            certificate
            for profile in profiles
            for certificate in self._register.certificates(profile=profile, issuer=issuer, limit=1)
        ]
        return max(found, key=lambda certificate: certificate.issued_at, default=None)

    def _key(self, label: str, old: ShortLived) -> PublicKey:
        # A key of that name without a certificate was left by a renewal that did not end.
        if self._keystore.has(label):
            return self._keystore.key(label).public_key()
        purpose = KeyPurpose.TIME_STAMPING if old.is_unit else KeyPurpose.OCSP
        algorithm = KeyAlgorithm(algorithm_name(old.certificate.certificate.public_key()))
        return self._keystore.generate(label, purpose, algorithm).public_key()


def _subject(old: ShortLived, label: str) -> dict[str, str]:
    """A responder keeps its name. A unit's tells it from other units (EN 319 422), so it counts on."""
    subject = dict(names.read_name(names.subject_of(old.certificate.der)))
    if old.is_unit:
        before, after = numbered(old.key_label)[1], numbered(label)[1]
        subject["CN"] = f"{subject['CN'].removesuffix(f' {before}')} {after}"
    return subject


def next_label(label: str) -> str:
    """``ocsp-root-g1-2`` after ``ocsp-root-g1-1``."""
    name, number = numbered(label)
    return f"{name}-{number + 1}"


def numbered(label: str) -> tuple[str, int]:
    """A label's name and number: ``ocsp-root-g1`` and 1 of ``ocsp-root-g1-1``; 1 when it has none."""
    match = re.fullmatch(r"(.+)-([0-9]+)", label)
    return (match[1], int(match[2])) if match else (label, 1)
