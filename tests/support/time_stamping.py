"""A small PKI for time-stamping: root, issuing authority and a stamping unit, with any key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from signing.time_stamp_authority import TimeStampingUnit

_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COUNTRY_NAME, "MN"), x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    )


@dataclass
class TimeStampingPki:
    """Root (P-384), issuing authority (P-384) and what they certified."""

    now: datetime
    root_key: ec.EllipticCurvePrivateKey
    root: x509.Certificate
    issuing_key: ec.EllipticCurvePrivateKey
    issuing: x509.Certificate

    def certify(
        self,
        key: Any,
        *,
        usages: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.TIME_STAMPING,),
        critical: bool = True,
        days: int = 365,
        extra: Sequence[x509.ExtensionType] = (),
    ) -> x509.Certificate:
        builder = _builder("Time-stamping unit", self.issuing.subject, key.public_key(), self.now, days)
        builder = builder.add_extension(_key_usage("digital_signature"), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(usages)), critical=critical)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.issuing_key.public_key()), critical=False
        )
        for extension in extra:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.issuing_key, hashes.SHA384())

    def unit(self, key: Any = None, certificate: x509.Certificate | None = None) -> TimeStampingUnit:
        key = key or ec.generate_private_key(ec.SECP256R1())
        encoded = (certificate or self.certify(key)).public_bytes(Encoding.DER)
        return TimeStampingUnit(encoded, (self.issuing.public_bytes(Encoding.DER),), key)

    @property
    def anchor(self) -> bytes:
        return self.root.public_bytes(Encoding.DER)


def build_time_stamping_pki(now: datetime) -> TimeStampingPki:
    root_key, issuing_key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    root = _authority("Root", root_key, _name("Root"), root_key, now)
    issuing = _authority("Service authority", issuing_key, _name("Root"), root_key, now)
    return TimeStampingPki(now, root_key, root, issuing_key, issuing)


def _authority(common_name: str, key: Any, issuer: x509.Name, issuer_key: Any, now: datetime) -> x509.Certificate:
    return (
        _builder(common_name, issuer, key.public_key(), now, 3650)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA384())
    )


def _builder(common_name: str, issuer: x509.Name, public_key: Any, now: datetime, days: int) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
    )


def _key_usage(*wanted: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{each: each in wanted for each in _USAGES})
