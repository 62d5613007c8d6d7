"""Who is this client? By its one registered method and no other; every refusal looks the same from outside."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from flask import Request
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from core.clock import Clock
from core.logs import get_logger
from core.one_time import OneTimeStore
from sso.errors import InvalidClient, InvalidRequest
from sso.opaque import digest
from sso.parameters import Parameters
from sso.relying_parties import RelyingParties, RelyingParty

log = get_logger("sso.client_authentication")

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523 2.2
MAX_ASSERTION_SECONDS = 300  # how far ahead exp may lie
MAX_FUTURE_SECONDS = 10  # tolerance for iat and nbf of a client whose clock is fast
MAX_JTI_CHARACTERS = 256


@dataclass(frozen=True)
class Presented:
    """What a request presents as its client: the method, the claimed id, and the proof (a secret or an assertion)."""

    method: str
    client_id: str
    proof: str

    def __repr__(self) -> str:
        return f"Presented({self.method!r}, {self.client_id!r})"


class AssertionRegistry(JWSRegistry):
    """joserfc's registry without its warning at ``EdDSA``: that is the name RFC 8037 clients register."""

    def get_alg(self, name: str) -> Any:
        """The algorithm, if it is the one this registry was made for."""
        if name not in (self.allowed or ()):
            raise InvalidClient("algorithm is not the registered one")
        return self.algorithms[name]


class ClientAuthentication:
    """Authenticates clients at the token endpoint (RFC 6749 2.3, RFC 7523 3)."""

    def __init__(
        self, relying_parties: RelyingParties, one_time: OneTimeStore, clock: Clock, *, issuer: str, token_endpoint: str
    ) -> None:
        self._relying_parties = relying_parties
        self._one_time = one_time
        self._clock = clock
        self._audiences = frozenset({issuer, token_endpoint})  # RFC 7523 3 (3)

    def authenticate(self, request: Request, parameters: Parameters) -> RelyingParty:
        """The client that made this request. Raises InvalidClient, or InvalidRequest for two methods at once."""
        presented = _presented(request, parameters)
        try:
            return self._proven(presented)
        except InvalidClient as error:
            log.warning("client_refused", method=presented.method, reason=error.reason)
            raise

    def _proven(self, presented: Presented) -> RelyingParty:
        client = self._relying_parties.enabled(presented.client_id)
        if client is None:
            raise InvalidClient("unknown or disabled client")
        if client.auth_method != presented.method:
            raise InvalidClient("not the registered method")
        if presented.method == "client_secret_basic" and not client.has_secret(presented.proof):
            raise InvalidClient("wrong secret")
        if presented.method == "private_key_jwt":
            self._check_assertion(client, presented.proof)
        return client

    def _check_assertion(self, client: RelyingParty, assertion: str) -> None:
        claims = _verified_claims(client, assertion)
        # 1. Issuer and subject are the client (RFC 7523 3 (1), (2)).
        if claims.get("iss") != client.client_id or claims.get("sub") != client.client_id:
            raise InvalidClient("iss and sub must be the client_id")
        # 2. The audience is us (3).
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if not any(isinstance(one, str) and one in self._audiences for one in audiences):
            raise InvalidClient("aud is not this provider")
        # 3. It is valid now and not for long (4), (5), (6).
        expiry = self._check_times(claims)
        # 4. It was never used before (7), decided by one atomic step.
        jti = claims.get("jti")
        if not isinstance(jti, str) or not 1 <= len(jti) <= MAX_JTI_CHARACTERS:
            raise InvalidClient("jti is missing or too long")
        ttl = max(1, int(expiry - self._clock().timestamp()) + 2)
        if not self._one_time.claim("client-assertion", digest(f"{client.client_id}\0{jti}"), ttl=ttl):
            raise InvalidClient("jti was used before")

    def _check_times(self, claims: dict[str, Any]) -> float:
        now = self._clock().timestamp()
        expiry = _numeric_date(claims, "exp")
        if expiry is None or not now < expiry <= now + MAX_ASSERTION_SECONDS + MAX_FUTURE_SECONDS:
            raise InvalidClient(f"exp must be at most {MAX_ASSERTION_SECONDS} seconds ahead")
        for name in ("iat", "nbf"):
            moment = _numeric_date(claims, name)
            if moment is not None and moment > now + MAX_FUTURE_SECONDS:
                raise InvalidClient(f"{name} lies in the future")
        return expiry


def _presented(request: Request, parameters: Parameters) -> Presented:
    header = request.headers.get("Authorization")
    assertion = parameters.get("client_assertion") or parameters.get("client_assertion_type")
    secret = parameters.get("client_secret")
    if sum(map(bool, (header, assertion, secret))) > 1:
        # RFC 6749 2.3: at most one method in each request.
        raise InvalidRequest("a client authenticates by one method only")
    claimed = parameters.get("client_id")
    if header:
        found = _basic(header)
    elif assertion:
        found = _assertion(parameters)
    elif secret:
        found = Presented("client_secret_post", claimed or "", secret)
    else:
        found = Presented("none", claimed or "", "")
    if claimed is not None and claimed != found.client_id:
        raise InvalidClient("client_id differs from the authenticated one")
    return found


def _basic(header: str) -> Presented:
    scheme, _, encoded = header.partition(" ")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as error:
        raise InvalidClient("malformed Authorization header") from error
    client_id, colon, secret = decoded.partition(":")
    if scheme.lower() != "basic" or not colon or not secret:
        raise InvalidClient("malformed Authorization header")
    # RFC 6749 2.3.1: both parts are form-encoded before they are joined.
    return Presented("client_secret_basic", unquote_plus(client_id), unquote_plus(secret))


def _assertion(parameters: Parameters) -> Presented:
    assertion = parameters.get("client_assertion")
    if parameters.get("client_assertion_type") != ASSERTION_TYPE or assertion is None:
        raise InvalidClient("client_assertion and client_assertion_type do not fit")
    try:
        unverified = json.loads(jws.extract_compact(assertion.encode()).payload or b"")
    except (JoseError, ValueError, RecursionError) as error:  # the last by thousands of opening brackets
        raise InvalidClient("the assertion is not a JWT") from error
    subject = unverified.get("sub") if isinstance(unverified, dict) else None
    if not isinstance(subject, str):
        raise InvalidClient("the assertion has no sub")
    return Presented("private_key_jwt", subject, assertion)


def _verified_claims(client: RelyingParty, assertion: str) -> dict[str, Any]:
    # RFC 8725 3.1: the registered algorithm only; keys come from the registration, never from the header.
    registry = AssertionRegistry(algorithms=[client.auth_algorithm or ""], strict_check_header=False)
    try:
        unverified = jws.extract_compact(assertion.encode(), registry=registry)
        kid = unverified.headers().get("kid")
        if not any(jws.validate_compact(unverified, key, registry=registry) for key in client.keys(kid)):
            raise InvalidClient("the assertion's signature is not the client's")
        claims = json.loads(unverified.payload or b"")
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise InvalidClient("the assertion's signature is not the client's") from error
    # RFC 8725 3.11: a token made for something else is no assertion.
    kind = str(unverified.headers().get("typ", "JWT")).lower()
    if kind not in ("jwt", "client-authentication+jwt") or not isinstance(claims, dict):
        raise InvalidClient("the assertion is a token of another kind")
    return claims


def _numeric_date(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        raise InvalidClient(f"{name} is not a NumericDate")
    return float(value)
