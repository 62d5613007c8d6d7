"""The provider on real parts: a SoftHSM token, a SQLite file, the real door, and a clock the test turns."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from joserfc import jwt
from joserfc.jwk import ECKey
from werkzeug.test import TestResponse

from app.door import Door
from core import audit as audit_log
from core.audit import AuditLog
from core.database import Database
from core.one_time import ProcessLocalStore
from core.pages import FormGuard
from core.passwords import Passwords
from core.text import Catalogue
from hsm.keystore import KeyAlgorithm, KeyPurpose, Keystore, initialise_token, open_keystore
from hsm.settings import HsmSettings
from sso import endpoints
from sso.authentication import otp
from sso.parts import Parts, assemble
from sso.people import Enrolled, NewPerson
from sso.relying_parties import Registered, Registration
from sso.settings import SsoSettings

ISSUER = "http://localhost:8080"
APP = Path(endpoints.__file__).parents[1] / "app"
REDIRECT = "https://bank.example.test/callback"
GOODBYE = "https://bank.example.test/goodbye"
PASSWORD = "хэзээ ч бүү март 7"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class TurnableClock:
    """A clock that stands still until the test turns it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 9, 20, 6, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def turn(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture(scope="session")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystore]:
    folder = tmp_path_factory.mktemp("sso-token")
    settings = HsmSettings(
        pin_file=folder / "pin", token_label="sso", softhsm_conf=folder / "softhsm2.conf", wait_seconds=60
    )
    initialise_token(settings, "only-for-tests-4410")
    opened = open_keystore(settings)
    opened.generate("token-signing-1", KeyPurpose.TOKEN_SIGNING, KeyAlgorithm.P256)
    opened.generate_secret("subject-mac-1", KeyPurpose.MAC)
    opened.generate_secret("seal-1", KeyPurpose.ENCRYPTION)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def passwords() -> Passwords:
    return Passwords(slots=4, patience=60)


@pytest.fixture
def clock() -> TurnableClock:
    return TurnableClock()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with every table, made once and copied for each test."""
    path = tmp_path_factory.mktemp("sso-database") / "empty.db"
    made = Database(f"sqlite:///{path}")
    made.create_all()
    with made.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    made.close()
    return path


@pytest.fixture
def database(tmp_path: Path, empty_database: Path) -> Iterator[Database]:
    shutil.copy(empty_database, tmp_path / "sso.db")
    made = Database(f"sqlite:///{tmp_path / 'sso.db'}")
    yield made
    made.close()


@dataclass
class House:
    """The provider and the little world around it."""

    parts: Parts
    database: Database
    clock: TurnableClock
    app: Flask
    issuer: str = ISSUER
    _people: int = 0

    def browser(self, language: str = "en") -> Browser:
        """A browser that has never been here."""
        return Browser(self, self.app.test_client(), language)

    def new_person(self, *, totp: bool = True, given: str = "Өлзийхүү", family: str = "Жишээ") -> Somebody:
        self._people += 1
        new = NewPerson(f"person{self._people}", given, family, f"0000{self._people:08d}", PASSWORD)
        return Somebody(self, self.parts.people.create(new, actor="test", totp=totp))

    def new_client(self, **changes: Any) -> RelyingParty:
        """A bank with a key of its own, unless told otherwise."""
        key = ECKey.generate_key("P-256", {"kid": secrets.token_hex(4)})
        given = Registration(
            name_mn="Жишээ банк",
            name_en="Example Bank",
            jwks={"keys": [key.as_dict(private=False)]},
            redirect_uris=(REDIRECT,),
            post_logout_redirect_uris=(GOODBYE,),
            scopes=("openid", "profile", "sign.request", "sign.validate"),
        )
        if changes.get("auth_method", "private_key_jwt") != "private_key_jwt":
            given = replace(given, jwks=None)
        registered = self.parts.relying_parties.create(replace(given, **changes), actor="test")
        return RelyingParty(self, registered, key)

    def events(self) -> list[str]:
        """What the audit log holds, after its chain was verified."""
        with self.database.reading() as session:
            entries = list(audit_log.export(session))
        audit_log.verify(entries)
        return [entry["event"] for entry in entries]


@dataclass
class Somebody:
    """A registered person with a phone."""

    house: House
    enrolled: Enrolled

    @property
    def id(self) -> str:
        return self.enrolled.person.id

    @property
    def username(self) -> str:
        return self.enrolled.person.username

    def code(self) -> str:
        """A code of a step not used before: the clock is turned to the next one."""
        self.house.clock.turn(otp.STEP_SECONDS)
        assert self.enrolled.totp_secret is not None
        return otp.code_at(self.enrolled.totp_secret, self.house.clock.now)


@dataclass(frozen=True)
class Asked:
    """One authorization request, as its client remembers it."""

    parameters: dict[str, str]
    verifier: str

    @property
    def url(self) -> str:
        return f"/oauth2/authorize?{urlencode(self.parameters)}"


@dataclass
class RelyingParty:
    """A registered client."""

    house: House
    registered: Registered
    key: ECKey
    redirect_uri: str = field(init=False)

    def __post_init__(self) -> None:
        uris = self.registered.relying_party.redirect_uris
        self.redirect_uri = uris[0] if uris else ""

    @property
    def client_id(self) -> str:
        return self.registered.relying_party.client_id

    def ask(self, **changes: str | None) -> Asked:
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        parameters: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": "openid profile",
            "state": secrets.token_urlsafe(8),
            "nonce": secrets.token_urlsafe(8),
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **changes,
        }
        return Asked({name: value for name, value in parameters.items() if value is not None}, verifier)

    def assertion(
        self, *, key: Any = None, alg: str = "ES256", header: dict[str, Any] | None = None, **changes: Any
    ) -> str:
        now = int(self.house.clock.now.timestamp())
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self.house.issuer,
            "iat": now,
            "exp": now + 60,
            "jti": secrets.token_urlsafe(8),
            **changes,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode({"alg": alg, **(header or {})}, claims, key or self.key, algorithms=[alg])

    def proof(self) -> tuple[dict[str, str], dict[str, str]]:
        """(form fields, headers) by the registered method."""
        method = self.registered.relying_party.auth_method
        if method == "private_key_jwt":
            return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": self.assertion()}, {}
        if method == "client_secret_basic":
            pair = f"{self.client_id}:{self.registered.client_secret}".encode()
            return {}, {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        return {"client_id": self.client_id}, {}

    def token(self, **fields: str | None) -> TestResponse:
        form, headers = self.proof()
        given = {name: value for name, value in fields.items() if value is not None}
        return self.house.app.test_client().post("/oauth2/token", data={**form, **given}, headers=headers)

    def redeem(self, code: str, asked: Asked, /, **changes: str | None) -> TestResponse:
        fields: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": asked.verifier,
            **changes,
        }
        return self.token(**fields)

    def userinfo(self, token: str) -> TestResponse:
        return self.house.app.test_client().get("/oauth2/userinfo", headers={"Authorization": f"Bearer {token}"})


class Browser:
    """A browser that follows our own redirects and stops where one leaves us."""

    def __init__(self, house: House, client: FlaskClient, language: str) -> None:
        self.house = house
        self.client = client
        self.headers = {"Accept-Language": language}

    def open(self, url: str) -> TestResponse:
        return self._follow(self.client.get(url, headers=self.headers))

    def press(self, page: TestResponse, button: str, **values: str) -> TestResponse:
        """Submit the form that holds ``button``, as a browser without scripts does."""
        return self._follow(self.post(page, button, **values))

    def post(self, page: TestResponse, button: str, **values: str) -> TestResponse:
        """The same without following the answer."""
        action, fields = form_of(page.text, button)
        return self.client.post(action, data={**fields, **values}, headers=self.headers)

    def log_in(self, page: TestResponse, who: Somebody) -> TestResponse:
        page = self.press(page, "login-submit", username=who.username, password=PASSWORD)
        return self.press(page, "otp-submit", otp=who.code()) if 'id="otp-submit"' in page.text else page

    def authorize(self, asked: Asked, who: Somebody) -> dict[str, str]:
        """Through login and consent, whichever are asked; what came back to the client."""
        page = self.open(asked.url)
        if 'id="login-submit"' in page.text:
            page = self.log_in(page, who)
        if 'id="consent-allow"' in page.text:
            page = self.press(page, "consent-allow")
        return answer_of(page)

    def code(self, asked: Asked, who: Somebody) -> str:
        answer = self.authorize(asked, who)
        assert "code" in answer, answer
        return answer["code"]

    def _follow(self, page: TestResponse) -> TestResponse:
        for _ in range(10):
            location = page.headers.get("Location", "")
            if page.status_code != 303 or not location.startswith("/"):
                return page
            page = self.client.get(location, headers=self.headers)
        raise AssertionError("redirects go round in a circle")


def form_of(html: str, button: str) -> tuple[str, dict[str, str]]:
    """Where the form with this button goes, and its fields' values."""
    for form in re.findall(r"<form.*?</form>", html, re.DOTALL):
        if f'id="{button}"' not in form:
            continue
        action = re.search(r'action="([^"]*)"', form)
        fields: dict[str, str] = {}
        for tag in re.findall(r"<(?:input|button)[^>]*>", form):
            name, value = re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)
            if name and (tag.startswith("<input") or f'id="{button}"' in tag):
                fields[name[1]] = value[1] if value else ""
        assert action is not None
        return action[1].replace("&amp;", "&"), fields
    raise AssertionError(f"no form with {button} in: {html[:2000]}")


def answer_of(page: TestResponse) -> dict[str, str]:
    """The parameters of the redirect that leaves us."""
    assert page.status_code == 303, f"{page.status_code} {page.text[:2000]}"
    return dict(parse_qsl(urlsplit(page.headers["Location"]).query, keep_blank_values=True))


@cache
def catalogue() -> Catalogue:
    return Catalogue([APP / "translations"])


def build_house(
    *, database: Database, clock: TurnableClock, keystore: Keystore, passwords: Passwords, issuer: str = ISSUER
) -> House:
    audit = AuditLog(clock)
    parts = assemble(
        settings=SsoSettings(),
        issuer=issuer,
        database=database,
        audit=audit,
        clock=clock,
        keystore=keystore,
        one_time=ProcessLocalStore(clock),
        passwords=passwords,
    )
    app = Flask("tests", root_path=str(APP), template_folder="templates", static_folder="static")
    guard = FormGuard(b"only for tests", issuer)
    door = Door(
        catalogue=catalogue(),
        guard=guard,
        service_names={"mn": "Тамга", "en": "Tamga"},
        secure=issuer.startswith("https"),
        large_paths=(),
        max_document_octets=1024,
    )
    door.install(app)
    app.register_blueprint(endpoints.blueprint(parts, guard=guard))
    return House(parts, database, clock, app, issuer)


@pytest.fixture
def house(database: Database, clock: TurnableClock, keystore: Keystore, passwords: Passwords) -> House:
    return build_house(database=database, clock=clock, keystore=keystore, passwords=passwords)


@pytest.fixture
def bank(house: House) -> RelyingParty:
    return house.new_client()


@pytest.fixture
def citizen(house: House) -> Somebody:
    return house.new_person()


def json_of(response: TestResponse) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(response.text)
    return found
