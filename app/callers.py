"""Who is calling: a person by the browser's session, a client by its access token."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from flask import request

from core.principal import Principal

if TYPE_CHECKING:
    from app.wiring import Services


class Callers:
    """Turns a request into a Principal, so that rooms need not know how people and clients are recognised."""

    def __init__(self, services: Services) -> None:
        self._sso = services.sso

    def person(self) -> Principal | None:
        """The person whose session this browser holds."""
        cookie = request.cookies.get(self._sso.sessions.cookie_name)
        return self._sso.sessions.current(cookie) if cookie else None

    def client(self) -> Principal | None:
        """The client whose access token the request bears (RFC 6750 2.1)."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return None
        return self._sso.access_tokens.principal(token.strip())

    def login_url(self, return_to: str) -> str:
        """Where a person logs in before coming back to ``return_to``, a path of this origin."""
        return "/login?" + urlencode({"return_to": return_to})
