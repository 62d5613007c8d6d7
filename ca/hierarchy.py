"""The authorities: which CA signs what, its chain, and the credentials that speak for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property

from asn1crypto import core as asn1
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from sqlalchemy import select

from ca.errors import (
    AuthorityExpired,
    AuthorityNotFound,
    AuthorityNotInForce,
    AuthorityRetired,
    AuthorityRevoked,
    CertificateNotFound,
)
from ca.register import IssuedCertificate, State, issued
from ca.tables import AuthorityRow, CertificateRow, FurtherCertificateRow
from ca.to_be_signed import PublicKey
from core.clock import Clock
from core.database import Database
from policies import names

RESPONDER_PROFILES = ("ocsp-responder", "ocsp-responder-root")
UNIT_PROFILE = "tsa"


# Made once: every issuance asks it, and building the statement costs as much as running it.
_STANDING = (
    select(AuthorityRow.slug, AuthorityRow.retired_at, CertificateRow.state)
    .join(CertificateRow, CertificateRow.id == AuthorityRow.certificate_id)
    .order_by(AuthorityRow.established_at, AuthorityRow.slug)
)


@dataclass(frozen=True)
class Authority:
    """A CA as others need to know it. ``issuer`` is the slug of the CA that signed it, its own for a root."""

    slug: str
    purpose: str
    key_label: str
    issuer: str
    certificate_id: str
    der: bytes = field(repr=False)
    retired_at: datetime | None = None

    @property
    def is_root(self) -> bool:
        """Whether it signed itself."""
        return self.issuer == self.slug

    @cached_property
    def certificate(self) -> x509.Certificate:
        """Its certificate, parsed."""
        return x509.load_der_x509_certificate(self.der)

    @cached_property
    def public_key(self) -> PublicKey:
        """The key that its signatures verify under."""
        key = self.certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)  # noqa: S101 - profiles allow no other
        return key

    @cached_property
    def name(self) -> bytes:
        """The DER of its subject: the issuer name of what it signs, octet for octet."""
        return names.subject_of(self.der)

    @cached_property
    def subject_key_identifier(self) -> bytes:
        """What stands in the authority key identifier of all it signs."""
        return self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


@dataclass(frozen=True)
class Credential:
    """A certificate whose private key lies in our token under ``key_label``."""

    key_label: str
    certificate: IssuedCertificate


@dataclass(frozen=True)
class FurtherCertificate:
    """One more certificate for an authority's key. ``issuer`` is the root of ours that signed it, None for an outside
    one; ``chain`` holds the outside certificates above it, DER, its root last."""

    slug: str
    authority: str
    issuer: str | None
    served: bool
    der: bytes = field(repr=False)
    chain: tuple[bytes, ...] = field(repr=False)


class Hierarchy:
    """Looks authorities up. A certificate that was found is kept, since it never changes; who is in force is asked."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[str, Authority] = {}

    def authorities(self) -> tuple[Authority, ...]:
        """All authorities, the oldest first: a CA stands after the CA that signed it."""
        return tuple(authority for authority, _ in self._standing())

    def authority(self, slug: str) -> Authority:
        """The authority of this slug. Raises AuthorityNotFound."""
        if slug not in self._known:
            self.authorities()
        if slug not in self._known:
            raise AuthorityNotFound(f"there is no authority {slug}")
        return self._known[slug]

    def for_purpose(self, purpose: str) -> Authority:
        """The newest authority of this purpose that may certify now.

        Raises AuthorityNotFound when there was never one, else why the newest may not: AuthorityRevoked,
        AuthorityExpired or AuthorityRetired.
        """
        standing = self._standing()
        found = [authority for authority, _ in reversed(standing) if authority.purpose == purpose]
        if not found:
            raise AuthorityNotFound(f"there is no authority for {purpose}")
        refusals = [self._refusal(authority, standing) for authority in found]
        for authority, refusal in zip(found, refusals, strict=True):
            if refusal is None:
                return authority
        raise next(refusal for refusal in refusals if refusal is not None)

    def check_in_force(self, slug: str, *, for_status: bool = False) -> None:
        """Whether the authority may sign now: neither it nor one above it revoked or ended, itself not retired.

        ``for_status`` is for what speaks of certificates that exist: a retired authority goes on signing CRLs and
        responders. Raises AuthorityNotFound, AuthorityRevoked, AuthorityExpired, AuthorityRetired.
        """
        standing = self._standing()
        refusal = self._refusal(self.authority(slug), standing, for_status=for_status)
        if refusal is not None:
            raise refusal

    def chain(self, slug: str) -> tuple[Authority, ...]:
        """From this authority up to its root, the root included. Raises AuthorityNotFound."""
        authority = self.authority(slug)
        chain = [authority]
        while authority.issuer != authority.slug:
            authority = self.authority(authority.issuer)
            chain.append(authority)
        return tuple(chain)

    def served_chain(self, slug: str) -> tuple[bytes, ...]:
        """The certificates, DER, that go with what this authority signed, the root last: those of our own chain, or
        from the first authority on that serves an outside root's answer, that answer and its chain."""
        served = {further.authority: further for further in self.further_certificates() if further.served}
        certificates: list[bytes] = []
        for authority in self.chain(slug):
            further = served.get(authority.slug)
            if further is not None:
                return (*certificates, further.der, *further.chain)
            certificates.append(authority.der)
        return tuple(certificates)

    def further_certificates(self) -> tuple[FurtherCertificate, ...]:
        """Cross-certificates and outside roots' answers, the oldest first."""
        query = select(FurtherCertificateRow).order_by(FurtherCertificateRow.entered_at, FurtherCertificateRow.slug)
        with self._database.reading() as session:
            return tuple(
                FurtherCertificate(
                    slug=row.slug,
                    authority=row.authority,
                    issuer=row.issuer,
                    served=row.served,
                    der=row.der,
                    chain=split(row.chain),
                )
                for row in session.scalars(query)
            )

    def certificate_at(self, slug: str) -> bytes:
        """The certificate that ``/aia/<slug>.cer`` gives, DER: an authority's, or a further one by its own slug.

        An authority that serves an outside root's answer gives that; its own is then at ``<slug>-own``. Raises
        AuthorityNotFound.
        """
        further = self.further_certificates()
        for each in further:
            if slug == each.slug or (each.served and slug == each.authority):
                return each.der
        if slug.removesuffix("-own") in {each.authority for each in further if each.served}:
            slug = slug.removesuffix("-own")
        return self.authority(slug).der

    def _standing(self) -> tuple[tuple[Authority, bool], ...]:
        """Every authority as it is now, the oldest first, with whether its certificate is good."""
        standing = []
        with self._database.reading() as session:
            for slug, retired_at, state in session.execute(_STANDING).all():
                known = self._known.get(slug)
                if known is None:
                    row = session.get_one(AuthorityRow, slug)
                    known = _authority(row, session.get_one(CertificateRow, row.certificate_id))
                elif known.retired_at != retired_at:
                    known = replace(known, retired_at=retired_at)
                self._known[slug] = known
                standing.append((known, state == State.GOOD.value))
        return tuple(standing)

    def _refusal(
        self, authority: Authority, standing: Sequence[tuple[Authority, bool]], *, for_status: bool = False
    ) -> AuthorityNotInForce | None:
        # notAfter is inclusive, and counts whole seconds (RFC 5280 4.1.2.5).
        now = self._clock().replace(microsecond=0)
        good = {each.slug: is_good for each, is_good in standing}
        for above in self.chain(authority.slug):
            if not good[above.slug]:
                return AuthorityRevoked(f"{above.slug} is revoked; it signs nothing more")
            if above.certificate.not_valid_after_utc < now:
                return AuthorityExpired(f"the certificate of {above.slug} has ended; a new generation is due")
        if authority.retired_at is not None and not for_status:
            return AuthorityRetired(f"{authority.slug} was retired; it certifies nothing more")
        return None

    def root(self, slug: str) -> Authority:
        """The root above this authority."""
        return self.chain(slug)[-1]

    def responder(self, slug: str) -> Credential:
        """The newest responder of this authority that may sign now. Raises CertificateNotFound."""
        return self._credential(RESPONDER_PROFILES, slug)

    def time_stamping_unit(self) -> Credential:
        """The newest time-stamping unit that may sign now. Raises CertificateNotFound."""
        return self._credential((UNIT_PROFILE,), None)

    def _credential(self, profiles: tuple[str, ...], issuer: str | None) -> Credential:
        now = self._clock()
        query = select(CertificateRow).where(
            CertificateRow.profile.in_(profiles),
            CertificateRow.state == State.GOOD.value,
            CertificateRow.key_label.is_not(None),
            CertificateRow.not_before <= now,
            CertificateRow.not_after > now,
        )
        if issuer is not None:
            query = query.where(CertificateRow.issuer == issuer)
        with self._database.reading() as session:
            row = session.scalar(query.order_by(CertificateRow.issued_at.desc()).limit(1))
            if row is None or row.key_label is None:
                raise CertificateNotFound(f"no {profiles[0]} certificate is in force")
            return Credential(row.key_label, issued(row))


def split(ders: bytes) -> tuple[bytes, ...]:
    """Certificates that stand one after the other, DER."""
    parts: list[bytes] = []
    while ders:
        length = len(asn1.Asn1Value.load(ders).dump())
        parts.append(ders[:length])
        ders = ders[length:]
    return tuple(parts)


def usage_ends(certificate: IssuedCertificate) -> datetime:
    """When the certificate's key stops signing: privateKeyUsagePeriod, or the certificate's end. Aware UTC."""
    try:
        period = certificate.certificate.extensions.get_extension_for_class(x509.PrivateKeyUsagePeriod).value
    except x509.ExtensionNotFound:
        return certificate.not_after
    if period.not_after is None:
        return certificate.not_after
    return min(period.not_after.replace(tzinfo=UTC), certificate.not_after)


def _authority(row: AuthorityRow, certificate: CertificateRow) -> Authority:
    return Authority(
        slug=row.slug,
        purpose=row.purpose,
        key_label=row.key_label,
        issuer=row.issuer,
        certificate_id=row.certificate_id,
        der=certificate.der,
        retired_at=row.retired_at,
    )
