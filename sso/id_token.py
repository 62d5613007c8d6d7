"""The ID token: who logged in, how and when, signed for one client (OpenID Connect Core 2, 3.1.3.6)."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError

from core.clock import Clock
from sso.authorization_codes import Redeemed
from sso.claims import without_reserved
from sso.jwks import ALGORITHM, SigningKey

MAX_HINT_OCTETS = 8 * 1024


class IdTokens:
    """Makes ID tokens and recognises our own when they come back as hints; ``lifetime`` is in seconds."""

    def __init__(self, issuer: str, key: SigningKey, clock: Clock, *, lifetime: int) -> None:
        self._issuer = issuer
        self._key = key
        self._clock = clock
        self._lifetime = lifetime

    def issue(self, code: Redeemed, access_token: str, *, about: dict[str, Any] | None = None) -> str:
        """A signed token for the client that redeemed ``code``; ``about`` adds claims but replaces none of ours."""
        now = int(self._clock().timestamp())
        claims = {
            **without_reserved(about or {}),
            "iss": self._issuer,
            "sub": code.sub,
            "aud": code.client_id,
            "iat": now,
            "exp": now + self._lifetime,
            "auth_time": int(code.authenticated_at.timestamp()),
            "acr": code.acr,
            "amr": list(code.amr),
            "sid": code.sid,
            "at_hash": at_hash(access_token),
        }
        if code.nonce is not None:
            claims["nonce"] = code.nonce
        header = {"alg": ALGORITHM, "kid": self._key.kid}
        return jwt.encode(header, claims, self._key.private(), algorithms=[ALGORITHM])

    def read_hint(self, token: str | None) -> dict[str, Any] | None:
        """The claims of an ID token we once issued, expired or not; None for anything else (RP-Initiated Logout 2)."""
        if token is None or len(token) > MAX_HINT_OCTETS:
            return None
        try:
            read = jwt.decode(token, self._key.key_set(), algorithms=[ALGORITHM])
        except (JoseError, ValueError):
            return None
        ours = read.claims.get("iss") == self._issuer and read.header.get("typ", "JWT") == "JWT"
        texts = all(isinstance(read.claims.get(name), str) for name in ("sub", "aud", "sid"))
        return read.claims if ours and texts else None


def at_hash(access_token: str) -> str:
    """The left half of the access token's SHA-256, base64url (OpenID Connect Core 3.1.3.6)."""
    return base64.urlsafe_b64encode(hashlib.sha256(access_token.encode("ascii")).digest()[:16]).rstrip(b"=").decode()
