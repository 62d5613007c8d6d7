"""A small relying party on PyJWT, apart from every library the service itself is built on."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.web import Answer, Walker

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523 2.2


def new_jwk(kid: str | None = None) -> dict[str, Any]:
    """A fresh P-256 key pair as a private JWK."""
    key = ec.generate_private_key(ec.SECP256R1())
    algorithm = jwt.get_algorithm_by_name("ES256")
    made = algorithm.to_jwk(key, as_dict=True)
    return {**made, "kid": kid or secrets.token_hex(8), "alg": "ES256", "use": "sig"}


def public_jwks(private: Mapping[str, Any]) -> dict[str, Any]:
    """The JWKS that a client registers."""
    return {"keys": [{name: value for name, value in private.items() if name not in ("d", "key_ops")}]}


@dataclass(frozen=True)
class Login:
    """One authorization request, as the relying party remembers it."""

    url: str
    state: str
    nonce: str
    verifier: str


@dataclass
class RelyingParty:
    """One registered client, authenticating by `jwk` (private_key_jwt) or by `secret` (client_secret_basic)."""

    issuer: str
    client_id: str
    redirect_uri: str
    jwk: dict[str, Any] | None = None
    secret: str | None = None
    post_logout_redirect_uri: str | None = None
    trust: Path | None = None
    http: Walker = field(init=False)

    def __post_init__(self) -> None:
        self.http = Walker(self.issuer, trust=self.trust)

    def metadata(self) -> dict[str, Any]:
        answer = self.http.get("/.well-known/openid-configuration")
        assert answer.status == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    # Logging in ----------------------------------------------------------------------------------------------------

    def begin(self, *, scope: str = "openid profile", **more: str) -> Login:
        """The address that the citizen is sent to."""
        state, nonce, verifier = secrets.token_urlsafe(16), secrets.token_urlsafe(16), secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": scope,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **more,
        }
        return Login(f"{self.metadata()['authorization_endpoint']}?{urlencode(query)}", state, nonce, verifier)

    def code(self, login: Login, came_back: Answer) -> str:
        """The code in the redirect to us; checks state and issuer (RFC 9207)."""
        assert (came_back.location or "").startswith(self.redirect_uri), came_back.words[:500]
        query = came_back.query
        assert "error" not in query, query
        assert query["state"] == login.state
        assert query["iss"] == self.issuer
        return query["code"]

    def assertion(self, *, audience: str | None = None, **more: Any) -> str:
        """A client assertion (RFC 7523 3)."""
        assert self.jwk is not None
        now = int(time.time())
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": audience or self.issuer,
            "iat": now,
            "exp": now + 60,
            "jti": secrets.token_urlsafe(16),
            **more,
        }
        return jwt.encode(claims, self._key(), algorithm="ES256", headers={"kid": self.jwk["kid"]})

    def _key(self) -> Any:
        return jwt.PyJWK(self.jwk, "ES256").key

    def authentication(self) -> tuple[dict[str, str], dict[str, str]]:
        """(form fields, headers) that prove who is asking."""
        if self.jwk is not None:
            return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": self.assertion()}, {}
        basic = base64.b64encode(f"{self.client_id}:{self.secret}".encode()).decode()
        return {}, {"Authorization": f"Basic {basic}"}

    def token(self, fields: Mapping[str, str]) -> Answer:
        """One request to the token endpoint, authenticated."""
        proof, headers = self.authentication()
        return self.http.post("/oauth2/token", form={**fields, **proof}, headers=headers)

    def redeem(self, code: str, verifier: str) -> Answer:
        return self.token(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": self.redirect_uri,
                "code_verifier": verifier,
            }
        )

    def verified(self, id_token: str, login: Login, access_token: str | None = None) -> dict[str, Any]:
        """The claims of an ID token, verified against what discovery and JWKS say."""
        metadata = self.metadata()
        header = jwt.get_unverified_header(id_token)
        keys = self.http.get(metadata["jwks_uri"]).json()["keys"]
        key = next(key for key in keys if key["kid"] == header["kid"])
        claims: dict[str, Any] = jwt.decode(
            id_token,
            jwt.PyJWK(key, "ES256").key,
            algorithms=["ES256"],
            audience=self.client_id,
            issuer=metadata["issuer"],
            options={"require": ["exp", "iat", "sub", "nonce", "auth_time", "acr", "amr"]},
        )
        assert claims["nonce"] == login.nonce
        if access_token is not None:
            half = hashlib.sha256(access_token.encode()).digest()[:16]
            assert claims["at_hash"] == base64.urlsafe_b64encode(half).rstrip(b"=").decode()
        return claims

    def userinfo(self, access_token: str) -> Answer:
        return self.http.get("/oauth2/userinfo", headers={"Authorization": f"Bearer {access_token}"})

    # Asking for signatures -----------------------------------------------------------------------------------------

    def request_jwt(self, body: bytes, fields: Mapping[str, Any], *, path: str = "/api/v1/sign-requests") -> str:
        """The request JWT that accompanies a raw document."""
        assert self.jwk is not None
        now = int(time.time())
        claims = {
            "iss": self.client_id,
            "aud": self.issuer + path,
            "iat": now,
            "exp": now + 60,
            "jti": secrets.token_urlsafe(16),
            "body_sha256": hashlib.sha256(body).hexdigest(),
            **fields,
        }
        headers = {"typ": "sign-request+jwt", "kid": self.jwk["kid"]}
        return jwt.encode(claims, self._key(), algorithm="ES256", headers=headers)

    def ask_to_sign(self, document: bytes, sub: str, **fields: Any) -> Answer:
        """POST /api/v1/sign-requests with the raw document."""
        request = {"title": "Loan agreement 2026/117", "signers": [{"sub": sub}], **fields}
        return self.http.post(
            "/api/v1/sign-requests",
            body=document,
            headers={
                "Content-Type": "application/pdf",
                "Authorization": f"Bearer {self.request_jwt(document, request)}",
                "Idempotency-Key": secrets.token_hex(16),
            },
        )

    def with_token(self, access_token: str, method: str, path: str, **more: Any) -> Answer:
        headers = {"Authorization": f"Bearer {access_token}", **more.pop("headers", {})}
        return self.http.request(method, path, headers=headers, **more)


def describe(answer: Answer) -> str:
    """An answer for a failed assertion's message."""
    return f"{answer.status} {answer.content_type} {json.dumps(answer.text[:800], ensure_ascii=False)}"
