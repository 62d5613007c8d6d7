"""TBSCertificate by profile, and the envelope around signed octets (RFC 5280 4.1, 5.1).

The TBS is assembled here because the library's builder refuses names longer than 64 octets of UTF-8. The octets that
are linted are the octets that are signed: a linter gets them under a throw-away key of the issuer's kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from asn1crypto import algos, core, keys
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID

from ca.qc_statements import qc_statements
from policies import oids
from policies.profiles import KEY_USAGES, CertificateProfile

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

_POLICIES = {"anyPolicy": oids.ANY_POLICY, "QCP-n": oids.QCP_N, "QCP-l": oids.QCP_L}


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
    extensions = [
        {"extn_id": extension.oid, "critical": critical, "extn_value": core.ParsableOctetString(extension.der)}
        for extension, critical in _extensions(profile, contents, pointers)
    ]
    return bytes(
        asn1_x509.TbsCertificate(
            {
                "version": "v3",
                "serial_number": contents.serial,
                "signature": signature_algorithm(contents.issuer_key),
                "issuer": asn1_x509.Name.load(contents.issuer_name),
                "validity": {"not_before": _time(contents.not_before), "not_after": _time(contents.not_after)},
                "subject": asn1_x509.Name.load(contents.subject_name),
                "subject_public_key_info": keys.PublicKeyInfo.load(contents.spki),
                "extensions": extensions,
            }
        ).dump()
    )


@dataclass(frozen=True)
class _Extension:
    oid: str
    der: bytes


def _extensions(profile: CertificateProfile, contents: Contents, pointers: Pointers) -> list[tuple[_Extension, bool]]:
    made: list[tuple[x509.ExtensionType, bool]] = []
    if profile.basic_constraints:
        made.append((x509.BasicConstraints(profile.basic_constraints.ca, profile.basic_constraints.path_length), True))
    made.append((_key_usage(profile), True))  # RFC 5280 4.2.1.3
    if profile.authority_key_identifier:
        made.append((x509.AuthorityKeyIdentifier(contents.authority_key_identifier, None, None), False))
    made.append((x509.SubjectKeyIdentifier.from_public_key(contents.public_key), False))
    made.extend(_purposes(profile, pointers))
    if profile.private_key_usage_period:
        end = contents.not_before + profile.private_key_usage_period
        made.append((x509.PrivateKeyUsagePeriod(contents.not_before, end), False))
    if contents.alternative_names:
        made.append((x509.SubjectAlternativeName(_general_names(contents.alternative_names)), False))
    made.extend(_locations(profile, pointers))
    encoded = [(_Extension(extension.oid.dotted_string, extension.public_bytes()), flag) for extension, flag in made]
    if profile.qualified:
        encoded.append((_Extension(oids.QC_STATEMENTS, qc_statements(profile.qualified, pointers.disclosure)), False))
    return encoded


def _key_usage(profile: CertificateProfile) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: usage in profile.key_usage for usage in KEY_USAGES})


def _purposes(profile: CertificateProfile, pointers: Pointers) -> list[tuple[x509.ExtensionType, bool]]:
    made: list[tuple[x509.ExtensionType, bool]] = []
    if profile.extended_key_usage:
        usages = [x509.ObjectIdentifier(oids.EXTENDED_KEY_USAGES[name]) for name in profile.extended_key_usage]
        made.append((x509.ExtendedKeyUsage(usages), profile.extended_key_usage_critical))
    if profile.policies:
        identifiers = [_POLICIES.get(name, pointers.policy_oid) for name in profile.policies]
        policies = [x509.PolicyInformation(x509.ObjectIdentifier(oid), None) for oid in identifiers]
        made.append((x509.CertificatePolicies(policies), False))
    if profile.ocsp_no_check:
        made.append((x509.OCSPNoCheck(), False))
    return made


def _locations(profile: CertificateProfile, pointers: Pointers) -> list[tuple[x509.ExtensionType, bool]]:
    made: list[tuple[x509.ExtensionType, bool]] = []
    if profile.crl_distribution_point:
        uri = x509.UniformResourceIdentifier(pointers.crl)
        point = x509.DistributionPoint([uri], None, None, None)
        made.append((x509.CRLDistributionPoints([point]), False))
    if profile.authority_information_access:
        access = [_access(AuthorityInformationAccessOID.CA_ISSUERS, pointers.issuer_certificate)]
        if profile.ocsp_pointer:
            access.append(_access(AuthorityInformationAccessOID.OCSP, pointers.ocsp))
        made.append((x509.AuthorityInformationAccess(access), False))
    return made


def _access(method: x509.ObjectIdentifier, url: str) -> x509.AccessDescription:
    return x509.AccessDescription(method, x509.UniformResourceIdentifier(url))


def _general_names(names: Sequence[tuple[str, str]]) -> list[x509.GeneralName]:
    kinds = {"URI": x509.UniformResourceIdentifier, "DNS": x509.DNSName}
    return [kinds[kind](value) for kind, value in names]


def _time(moment: datetime) -> asn1_x509.Time:
    # RFC 5280 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050.
    if moment.year < 2050:
        return asn1_x509.Time(name="utc_time", value=core.UTCTime(moment))
    return asn1_x509.Time(name="general_time", value=core.GeneralizedTime(moment))


def digest_for(key: PublicKey | PrivateKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512:
    """The digest that goes with a signing key: as strong as its curve; SHA-256 for RSA."""
    if key.key_size == 384:
        return hashes.SHA384()
    return hashes.SHA512() if key.key_size == 521 else hashes.SHA256()


def signature_algorithm(key: PublicKey) -> algos.SignedDigestAlgorithm:
    """The AlgorithmIdentifier of signatures by ``key`` (RFC 5758 3.2, RFC 4055 5)."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return algos.SignedDigestAlgorithm({"algorithm": f"{digest_for(key).name}_ecdsa"})
    return algos.SignedDigestAlgorithm({"algorithm": "sha256_rsa", "parameters": core.Null()})


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


class _Signed(core.Sequence):  # type: ignore[misc]
    _fields = [
        ("tbs", core.Any),
        ("signature_algorithm", algos.SignedDigestAlgorithm),
        ("signature", core.OctetBitString),
    ]


def assemble(tbs: bytes, issuer_key: PublicKey, signature: bytes) -> bytes:
    """The DER of a Certificate or CertificateList around its TBS octets."""
    return bytes(
        _Signed(
            {
                "tbs": core.Any.load(tbs),
                "signature_algorithm": signature_algorithm(issuer_key),
                "signature": signature,
            }
        ).dump()
    )


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


def tbs_of(der: bytes) -> bytes:
    """The TBS octets inside a Certificate or CertificateList."""
    return bytes(_Signed.load(der)["tbs"].dump())
