"""The octets of a ceremony's certificates, made from the plan and public values alone: no token, no database.

`plan` shows them before there is a key, `verify` compares them with what was signed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca import to_be_signed
from ca.ceremony.plan import AuthorityStep, CredentialStep, CrossStep
from ca.settings import CaSettings
from ca.to_be_signed import PublicKey
from policies import names
from policies.profiles import CertificateProfile

CertificateStep = AuthorityStep | CrossStep | CredentialStep
_SHARD = "0"
_CRL_DISTRIBUTION_POINTS = "2.5.29.31"


@dataclass(frozen=True)
class Party:
    """An authority as far as certificates need to know it: name (DER), key, key identifier."""

    slug: str
    name: bytes = field(repr=False)
    public_key: PublicKey = field(repr=False)

    @classmethod
    def to_be(cls, step: AuthorityStep, public_key: PublicKey) -> Party:
        """One that the plan makes."""
        return cls(step.slug, names.encode_name(step.subject), public_key)

    @classmethod
    def of(cls, slug: str, certificate: bytes) -> Party:
        """One that has its certificate, DER."""
        key = x509.load_der_x509_certificate(certificate).public_key()
        return cls(slug, names.subject_of(certificate), to_be_signed_key(key))

    @property
    def subject_key_identifier(self) -> bytes:
        """Its subjectKeyIdentifier (RFC 5280 4.2.1.2, method 1)."""
        return x509.SubjectKeyIdentifier.from_public_key(self.public_key).digest

    @property
    def spki(self) -> bytes:
        """Its SubjectPublicKeyInfo, DER."""
        return self.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True)
class Drawn:
    """What a plan leaves open: serial number, times, and the shard of the CRL that will speak of the certificate."""

    serial: int
    not_before: datetime
    not_after: datetime
    shard: str = _SHARD


def certificate_tbs(
    profile: CertificateProfile,
    settings: CaSettings,
    *,
    issuer: Party,
    subject: bytes,
    public_key: PublicKey,
    drawn: Drawn,
    alternative_names: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """The TBSCertificate, DER. ``subject`` is a DER Name."""
    contents = to_be_signed.Contents(
        serial=drawn.serial,
        issuer_name=issuer.name,
        issuer_key=issuer.public_key,
        authority_key_identifier=issuer.subject_key_identifier,
        subject_name=subject,
        public_key=public_key,
        spki=public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        not_before=drawn.not_before,
        not_after=drawn.not_after,
        alternative_names=alternative_names,
    )
    pointers = to_be_signed.Pointers(
        crl=settings.crl_url(issuer.slug, drawn.shard),
        issuer_certificate=settings.aia_url(issuer.slug),
        ocsp=settings.ocsp_url,
        disclosure=settings.disclosure_url,
        policy_oid=settings.policy_oid,
    )
    return to_be_signed.certificate_tbs(profile, contents, pointers)


def drawn_in(tbs: bytes, settings: CaSettings, issuer: str) -> Drawn:
    """Serial number, times and shard out of a TBSCertificate. Raises ValueError."""
    parsed = asn1_x509.TbsCertificate.load(tbs, strict=True)
    validity = parsed["validity"]
    return Drawn(
        serial=int(parsed["serial_number"].native),
        not_before=validity["not_before"].native,
        not_after=validity["not_after"].native,
        shard=_shard(parsed, settings, issuer),
    )


def _shard(tbs: asn1_x509.TbsCertificate, settings: CaSettings, issuer: str) -> str:
    for extension in tbs["extensions"]:
        if extension["extn_id"].dotted == _CRL_DISTRIBUTION_POINTS:
            url = extension["extn_value"].parsed[0]["distribution_point"].chosen[0].native
            form = re.escape(settings.crl_url(issuer, "SHARD")).replace("SHARD", "([a-z0-9]{1,16})")
            match = re.fullmatch(form, url)
            if match is None:
                raise ValueError("the distribution point is none of the issuer's shards")
            return match[1]
    return _SHARD


def subject_of(step: AuthorityStep | CredentialStep) -> bytes:
    """A step's subject as it is encoded, DER."""
    return names.encode_name(step.subject)


def to_be_signed_key(key: object) -> PublicKey:
    """A public key of a kind that our certificates carry. Raises ValueError."""
    if not isinstance(key, PublicKey):
        raise ValueError("a key of a kind that authorities do not have")
    return key
