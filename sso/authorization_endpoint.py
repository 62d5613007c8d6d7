"""``/oauth2/authorize``: an ordered tuple of small named checks, then one decision (RFC 6749 4.1.1, Core 3.1.2).

Until client and redirect URI are known good, an error is a page; afterwards it goes back to the client with ``iss``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto

from core.clock import Clock
from core.text import choose_language
from policies import authentication
from sso.authorization_codes import Binding
from sso.consent import Consents
from sso.errors import (
    ConsentRequired,
    InvalidRequest,
    InvalidScope,
    LoginRequired,
    OAuthError,
    PageRequestInvalid,
    RedirectUriMismatch,
    RequestNotSupported,
    RequestUriNotSupported,
    UnauthorizedClient,
    UnknownClient,
    UnmetAuthenticationRequirements,
    UnsupportedResponseType,
)
from sso.id_token import IdTokens
from sso.parameters import Parameters
from sso.redirect_uris import with_parameters
from sso.relying_parties import RelyingParties, RelyingParty
from sso.scopes import OPENID, parse
from sso.server import AuthorizationServer, Granted
from sso.sessions import LoginSession
from sso.subjects import Subjects

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")  # BASE64URL of 32 octets (RFC 7636 4.2)
_PROMPTS = frozenset({"none", "login", "consent", "select_account"})
MAX_NONCE_CHARACTERS = 2048
MAX_MAX_AGE_SECONDS = 10**9


@dataclass(frozen=True)
class Target:
    """A client and a redirect URI that belong together: from here on errors may travel."""

    client: RelyingParty
    redirect_uri: str
    state: str | None


@dataclass(frozen=True)
class AuthorizationRequest:
    """A request that passed every check."""

    target: Target
    scopes: tuple[str, ...] = ()
    nonce: str | None = None
    code_challenge: str = ""
    prompt: frozenset[str] = frozenset()
    max_age: int | None = None
    login_hint: str | None = None
    hinted_sub: str | None = None
    language: str | None = None

    @property
    def client(self) -> RelyingParty:
        """Who asks."""
        return self.target.client

    @property
    def silent(self) -> bool:
        """Whether no page may be shown."""
        return "none" in self.prompt


class Refused(Exception):
    """An error that goes back to the client: ``error`` is what, ``target`` is where."""

    def __init__(self, target: Target, error: OAuthError) -> None:
        super().__init__(error.code)
        self.target = target
        self.error = error


class Next(Enum):
    """What has to happen before a code can be given."""

    LOGIN = auto()
    CONSENT = auto()
    NOTHING = auto()


Check = Callable[["AuthorizationEndpoint", Parameters, AuthorizationRequest], AuthorizationRequest]


class AuthorizationEndpoint:
    """Checks requests, decides what a person still has to do, and answers the client."""

    def __init__(
        self,
        issuer: str,
        clock: Clock,
        relying_parties: RelyingParties,
        consents: Consents,
        subjects: Subjects,
        id_tokens: IdTokens,
        server: AuthorizationServer,
    ) -> None:
        self._issuer = issuer
        self._clock = clock
        self._relying_parties = relying_parties
        self._consents = consents
        self._subjects = subjects
        self.id_tokens = id_tokens
        self._server = server

    def check(self, asked: Parameters) -> AuthorizationRequest:
        """The request, checked in order. Raises PageError first, Refused once the way back is known."""
        request = AuthorizationRequest(self.target(asked))
        try:
            for check in CHECKS:
                request = check(self, asked, request)
        except OAuthError as error:
            raise Refused(request.target, error) from error
        return request

    def target(self, asked: Parameters) -> Target:
        """Client and redirect URI. Raises UnknownClient, RedirectUriMismatch, PageRequestInvalid."""
        doubled = asked.doubled()
        if "client_id" in doubled or "redirect_uri" in doubled:
            raise PageRequestInvalid("client_id and redirect_uri must not be repeated")
        client = self._relying_parties.enabled(asked.get("client_id") or "")
        if client is None:
            raise UnknownClient("there is no such client")
        redirect_uri = asked.get("redirect_uri")
        # OpenID Connect Core 3.1.2.1: required, even when only one is registered.
        if redirect_uri is None or not client.allows_redirect_uri(redirect_uri):
            raise RedirectUriMismatch("redirect_uri is missing or not a registered one")
        return Target(client, redirect_uri, None if "state" in doubled else asked.get("state"))

    def decide(self, request: AuthorizationRequest, login: LoginSession | None, begun: datetime) -> Next:
        """What is still to be done. Raises Refused, with the one right code when no page may be shown."""
        try:
            return self._decide(request, login, begun)
        except OAuthError as error:
            raise Refused(request.target, error) from error

    def grant(self, request: AuthorizationRequest, login: LoginSession) -> str:
        """Issue a code for this login and return the address the browser goes to."""
        client = request.client
        binding = Binding(
            client_id=client.client_id,
            person_id=login.person_id,
            session_id=login.id,
            redirect_uri=request.target.redirect_uri,
            code_challenge=request.code_challenge,
            scope=" ".join(request.scopes),
            nonce=request.nonce,
            sub=self._subjects.subject(client, login.person_id),
            sid=login.sid_for(client.client_id),
            acr=login.acr,
            amr=login.amr,
            authenticated_at=login.authenticated_at,
        )
        return self._server.authorization_redirect(client, Granted(binding, request.target.state))

    def error_redirect(self, target: Target, error: OAuthError) -> str:
        """The address that tells the client what went wrong (RFC 6749 4.1.2.1, RFC 9207 2)."""
        answer = [("error", error.code)]
        if error.description:
            answer.append(("error_description", error.description))
        if target.state is not None:
            answer.append(("state", target.state))
        return with_parameters(target.redirect_uri, [*answer, ("iss", self._issuer)])

    def _decide(self, request: AuthorizationRequest, login: LoginSession | None, begun: datetime) -> Next:
        if login is None or not self._is_fresh(request, login, begun) or not self._is_hinted(request, login):
            if request.silent:
                raise LoginRequired("nobody is logged in who fits this request")
            return Next.LOGIN
        minimum = request.client.minimum_acr
        if minimum is not None and not authentication.satisfies(login.acr, minimum):
            raise UnmetAuthenticationRequirements("the login did not reach the level this client demands")
        since = begun if "consent" in request.prompt else None
        if not self._consents.covers(login.person_id, request.client.client_id, request.scopes, since=since):
            if request.silent:
                raise ConsentRequired("the person has not agreed to this yet")
            return Next.CONSENT
        return Next.NOTHING

    def _is_fresh(self, request: AuthorizationRequest, login: LoginSession, begun: datetime) -> bool:
        # A login from before this request satisfies neither prompt=login nor max_age=0, also after browser Back.
        if {"login", "select_account"} & request.prompt and login.authenticated_at < begun:
            return False
        if request.max_age is None:
            return True
        if login.authenticated_at >= begun:
            return True
        return self._clock() - login.authenticated_at <= timedelta(seconds=request.max_age)

    def _is_hinted(self, request: AuthorizationRequest, login: LoginSession) -> bool:
        if request.hinted_sub is None:
            return True
        return self._subjects.subject(request.client, login.person_id) == request.hinted_sub


def check_single(_e: AuthorizationEndpoint, asked: Parameters, request: AuthorizationRequest) -> AuthorizationRequest:
    """RFC 6749 3.1: request parameters must not be included more than once, whichever they are."""
    asked.check_single()
    return request


def check_request_object(
    _e: AuthorizationEndpoint, asked: Parameters, request: AuthorizationRequest
) -> AuthorizationRequest:
    """Core 6: request objects are not supported, and saying so beats ignoring what they demand."""
    if asked.get("request"):
        raise RequestNotSupported("request objects are not supported")
    if asked.get("request_uri"):
        raise RequestUriNotSupported("request objects are not supported")
    return request


def check_response_type(
    _e: AuthorizationEndpoint, asked: Parameters, request: AuthorizationRequest
) -> AuthorizationRequest:
    """RFC 9700 2.1.2: the code flow only."""
    if asked.require("response_type") != "code":
        raise UnsupportedResponseType("response_type must be code")
    if "authorization_code" not in request.client.grant_types:
        raise UnauthorizedClient("the client may not use this response type")
    if asked.get("response_mode") not in (None, "query"):
        raise InvalidRequest("response_mode must be query")
    return request


def check_scope(_e: AuthorizationEndpoint, asked: Parameters, request: AuthorizationRequest) -> AuthorizationRequest:
    """Core 3.1.2.1: ``openid`` is required; scopes the client may not ask people for are dropped."""
    scopes = parse(asked.require("scope"))
    if OPENID not in scopes:
        raise InvalidScope("scope must contain openid")
    allowed = tuple(scope for scope in request.client.person_scopes if scope in scopes)
    if OPENID not in allowed:
        raise InvalidScope("the client may not use this scope")
    return replace(request, scopes=allowed)


def check_code_challenge(
    _e: AuthorizationEndpoint, asked: Parameters, request: AuthorizationRequest
) -> AuthorizationRequest:
    """RFC 9700 2.1.1: PKCE with S256 for every client, demanded here and not only when the code is redeemed."""
    challenge = asked.require("code_challenge")
    # RFC 7636 4.3: an absent method means plain, so it must be named.
    if asked.get("code_challenge_method") != "S256":
        raise InvalidRequest("code_challenge_method must be S256")
    if not _CHALLENGE.fullmatch(challenge):
        raise InvalidRequest("code_challenge must be 43 base64url characters")
    return replace(request, code_challenge=challenge)


def check_nonce(_e: AuthorizationEndpoint, asked: Parameters, request: AuthorizationRequest) -> AuthorizationRequest:
    """Core 3.1.2.1: optional in the code flow, echoed as it came."""
    nonce = asked.get("nonce")
    if nonce is not None and len(nonce) > MAX_NONCE_CHARACTERS:
        raise InvalidRequest(f"nonce may have at most {MAX_NONCE_CHARACTERS} characters")
    return replace(request, nonce=nonce)


def check_prompt(_e: AuthorizationEndpoint, asked: Parameters, request: AuthorizationRequest) -> AuthorizationRequest:
    """Core 3.1.2.1: ``none`` stands alone; unknown values, ``create`` among them, are refused."""
    prompt = frozenset((asked.get("prompt") or "").split())
    if not prompt <= _PROMPTS or ("none" in prompt and len(prompt) > 1):
        raise InvalidRequest("prompt must be none, or login and consent")
    return replace(request, prompt=prompt)


def check_max_age(_e: AuthorizationEndpoint, asked: Parameters, request: AuthorizationRequest) -> AuthorizationRequest:
    """Core 3.1.2.1: seconds since the login; 0 is ``prompt=login``."""
    text = asked.get("max_age")
    if text is None:
        return request
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > MAX_MAX_AGE_SECONDS:
        raise InvalidRequest("max_age must be a whole number of seconds")
    prompt = request.prompt | {"login"} if int(text) == 0 and not request.silent else request.prompt
    return replace(request, max_age=int(text), prompt=prompt)


def check_hints(
    endpoint: AuthorizationEndpoint, asked: Parameters, request: AuthorizationRequest
) -> AuthorizationRequest:
    """Core 3.1.2.1: ``login_hint`` fills a field; ``id_token_hint`` must be ours and this client's."""
    hint = asked.get("id_token_hint")
    if hint is None:
        return replace(request, login_hint=asked.get("login_hint"))
    claims = endpoint.id_tokens.read_hint(hint)
    if claims is None or claims["aud"] != request.client.client_id:
        raise InvalidRequest("id_token_hint is not an ID token of this client")
    return replace(request, login_hint=asked.get("login_hint"), hinted_sub=claims["sub"])


def read_language(_e: AuthorizationEndpoint, asked: Parameters, request: AuthorizationRequest) -> AuthorizationRequest:
    """Core 3.1.2.1: ``ui_locales`` is a wish; one we do not have is no error. ``acr_values`` is a wish too."""
    wish = asked.get("ui_locales")
    ours = {"mn", "en"} & {tag.split("-")[0].lower() for tag in (wish or "").split()}
    return replace(request, language=choose_language(wish) if ours else None)


CHECKS: tuple[Check, ...] = (
    check_single,
    check_request_object,
    check_response_type,
    check_scope,
    check_code_challenge,
    check_nonce,
    check_prompt,
    check_max_age,
    check_hints,
    read_language,
)
