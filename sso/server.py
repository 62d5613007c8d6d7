"""The only place that knows Authlib: it finds the grant of a request and walks it through its steps.

What Authlib leaves open or does otherwise (PKCE, redemption, lifetimes, client authentication, redirects) is
overridden here by our own parts, so that none of its defaults decides anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from authlib.oauth2 import AuthorizationServer as AuthlibServer
from authlib.oauth2 import OAuth2Error, OAuth2Request
from authlib.oauth2.rfc6749 import ClientMixin
from authlib.oauth2.rfc6749.errors import UnsupportedGrantTypeError
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant as AuthlibCodeGrant
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant as AuthlibClientCredentialsGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from sqlalchemy.orm import Session

from core.database import Database
from sso.access_tokens import AccessTokens
from sso.authorization_codes import AuthorizationCodes, Binding, Redeemed
from sso.errors import (
    InvalidGrant,
    InvalidRequest,
    InvalidScope,
    OAuthError,
    RedirectUriMismatch,
    UnauthorizedClient,
    UnsupportedGrantType,
)
from sso.id_token import IdTokens
from sso.parameters import Parameters
from sso.redirect_uris import with_parameters
from sso.relying_parties import RelyingParty
from sso.scopes import parse


@dataclass(frozen=True)
class Granted:
    """A person's yes: everything the code will be bound to, and the ``state`` that goes back with it."""

    binding: Binding
    state: str | None


class Client(ClientMixin):  # type: ignore[misc]
    """A relying party in the shape Authlib asks its questions to."""

    def __init__(self, relying_party: RelyingParty) -> None:
        self.relying_party = relying_party

    def get_client_id(self) -> str:
        """The client id."""
        return self.relying_party.client_id

    def get_default_redirect_uri(self) -> NoReturn:
        """There is none: the redirect URI is always sent (OpenID Connect Core 3.1.2.1)."""
        raise RedirectUriMismatch("redirect_uri is required")

    def get_allowed_scope(self, scope: str | None) -> str:
        """The scope as it was settled before Authlib was asked."""
        return scope or ""

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Byte for byte (R4)."""
        return self.relying_party.allows_redirect_uri(redirect_uri)

    def check_response_type(self, response_type: str) -> bool:
        """``code`` for those who may use the grant."""
        return response_type == "code" and "authorization_code" in self.relying_party.grant_types

    def check_grant_type(self, grant_type: str) -> bool:
        """The grants that follow from the registration."""
        return grant_type in self.relying_party.grant_types


class Request(OAuth2Request):  # type: ignore[misc]
    """A request whose client and transaction are settled before Authlib sees it."""

    def __init__(
        self, endpoint: str, parameters: Mapping[str, str], client: RelyingParty, session: Session | None = None
    ) -> None:
        super().__init__("POST", endpoint, headers={})
        self.payload = BasicOAuth2Payload(dict(parameters))
        self.client = Client(client)
        self.session = session
        self.granted: Granted | None = None

    @property
    def form(self) -> Mapping[str, str]:
        """The body's parameters."""
        return dict(self.payload.data)

    @property
    def relying_party(self) -> RelyingParty:
        """The client in our own words."""
        return self.client.relying_party


@dataclass(frozen=True)
class CodeInHand:
    """A redeemed code in the shape Authlib asks its questions to; it is already spent when this exists."""

    redeemed: Redeemed

    def get_redirect_uri(self) -> str:
        """What the redemption compared already."""
        return self.redeemed.redirect_uri

    def get_scope(self) -> str:
        """What the person agreed to."""
        return self.redeemed.scope


class CodeGrant(AuthlibCodeGrant):  # type: ignore[misc]
    """``authorization_code``: issue at the authorization endpoint, redeem at the token endpoint."""

    def validate_authorization_request(self) -> str:
        """What the endpoint checked in detail, checked once more where the code is issued."""
        redirect_uri = str(self.request.payload.redirect_uri)
        if not self.request.client.check_response_type(self.request.payload.response_type):
            raise UnauthorizedClient("the client may not use this response type")
        if not self.request.client.check_redirect_uri(redirect_uri):
            raise RedirectUriMismatch("redirect_uri is not a registered one")
        return redirect_uri

    def create_authorization_response(self, redirect_uri: str, grant_user: Granted) -> tuple[int, str, Any]:
        """The redirect that carries the code; the caller's URI is extended, never rewritten."""
        code = self.server.codes.issue(self.request.session, grant_user.binding)
        answer = [("code", code)]
        if grant_user.state is not None:
            answer.append(("state", grant_user.state))
        answer.append(("iss", self.server.issuer))  # RFC 9207 2
        return 303, "", [("Location", with_parameters(redirect_uri, answer))]

    def authenticate_token_endpoint_client(self) -> Client:
        """Settled by client_authentication before this request was made."""
        return self.request.client  # type: ignore[no-any-return]

    def query_authorization_code(self, code: str, client: Client) -> CodeInHand:
        """Authlib looks a code up here and deletes it later; we take it now, by one statement, before issuing."""
        form = self.request.form
        redeemed = self.server.codes.redeem(
            self.request.session,
            code,
            client_id=client.get_client_id(),
            redirect_uri=form.get("redirect_uri", ""),
            verifier=form.get("code_verifier", ""),
        )
        return CodeInHand(redeemed)

    def authenticate_user(self, authorization_code: CodeInHand) -> str:
        """The redemption's conditions included that the person may still log in."""
        return authorization_code.redeemed.person_id

    def generate_token(self, **_asked: object) -> dict[str, Any]:
        """Access token and ID token; lifetimes are ours, and there is never a refresh token."""
        code: Redeemed = self.request.authorization_code.redeemed
        access_token = self.server.tokens.issue_for_person(self.request.session, code)
        return {
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": self.server.tokens.lifetime,
            "scope": code.scope,
            "id_token": self.server.id_tokens.issue(code, access_token),
        }

    def save_token(self, token: dict[str, Any]) -> None:
        """The access token was stored when it was made."""

    def delete_authorization_code(self, authorization_code: CodeInHand) -> None:
        """A spent code is kept, so that a replay is recognised."""


class ClientCredentialsGrant(AuthlibClientCredentialsGrant):  # type: ignore[misc]
    """``client_credentials``: a partner acts in its own name."""

    def authenticate_token_endpoint_client(self) -> Client:
        """Settled by client_authentication before this request was made."""
        return self.request.client  # type: ignore[no-any-return]

    def validate_requested_scope(self) -> None:
        """All of the client's partner scopes, or those asked for; one that is not its own is refused."""
        client = self.request.relying_party
        asked = self.request.payload.scope
        scopes = parse(asked) if asked else client.partner_scopes
        if not set(scopes) <= set(client.partner_scopes):
            raise InvalidScope("the client may not use this scope")
        self.request.payload = BasicOAuth2Payload({**self.request.form, "scope": " ".join(scopes)})

    def generate_token(self, **_asked: object) -> dict[str, Any]:
        """An access token for the scopes that validate_requested_scope settled."""
        scope = str(self.request.payload.scope)
        issue = self.server.tokens.issue_for_client
        return {
            "access_token": issue(self.request.session, self.request.relying_party, tuple(scope.split())),
            "token_type": "Bearer",
            "expires_in": self.server.tokens.lifetime,
            "scope": scope,
        }

    def save_token(self, token: dict[str, Any]) -> None:
        """The access token was stored when it was made."""


class AuthorizationServer(AuthlibServer):  # type: ignore[misc]
    """Authlib's dispatcher with our parts in every place where it would decide something itself."""

    def __init__(
        self, issuer: str, database: Database, codes: AuthorizationCodes, tokens: AccessTokens, id_tokens: IdTokens
    ) -> None:
        super().__init__()
        self.issuer = issuer
        self.codes = codes
        self._database = database
        self.tokens = tokens
        self.id_tokens = id_tokens
        # No implicit, hybrid, password or refresh grant is registered, so none exists.
        self.register_grant(CodeGrant)
        self.register_grant(ClientCredentialsGrant)

    def authorization_redirect(self, client: RelyingParty, granted: Granted) -> str:
        """Issue a code and return where the browser goes with it."""
        parameters = {
            "response_type": "code",
            "client_id": client.client_id,
            "redirect_uri": granted.binding.redirect_uri,
            "scope": granted.binding.scope,
        }
        with self._database.transaction() as session:
            request = Request(self.issuer, parameters, client, session)
            # The grant is always passed: without it Authlib validates again, on whatever the request has become.
            grant = CodeGrant(request, self)
            _, _, headers = self.create_authorization_response(request, granted, grant=grant)
        return str(dict(headers)["Location"])

    def token_response(self, client: RelyingParty, parameters: Parameters) -> dict[str, Any]:
        """The token response's members. Raises OAuthError; a replayed code's revocation is committed before that."""
        with self._database.transaction() as session:
            request = Request(self.issuer, parameters.as_dict(), client, session)
            try:
                outcome = self.create_token_response(request)
            except OAuthError as error:
                outcome = error  # raised below, after the commit: a replay's revocation must stand
        if isinstance(outcome, OAuthError):
            raise outcome
        return dict(outcome[1])

    def query_client(self, client_id: str) -> None:
        """Authlib never looks a client up: requests arrive with theirs."""
        raise NotImplementedError

    def create_oauth2_request(self, request: Request) -> Request:
        """Requests are ours from the start."""
        return request

    def send_signal(self, name: str, *args: object, **kwargs: object) -> None:
        """Nobody listens."""

    def handle_response(self, status: int, body: Any, headers: Any) -> Any:
        """Answers stay data; endpoints turn them into HTTP."""
        return status, body, headers

    def handle_error_response(self, request: Request, error: OAuth2Error) -> OAuthError:
        """Authlib's own refusals in our words."""
        return _ours(error)


# Authlib's refusals by their wire code; what it cannot raise here is not in the list.
_OURS: Mapping[str, type[OAuthError]] = {
    kind.code: kind for kind in (InvalidRequest, InvalidGrant, InvalidScope, UnauthorizedClient, UnsupportedGrantType)
}


def _ours(error: OAuth2Error) -> OAuthError:
    if isinstance(error, UnsupportedGrantTypeError):
        return UnsupportedGrantType("grant_type must be authorization_code or client_credentials")
    return _OURS.get(error.error, InvalidRequest)(error.description or "")
