"""How fast logins and tokens are: a whole hop and client credentials beside a bare Flask + Authlib program that keeps
everything in dictionaries, ID tokens beside a key in memory, password checks beside the bare hash."""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from argon2 import PasswordHasher
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import grants
from authlib.oauth2.rfc6749.models import AuthorizationCodeMixin, ClientMixin
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core import UserInfo
from authlib.oidc.core.grants import OpenIDCode
from flask import Flask
from joserfc import jwt
from joserfc.jwk import ECKey

from core.clock import utc_now
from core.database import Database
from core.passwords import MEMORY_COST_KIB, PARALLELISM, TIME_COST, Passwords
from hsm.keystore import KeyAlgorithm, KeyPurpose
from sso.authorization_codes import Redeemed
from tests.bench.bench_ocsp import token
from tests.bench.harness import Bench, Contest
from tests.unit.sso.conftest import PASSWORD, REDIRECT, House, TurnableClock, build_house

BASIC = "client_secret_basic"


class RunningClock(TurnableClock):
    """The real time, where tests have one they turn."""

    def __call__(self) -> datetime:
        return utc_now()


@contextmanager
def house() -> Iterator[House]:
    """The provider on a SoftHSM token and a SQLite file that survives a power cut."""
    logging.getLogger("tamga").setLevel(logging.CRITICAL)
    with token() as keystore, tempfile.TemporaryDirectory(prefix="tamga-bench-") as folder:
        keystore.generate("token-signing-1", KeyPurpose.TOKEN_SIGNING, KeyAlgorithm.P256)
        keystore.generate_secret("subject-mac-1", KeyPurpose.MAC)
        keystore.generate_secret("seal-1", KeyPurpose.ENCRYPTION)
        database = Database(f"sqlite:///{Path(folder) / 'bench.db'}")
        database.create_all()
        yield build_house(database=database, clock=RunningClock(), keystore=keystore, passwords=Passwords())
        database.close()


# The peer: what one writes with Authlib in an afternoon


class BareClient(ClientMixin):  # type: ignore[misc]
    """One client in memory."""

    client_id, client_secret, scope = "peer", "secret", "openid profile sign.request"

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> str:
        return REDIRECT

    def get_allowed_scope(self, scope: str | None) -> str:
        return " ".join(one for one in (scope or "").split() if one in self.scope.split())

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri == REDIRECT

    def check_client_secret(self, client_secret: str) -> bool:
        return secrets.compare_digest(client_secret, self.client_secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == BASIC

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in ("authorization_code", "client_credentials")


class BareCode(AuthorizationCodeMixin):  # type: ignore[misc]
    """One code in memory."""

    def __init__(self, asked: Any) -> None:
        data = asked.payload.data
        self.redirect_uri, self.scope, self.nonce = data["redirect_uri"], asked.scope, data.get("nonce")
        self.code_challenge, self.code_challenge_method = data["code_challenge"], data["code_challenge_method"]
        self.auth_time = int(utc_now().timestamp())

    def get_redirect_uri(self) -> str:
        return str(self.redirect_uri)

    def get_scope(self) -> str:
        return str(self.scope)

    def get_nonce(self) -> str | None:
        return self.nonce

    def get_auth_time(self) -> int:
        return self.auth_time

    def get_acr(self) -> str:
        return "urn:tamga:loa:substantial"

    def get_amr(self) -> list[str]:
        return ["pwd", "otp", "mfa"]


def bare_program() -> Flask:
    """Flask and Authlib with an ES256 key in memory and every record in a dictionary."""
    app, codes, tokens, client = Flask("bare"), {}, [], BareClient()
    key = ECKey.generate_key("P-256", {"kid": "peer", "alg": "ES256"})

    class CodeGrant(grants.AuthorizationCodeGrant):  # type: ignore[misc]
        TOKEN_ENDPOINT_AUTH_METHODS = (BASIC,)

        def save_authorization_code(self, code: str, asked: Any) -> None:
            codes[code] = BareCode(asked)

        def query_authorization_code(self, code: str, _client: object) -> BareCode | None:
            return codes.get(code)

        def delete_authorization_code(self, code: BareCode) -> None:
            codes.clear()

        def authenticate_user(self, _code: BareCode) -> str:
            return "somebody"

    class IdToken(OpenIDCode):  # type: ignore[misc]
        def exists_nonce(self, nonce: str, asked: object) -> bool:
            return False

        def resolve_client_private_key(self, _client: object) -> ECKey:
            return key

        def get_client_algorithm(self, _client: object) -> str:
            return "ES256"

        def get_client_claims(self, _client: object) -> dict[str, Any]:
            now = int(utc_now().timestamp())
            return {"iss": "http://localhost", "aud": "peer", "iat": now, "exp": now + 600}

        def get_encode_header(self, _client: object) -> dict[str, str]:
            return {"alg": "ES256", "kid": "peer"}

        def generate_user_info(self, user: str, _scope: str) -> UserInfo:
            return UserInfo(sub=user)

    server = AuthorizationServer(app, lambda _id: client, lambda issued, _asked: tokens.append(issued))
    server.register_grant(CodeGrant, [CodeChallenge(required=True), IdToken()])
    server.register_grant(grants.ClientCredentialsGrant)

    @app.get("/oauth2/authorize")
    def authorize() -> Any:
        grant = server.get_consent_grant(end_user="somebody")
        return server.create_authorization_response(grant=grant, grant_user="somebody")

    app.add_url_rule("/oauth2/token", "token", server.create_token_response, methods=["POST"])
    return app


def hopping(client: Any, client_id: str, auth: tuple[str, str]) -> Any:
    """One hop: authorize with a session, redeem the code, get an ID token."""

    def hop() -> None:
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": REDIRECT,
            "scope": "openid profile",
            "state": "state",
            "nonce": "nonce",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        location = client.get(f"/oauth2/authorize?{urlencode(asked)}").headers["Location"]
        fields = {
            "grant_type": "authorization_code",
            "code": parse_qs(urlsplit(location).query)["code"][0],
            "redirect_uri": REDIRECT,
            "code_verifier": verifier,
        }
        answer = client.post("/oauth2/token", data=fields, auth=auth)
        assert answer.status_code == 200 and b"id_token" in answer.data

    return hop


@contextmanager
def hop() -> Iterator[Contest]:
    """Authorize with a session, code, token with ID token."""
    with house() as home:
        bank, who, browser = home.new_client(auth_method=BASIC), home.new_person(totp=False), home.browser()
        browser.code(bank.ask(), who)
        ours = hopping(browser.client, bank.client_id, (bank.client_id, bank.registered.client_secret or ""))
        yield Contest(ours=ours, peer=hopping(bare_program().test_client(), "peer", ("peer", "secret")))


def crediting(app: Flask, auth: tuple[str, str]) -> Any:
    """One client-credentials request."""
    client = app.test_client()

    def ask() -> None:
        fields = {"grant_type": "client_credentials", "scope": "sign.request"}
        assert client.post("/oauth2/token", data=fields, auth=auth).status_code == 200

    return ask


@contextmanager
def client_credentials() -> Iterator[Contest]:
    """A partner's token."""
    with house() as home:
        bank = home.new_client(auth_method=BASIC)
        ours = crediting(home.app, (bank.client_id, bank.registered.client_secret or ""))
        yield Contest(ours=ours, peer=crediting(bare_program(), ("peer", "secret")))


@contextmanager
def id_token() -> Iterator[Contest]:
    """Claims to a signed ID token; the peer signs the same claims with a key in memory."""
    with house() as home:
        id_tokens = home.parts.id_tokens
        code = Redeemed(
            client_id="bank",
            person_id="p",
            session_id="s",
            redirect_uri=REDIRECT,
            code_challenge="c",
            scope="openid",
            nonce="nonce",
            sub="x" * 43,
            sid="x" * 32,
            acr="urn:tamga:loa:substantial",
            amr=("pwd", "otp", "mfa"),
            authenticated_at=utc_now(),
            family="f",
        )
        claims = id_tokens.read_hint(id_tokens.issue(code, "access"))
        assert claims is not None
        key = ECKey.generate_key("P-256")
        yield Contest(
            ours=lambda: id_tokens.issue(code, "access"),
            peer=lambda: jwt.encode({"alg": "ES256", "kid": "peer"}, claims, key, algorithms=["ES256"]),
        )


@contextmanager
def password() -> Iterator[Contest]:
    """A right user name and password; the floor is the bare Argon2id check with the same parameters."""
    with house() as home:
        who = home.new_person(totp=False)
        hasher = PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_COST_KIB, parallelism=PARALLELISM)
        encoded = hasher.hash(PASSWORD)
        login = home.parts.password_login
        yield Contest(
            ours=lambda: login.check(who.username, PASSWORD, source="127.0.0.1"),
            peer=lambda: hasher.verify(encoded, PASSWORD),
        )


DURABLE = "ours: SQLite with fsync, audit chain, key in SoftHSM; peer: dictionaries, key in memory"

BENCHES = (
    Bench("sso-hop", hop, "bare Flask + Authlib in memory", "logins/s", DURABLE),
    Bench("sso-client-credentials", client_credentials, "bare Flask + Authlib in memory", "tokens/s", DURABLE),
    Bench("sso-id-token", id_token, "joserfc, key in memory", "tokens/s", "ours signs in SoftHSM"),
    Bench("sso-password", password, "argon2-cffi, same parameters", "checks/s", "floor: the hash alone"),
)
