"""What every page with a form needs: proof that the form came from us (against cross-site request forgery)."""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256
from urllib.parse import urlsplit

from flask import Response, g, request
from markupsafe import Markup

from core.errors import CodedError

FIELD = "csrf_token"
COOKIE_LIFETIME_SECONDS = 12 * 3600


class ForgedForm(CodedError):
    """The form did not come from a page of ours in this browser, or the page is too old."""

    code = "forged_form"
    status = 403


class FormGuard:
    """Binds forms to the browser they were shown in.

    Each browser carries a random cookie; a form carries the HMAC of that cookie's value. The ``Origin`` header, when
    the browser sends one, must be ours as well, and ``Sec-Fetch-Site`` must not speak of another site.
    """

    def __init__(self, secret: bytes, origin: str) -> None:
        self._secret = secret
        self._origin = origin.rstrip("/")
        self._secure = urlsplit(origin).scheme == "https"
        # RFC 6265bis 4.1.3.2: the prefix pins host, path and Secure; loopback development has no TLS to pin to.
        self.cookie_name = "__Host-tamga-form" if self._secure else "tamga-form"

    def field(self) -> Markup:
        """The hidden field for a form on the page being rendered."""
        return Markup('<input type="hidden" name="{}" value="{}">').format(FIELD, self._token(self._browser()))

    def check(self) -> None:
        """Raise ForgedForm unless the posted form is ours and was shown in this browser."""
        if not self._is_ours(request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")):
            raise ForgedForm("the form was sent from another site")
        browser = request.cookies.get(self.cookie_name, "")
        given = request.form.get(FIELD, "")
        if not browser or not hmac.compare_digest(self._token(browser).encode(), given.encode("utf-8", "replace")):
            raise ForgedForm("the form is not from this browser or has expired")

    def _is_ours(self, origin: str | None, site: str | None) -> bool:
        # Our pages ask for no referrer, and then browsers say "null" about our own forms too (Fetch 3.2, "append a
        # request Origin header"); a sandboxed frame elsewhere says "null" as well, which Sec-Fetch-Site tells apart.
        return origin in (None, "null", self._origin) and site in (None, "same-origin", "none")

    def remember(self, response: Response) -> Response:
        """Give a new browser its cookie; runs after each page."""
        fresh = g.pop("form_browser", None)
        if fresh:
            response.set_cookie(
                self.cookie_name,
                fresh,
                max_age=COOKIE_LIFETIME_SECONDS,
                secure=self._secure,
                httponly=True,
                samesite="Lax",
                path="/",
            )
        return response

    def _browser(self) -> str:
        known = request.cookies.get(self.cookie_name)
        if known:
            return known
        if "form_browser" not in g:
            g.form_browser = secrets.token_urlsafe(24)
        return str(g.form_browser)

    def _token(self, browser: str) -> str:
        return hmac.new(self._secret, browser.encode("utf-8", "replace"), sha256).hexdigest()
