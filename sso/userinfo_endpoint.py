"""``/oauth2/userinfo``: what the bearer of an access token may know about the person (OpenID Connect Core 5.3)."""

from __future__ import annotations

from typing import Any

from flask import Request

from sso.access_tokens import AccessTokens
from sso.claims import claims_for, without_reserved
from sso.errors import InsufficientScope, InvalidRequest, InvalidToken, MissingToken, OAuthError
from sso.parameters import FORM, of_form
from sso.people import People
from sso.scopes import OPENID, PROFILE


class UserinfoEndpoint:
    """Answers with the claims, or raises OAuthError."""

    def __init__(self, access_tokens: AccessTokens, people: People) -> None:
        self._access_tokens = access_tokens
        self._people = people

    def answer(self, request: Request) -> dict[str, Any]:
        """The claims that the token's scopes give. Raises MissingToken, InvalidToken, InsufficientScope."""
        token = self._access_tokens.find(presented_token(request))
        if token.person_id is None or token.sub is None or OPENID not in token.scopes:
            raise InsufficientScope("the access token was not given for a person's claims")
        about = {}
        if PROFILE in token.scopes:
            about = claims_for(self._people.get(token.person_id), token.scopes)
        return {"sub": token.sub, **without_reserved(about)}


def presented_token(request: Request) -> str:
    """The bearer token from the header or the form body, never from the query (RFC 6750 2)."""
    header = request.headers.get("Authorization", "")
    posted = None
    if request.method == "POST" and request.mimetype == FORM:
        parameters = of_form(request)
        parameters.check_single()
        posted = parameters.get("access_token")
    if header and posted:
        raise InvalidRequest("the access token is given twice")
    if posted:
        return posted
    scheme, _, token = header.partition(" ")
    if not header or scheme.lower() != "bearer":
        raise MissingToken("an access token is needed")
    if not token.strip():
        raise InvalidToken("the access token is empty")
    return token.strip()


def challenge(error: OAuthError) -> str:
    """The ``WWW-Authenticate`` value for a refusal (RFC 6750 3)."""
    if isinstance(error, MissingToken):
        return 'Bearer realm="userinfo"'
    text = f'Bearer realm="userinfo", error="{error.code}", error_description="{error.description}"'
    return f'{text}, scope="{OPENID}"' if isinstance(error, InsufficientScope) else text
