"""Foreign chains, judged before they are listed: every certificate must be an authority's, sound and in force."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca.trust_list.errors import CertificateUnreadable, ImportRefused
from policies import names
from policies.keys import KeyRefused, check_public_key, load_public_key

MAX_CHAIN = 8
MAX_CHAIN_OCTETS = 256 * 1024
_WEAK = (hashes.MD5, hashes.SHA1)


def loaded(der: bytes) -> x509.Certificate:
    """A certificate. Raises CertificateUnreadable."""
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion) as error:
        raise CertificateUnreadable("the octets are no X.509 certificate") from error


def read_chain(data: bytes) -> tuple[bytes, ...]:
    """Certificates from a file: PEM, one or several, or one in DER. DER, in the file's order.

    Raises CertificateUnreadable, ImportRefused.
    """
    if len(data) > MAX_CHAIN_OCTETS:
        raise ImportRefused(f"a file of certificates has at most {MAX_CHAIN_OCTETS} octets")
    if b"-----BEGIN" not in data:
        return (loaded(data).public_bytes(Encoding.DER),)
    try:
        found = x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise CertificateUnreadable("the file holds no readable X.509 certificate") from error
    return tuple(dict.fromkeys(certificate.public_bytes(Encoding.DER) for certificate in found))


def check_chain(chain: tuple[bytes, ...], now: datetime) -> None:
    """Raise ImportRefused unless each certificate may be listed and they belong together."""
    if not 1 <= len(chain) <= MAX_CHAIN:
        raise ImportRefused(f"a chain has 1 to {MAX_CHAIN} certificates")
    certificates = [loaded(der) for der in chain]
    for certificate in certificates:
        _check_authority(certificate, now)
    if len(tops_of(chain)) != 1:
        raise ImportRefused("the certificates are no single chain", reason="chain.unconnected")


def check_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether ``issuer``'s key signed ``certificate``, which names it."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def is_authority(certificate: x509.Certificate) -> bool:
    """basicConstraints and keyUsage of a certification authority (RFC 5280 4.2.1.9, 4.2.1.3)."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False
    return constraints.critical and constraints.value.ca and usage.key_cert_sign


def _check_authority(certificate: x509.Certificate, now: datetime) -> None:
    name = names.name_text(names.subject_of(certificate.public_bytes(Encoding.DER)))
    if not is_authority(certificate):
        raise ImportRefused(f"{name} is no certification authority", reason="chain.no_authority")
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise ImportRefused(f"{name} is not in force", reason="chain.expired")
    if isinstance(certificate.signature_hash_algorithm, _WEAK):
        raise ImportRefused(f"{name} is signed with a broken hash", reason="chain.weak_signature")
    try:
        check_public_key(
            load_public_key(certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
        )
    except (KeyRefused, ValueError, UnsupportedAlgorithm) as refusal:
        raise ImportRefused(f"the key of {name}: {refusal}", reason="chain.weak_key") from refusal
    self_signed = certificate.issuer.public_bytes() == certificate.subject.public_bytes()
    if self_signed and not check_issued(certificate, certificate):
        raise ImportRefused(f"{name} does not verify under its own key", reason="chain.signature")


def tops_of(authorities: Sequence[bytes]) -> tuple[bytes, ...]:
    """Those that none of the others issued. All DER."""
    known = {der: loaded(der) for der in authorities}
    return tuple(
        der
        for der, certificate in known.items()
        if not any(check_issued(certificate, other) for each, other in known.items() if each != der)
    )
