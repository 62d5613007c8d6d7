"""The signing service with a real token, a real database, a real time-stamping authority and the real door.

Other rooms are answered by small books kept in memory: people, organisations, and an authority whose keys the tests
hold, so that a test can revoke a certificate or silence a service.
"""

from __future__ import annotations

import dataclasses
import hashlib
import html
import json
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from flask import Flask
from joserfc import jwt
from joserfc.jwk import ECKey
from werkzeug.test import TestResponse

import app
from app.door import Door
from core.audit import AuditLog
from core.database import Database
from core.egress import Egress
from core.errors import Unavailable
from core.one_time import ProcessLocalStore
from core.outbox import Outbox
from core.pages import FormGuard
from core.passwords import Passwords
from core.principal import Principal
from core.text import Catalogue
from hsm.keystore import KeyAlgorithm, KeyPurpose, Keystore, initialise_token, open_keystore
from hsm.settings import HsmSettings
from hsm.wrapped import WrappedKeys
from policies.authentication import LOW, SUBSTANTIAL
from signing import endpoints
from signing.isolation import PdfWorkers
from signing.parts import Parts, assemble
from signing.ports import CertificateStanding, IssuedCertificate, PersonFacts, RelyingPartyFacts
from signing.settings import SigningSettings
from signing.time_stamp_authority import ClockGuard, TimeStampAuthority, TimeStampingUnit
from signing.timestamping import TimeStampClient

ISSUER = "http://localhost:8080"
BANK = "test-bank"
BOLD = "5b0c8a8e-0000-4000-8000-000000000001"
SARAA = "5b0c8a8e-0000-4000-8000-000000000002"
SUB = "pairwise-sub-of-bold"
PIN = "738264"
NOW = datetime(2026, 11, 21, 4, 5, 6, tzinfo=UTC)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class People:
    """Two people, one known to the bank."""

    def person_for_subject(self, client_id: str, sub: str) -> str | None:
        return BOLD if (client_id, sub) == (BANK, SUB) else None

    def person(self, person_id: str) -> PersonFacts | None:
        names = {BOLD: ("З.Болд", "Болд", "Загвар"), SARAA: ("Ө.Сараа", "Сараа", "Өлзийхүү")}
        if person_id not in names:
            return None
        display, given, family = names[person_id]
        return PersonFacts(person_id, display, given, family, "ЪА••••••12")


@dataclass
class Organisations:
    """Registered organisations, changed by tests at will."""

    known: dict[str, RelyingPartyFacts]

    def relying_party(self, client_id: str) -> RelyingPartyFacts | None:
        return self.known.get(client_id)

    def change(self, client_id: str, **values: Any) -> None:
        self.known[client_id] = dataclasses.replace(self.known[client_id], **values)


@dataclass
class Authority:
    """Issues signing certificates, says how they stand and what proves it."""

    pki: Any
    clock: Clock
    standings: dict[bytes, CertificateStanding] = field(default_factory=dict)
    silent: bool = False
    issued: list[x509.Certificate] = field(default_factory=list)
    by_credential: dict[tuple[str, str], IssuedCertificate] = field(default_factory=dict)

    def issue(self, *, person_id: str, csr: bytes, credential_id: str) -> IssuedCertificate:
        if self.silent:
            raise Unavailable("the authority does not answer")
        request = x509.load_der_x509_csr(csr)
        assert request.is_signature_valid
        certificate = self._certificate(request.public_key())
        self.issued.append(certificate)
        der = certificate.public_bytes(Encoding.DER)
        self.standings[der] = CertificateStanding.GOOD
        given = IssuedCertificate(
            der,
            (self.pki.authority.der, self.pki.root.der),
            f"{certificate.serial_number:x}",
            certificate.not_valid_after_utc,
        )
        self.by_credential[person_id, credential_id] = given
        return given

    def _certificate(self, key: Any) -> x509.Certificate:
        pki, now = self.pki, self.clock()
        usages = dict.fromkeys(
            ("digital_signature", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign",
             "crl_sign", "encipher_only", "decipher_only"),
            False,
        )  # fmt: skip
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Загвар Болд")]))
            .issuer_name(pki.authority.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(content_commitment=True, **usages), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(pki.authority.key.public_key()), critical=False
            )
            .sign(pki.authority.key, hashes.SHA256())
        )

    def issued_for(self, *, person_id: str, credential_id: str) -> IssuedCertificate | None:
        return self.by_credential.get((person_id, credential_id))

    def standing(self, certificate: bytes) -> CertificateStanding:
        return self.standings.get(certificate, CertificateStanding.UNKNOWN)

    def revoke_all(self, standing: CertificateStanding = CertificateStanding.REVOKED) -> None:
        self.standings = dict.fromkeys(self.standings, standing)

    def for_chain(self, chain: Sequence[bytes]) -> tuple[tuple[bytes, ...], tuple[bytes, ...], tuple[bytes, ...]]:
        if self.silent:
            raise Unavailable("status cannot be had")
        leaf = x509.load_der_x509_certificate(chain[0])
        identity = type(self.pki.signer)(None, leaf)
        answer = self.pki.ocsp(identity, at=self.clock())
        return (answer,), (self.pki.crl(at=self.clock()),), (self.pki.authority.der,)

    def anchors(self) -> tuple[bytes, ...]:
        return (self.pki.root.der,)

    def rejected(self) -> tuple[bytes, ...]:
        return ()

    def intermediates(self) -> tuple[bytes, ...]:
        return (self.pki.authority.der,)


@pytest.fixture(scope="session")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystore]:
    directory = tmp_path_factory.mktemp("signing-token")
    settings = HsmSettings(
        pin_file=directory / "pin", token_label="signing", softhsm_conf=directory / "softhsm2.conf", wait_seconds=60
    )
    initialise_token(settings, "only-for-tests-5937")
    opened = open_keystore(settings)
    opened.generate("token-signing-1", KeyPurpose.TOKEN_SIGNING, KeyAlgorithm.P256)
    opened.generate_secret("page-mac-1", KeyPurpose.MAC)
    WrappedKeys(opened).prepare()
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def pdf_workers() -> Iterator[PdfWorkers]:
    workers = PdfWorkers(1)
    yield workers
    workers.close()


@pytest.fixture(scope="session")
def bank_key() -> ECKey:
    return ECKey.import_key(ec.generate_private_key(ec.SECP256R1()), {"kid": "bank-1", "alg": "ES256", "use": "sig"})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'tamga.db'}")
    made.create_all()
    yield made
    made.close()


@pytest.fixture
def organisations(bank_key: ECKey) -> Organisations:
    bank = RelyingPartyFacts(
        client_id=BANK,
        name={"mn": "Туршилтын банк", "en": "Test Bank"},
        domain="bank.example",
        jwks={"keys": [bank_key.as_dict(private=False)]},
        scopes=frozenset({"sign.request", "sign.validate"}),
        webhooks=frozenset({"https://bank.example/hook"}),
        return_urls=frozenset({"https://bank.example/back"}),
    )
    return Organisations({BANK: bank, "other": dataclasses.replace(bank, client_id="other")})


@pytest.fixture
def authority(pki: Any, clock: Clock) -> Authority:
    return Authority(pki, clock)


@pytest.fixture
def tsa(pki: Any, clock: Clock) -> TimeStampClient:
    unit = TimeStampingUnit(pki.time_stamping.der, (pki.authority.der,), pki.time_stamping.key)
    guard = ClockGuard(clock, elapsed=lambda: clock().timestamp())
    stamper = TimeStampAuthority(lambda: unit, clock=clock, guard=guard)
    return TimeStampClient(stamper, anchors=lambda: (pki.root.der,), clock=clock)


@pytest.fixture
def audit(clock: Clock) -> AuditLog:
    return AuditLog(clock)


@pytest.fixture
def make_parts(
    database: Database, audit: AuditLog, clock: Clock, keystore: Keystore, organisations: Organisations,
    authority: Authority, tsa: TimeStampClient, pdf_workers: PdfWorkers,
) -> Callable[..., Parts]:  # fmt: skip
    """The room put together; anything may be replaced by name."""

    def make(**replaced: Any) -> Parts:
        given: dict[str, Any] = {
            "base_url": ISSUER,
            "settings": SigningSettings(document_limit=2_000_000, verify_page_limit=300_000),
            "database": database,
            "audit": audit,
            "clock": clock,
            "keystore": keystore,
            "one_time": ProcessLocalStore(clock),
            "outbox": Outbox(clock),
            "egress": Egress(allowed_networks=("127.0.0.0/8",)),
            "passwords": Passwords(),
            "persons": People(),
            "relying_parties": organisations,
            "signer_certificates": authority,
            "time_stamps": tsa,
            "revocation_evidence": authority,
            "trust_anchors": authority,
            "pdf_workers": pdf_workers,
        }
        return assemble(**(given | replaced))

    return make


@pytest.fixture
def parts(make_parts: Callable[..., Parts]) -> Parts:
    return make_parts()


@dataclass
class Site:
    """The room behind the real door, and whoever is calling."""

    app: Flask
    parts: Parts
    caller: Principal | None = None
    machine: Principal | None = None

    def citizen(self, person_id: str = BOLD, *, acr: str = SUBSTANTIAL) -> Browser:
        self.caller = Principal("person", person_id, acr=acr, amr=("pwd", "otp"))
        return Browser(self)

    def stranger(self) -> Browser:
        self.caller = None
        return Browser(self)

    def low(self) -> Browser:
        return self.citizen(acr=LOW)


class Browser:
    """Follows redirects, keeps cookies, fills forms."""

    def __init__(self, site: Site, language: str = "en") -> None:
        self._client = site.app.test_client()
        self._language = language

    def get(self, path: str, *, follow: bool = True) -> TestResponse:
        return self._client.get(path, headers={"Accept-Language": self._language}, follow_redirects=follow)

    def post(self, path: str, data: dict[str, Any], *, follow: bool = True) -> TestResponse:
        return self._client.post(path, data=data, headers={"Accept-Language": self._language}, follow_redirects=follow)

    def press(self, page: TestResponse, button: str, **values: str) -> TestResponse:
        """Submit the form that holds the button with this id."""
        action, fields = form_of(page, button)
        return self.post(action or page.request.path, fields | values)


def form_of(page: TestResponse, button: str) -> tuple[str, dict[str, str]]:
    for form in re.findall(r"<form.*?</form>", page.text, re.DOTALL):
        if f'id="{button}"' not in form:
            continue
        action = re.search(r'<form[^>]*action="([^"]*)"', form)
        fields = {
            html.unescape(name): html.unescape(value)
            for name, value in re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', form)
        }
        pressed = re.search(rf'<button[^>]*id="{button}"[^>]*>', form)
        assert pressed
        named = re.search(r'name="([^"]*)" value="([^"]*)"', pressed[0])
        if named:
            fields[named[1]] = named[2]
        return (html.unescape(action[1]) if action else ""), fields
    raise AssertionError(f"no form with {button} in {page.status}: {page.text[-1500:]}")


@pytest.fixture
def make_site(make_parts: Callable[..., Parts]) -> Callable[..., Site]:
    def make(**replaced: Any) -> Site:
        root = Path(str(app.__file__)).parent
        flask = Flask("app", root_path=str(root), template_folder="templates", static_folder="static")
        guard = FormGuard(b"for tests", ISSUER)
        Door(
            catalogue=Catalogue([root / "translations"]),
            guard=guard,
            service_names={"mn": "Тамга", "en": "Tamga"},
            secure=False,
            large_paths=("/api/v1/sign-requests", "/api/v1/validations", "/verify"),
            max_document_octets=3_000_000,
        ).install(flask)
        parts = make_parts(**replaced)
        site = Site(flask, parts)
        flask.register_blueprint(
            endpoints.blueprint(
                parts,
                person=lambda: site.caller,
                client=lambda: site.machine,
                login_url=lambda path: f"/login?return_to={path}",
                guard=guard,
            )
        )
        return site

    return make


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()


@dataclass
class Bank:
    """The organisation: signs request JWTs with its own key and calls the API."""

    site: Site
    key: ECKey
    clock: Clock

    def jwt(self, body: bytes, fields: dict[str, Any] | None = None, **changed: Any) -> str:
        now, key = int(self.clock().timestamp()), changed.pop("key", self.key)
        header = {"alg": "ES256", "typ": "sign-request+jwt", "kid": "bank-1"} | changed.pop("header", {})
        claims = {
            "iss": BANK,
            "aud": ISSUER,
            "iat": now,
            "exp": now + 60,
            "jti": secrets.token_urlsafe(12),
            "body_sha256": hashlib.sha256(body).hexdigest(),
            **(fields or {}),
        } | changed
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(header, claims, key, algorithms=["ES256", "ES384", "HS256"])

    def fields(self, **changed: Any) -> dict[str, Any]:
        fields: dict[str, Any] = {"title": "Зээлийн гэрээ", "signers": [{"sub": SUB}], "language": "mn"}
        return {name: value for name, value in (fields | changed).items() if value is not None}

    def call(self, method: str, path: str, body: bytes = b"", *, token: str | None = None, **more: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {token or self.jwt(body)}"} | more.pop("headers", {})
        return self.site.app.test_client().open(
            path, method=method, data=body or None, headers=headers, content_type=more.pop("content_type", None), **more
        )

    def send(self, document: bytes, *, key: str | None = None, token: str | None = None, **fields: Any) -> TestResponse:
        return self.call(
            "POST",
            "/api/v1/sign-requests",
            document,
            token=token or self.jwt(document, self.fields(**fields)),
            headers={"Idempotency-Key": key or secrets.token_hex(16)},
            content_type="application/pdf",
        )

    def request(self, document: bytes, **fields: Any) -> dict[str, Any]:
        answer = self.send(document, **fields)
        assert answer.status_code == 201, answer.text
        return dict(json.loads(answer.text))

    def show(self, request_id: str) -> dict[str, Any]:
        answer = self.call("GET", f"/api/v1/sign-requests/{request_id}")
        assert answer.status_code == 200, answer.text
        return dict(json.loads(answer.text))


@pytest.fixture
def bank(site: Site, bank_key: ECKey, clock: Clock) -> Bank:
    return Bank(site, bank_key, clock)


@pytest.fixture
def make_bank(bank_key: ECKey, clock: Clock) -> Callable[[Site], Bank]:
    return lambda site: Bank(site, bank_key, clock)


def path_of(request: dict[str, Any]) -> str:
    """The path of the signer's link."""
    return str(request["signers"][0]["signing_url"]).removeprefix(ISSUER)


def review(browser: Browser, path: str) -> TestResponse:
    """Step through the pages up to the summary."""
    page = browser.get(path)
    for _ in range(30):
        if 'id="sign-next"' in page.text:
            page = browser.press(page, "sign-next")
        elif 'id="sign-review-done"' in page.text:
            page = browser.press(page, "sign-review-done")
        else:
            break
    return page


@pytest.fixture
def walk() -> Callable[[Browser, str], TestResponse]:
    return review


@pytest.fixture
def link() -> Callable[[dict[str, Any]], str]:
    return path_of


class Receiver:
    """A partner's webhook address on loopback."""

    def __init__(self) -> None:
        self.received: list[tuple[str, bytes]] = []
        self.status = 204
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append((self.headers["Content-Type"], body))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()
