"""The pages around logging out: the relying party's request, the question to the person, the end."""

from __future__ import annotations

from urllib.parse import urlencode

from flask import make_response, render_template, request
from werkzeug.wrappers import Response

from core.one_time import NotThere
from core.pages import FormGuard
from sso.discovery import END_SESSION
from sso.opaque import digest, new_value
from sso.parameters import of_form, of_query
from sso.parts import Parts
from sso.redirects import see_other
from sso.sessions import LoginSession

KIND = "logout"
LIFETIME_SECONDS = 900


class LogoutPages:
    """The views. Where the browser goes afterwards is kept here and never in the form."""

    def __init__(self, parts: Parts, guard: FormGuard) -> None:
        self._endpoint = parts.end_session_endpoint
        self._sessions = parts.sessions
        self._one_time = parts.one_time
        self._guard = guard

    def logout(self) -> Response:
        """``/oauth2/logout`` (RP-Initiated Logout 2: GET and POST)."""
        asked = of_form(request) if request.method == "POST" and request.content_length else of_query(request)
        login = self._login()
        checked = self._endpoint.check(asked, login)
        if checked.session_id is not None:
            self._sessions.end(checked.session_id, actor=checked.actor)
        if checked.confirm:
            return self._ask_logout(checked.location)
        if request.method == "POST" and checked.session_id is None and login is None:
            # Posted from another site, so the cookie stayed away; asked again by GET it comes along.
            return see_other(END_SESSION)
        return self._logged_out(checked.location)

    def _ask_logout(self, location: str | None) -> Response:
        reference = new_value()
        self._one_time.put(KIND, digest(reference), {"location": location}, ttl=LIFETIME_SECONDS)
        return see_other(f"{END_SESSION}/confirm?{urlencode({'request': reference})}")

    def confirm(self) -> Response:
        """Ask the person whether to end the login, then end it."""
        reference, login = request.args.get("request", ""), self._login()
        if request.method == "GET":
            action = f"{END_SESSION}/confirm?{urlencode({'request': reference})}"
            return make_response(render_template("sso/logout.html", action=action, logged_in=login is not None))
        self._guard.check()
        try:
            location = self._one_time.take(KIND, digest(reference))["location"]
        except NotThere:
            location = None
        if login is not None:
            self._sessions.end(login.id, actor=f"person:{login.person_id}")
        return self._logged_out(location)

    def _logged_out(self, location: str | None) -> Response:
        if location is not None:
            response = see_other(location)
        else:
            response = make_response(render_template("sso/logged_out.html", hide_language=request.method == "POST"))
        cookie = self._sessions.cookie
        response.delete_cookie(
            cookie.name, path=cookie.path, secure=cookie.secure, httponly=cookie.httponly, samesite=cookie.samesite
        )
        return response

    def _login(self) -> LoginSession | None:
        return self._sessions.find(request.cookies.get(self._sessions.cookie_name))
