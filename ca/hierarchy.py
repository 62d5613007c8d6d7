"""The authorities: which CA signs what, its chain, and the credentials that speak for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from sqlalchemy import select

from ca.errors import AuthorityNotFound, CertificateNotFound
from ca.register import IssuedCertificate, State, issued
from ca.tables import AuthorityRow, CertificateRow
from ca.to_be_signed import PublicKey
from core.clock import Clock
from core.database import Database
from policies import names

RESPONDER_PROFILES = ("ocsp-responder", "ocsp-responder-root")
UNIT_PROFILE = "tsa"


@dataclass(frozen=True)
class Authority:
    """A CA as others need to know it. ``issuer`` is the slug of the CA that signed it, its own for a root."""

    slug: str
    purpose: str
    key_label: str
    issuer: str
    certificate_id: str
    der: bytes = field(repr=False)

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


class Hierarchy:
    """Looks authorities up. What was found is kept, since an authority never changes; what was not is asked again."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[str, Authority] = {}

    def authorities(self) -> tuple[Authority, ...]:
        """All authorities, the oldest first: a CA stands after the CA that signed it."""
        query = (
            select(AuthorityRow, CertificateRow)
            .join(CertificateRow, CertificateRow.id == AuthorityRow.certificate_id)
            .order_by(AuthorityRow.established_at, AuthorityRow.slug)
        )
        with self._database.reading() as session:
            for row, certificate in session.execute(query):
                self._known.setdefault(row.slug, _authority(row, certificate))
        return tuple(self._known.values())

    def authority(self, slug: str) -> Authority:
        """The authority of this slug. Raises AuthorityNotFound."""
        if slug not in self._known:
            self.authorities()
        if slug not in self._known:
            raise AuthorityNotFound(f"there is no authority {slug}")
        return self._known[slug]

    def for_purpose(self, purpose: str) -> Authority:
        """The newest authority of this purpose. Raises AuthorityNotFound."""
        found = [authority for authority in self.authorities() if authority.purpose == purpose]
        if not found:
            raise AuthorityNotFound(f"there is no authority for {purpose}")
        return found[-1]

    def chain(self, slug: str) -> tuple[Authority, ...]:
        """From this authority up to its root, the root included. Raises AuthorityNotFound."""
        authority = self.authority(slug)
        chain = [authority]
        while authority.issuer != authority.slug:
            authority = self.authority(authority.issuer)
            chain.append(authority)
        return tuple(chain)

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
    )
