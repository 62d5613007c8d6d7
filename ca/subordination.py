"""Subordination under an outside root: our authority asks for a certificate, and the answer is taken in after checks.

The authority keeps its name, its key and our own chain. What it signed is then verified over either chain; which of the
two is served and embedded is chosen for each authority.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from ca import events, to_be_signed
from ca.dual_control import Permit, unasked
from ca.errors import AuthorityNotFound, OutsideCertificateRefused, SignatureRefused
from ca.hierarchy import Authority, FurtherCertificate, Hierarchy
from ca.tables import AuthorityRow, FurtherCertificateRow
from core.audit import AuditLog, Fact
from core.clock import Clock
from core.database import Database
from hsm.keystore import Keystore
from policies import names

MAX_CERTIFICATES_OCTETS = 65_536
MAX_CHAIN = 8


class Named(Protocol):
    """What an answer must repeat: the authority's name (DER), key and key identifier."""

    @property
    def name(self) -> bytes:
        """The DER of its subject."""
        ...

    @property
    def public_key(self) -> to_be_signed.PublicKey:
        """Its key."""
        ...

    @property
    def subject_key_identifier(self) -> bytes:
        """What stands in the authority key identifier of all it signed."""
        ...


class Subordination:
    """Asks outside roots, and takes their answers."""

    def __init__(
        self, *, database: Database, audit: AuditLog, clock: Clock, keystore: Keystore, hierarchy: Hierarchy
    ) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._keystore = keystore
        self._hierarchy = hierarchy

    def request(self, slug: str, *, actor: str, permit: Permit = unasked) -> bytes:
        """PKCS #10 (RFC 2986), DER, for an authority's name and key, signed by that key in the token.

        The extensions are what we wish for; the outside root decides. Raises AuthorityNotFound, AuthorityRetired,
        AuthorityRevoked.
        """
        authority = self._hierarchy.authority(slug)
        self._hierarchy.check_in_force(slug)
        with self._database.transaction() as session:  # on record before the key signs
            permit(session)
            self._audit.append(session, events.CERTIFICATION_REQUESTED, actor=actor, subject=slug)
        request = _request(authority, self._keystore.key(authority.key_label))
        if request.public_key() != authority.public_key or not request.is_signature_valid:
            raise SignatureRefused("the token's signature does not verify; nothing was released")
        return request.public_bytes(serialization.Encoding.DER)

    def accept(
        self,
        slug_of_authority: str,
        *,
        slug: str,
        certificate: bytes,
        chain: bytes,
        served: bool,
        actor: str,
        permit: Permit = unasked,
    ) -> FurtherCertificate:
        """Take an outside root's answer in under ``slug``. ``certificate`` is PEM or DER, ``chain`` PEM with the
        certificates above it up to a self-signed one.

        ``served`` makes it the chain that is served and embedded. Raises OutsideCertificateRefused whose ``reason`` is
        ``unreadable``, ``key``, ``name``, ``key_identifier``, ``constraints``, ``validity``, ``chain`` or ``slug``.
        """
        authority = self._hierarchy.authority(slug_of_authority)
        answer = one_certificate(certificate)
        above = tuple(certificates_in(chain))
        check_answer(authority, answer, above, self._clock)
        der = answer.public_bytes(serialization.Encoding.DER)
        ders = [each.public_bytes(serialization.Encoding.DER) for each in above]
        with self._database.transaction() as session:
            self._check_slug(session, slug)
            row = FurtherCertificateRow(
                slug=slug,
                authority=authority.slug,
                issuer=None,
                der=der,
                chain=b"".join(ders),
                served=False,
                entered_at=self._clock(),
            )
            session.add(row)
            session.flush()
            facts: dict[str, Fact] = {"slug": slug, "sha256": hashlib.sha256(der).hexdigest(), "served": served}
            if served:
                _serve(session, authority.slug, slug)
            permit(session)
            self._audit.append(
                session, events.OUTSIDE_CERTIFICATE_ACCEPTED, actor=actor, subject=authority.slug, facts=facts
            )
        return FurtherCertificate(slug, authority.slug, None, served, der, tuple(ders))

    def serve(self, slug_of_authority: str, slug: str | None, *, actor: str, permit: Permit = unasked) -> None:
        """Choose the chain of an authority: the outside one of this slug, or with None our own. Raises
        AuthorityNotFound."""
        known = {each.slug: each for each in self._hierarchy.further_certificates() if each.issuer is None}
        self._hierarchy.authority(slug_of_authority)
        if slug is not None and (slug not in known or known[slug].authority != slug_of_authority):
            raise AuthorityNotFound(f"{slug_of_authority} has no certificate {slug} from an outside root")
        with self._database.transaction() as session:
            _serve(session, slug_of_authority, slug)
            permit(session)
            facts: dict[str, Fact] = {"slug": slug or "own"}
            self._audit.append(session, events.CHAIN_CHOSEN, actor=actor, subject=slug_of_authority, facts=facts)

    def _check_slug(self, session: Session, slug: str) -> None:
        taken = session.get(FurtherCertificateRow, slug) or session.scalar(
            select(AuthorityRow).where(AuthorityRow.slug == slug)
        )
        if taken is not None:
            raise OutsideCertificateRefused(f"the slug {slug} is taken; slugs are never used again", reason="slug")


def check_answer(
    authority: Named, answer: x509.Certificate, chain: Sequence[x509.Certificate], clock: Clock
) -> None:
    """Whether an outside certificate may stand for our authority. Raises OutsideCertificateRefused."""
    der = answer.public_bytes(serialization.Encoding.DER)
    if answer.public_key() != authority.public_key:
        raise OutsideCertificateRefused("the certificate holds another key than the authority's", reason="key")
    # What the authority signed names its issuer octet for octet (RFC 5280 7.1 allows more; verifiers differ).
    if names.subject_of(der) != authority.name:
        raise OutsideCertificateRefused("the certificate names another subject, or encodes it otherwise", reason="name")
    if _key_identifier(answer) != authority.subject_key_identifier:
        raise OutsideCertificateRefused("the subject key identifier is not the authority's", reason="key_identifier")
    _check_constraints((answer, *chain))
    now = clock()
    for each in (answer, *chain):
        if not each.not_valid_before_utc <= now <= each.not_valid_after_utc:
            raise OutsideCertificateRefused("a certificate of the chain is not valid now", reason="validity")
    _check_signatures((answer, *chain))


def one_certificate(octets: bytes) -> x509.Certificate:
    """A certificate from PEM or DER. Raises OutsideCertificateRefused."""
    if not octets.lstrip().startswith(b"-----"):
        try:
            return x509.load_der_x509_certificate(octets)
        except ValueError as error:
            raise OutsideCertificateRefused("the file holds no certificate", reason="unreadable") from error
    found = certificates_in(octets)
    if len(found) != 1:
        raise OutsideCertificateRefused("the file must hold one certificate", reason="unreadable")
    return found[0]


def certificates_in(pem: bytes) -> list[x509.Certificate]:
    """All certificates of a PEM text, in order; none for an empty one. Raises OutsideCertificateRefused."""
    if not pem.strip():
        return []
    if len(pem) > MAX_CERTIFICATES_OCTETS:
        raise OutsideCertificateRefused("the file is too long", reason="unreadable")
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise OutsideCertificateRefused("the file holds no certificates in PEM", reason="unreadable") from error


def _check_constraints(certificates: Sequence[x509.Certificate]) -> None:
    """Each a CA that may sign certificates, with room for those below it (RFC 5280 4.2.1.9, 6.1.4)."""
    for below, certificate in enumerate(certificates):
        try:
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
            usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        except (x509.ExtensionNotFound, ValueError) as error:
            raise OutsideCertificateRefused(
                "a certificate of the chain lacks basicConstraints or keyUsage", reason="constraints"
            ) from error
        roomy = constraints.path_length is None or constraints.path_length >= below
        if not constraints.ca or not roomy or not usage.key_cert_sign or (below == 0 and not usage.crl_sign):
            raise OutsideCertificateRefused(
                "a certificate of the chain may not sign those below it", reason="constraints"
            )


def _check_signatures(certificates: Sequence[x509.Certificate]) -> None:
    if not 2 <= len(certificates) <= MAX_CHAIN + 1:
        raise OutsideCertificateRefused("the chain holds the outside root and what stands between", reason="chain")
    for certificate, issuer in zip(certificates, (*certificates[1:], certificates[-1]), strict=True):
        try:
            certificate.verify_directly_issued_by(issuer)  # names and signature; the last one signs itself
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
            raise OutsideCertificateRefused(
                "the chain does not lead, signature by signature, to a root", reason="chain"
            ) from error


def _key_identifier(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return None


def _request(authority: Authority, key: to_be_signed.PrivateKey) -> x509.CertificateSigningRequest:
    wished = authority.certificate.extensions
    builder = x509.CertificateSigningRequestBuilder().subject_name(authority.certificate.subject)
    for kind in (x509.BasicConstraints, x509.KeyUsage):
        extension = wished.get_extension_for_class(kind)
        builder = builder.add_extension(extension.value, critical=extension.critical)
    identifier = wished.get_extension_for_class(x509.SubjectKeyIdentifier)
    builder = builder.add_extension(identifier.value, critical=False)
    scheme = None if isinstance(key, ec.EllipticCurvePrivateKey) else padding.PKCS1v15()
    return builder.sign(key, to_be_signed.digest_for(key), rsa_padding=scheme)


def _serve(session: Session, authority: str, slug: str | None) -> None:
    of_authority = update(FurtherCertificateRow).where(FurtherCertificateRow.authority == authority)
    session.execute(of_authority.values(served=False))
    if slug is not None:
        session.execute(of_authority.where(FurtherCertificateRow.slug == slug).values(served=True))
