"""Enrolment and renewal: who asks is recognised, the names are checked, and the certificate is issued and linked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from ca.errors import CertificateNotFound
from ca.est import errors, events
from ca.est.guesses import Guesses
from ca.est.labels import Labels
from ca.est.permits import Permit, Permits
from ca.est.requested import (
    canonical,
    certified_alternative_names,
    certified_subject,
    requested_alternative_names,
    requested_subject,
)
from ca.est.settings import EstSettings
from ca.est.tables import EnrolmentRow
from ca.hierarchy import Hierarchy
from ca.issuance import Issuance
from ca.register import IssuedCertificate, Register, State
from ca.registration import Application, Registration, proven_key
from ca.trust_list.errors import IssuerNotAccepted
from core.audit import AuditLog
from core.clock import Clock
from core.one_time import OneTimeStore
from policies.profiles import CertificateProfile

# A certificate may have this many successors in a day: answers get lost, but not that often.
MAX_RENEWALS_A_DAY = 5
DAY_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Caller:
    """What a client shows: user name and secret (RFC 7030 3.2.3), the certificate of its TLS connection (DER), and the
    address it comes from."""

    secret: tuple[str, str] | None = field(default=None, repr=False)
    certificate: bytes | None = field(default=None, repr=False)
    address: str = ""


@dataclass(frozen=True)
class Pending:
    """An officer decides; the client asks again with the same request after ``retry_after`` seconds."""

    retry_after: int


class Enrolment:
    """simpleenroll and simplereenroll (RFC 7030 4.2)."""

    def __init__(
        self, *, settings: EstSettings, labels: Labels, permits: Permits, registration: Registration,
        issuance: Issuance, register: Register, hierarchy: Hierarchy, audit: AuditLog, clock: Clock,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._labels = labels
        self._permits = permits
        self._registration = registration
        self._issuance = issuance
        self._register = register
        self._hierarchy = hierarchy
        self._audit = audit
        self._clock = clock

    def authorities(self, label: str | None) -> tuple[bytes, ...]:
        """The authority that signs for this label and all above it, the root last (RFC 7030 4.1.3). DER.

        Raises LabelUnknown, AuthorityNotFound.
        """
        issuer = self._hierarchy.for_purpose(self._labels.profile(label).issuer)
        return self._hierarchy.served_chain(issuer.slug)

    def keys(self, label: str | None) -> frozenset[str]:
        """The kinds of key that a request under this label may have. Raises LabelUnknown."""
        return self._labels.profile(label).keys

    def enrol(
        self, label: str | None, csr: bytes, caller: Caller, *, one_time: OneTimeStore
    ) -> IssuedCertificate | Pending:
        """A first certificate (RFC 7030 4.2.1). ``csr`` is PKCS #10 in DER.

        Raises subclasses of CodedError: those of ``ca.est.errors``, and what registration and issuance refuse.
        """
        profile = self._labels.profile(label)
        permit = self._permit(profile, caller, Guesses(one_time))
        self._permits.check_usable(permit, profile.name)
        _, spki = proven_key(csr)
        _check_permitted(csr, permit)
        application = self._application(permit, csr)
        key = hashlib.sha256(spki).digest()
        if not self._permits.check_approved(permit, key):
            self._permits.ask(permit, key)
            return Pending(self._settings.retry_after_seconds)
        return self._issue_first(permit, application)

    def renew(self, label: str | None, csr: bytes, caller: Caller, *, one_time: OneTimeStore) -> IssuedCertificate:
        """A successor of the client certificate, with the same names (RFC 7030 4.2.2); its key may be a new one.

        Raises as ``enrol``, and CertificateRequired, SubjectChanged, TooManyRenewals.
        """
        profile = self._labels.profile(label)
        if caller.certificate is None:
            raise errors.CertificateRequired("a renewal is asked for with the certificate that is renewed")
        old = self._standing(caller.certificate)
        if old.profile != profile.name:
            raise errors.LabelRefused(f"the certificate is of profile {old.profile}")
        proven_key(csr)
        _check_unchanged(csr, old)
        if one_time.count("est-renewals", old.id, ttl=DAY_SECONDS) > MAX_RENEWALS_A_DAY:
            raise errors.TooManyRenewals(f"a certificate has at most {MAX_RENEWALS_A_DAY} successors in a day")
        application = self._registration.apply(
            profile=profile.name,
            csr=csr,
            subject=dict(certified_subject(old.der)),
            alternative_names=certified_alternative_names(old.der),
            holder=old.holder,
            evidence=f"renewal of {old.serial_text}",
        )
        return self._issue_successor(old, application)

    def _permit(self, profile: CertificateProfile, caller: Caller, guesses: Guesses) -> Permit:
        if caller.secret is not None:
            name, secret = caller.secret
            guesses.check(name, caller.address)
            try:
                return self._permits.of_secret(name, secret)
            except errors.SecretRefused:
                guesses.wrong(name, caller.address)
                raise
        if caller.certificate is not None:
            return self._permits.of_certificate(self._standing(caller.certificate).id, profile.name)
        raise errors.AuthenticationRequired("show a one-time secret or a client certificate")

    def _standing(self, certificate: bytes) -> IssuedCertificate:
        """The register's entry for the client certificate, which the TLS handshake proved the possession of.

        The register holds every certificate of ours octet for octet, so no path is built.
        """
        try:
            found = self._register.by_der(certificate)
        except CertificateNotFound as error:
            raise IssuerNotAccepted("issuer not accepted: only certificates issued here open this door") from error
        if found.status.state is State.REVOKED:
            raise errors.CertificateRevoked("the client certificate is revoked")
        if found.status.state is State.SUSPENDED:
            raise errors.CertificateSuspended("the client certificate is suspended")
        if not found.not_before <= self._clock() <= found.not_after:
            raise errors.CertificateExpired("the client certificate has ended")
        return found

    def _application(self, permit: Permit, csr: bytes) -> Application:
        return self._registration.apply(
            profile=permit.label,
            csr=csr,
            subject=dict(permit.subject),
            alternative_names=permit.alternative_names,
            holder=permit.holder,
            evidence=f"est permit {permit.id}: {permit.evidence}",
        )

    def _issue_first(self, permit: Permit, application: Application) -> IssuedCertificate:
        actor = f"est:{permit.id}"

        def entering(session: Session, certificate: IssuedCertificate) -> None:
            self._permits.spend(session, permit)
            session.add(self._row(certificate, permit_id=permit.id))
            facts = {"label": permit.label, "permit": permit.id, "serial": certificate.serial_text}
            self._audit.append(session, events.ENROLLED, actor=actor, subject=certificate.id, facts=facts)

        return self._issuance.certify(application, actor=actor, entering=entering)

    def _issue_successor(self, old: IssuedCertificate, application: Application) -> IssuedCertificate:
        actor = f"est:{old.serial_text}"

        def entering(session: Session, certificate: IssuedCertificate) -> None:
            session.add(self._row(certificate, renewed_certificate_id=old.id))
            facts = {"label": old.profile, "renewed": old.serial_text, "serial": certificate.serial_text}
            self._audit.append(session, events.RENEWED, actor=actor, subject=certificate.id, facts=facts)

        return self._issuance.certify(application, actor=actor, entering=entering)

    def _row(
        self, certificate: IssuedCertificate, *, permit_id: str | None = None, renewed_certificate_id: str | None = None
    ) -> EnrolmentRow:
        return EnrolmentRow(
            certificate_id=certificate.id,
            label=certificate.profile,
            permit_id=permit_id,
            renewed_certificate_id=renewed_certificate_id,
            enrolled_at=self._clock(),
        )


def _check_permitted(csr: bytes, permit: Permit) -> None:
    """A request may ask for what the permit names, or leave names out; its subject is read over (RFC 7030 4.2.1)."""
    permitted = {canonical(name) for name in permit.alternative_names}
    if not requested_alternative_names(csr) <= permitted:
        raise errors.NameNotPermitted("the request names something that the permit does not")


def _check_unchanged(csr: bytes, old: IssuedCertificate) -> None:
    """RFC 7030 4.2.2: Subject and SubjectAltName MUST be identical to those of the certificate being renewed."""
    names = frozenset(canonical(name) for name in certified_alternative_names(old.der))
    if requested_subject(csr) != certified_subject(old.der) or requested_alternative_names(csr) != names:
        raise errors.SubjectChanged("subject and subjectAltName must be those of the certificate that is renewed")
