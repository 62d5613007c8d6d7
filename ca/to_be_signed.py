"""TBSCertificate by profile, and the envelope around signed octets (RFC 5280 4.1, 5.1).

The TBS is joined here because the library's builder refuses names longer than 64 octets of UTF-8, and because most of
its octets are the same from one certificate of an issuer to the next: they are encoded by the library once and kept.
The octets that are linted are the octets that are signed: a linter gets them under a throw-away key of the issuer's
kind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID

from ca.qc_statements import identifier_semantics, qc_statements
from policies import der, oids
from policies.profiles import KEY_USAGES, CertificateProfile

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

_NULL = der.tlv(der.NULL)
_VERSION_3 = der.tlv(0xA0, der.integer(2))  # RFC 5280 4.1.2.1
_TRUE = der.tlv(der.BOOLEAN, b"\xff")
# RFC 5280 4.2.1.6: the choices of GeneralName that profiles know, and how the text of each becomes octets.
GENERAL_NAME_TAGS = {"DNS": 0x82, "URI": 0x86, "IP": 0x87}

# RFC 5758 3.2: without parameters; RFC 4055 5: with NULL.
_ECDSA = {
    name: der.tlv(der.SEQUENCE, der.object_identifier(oid))
    for name, oid in (("sha256", oids.ECDSA_SHA256), ("sha384", oids.ECDSA_SHA384), ("sha512", oids.ECDSA_SHA512))
}
_RSA_SHA256 = der.tlv(der.SEQUENCE, der.object_identifier(oids.RSA_SHA256), _NULL)


@dataclass(frozen=True)
class Pointers:
    """The addresses inside a certificate, and the identifiers that an installation chooses."""

    crl: str
    issuer_certificate: str
    ocsp: str
    disclosure: str
    policy_oid: str


@dataclass(frozen=True)
class Contents:
    """Everything a TBSCertificate holds. Names and the public key are DER."""

    serial: int
    issuer_name: bytes
    issuer_key: PublicKey
    authority_key_identifier: bytes
    subject_name: bytes
    public_key: PublicKey
    spki: bytes
    not_before: datetime
    not_after: datetime
    alternative_names: Sequence[tuple[str, str]]


def certificate_tbs(profile: CertificateProfile, contents: Contents, pointers: Pointers) -> bytes:
    """The DER of a TBSCertificate of this profile."""
    return der.tlv(
        der.SEQUENCE,
        _VERSION_3,
        der.integer(contents.serial),
        signature_algorithm(contents.issuer_key),
        contents.issuer_name,
        der.tlv(der.SEQUENCE, der.time(contents.not_before), der.time(contents.not_after)),
        contents.subject_name,
        contents.spki,
        der.tlv(0xA3, der.tlv(der.SEQUENCE, *_extensions(profile, contents, pointers))),
    )


def _extensions(profile: CertificateProfile, contents: Contents, pointers: Pointers) -> Iterable[bytes]:
    yield _constraints(profile, contents.authority_key_identifier)
    yield extension(oids.SUBJECT_KEY_IDENTIFIER, der.tlv(der.OCTET_STRING, key_identifier(contents.spki)))
    yield _purposes(profile, pointers.policy_oid)
    if profile.private_key_usage_period:
        yield _usage_period(contents.not_before, contents.not_before + profile.private_key_usage_period)
    if contents.alternative_names:
        yield extension(oids.SUBJECT_ALTERNATIVE_NAME, general_names(contents.alternative_names))
    if profile.crl_distribution_point:
        yield _distribution_point(pointers.crl)
    yield _locations(profile, pointers.issuer_certificate, pointers.ocsp)
    yield _statements(profile, pointers.disclosure)


def extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    """An Extension (RFC 5280 4.1); ``critical`` is left out when false, as its default demands (X.690 11.5)."""
    flag = _TRUE if critical else b""
    return der.tlv(der.SEQUENCE, der.object_identifier(oid), flag, der.tlv(der.OCTET_STRING, value))


def key_identifier(spki: bytes) -> bytes:
    """SHA-1 over the content of the key's BIT STRING without its count of unused bits (RFC 5280 4.2.1.2 (1))."""
    _, bits = der.element(spki).children()
    return hashlib.sha1(bits.content[1:], usedforsecurity=False).digest()


def general_names(names: Sequence[tuple[str, str]]) -> bytes:
    """GeneralNames (RFC 5280 4.2.1.6) from pairs of kind and text, in their order."""
    return der.tlv(der.SEQUENCE, *(der.tlv(GENERAL_NAME_TAGS[kind], _general_name(kind, text)) for kind, text in names))


def _general_name(kind: str, text: str) -> bytes:
    return ip_address(text).packed if kind == "IP" else text.encode("ascii")


def _usage_period(begin: datetime, end: datetime) -> bytes:
    # RFC 3280 4.2.1.4: GeneralizedTime whatever the year.
    first, last = (der.tlv(tag, f"{at:%Y%m%d%H%M%S}Z".encode()) for tag, at in ((0x80, begin), (0x81, end)))
    return extension(oids.PRIVATE_KEY_USAGE_PERIOD, der.tlv(der.SEQUENCE, first, last))


@lru_cache(maxsize=256)
def _constraints(profile: CertificateProfile, authority_key_identifier: bytes) -> bytes:
    made: list[tuple[x509.ExtensionType, bool]] = []
    if profile.basic_constraints:
        made.append((x509.BasicConstraints(profile.basic_constraints.ca, profile.basic_constraints.path_length), True))
    usages = {usage: usage in profile.key_usage for usage in KEY_USAGES}
    made.append((x509.KeyUsage(**usages), True))  # RFC 5280 4.2.1.3
    if profile.authority_key_identifier:
        made.append((x509.AuthorityKeyIdentifier(authority_key_identifier, None, None), False))
    return _encoded(made)


@lru_cache(maxsize=256)
def _purposes(profile: CertificateProfile, policy_oid: str) -> bytes:
    made: list[tuple[x509.ExtensionType, bool]] = []
    if profile.extended_key_usage:
        usages = [x509.ObjectIdentifier(oids.EXTENDED_KEY_USAGES[name]) for name in profile.extended_key_usage]
        made.append((x509.ExtendedKeyUsage(usages), profile.extended_key_usage_critical))
    if profile.policies:
        identifiers = [oids.CERTIFICATE_POLICIES_BY_NAME.get(name, policy_oid) for name in profile.policies]
        policies = [x509.PolicyInformation(x509.ObjectIdentifier(oid), None) for oid in identifiers]
        made.append((x509.CertificatePolicies(policies), False))
    if profile.ocsp_no_check:
        made.append((x509.OCSPNoCheck(), False))
    return _encoded(made)


@lru_cache(maxsize=1024)
def _distribution_point(url: str) -> bytes:
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)
    return _encoded([(x509.CRLDistributionPoints([point]), False)])


@lru_cache(maxsize=256)
def _locations(profile: CertificateProfile, issuer_certificate: str, ocsp: str) -> bytes:
    if not profile.authority_information_access:
        return b""
    access = [_access(AuthorityInformationAccessOID.CA_ISSUERS, issuer_certificate)]
    if profile.ocsp_pointer:
        access.append(_access(AuthorityInformationAccessOID.OCSP, ocsp))
    return _encoded([(x509.AuthorityInformationAccess(access), False)])


@lru_cache(maxsize=256)
def _statements(profile: CertificateProfile, disclosure: str) -> bytes:
    encoded = b""
    if profile.qualified:
        encoded += extension(oids.QC_STATEMENTS, qc_statements(profile.qualified, disclosure))
    if profile.identifier_semantics:
        encoded += extension(oids.QC_STATEMENTS, identifier_semantics(profile.identifier_semantics))
    if profile.validity_assured_short_term:
        encoded += extension(oids.VALIDITY_ASSURED_SHORT_TERM, _NULL)  # EN 319 412-1 5.2.2
    return encoded


def _encoded(made: Iterable[tuple[x509.ExtensionType, bool]]) -> bytes:
    return b"".join(extension(each.oid.dotted_string, each.public_bytes(), critical=flag) for each, flag in made)


def _access(method: x509.ObjectIdentifier, url: str) -> x509.AccessDescription:
    return x509.AccessDescription(method, x509.UniformResourceIdentifier(url))


def digest_for(key: PublicKey | PrivateKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512:
    """The digest that goes with a signing key: as strong as its curve; SHA-256 for RSA."""
    if key.key_size == 384:
        return hashes.SHA384()
    return hashes.SHA512() if key.key_size == 521 else hashes.SHA256()


def signature_algorithm(key: PublicKey) -> bytes:
    """The DER of the AlgorithmIdentifier of signatures by ``key`` (RFC 5758 3.2, RFC 4055 5)."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _ECDSA[digest_for(key).name]
    return _RSA_SHA256


def sign(key: PrivateKey, tbs: bytes) -> bytes:
    """The signature over exactly these octets."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(tbs, ec.ECDSA(digest_for(key)))
    return key.sign(tbs, padding.PKCS1v15(), hashes.SHA256())


def verify(key: PublicKey, tbs: bytes, signature: bytes) -> bool:
    """Whether the signature stands under ``key``."""
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, tbs, ec.ECDSA(digest_for(key)))
        else:
            key.verify(signature, tbs, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def assemble(tbs: bytes, issuer_key: PublicKey, signature: bytes) -> bytes:
    """The DER of a Certificate or CertificateList around its TBS octets."""
    return der.tlv(der.SEQUENCE, tbs, signature_algorithm(issuer_key), der.bit_string(signature))


def under_throw_away_key(tbs: bytes, issuer_key: PublicKey) -> bytes:
    """The same octets as a linter gets them: signed by a key of the issuer's kind that nobody trusts."""
    return assemble(tbs, issuer_key, sign(throw_away_key(issuer_key), tbs))


def throw_away_key(like: PublicKey) -> PrivateKey:
    """A key of the same kind that signs only what is looked at and thrown away."""
    name = like.curve.name if isinstance(like, ec.EllipticCurvePublicKey) else ""
    return _throw_away_key(name, like.key_size)


@lru_cache(maxsize=8)
def _throw_away_key(curve: str, size: int) -> PrivateKey:
    curves: dict[str, ec.EllipticCurve] = {
        "secp256r1": ec.SECP256R1(),
        "secp384r1": ec.SECP384R1(),
        "secp521r1": ec.SECP521R1(),
    }
    return ec.generate_private_key(curves[curve]) if curve else rsa.generate_private_key(65537, size)


def tbs_of(signed: bytes) -> bytes:
    """The TBS octets inside a Certificate or CertificateList. Raises ``core.der.DerMalformed``."""
    return der.element(signed).children()[0].encoded


def signature_of(signed: bytes) -> bytes:
    """The signature of a Certificate or CertificateList, as it stands in its BIT STRING."""
    return der.element(signed).children()[2].content[1:]
