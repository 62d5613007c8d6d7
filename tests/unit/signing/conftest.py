"""A small public key infrastructure made for the tests, with its own time-stamping authority and OCSP responder.

The time-stamp tokens are put together with asn1crypto, so that what our code reads was not written by our code.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import pytest
from asn1crypto import algos, cms, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

NOW = datetime(2026, 11, 21, 4, 5, 6, tzinfo=UTC)
DAY = timedelta(days=1)

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Identity:
    """A certificate with its key."""

    key: PrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def make_identity(
    common_name: str,
    issuer: Identity | None = None,
    *,
    authority: bool = False,
    usages: tuple[x509.ObjectIdentifier, ...] = (),
    not_before: datetime = NOW - 30 * DAY,
    not_after: datetime = NOW + 700 * DAY,
    key: PrivateKey | None = None,
    nocheck: bool = False,
    serial_number: int | None = None,
) -> Identity:
    """A certificate for a fresh P-256 key, self-signed without an issuer."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [x509.NameAttribute(NameOID.COUNTRY_NAME, "MN"), x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    )
    issuer_name = issuer.certificate.subject if issuer else name
    issuer_key = issuer.key if issuer else key
    usage = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        False,
    )  # fmt: skip
    usage |= {"key_cert_sign": True, "crl_sign": True} if authority else {}
    usage |= {"digital_signature": True} if usages else {}
    usage |= {} if authority or usages else {"content_commitment": True}
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(serial_number or x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if issuer is not None:  # stock validators ask for evidence only where certificates say that there is some
        builder = builder.add_extension(_location("ocsp"), critical=False).add_extension(
            _list_location(), critical=False
        )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=True)
    if nocheck:
        builder = builder.add_extension(x509.OCSPNoCheck(), critical=False)
    return Identity(key, builder.sign(issuer_key, hashes.SHA256()))


def _location(name: str) -> x509.AuthorityInformationAccess:
    url = x509.UniformResourceIdentifier(f"http://localhost/{name}")
    return x509.AuthorityInformationAccess([x509.AccessDescription(AuthorityInformationAccessOID.OCSP, url)])


def _list_location() -> x509.CRLDistributionPoints:
    url = x509.UniformResourceIdentifier("http://localhost/crl")
    return x509.CRLDistributionPoints([x509.DistributionPoint([url], None, None, None)])


@dataclass(frozen=True)
class Pki:
    """Root, one issuing authority, a signer, a time-stamping authority and an OCSP responder."""

    root: Identity
    authority: Identity
    signer: Identity
    time_stamping: Identity
    responder: Identity

    @property
    def chain(self) -> tuple[bytes, ...]:
        return self.signer.der, self.authority.der, self.root.der

    def time_stamp(self, at: datetime = NOW) -> Callable[[bytes], bytes]:
        """A source of tokens that says ``at``."""
        return functools.partial(make_token, self.time_stamping, (self.authority.der,), at)

    def ocsp(
        self, identity: Identity | None = None, *, at: datetime = NOW, revoked_at: datetime | None = None,
        next_update: datetime | None = None, reason: x509.ReasonFlags | None = None,
    ) -> bytes:  # fmt: skip
        """A response about one of the authority's certificates, signed by the delegated responder."""
        return make_ocsp(
            (identity or self.signer).certificate, self.authority, self.responder, at=at, revoked_at=revoked_at,
            next_update=next_update, reason=reason,
        )  # fmt: skip

    def crl(self, *, at: datetime = NOW, revoked: tuple[int, ...] = (), next_update: datetime | None = None) -> bytes:
        """The root's list, which says that the authority is good."""
        return make_crl(self.root, at=at, revoked=revoked, next_update=next_update)

    def evidence(self, at: datetime = NOW) -> Any:
        """Everything B-LT needs."""
        from signing.pades import Evidence

        return Evidence(ocsp=(self.ocsp(at=at), self.ocsp(self.time_stamping, at=at)), crls=(self.crl(at=at),))


def make_ocsp(
    certificate: x509.Certificate, issuer: Identity, responder: Identity, *, at: datetime,
    revoked_at: datetime | None = None, next_update: datetime | None = None, reason: x509.ReasonFlags | None = None,
) -> bytes:  # fmt: skip
    revoked = revoked_at is not None
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=certificate,
        issuer=issuer.certificate,
        algorithm=hashes.SHA1(),  # noqa: S303 - CertID of RFC 6960, no signature
        cert_status=ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD,
        this_update=at,
        next_update=next_update or at + timedelta(hours=1),
        revocation_time=revoked_at,
        revocation_reason=reason,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, responder.certificate)
    if responder is not issuer:
        builder = builder.certificates([responder.certificate])
    return builder.sign(responder.key, hashes.SHA256()).public_bytes(Encoding.DER)


def make_crl(
    issuer: Identity, *, at: datetime, revoked: tuple[int, ...] = (), next_update: datetime | None = None
) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(at)
        .next_update(next_update or at + DAY)
        .add_extension(x509.CRLNumber(7), critical=False)
    )
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at - timedelta(hours=1)).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def make_token(authority: Identity, further: tuple[bytes, ...], at: datetime, digest: bytes) -> bytes:
    """A TimeStampToken (RFC 3161) over a SHA-256 digest."""
    info = tsp.TSTInfo(
        {
            "version": "v1",
            "policy": "1.3.6.1.4.1.99999.1",
            "message_imprint": {"hash_algorithm": {"algorithm": "sha256"}, "hashed_message": digest},
            "serial_number": int.from_bytes(hashlib.sha256(digest).digest()[:8], "big"),
            "gen_time": at,
        }
    )
    certificate = asn1_x509.Certificate.load(authority.der)
    essential = tsp.SigningCertificateV2({"certs": [{"cert_hash": hashlib.sha256(authority.der).digest()}]})
    content = info.dump()
    attributes = cms.CMSAttributes(
        [
            {"type": "content_type", "values": ["tst_info"]},
            {"type": "message_digest", "values": [hashlib.sha256(content).digest()]},
            {"type": "signing_certificate_v2", "values": [essential]},
        ]
    )
    assert isinstance(authority.key, ec.EllipticCurvePrivateKey)
    signature = authority.key.sign(attributes.dump(), ec.ECDSA(hashes.SHA256()))
    signer = {
        "version": "v1",
        "sid": cms.SignerIdentifier(
            "issuer_and_serial_number",
            {"issuer": certificate.issuer, "serial_number": certificate.serial_number},
        ),
        "digest_algorithm": {"algorithm": "sha256"},
        "signed_attrs": attributes,
        "signature_algorithm": algos.SignedDigestAlgorithm({"algorithm": "sha256_ecdsa"}),
        "signature": signature,
    }
    signed = {
        "version": "v3",
        "digest_algorithms": [{"algorithm": "sha256"}],
        "encap_content_info": {"content_type": "tst_info", "content": cms.ParsableOctetString(content)},
        "certificates": [certificate, *(asn1_x509.Certificate.load(entry) for entry in further)],
        "signer_infos": [signer],
    }
    return bytes(cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(signed)}).dump())


def make_pki(tag: str = "") -> Pki:
    root = make_identity(f"Туршилтын үндэс{tag}", authority=True, not_after=NOW + 3650 * DAY)
    authority = make_identity(f"Туршилтын олгогч{tag}", root, authority=True, not_after=NOW + 1800 * DAY)
    return Pki(
        root=root,
        authority=authority,
        signer=make_identity(f"БАТ Өлзий{tag}", authority),
        time_stamping=make_identity(f"Цагийн тэмдэг{tag}", authority, usages=(ExtendedKeyUsageOID.TIME_STAMPING,)),
        responder=make_identity(f"Хариулагч{tag}", authority, usages=(ExtendedKeyUsageOID.OCSP_SIGNING,), nocheck=True),
    )


@pytest.fixture(scope="session")
def pki() -> Pki:
    return make_pki()


@pytest.fixture(scope="session")
def foreign_pki() -> Pki:
    return make_pki(" (гадаад)")


def make_pdf(pages: int = 1, *, size: tuple[float, float] = (595.0, 842.0), title: str = "Гэрээ") -> bytes:
    """A document made with reportlab."""
    from reportlab.pdfgen.canvas import Canvas

    output = BytesIO()
    canvas = Canvas(output, pagesize=size, invariant=1)
    canvas.setTitle(title)
    for number in range(pages):
        canvas.drawString(72, 700, f"Page {number + 1}")
        canvas.rect(72, 300, 200, 100)
        canvas.showPage()
    canvas.save()
    return output.getvalue()


@pytest.fixture(scope="session")
def pdf() -> bytes:
    return make_pdf(2)


@pytest.fixture(scope="session")
def signed(pki: Pki, pdf: bytes) -> bytes:
    """The document signed to B-LT, visibly, at NOW."""
    return bytes(sign(pki, pdf).data)


def sign(pki: Pki, data: bytes, *, level: str = "B-LT", at: datetime = NOW, **kwargs: Any) -> Any:
    from signing.pades import Placement, SignerFacts, finish, prepare

    evidence = kwargs.pop("evidence", None) or pki.evidence(at)
    chain = kwargs.pop("chain", pki.chain)
    key = kwargs.pop("key", pki.signer.key)
    placement = kwargs.pop("placement", Placement(page=1, x=300, y=60))
    name = kwargs.pop("name", "Бат-Эрдэнэ Өлзийхүүгийн Ёндонжамц")
    prepared = prepare(
        data, signer=SignerFacts(name), chain=chain, placement=placement, language=kwargs.pop("language", "mn"),
        signing_time=at, **kwargs,
    )  # fmt: skip
    return finish(prepared, key=key, chain=chain, time_stamp=pki.time_stamp(at), evidence=evidence, level=level)
