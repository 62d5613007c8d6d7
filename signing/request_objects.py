"""What a sign request says: its fields, checked one by one, and the request JWT that may carry them.

The fields come as JSON, either as the `request` part of a multipart body or as claims of a JWT signed by the
organisation's own key beside the raw document.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import math
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import Key, KeySet
from joserfc.jws import JWSRegistry

from core.clock import Clock
from core.one_time import OneTimeStore
from signing.errors import BodyDigestMismatch, RequestInvalid, RequestJwtInvalid, RequestJwtReplayed
from signing.ports import RelyingParties, RelyingPartyFacts

LEVELS = ("B-T", "B-LT")
LANGUAGES = ("mn", "en")
MAX_TITLE = 200
MAX_REFERENCE = 64
MAX_SUB = 255
MAX_URL = 2000
MIN_DEADLINE = 5 * 60
MAX_DEADLINE = 90 * 24 * 3600
MAX_RETENTION_DAYS = 30
DEFAULT_RETENTION_DAYS = 7
MAX_COORDINATE = 14_400  # PDF 2.0 Annex C.2: the longest page edge, in points
MAX_FIELD_NAME = 200
MAX_JWT = 16 * 1024
MAX_JWT_LIFETIME = 120  # seconds from iat to exp
CLOCK_TOLERANCE = 10  # seconds a partner's clock may run ahead of ours
REQUEST_JWT_TYPE = "sign-request+jwt"
# RFC 7519 4.1, and the digest of the body: they speak of the JWT, not of the request.
ENVELOPE_CLAIMS = frozenset({"iss", "aud", "iat", "exp", "nbf", "jti", "body_sha256"})
# Characters that reorder what is read around them (Unicode UAX #9): a title must read as it is stored.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class PlacementFields:
    """Where the visible signature goes: a page and a lower-left corner in points, or an existing field's name."""

    page: int | None = None  # 1-based
    x: float | None = None
    y: float | None = None
    width: float | None = None
    height: float | None = None
    field: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Only the members that are there."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class SignRequestFields:
    """The fields of one sign request, checked and with their defaults."""

    title: str = ""
    sub: str = ""
    placement: PlacementFields | None = None
    level: str = "B-LT"
    deadline: timedelta | None = None
    language: str | None = None
    webhook: str | None = None
    return_url: str | None = None
    reference: str | None = None
    retention_days: int = DEFAULT_RETENTION_DAYS


def read_fields(document: object) -> SignRequestFields:
    """Check a decoded JSON object. Raises RequestInvalid naming the first member that is not right."""
    if not isinstance(document, Mapping):
        raise RequestInvalid("the request must be a JSON object", field="")
    for name in document:
        if name not in _READERS:
            raise RequestInvalid(f"unknown field {str(name)[:60]!r}", field=str(name)[:60])
    for name in ("title", "signers"):
        if name not in document:
            raise RequestInvalid(f"{name} is missing", field=name)
    fields = SignRequestFields()
    for name, value in document.items():
        fields = replace(fields, **_READERS[name](name, value))
    return fields


def _title(name: str, value: object) -> dict[str, Any]:
    text = unicodedata.normalize("NFC", _text(name, value, MAX_TITLE))
    if not text.strip() or len(text) > MAX_TITLE:
        raise RequestInvalid(f"title must be 1-{MAX_TITLE} characters", field=name)
    if any(unicodedata.category(character) in {"Cc", "Cs"} or character in _BIDI for character in text):
        raise RequestInvalid("title must hold no control or direction-changing characters", field=name)
    return {"title": text}


def _signers(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], Mapping):
        raise RequestInvalid("signers must be a list of exactly one signer", field=name)
    signer = value[0]
    for member in signer:
        if member not in {"sub", "placements"}:
            raise RequestInvalid(f"unknown field {str(member)[:60]!r} of a signer", field=f"signers.{str(member)[:60]}")
    if "sub" not in signer:
        raise RequestInvalid("a signer needs a sub", field="signers.sub")
    return {
        "sub": _text("signers.sub", signer["sub"], MAX_SUB),
        "placement": _placements("signers.placements", signer.get("placements", [])),
    }


def _placements(name: str, value: object) -> PlacementFields | None:
    if not isinstance(value, list) or len(value) > 1:
        raise RequestInvalid("placements must be a list of at most one place", field=name)
    if not value:
        return None
    place = value[0]
    if not isinstance(place, Mapping):
        raise RequestInvalid("a placement must be an object", field=name)
    if set(place) == {"field"}:
        return PlacementFields(field=_text(f"{name}.field", place["field"], MAX_FIELD_NAME))
    if not {"page", "x", "y"} <= set(place) <= {"page", "x", "y", "width", "height"}:
        raise RequestInvalid("a placement is {page, x, y, width?, height?} or {field}", field=name)
    sides: dict[str, Any] = {key: _coordinate(f"{name}.{key}", place[key]) for key in place if key != "page"}
    if any(sides[key] <= 0 for key in ("width", "height") if key in sides):
        raise RequestInvalid("width and height must be above zero", field=name)
    return PlacementFields(page=_whole(f"{name}.page", place["page"], 1, 10_000), **sides)


def _level(name: str, value: object) -> dict[str, Any]:
    return {"level": _choice(name, value, LEVELS)}


def _language(name: str, value: object) -> dict[str, Any]:
    return {"language": _choice(name, value, LANGUAGES)}


def _deadline(name: str, value: object) -> dict[str, Any]:
    return {"deadline": timedelta(seconds=_whole(name, value, MIN_DEADLINE, MAX_DEADLINE))}


def _retention(name: str, value: object) -> dict[str, Any]:
    return {"retention_days": _whole(name, value, 0, MAX_RETENTION_DAYS)}


def _reference(name: str, value: object) -> dict[str, Any]:
    return {"reference": _text(name, value, MAX_REFERENCE)}


def _address(name: str, value: object) -> dict[str, Any]:
    text = _text(name, value, MAX_URL)
    try:
        parts = urlsplit(text)
        loopback = parts.scheme == "http" and parts.hostname in {"localhost", "127.0.0.1", "::1"}
    except ValueError as error:
        raise RequestInvalid(f"{name} is not an address", field=name) from error
    if not (parts.scheme == "https" or loopback) or not parts.hostname or parts.username is not None or parts.fragment:
        raise RequestInvalid(f"{name} must be an https address without user name or fragment", field=name)
    return {name: text}


_READERS: Mapping[str, Callable[[str, object], dict[str, Any]]] = {
    "title": _title,
    "signers": _signers,
    "level": _level,
    "deadline": _deadline,
    "language": _language,
    "webhook": _address,
    "return_url": _address,
    "reference": _reference,
    "retention": _retention,
}


def _text(name: str, value: object, limit: int) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= limit or not value.isprintable():
        raise RequestInvalid(f"{name} must be a printable string of 1-{limit} characters", field=name)
    return value


def _whole(name: str, value: object, lowest: int, highest: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise RequestInvalid(f"{name} must be a whole number from {lowest} to {highest}", field=name)
    return value


def _coordinate(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise RequestInvalid(f"{name} must be a number of points", field=name)
    if not 0 <= value <= MAX_COORDINATE:
        raise RequestInvalid(f"{name} must be from 0 to {MAX_COORDINATE} points", field=name)
    return float(value)


def _choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise RequestInvalid(f"{name} must be one of {', '.join(choices)}", field=name)
    return str(value)


# The request JWT -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SignedRequest:
    """A request JWT that verified: who sent it, and the claims that are fields of the request."""

    relying_party: RelyingPartyFacts
    fields: Mapping[str, Any]


class RequestJwts:
    """Verifies request JWTs (RFC 7519, RFC 7515) against the keys their clients registered."""

    def __init__(self, relying_parties: RelyingParties, one_time: OneTimeStore, clock: Clock, issuer: str) -> None:
        self._relying_parties = relying_parties
        self._one_time = one_time
        self._clock = clock
        self._issuer = issuer

    def verify(self, token: str, body: bytes, endpoint: str) -> SignedRequest:
        """Check the JWT that came with ``body`` at the address ``endpoint``, and use up its `jti`.

        Raises RequestJwtInvalid, RequestJwtReplayed, BodyDigestMismatch.
        """
        # 1. Whose is it? Until step 2 nothing in it is believed.
        header, unverified = _peek(token)
        relying_party = self._sender(unverified)
        # 2. The signature, by a registered key and the registered algorithm.
        claims = _decode(token, header, relying_party)
        # 3. For us, and now.
        self._check_audience(claims, endpoint)
        self._check_time(claims)
        # 4. For these bytes.
        _check_body(claims, body)
        # 5. Once.
        self._claim(claims, relying_party.client_id)
        fields = {name: value for name, value in claims.items() if name not in ENVELOPE_CLAIMS}
        return SignedRequest(relying_party, fields)

    def _sender(self, unverified: Mapping[str, Any]) -> RelyingPartyFacts:
        issuer = unverified.get("iss")
        relying_party = self._relying_parties.relying_party(issuer) if isinstance(issuer, str) else None
        if relying_party is None or not relying_party.jwks:
            raise RequestJwtInvalid("iss names no registered client with keys")
        return relying_party

    def _check_audience(self, claims: Mapping[str, Any], endpoint: str) -> None:
        audience = claims.get("aud")
        if isinstance(audience, list) and len(audience) == 1:
            audience = audience[0]
        if audience not in (self._issuer, endpoint):
            raise RequestJwtInvalid("aud must be this issuer or this address, as one string")

    def _check_time(self, claims: Mapping[str, Any]) -> None:
        now = self._clock().timestamp()
        issued, expires, not_before = (_moment(claims, name) for name in ("iat", "exp", "nbf"))
        if issued is None or expires is None:
            raise RequestJwtInvalid("iat and exp are both needed")
        if not 0 < expires - issued <= MAX_JWT_LIFETIME:
            raise RequestJwtInvalid(f"exp must be at most {MAX_JWT_LIFETIME} seconds after iat")
        if issued > now + CLOCK_TOLERANCE or (not_before or 0) > now + CLOCK_TOLERANCE:
            raise RequestJwtInvalid("iat or nbf lies in the future")
        if expires <= now:
            raise RequestJwtInvalid("the request JWT has expired")

    def _claim(self, claims: Mapping[str, Any], client_id: str) -> None:
        jti = claims.get("jti")
        if not isinstance(jti, str) or not 8 <= len(jti) <= 200:
            raise RequestJwtInvalid("jti must be a string of 8-200 characters")
        key = hashlib.sha256(f"{client_id}\n{jti}".encode()).hexdigest()
        # Kept until the JWT cannot be valid any more, however far its iat ran ahead of our clock.
        if not self._one_time.claim("sign-request-jti", key, ttl=MAX_JWT_LIFETIME + 2 * CLOCK_TOLERANCE):
            raise RequestJwtReplayed("this jti was used before")


def looks_like_request_jwt(token: str) -> bool:
    """Whether a bearer token says of itself that it is a request JWT; proves nothing."""
    try:
        header, _ = _peek(token)
    except RequestJwtInvalid:
        return False
    return header.get("typ") == REQUEST_JWT_TYPE


def _peek(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    parts = token.split(".")
    if len(token) > MAX_JWT or len(parts) != 3:
        raise RequestJwtInvalid(f"a request JWT has three parts and at most {MAX_JWT} characters")
    header, claims = _json_part(parts[0]), _json_part(parts[1])
    return header, claims


def _json_part(part: str) -> dict[str, Any]:
    try:
        value = json.loads(_unbase64url(part))
    except (ValueError, RecursionError) as error:
        raise RequestJwtInvalid("a part of the request JWT is not JSON in base64url") from error
    if not isinstance(value, dict):
        raise RequestJwtInvalid("a part of the request JWT is not a JSON object")
    return value


def _unbase64url(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _decode(token: str, header: Mapping[str, Any], relying_party: RelyingPartyFacts) -> dict[str, Any]:
    if header.get("typ") != REQUEST_JWT_TYPE:  # RFC 8725 3.11: explicit typing
        raise RequestJwtInvalid(f"typ must be {REQUEST_JWT_TYPE}")
    key = _registered_key(relying_party, header.get("kid"))
    try:
        # RFC 8725 3.1: the algorithms are the registered ones, never the header's choice.
        registry = _RegisteredAlgorithms(algorithms=list(relying_party.signing_algorithms))
        return dict(jwt.decode(token, key, registry=registry).claims)
    except (JoseError, ValueError, TypeError) as error:
        raise RequestJwtInvalid("the signature does not verify with the registered key and algorithm") from error


def _registered_key(relying_party: RelyingPartyFacts, kid: object) -> Key:
    try:
        key_set = KeySet.import_key_set({"keys": list((relying_party.jwks or {}).get("keys", []))})
    except (JoseError, ValueError, TypeError) as error:
        raise RequestJwtInvalid("the client's registered keys cannot be read") from error
    keys = [key for key in key_set.keys if kid is None or key.kid == kid]
    if len(keys) != 1:
        raise RequestJwtInvalid("kid must name exactly one registered key")
    return keys[0]


class _RegisteredAlgorithms(JWSRegistry):
    """joserfc's registry without its warning at ``EdDSA``, the name RFC 8037 clients register."""

    def get_alg(self, name: str) -> Any:
        """The algorithm, if it is a registered one."""
        if name not in (self.allowed or ()) or name not in self.algorithms:
            raise RequestJwtInvalid("alg is not the registered one")
        return self.algorithms[name]


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise RequestJwtInvalid(f"{name} must be a number of seconds (RFC 7519 2, NumericDate)")
    return float(value)


def _check_body(claims: Mapping[str, Any], body: bytes) -> None:
    stated = claims.get("body_sha256")
    digest = hashlib.sha256(body).digest()
    if not isinstance(stated, str) or not hmac.compare_digest(_digest(stated), digest):
        raise BodyDigestMismatch("body_sha256 is not the SHA-256 of the body")


def _digest(text: str) -> bytes:
    try:
        return bytes.fromhex(text) if len(text) == 64 else _unbase64url(text.rstrip("="))
    except (ValueError, binascii.Error):
        return b""
