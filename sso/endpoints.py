"""The room's addresses and the HTTP form of its answers; what is answered is decided in the endpoint modules."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from flask import Blueprint, Response, request
from werkzeug.wrappers import Response as AnyResponse

from core.pages import FormGuard
from sso import discovery
from sso.authorization_endpoint import Refused
from sso.errors import InvalidClient, OAuthError, PageError, PersonNotFound
from sso.jwks import MAX_AGE_SECONDS
from sso.logout_pages import LogoutPages
from sso.pages import Pages
from sso.parts import Parts
from sso.userinfo_endpoint import challenge


def blueprint(parts: Parts, *, guard: FormGuard) -> Blueprint:
    """The provider for one Flask application."""
    sso = Blueprint("sso", __name__, template_folder="templates")
    endpoints, pages, logout = Endpoints(parts), Pages(parts, guard), LogoutPages(parts, guard)
    add: Callable[..., None] = sso.add_url_rule
    add("/.well-known/openid-configuration", "openid_configuration", endpoints.metadata)
    add("/.well-known/oauth-authorization-server", "oauth_authorization_server", endpoints.metadata)
    add(discovery.JWKS, "jwks", endpoints.jwks)
    add(discovery.TOKEN, "token", endpoints.token, methods=["POST"])
    add(discovery.USERINFO, "userinfo", endpoints.userinfo, methods=["GET", "POST"])
    add(discovery.AUTHORIZATION, "authorize", pages.authorize, methods=["GET", "POST"])
    add(discovery.AUTHORIZATION + "/resume", "resume", pages.resume)
    add(discovery.END_SESSION, "logout", logout.logout, methods=["GET", "POST"])
    add(discovery.END_SESSION + "/confirm", "logout_confirm", logout.confirm, methods=["GET", "POST"])
    add("/login", "login", pages.login, methods=["GET", "POST"])
    add("/login/otp", "otp", pages.otp, methods=["GET", "POST"])
    add("/login/cancel", "cancel", pages.cancel, methods=["POST"])
    add("/consent", "consent", pages.consent, methods=["GET", "POST"])
    sso.register_error_handler(Refused, pages.refused)
    sso.register_error_handler(PageError, pages.error)
    sso.register_error_handler(OAuthError, pages.error)
    sso.register_error_handler(PersonNotFound, pages.error)
    return sso


class Endpoints:
    """The endpoints that speak JSON."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._metadata = json.dumps(discovery.metadata(parts.issuer), separators=(",", ":")).encode()

    def metadata(self) -> AnyResponse:
        """Both discovery documents."""
        return _published(self._metadata)

    def jwks(self) -> AnyResponse:
        """The JWK Set (RFC 7517 5)."""
        return _published(self._parts.signing_key.published())

    def token(self) -> AnyResponse:
        """RFC 6749 5.1, 5.2."""
        try:
            return _json(self._parts.token_endpoint.answer(request))
        except OAuthError as error:
            response = _json(_error_members(error), error.status)
            if isinstance(error, InvalidClient):
                # RFC 6749 5.2: 401 names a scheme; one answer for every reason.
                response.headers["WWW-Authenticate"] = 'Basic realm="token", charset="UTF-8"'
            return response

    def userinfo(self) -> AnyResponse:
        """OpenID Connect Core 5.3.2, RFC 6750 3."""
        try:
            return _json(self._parts.userinfo_endpoint.answer(request))
        except OAuthError as error:
            response = _json(_error_members(error), error.status)
            response.headers["WWW-Authenticate"] = challenge(error)
            return response


def _error_members(error: OAuthError) -> dict[str, str]:
    members = {"error": error.code}
    if error.description:
        members["error_description"] = error.description
    return members


def _json(members: dict[str, Any], status: int = 200) -> Response:
    response = Response(json.dumps(members, ensure_ascii=False), status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"  # RFC 6749 5.1
    response.headers["Pragma"] = "no-cache"
    return response


def _published(body: bytes) -> AnyResponse:
    response = Response(body, content_type="application/json")
    response.headers["Cache-Control"] = f"public, max-age={MAX_AGE_SECONDS}"
    response.headers["Access-Control-Allow-Origin"] = "*"  # public documents; apps in browsers read them
    response.set_etag(sha256(body).hexdigest()[:32])
    return response.make_conditional(request)
