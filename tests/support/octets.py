"""TBS octets of every profile without a token or a database: what linters and shapes are tested with."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca import to_be_signed
from ca.to_be_signed import Contents, Pointers, PublicKey
from policies import names
from policies.profiles import CertificateProfile

MOMENT = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
POINTERS = Pointers(
    crl="http://pki.example.mn/crl/some-g1/0.crl",
    issuer_certificate="http://pki.example.mn/aia/some-g1.cer",
    ocsp="http://pki.example.mn/ocsp",
    disclosure="https://pki.example.mn/pds/en.pdf",
    policy_oid="1.3.6.1.4.1.32473.1.1",
)
SUBJECT = {
    "C": "MN",
    "O": "Хаан Банк",
    "organizationIdentifier": "NTRMN-1234567",
    "SN": "Жамъян",
    "GN": "Өлзийхүү",
    "CN": "Ж.Өлзийхүү",
    "serialNumber": "PNOMN-000000000017",
}
ISSUER = (
    ("C", "MN"),
    ("O", "Улсын бүртгэлийн газар"),
    ("organizationIdentifier", "NTRMN-9000001"),
    ("CN", "Tamga CA G1"),
)
_NAMES = {
    "tls-server": (("DNS", "www.example.mn"), ("IP", "203.0.113.7")),
    "tls-client": (("URI", "https://id.example.mn/clients/bank-1"),),
    "token-signing": (("URI", "https://id.example.mn"),),
}


@cache
def key(kind: str) -> PublicKey:
    """A good public key of this kind, always the same one."""
    if kind.startswith("RSA-"):
        return rsa.generate_private_key(65537, int(kind.removeprefix("RSA-"))).public_key()
    curves = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1}
    return ec.generate_private_key(curves[kind]()).public_key()


def spki(public_key: PublicKey) -> bytes:
    """SubjectPublicKeyInfo, DER."""
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def subject_of(profile: CertificateProfile, **changes: str) -> tuple[tuple[str, str], ...]:
    """The attributes that the profile knows, in its order."""
    values = {**SUBJECT, **({"CN": "www.example.mn"} if profile.name == "tls-server" else {}), **changes}
    return tuple((attribute.label, values[attribute.label]) for attribute in profile.subject)


def good(profile: CertificateProfile, **changes: Any) -> Contents:
    """The contents of a good certificate of this profile; ``changes`` replace single ones."""
    issuer_key = key("P-384")
    public_key: PublicKey = changes.pop("public_key", None) or key(min(profile.keys))
    begin: datetime = changes.get("not_before", MOMENT)
    made = Contents(
        serial=int.from_bytes(b"\x01" + secrets.token_bytes(17), "big"),
        issuer_name=names.encode_name(ISSUER),
        issuer_key=issuer_key,
        authority_key_identifier=x509.SubjectKeyIdentifier.from_public_key(issuer_key).digest,
        subject_name=names.encode_name(subject_of(profile)),
        public_key=public_key,
        spki=spki(public_key),
        not_before=begin,
        not_after=begin + profile.validity_on(begin.date()) - timedelta(seconds=1),
        alternative_names=_NAMES.get(profile.name, ()),
    )
    return replace(made, **changes)


def tbs(profile: CertificateProfile, contents: Contents | None = None, pointers: Pointers = POINTERS) -> bytes:
    """The octets about to be signed."""
    return to_be_signed.certificate_tbs(profile, contents or good(profile), pointers)


def signed(octets: bytes) -> bytes:
    """The same octets in a certificate, as linters see them."""
    return to_be_signed.under_throw_away_key(octets, key("P-384"))
