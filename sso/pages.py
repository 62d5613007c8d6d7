"""The pages people see: log in, one-time code, consent, errors. No script; every form is guarded."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from flask import g, make_response, render_template, request
from werkzeug.wrappers import Response

from core.errors import CodedError
from core.logs import get_logger
from core.one_time import NotThere
from core.pages import FormGuard
from core.text import N_
from sso import discovery
from sso.authentication import otp as otp_method
from sso.authentication.password import METHOD as PASSWORD
from sso.authorization_endpoint import AuthorizationRequest, Next, Refused
from sso.claims import consent_items
from sso.errors import (
    AccessDenied,
    ForeignInteraction,
    InteractionGone,
    PageRequestInvalid,
    TooManyAttempts,
    WrongCredentials,
)
from sso.interaction import Interaction, InteractionExpired, checked_return_to
from sso.parameters import Parameters, of_form, of_mapping, of_query
from sso.parts import Parts
from sso.redirects import see_other
from sso.sessions import LoginSession

log = get_logger("sso.pages")

MAX_WRONG_CODES = 5
MULTI_FACTOR = (PASSWORD, otp_method.METHOD, "mfa")

# What a person reads for a code of ours; the code itself stands below it.
SENTENCES = {
    "unknown_client": N_("The service that sent you here is not registered, or may no longer use this login."),
    "redirect_uri_mismatch": N_("The service that sent you here gave a return address that it has not registered."),
    "interaction_gone": N_("This login has already ended. Please go back to the service and start again."),
    "interaction_expired": N_("This login took too long. You can start it again."),
    "foreign_interaction": N_("This page belongs to another login. Please go back to the service and start again."),
    "invalid_return_to": N_("The address to return to is not an address of this site."),
    "person_not_found": N_("Your login has ended. Please log in again."),
}
UNREADABLE = N_("The request was not in the form this service understands. Please go back to the service.")

WRONG_CREDENTIALS = N_("The user name or password is not right.")
WRONG_CODE = N_("The code is not right. Use the newest code from your phone; each code works once.")
NO_USERNAME = N_("Type your user name.")
NO_PASSWORD = N_("Type your password.")
NO_CODE = N_("Type the six digits from your phone.")
TOO_MANY = N_("Too many attempts. Please wait %(seconds)s seconds and try again.")
NO = {"username": NO_USERNAME, "password": NO_PASSWORD}
CODE_RESTART = N_("The code was wrong too many times. Please type your password again.")


class Pages:
    """The views. State lives in interactions and sessions; forms carry nothing that is believed."""

    def __init__(self, parts: Parts, guard: FormGuard) -> None:
        self._parts = parts
        self._guard = guard
        self._endpoint = parts.authorization_endpoint
        self._interactions = parts.interactions

    # Authorization -----------------------------------------------------------------------------------------------

    def authorize(self) -> Response:
        """``/oauth2/authorize`` (OpenID Connect Core 3.1.2.1: GET and POST)."""
        if request.method == "POST":
            asked = of_form(request)
            self._endpoint.check(asked)
            # A form posted by another site comes without our cookie (SameSite=Lax); the next request brings it.
            return _go("/oauth2/authorize/resume", self._interactions.begin(parameters=asked.as_dict()))
        asked = of_query(request)
        checked, login, now = self._endpoint.check(asked), self._login(), self._parts.clock()
        following = self._endpoint.decide(checked, login, now)
        if following is Next.NOTHING and login is not None:
            return see_other(self._endpoint.grant(checked, login))
        interaction = self._interactions.begin(parameters=asked.as_dict())
        return self._show(interaction, checked, following, login)

    def resume(self) -> Response:
        """Where an interaction goes on after each step."""
        return self._advance(self._interactions.find(request.args.get("interaction")))

    def _advance(self, interaction: Interaction) -> Response:
        if interaction.return_to is not None:
            self._interactions.drop(interaction)
            return see_other(interaction.return_to)
        checked, login = self._request_of(interaction), self._login()
        self._check_owner(interaction, login)
        following = self._endpoint.decide(checked, login, interaction.begun)
        if following is not Next.NOTHING or login is None:
            return self._show(interaction, checked, following, login)
        self._finish(interaction)
        return see_other(self._endpoint.grant(checked, login))

    def _show(
        self, interaction: Interaction, checked: AuthorizationRequest, following: Next, login: LoginSession | None
    ) -> Response:
        if following is Next.CONSENT and login is not None:
            return _go("/consent", self._interactions.bound_to(interaction, login.id), checked.language)
        return _go("/login", interaction, checked.language)

    # Login -------------------------------------------------------------------------------------------------------

    def login(self) -> Response:
        """User name and password."""
        if request.method == "POST":
            self._guard.check()
            return self._check_password(self._interactions.find(request.args.get("interaction")))
        if "interaction" not in request.args:
            return_to = checked_return_to(request.args.get("return_to") or "/")
            return _go("/login", self._interactions.begin(return_to=return_to), request.args.get("lang"))
        interaction = self._interactions.find(request.args.get("interaction"))
        hint = of_mapping(interaction.parameters or {}).get("login_hint") or ""
        return self._login_page(interaction, username=hint[:64])

    def _check_password(self, interaction: Interaction) -> Response:
        username, password = _typed("username"), _typed("password")
        missing = [(field, NO[field]) for field, value in (("username", username), ("password", password)) if not value]
        if missing:
            return self._login_page(interaction, username=username, errors=missing, status=400)
        try:
            person = self._parts.password_login.check(username, password, source=request.remote_addr or "")
        except WrongCredentials:
            errors = [("username", WRONG_CREDENTIALS)]
            return self._login_page(interaction, username=username, errors=errors, status=400)
        except TooManyAttempts as error:
            return self._login_page(interaction, username=username, wait=error.seconds, status=429)
        if person.has_totp:
            return _go("/login/otp", self._interactions.claimed_by(interaction, person.id))
        return self._logged_in(interaction, person.id, (PASSWORD,))

    def _login_page(
        self,
        interaction: Interaction,
        *,
        username: str = "",
        errors: list[tuple[str, str]] | None = None,
        wait: int = 0,
        status: int = 200,
    ) -> Response:
        page = self._page(
            "login", interaction, status, username=username, errors=errors or [], wait=wait, too_many=TOO_MANY
        )
        if wait:
            page.headers["Retry-After"] = str(wait)
        return page

    def otp(self) -> Response:
        """The code on the person's phone."""
        if request.method == "POST":
            self._guard.check()
        interaction = self._interactions.find(request.args.get("interaction"))
        if interaction.claimant is None:
            return _go("/login", interaction)
        if request.method == "POST":
            return self._check_code(interaction, interaction.claimant)
        return self._page("otp", interaction, errors=[])

    def _check_code(self, interaction: Interaction, claimant: str) -> Response:
        code = _typed("otp")
        if not code:
            return self._page("otp", interaction, 400, errors=[("otp", NO_CODE)])
        try:
            self._parts.password_login.check_otp(claimant, code)
        except WrongCredentials:
            return self._wrong_code(interaction)
        except TooManyAttempts as error:
            page = self._page("otp", interaction, 429, errors=[], wait=error.seconds, too_many=TOO_MANY)
            page.headers["Retry-After"] = str(error.seconds)
            return page
        return self._logged_in(interaction, claimant, MULTI_FACTOR)

    def _wrong_code(self, interaction: Interaction) -> Response:
        interaction = self._interactions.wrong_code(interaction)
        if interaction.wrong_codes < MAX_WRONG_CODES:
            return self._page("otp", interaction, 400, errors=[("otp", WRONG_CODE)])
        interaction = self._interactions.bound_to(interaction, interaction.session_id)
        return self._login_page(interaction, errors=[("username", CODE_RESTART)], status=400)

    def _logged_in(self, interaction: Interaction, person_id: str, amr: tuple[str, ...]) -> Response:
        sessions = self._parts.sessions
        value = sessions.start(person_id, amr, replacing=request.cookies.get(sessions.cookie_name))
        login = sessions.find(value)
        self._interactions.bound_to(interaction, login.id if login else None)
        response = _go("/oauth2/authorize/resume", interaction)
        cookie = sessions.cookie
        response.set_cookie(
            cookie.name,
            value,
            path=cookie.path,
            secure=cookie.secure,
            httponly=cookie.httponly,
            samesite=cookie.samesite,
        )
        return response

    def cancel(self) -> Response:
        """Back to the service without logging in; it hears that the person chose so."""
        self._guard.check()
        interaction = self._interactions.find(request.args.get("interaction"))
        self._finish(interaction)
        if interaction.parameters is None:
            return see_other("/")
        raise Refused(self._request_of(interaction).target, AccessDenied("user_cancel"))

    # Consent -----------------------------------------------------------------------------------------------------

    def consent(self) -> Response:
        """What the service asks for, item by item, with two equal answers."""
        if request.method == "POST":
            self._guard.check()
        interaction = self._interactions.find(request.args.get("interaction"))
        checked, login = self._request_of(interaction), self._login()
        if login is None:
            return _go("/login", interaction)
        self._check_owner(interaction, login, required=True)
        if request.method == "POST":
            return self._answer_consent(interaction, checked, login)
        person = self._parts.people.get(login.person_id)
        return self._page("consent", interaction, person=person, items=consent_items(person, checked.scopes))

    def _answer_consent(self, interaction: Interaction, checked: AuthorizationRequest, login: LoginSession) -> Response:
        client_id, decision = checked.client.client_id, request.form.get("decision")
        if decision not in ("allow", "deny"):
            raise PageRequestInvalid("the form has no decision")
        if decision == "deny":
            self._finish(interaction)
            self._parts.consents.refuse(login, client_id, checked.scopes)
            raise Refused(checked.target, AccessDenied("consent_denied"))
        # The demands on the login are checked again: the person may have been away from this page for a while.
        following = self._endpoint.decide(checked, login, interaction.begun)
        if following is Next.LOGIN:
            return _go("/login", interaction)
        self._finish(interaction)
        self._parts.consents.grant(login, client_id, checked.scopes, language=g.get("language", "mn"))
        return see_other(self._endpoint.grant(checked, login))

    # Errors ------------------------------------------------------------------------------------------------------

    def refused(self, error: Refused) -> Response:
        """Send an authorization error back to the client."""
        log.info("authorization_refused", client_id=error.target.client.client_id, code=error.error.code)
        return see_other(self._endpoint.error_redirect(error.target, error.error))

    def error(self, error: CodedError) -> Response:
        """An error page with its code and, where the request is still known, a way to start again."""
        log.warning("page_refused", code=error.code)
        again = None
        if isinstance(error, InteractionExpired):
            again = _start_of(error.interaction)
        page = render_template(
            "sso/error.html",
            sentence=SENTENCES.get(error.code, UNREADABLE),
            code=error.code,
            again=again,
            request_id=g.get("request_id", ""),
            hide_language=request.method == "POST",
        )
        return make_response(page, error.status)

    # Shared ------------------------------------------------------------------------------------------------------

    def _login(self) -> LoginSession | None:
        return self._parts.sessions.find(request.cookies.get(self._parts.sessions.cookie_name))

    def _request_of(self, interaction: Interaction) -> AuthorizationRequest:
        # Checked anew each time: the client may have been disabled or changed since.
        if interaction.parameters is None:
            raise InteractionGone("this login answers no request")
        return self._endpoint.check(Parameters(interaction.parameters.items()))

    def _check_owner(self, interaction: Interaction, login: LoginSession | None, *, required: bool = False) -> None:
        owner = interaction.session_id
        if (owner is not None and login is not None and login.id != owner) or (required and owner is None):
            raise ForeignInteraction("this interaction belongs to another login")

    def _finish(self, interaction: Interaction) -> None:
        try:
            self._interactions.finish(interaction)
        except NotThere as error:
            raise InteractionGone("this login was answered already") from error

    def _page(self, name: str, interaction: Interaction, status: int = 200, **values: Any) -> Response:
        client = self._request_of(interaction).client if interaction.parameters is not None else None
        values.setdefault("wait", 0)
        page = render_template(
            f"sso/{name}.html",
            client_name=client.name(g.get("language", "mn")) if client else None,
            client_host=client.host if client else None,
            query=urlencode({"interaction": interaction.id}),
            **values,
        )
        return make_response(page, status)


def _typed(field: str) -> str:
    return request.form.get(field, "").strip() if field != "password" else request.form.get(field, "")


def _go(path: str, interaction: Interaction, language: str | None = None) -> Response:
    query = {"interaction": interaction.id}
    if language in ("mn", "en"):
        query["lang"] = str(language)
    return see_other(f"{path}?{urlencode(query)}")


def _start_of(interaction: Interaction) -> str:
    if interaction.parameters is not None:
        return f"{discovery.AUTHORIZATION}?{urlencode(interaction.parameters)}"
    return f"/login?{urlencode({'return_to': interaction.return_to or '/'})}"
