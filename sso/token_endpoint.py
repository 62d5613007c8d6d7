"""``/oauth2/token``: authenticate the client, then let the grant answer (RFC 6749 3.2)."""

from __future__ import annotations

from typing import Any

from flask import Request

from sso.client_authentication import ClientAuthentication
from sso.errors import InvalidRequest
from sso.parameters import Parameters, of_form
from sso.server import AuthorizationServer


class TokenEndpoint:
    """Answers token requests with the members of the JSON object, or raises OAuthError."""

    def __init__(self, client_authentication: ClientAuthentication, server: AuthorizationServer) -> None:
        self._client_authentication = client_authentication
        self._server = server

    def answer(self, request: Request) -> dict[str, Any]:
        """The token response."""
        if request.query_string:
            # RFC 6749 2.3.1: credentials never travel in the address, where logs keep them.
            raise InvalidRequest("parameters belong in the request body, not in the query")
        parameters = of_form(request)
        parameters.check_single()
        client = self._client_authentication.authenticate(request, parameters)
        _check_members(parameters)
        return self._server.token_response(client, parameters)


def _check_members(parameters: Parameters) -> None:
    if parameters.require("grant_type") == "authorization_code":
        for name in ("code", "redirect_uri", "code_verifier"):
            parameters.require(name)
