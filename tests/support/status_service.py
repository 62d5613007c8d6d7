"""A small PKI and a register in memory: two issuers, their responders, and certificates in every state."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as library
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from ocsp import endpoints
from ocsp.parts import Parts, assemble
from ocsp.ports import Good, Issuer, NeverIssued, ResponderCredential, RevocationReason, Revoked, SourceUnavailable
from ocsp.settings import OcspSettings

NOW = datetime(2026, 11, 21, 9, 30, 15, 400_000, tzinfo=UTC)


def name(common_name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COUNTRY_NAME, "MN"), x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    )


@dataclass
class Authority:
    """An issuing authority of the test with its responder."""

    slug: str
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    responder_key: Any
    responder: x509.Certificate
    now: datetime

    def leaf(self, serial: int) -> x509.Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name(f"Holder {serial}"), self.certificate.subject, key.public_key(), serial, self.now)
        responder = x509.AccessDescription(
            AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier("http://localhost/ocsp")
        )
        builder = builder.add_extension(x509.AuthorityInformationAccess([responder]), critical=False)
        return builder.sign(self.key, hashes.SHA384())

    def request(self, serial: int, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
        """The request for one serial, as the library builds it."""
        builder = library.OCSPRequestBuilder().add_certificate(
            self.leaf(serial),
            self.certificate,
            algorithm or hashes.SHA1(),  # noqa: S303
        )
        return builder.build().public_bytes(Encoding.DER)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: Any, serial: int, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=300))
    )


def key_usage(*wanted: str) -> x509.KeyUsage:
    names = [
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ]
    return x509.KeyUsage(**{each: each in wanted for each in names})


def build_responder_certificate(
    key: Any,
    authority_key: Any,
    authority: x509.Certificate,
    *,
    nocheck: bool = True,
    usages: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.OCSP_SIGNING,),
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    now: datetime = NOW,
    odd_identifier: bool = True,
) -> x509.Certificate:
    """``odd_identifier``: a subject key identifier that is not the key's SHA-1, to catch who takes byKey from it."""
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(name("Responder"))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before or now - timedelta(days=1))
        .not_valid_after(not_after or now + timedelta(days=13))
        .add_extension(key_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage(list(usages)), critical=False)
        .add_extension(x509.SubjectKeyIdentifier(b"odd") if odd_identifier else identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    if nocheck:
        builder = builder.add_extension(x509.OCSPNoCheck(), critical=False)
    return builder.sign(authority_key, hashes.SHA384())


def build_authority(
    slug: str, responder_key: Any = None, now: datetime = NOW, *, odd_identifier: bool = True
) -> Authority:
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = (
        _builder(name(slug), name(slug), key.public_key(), x509.random_serial_number(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )
    responder_key = responder_key or ec.generate_private_key(ec.SECP256R1())
    return Authority(
        slug,
        key,
        certificate,
        responder_key,
        build_responder_certificate(responder_key, key, certificate, now=now),
        now,
    )


@dataclass
class Register:
    """StatusSource and Responders over dictionaries; ``down`` is an outage."""

    authorities: list[Authority]
    statuses: dict[tuple[str, int], Any] = field(default_factory=dict)
    credentials: dict[str, ResponderCredential] = field(default_factory=dict)
    down: bool = False
    keys_down: bool = False
    archive_cutoff: datetime | None = None

    def issuers(self) -> list[Issuer]:
        self._check()
        return [Issuer(a.slug, a.certificate.public_bytes(Encoding.DER), self.archive_cutoff) for a in self.authorities]

    def status(self, issuer: str, serial: int) -> Any:
        self._check()
        return self.statuses.get((issuer, serial), NeverIssued())

    def current(self, issuer: str) -> ResponderCredential | None:
        if self.keys_down:
            raise SourceUnavailable
        return self.credentials.get(issuer)

    def _check(self) -> None:
        if self.down:
            raise SourceUnavailable


class Time:
    """A clock that stands until it is moved."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Reply:
    """What came back over WSGI."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def ocsp(self) -> library.OCSPResponse:
        return library.load_der_ocsp_response(self.body)

    @property
    def response_status(self) -> library.OCSPResponseStatus:
        return self.ocsp.response_status


@dataclass
class Service:
    """A responder with the register and the clock it was built on, and a serial in each state."""

    GOOD = 0x1001
    REVOKED = 0x1002
    SUSPENDED = 0x1003
    UNISSUED = 0x1004

    people: Authority
    infrastructure: Authority
    register: Register
    time: Time
    parts: Parts

    def ask(self, path: str = "", body: bytes | None = None, method: str = "", **environ: str) -> Reply:
        return call(endpoints.wsgi(self.parts), path, body, method, environ)

    def post(self, body: bytes, **environ: str) -> Reply:
        return self.ask("", body, "POST", **environ)

    def get(self, body: bytes, **environ: str) -> Reply:
        return self.ask("/" + base64.b64encode(body).decode(), **environ)


def call(application: Any, path: str, body: bytes | None, method: str, environ: dict[str, str]) -> Reply:
    seen: list[Any] = []
    whole: dict[str, Any] = {
        "REQUEST_METHOD": method or ("POST" if body is not None else "GET"),
        "SCRIPT_NAME": "",
        "PATH_INFO": "/ocsp" + path,
        "wsgi.input": io.BytesIO(body or b""),
    }
    if body is not None:
        whole |= {"CONTENT_TYPE": "application/ocsp-request", "CONTENT_LENGTH": str(len(body))}
    whole |= environ
    chunks = b"".join(application(whole, lambda status, headers: seen.extend((status, headers))))
    return Reply(int(seen[0].split()[0]), dict(seen[1]), chunks)


def build_service(
    people: Authority, infrastructure: Authority, now: datetime = NOW, clock: Any = None, **settings: Any
) -> Service:
    register = Register([people, infrastructure])
    for authority in register.authorities:
        register.credentials[authority.slug] = ResponderCredential(
            authority.responder.public_bytes(Encoding.DER), authority.responder_key
        )
        revoked_at = now - timedelta(days=2)
        register.statuses |= {
            (authority.slug, Service.GOOD): Good(now - timedelta(days=5)),
            (authority.slug, Service.REVOKED): Revoked(revoked_at, RevocationReason.KEY_COMPROMISE),
            (authority.slug, Service.SUSPENDED): Revoked(revoked_at, RevocationReason.CERTIFICATE_HOLD),
        }
    time = Time(now)
    parts = assemble(settings=OcspSettings(**settings), clock=clock or time, statuses=register, responders=register)
    return Service(people, infrastructure, register, time, parts)
