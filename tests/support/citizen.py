"""A citizen who uses the pages: logs in, consents, makes a signing certificate, reviews and signs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.support.one_time_password import totp
from tests.support.web import Answer, Walker

MAX_PAGES = 60


@dataclass
class Citizen:
    """A registered person with a browser. Values are what this person knows, never what the service stores."""

    origin: str
    person_id: str
    username: str
    password: str
    totp_secret: str
    pin: str = "482915"
    language: str = "en"
    trust: Path | None = None
    browser: Walker = field(init=False)
    _last_code: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.browser = Walker(self.origin, language=self.language, trust=self.trust)

    def fresh_browser(self, *, language: str | None = None) -> Citizen:
        """The same person before another browser, logged in nowhere."""
        again = replace(self, language=language or self.language)
        again._last_code = self._last_code
        return again

    # Logging in ----------------------------------------------------------------------------------------------------

    def one_time_password(self) -> str:
        """A code not used before: a service takes each only once, so a second login waits for the next."""
        code = totp(self.totp_secret)
        while code == self._last_code:
            time.sleep(0.2)
            code = totp(self.totp_secret)
        self._last_code = code
        return code

    def log_in(self, page: Answer) -> Answer:
        """Pass the login pages when `page` is one; what comes next is returned."""
        if page.has_form("login-submit"):
            form = page.form("login-submit")
            names = {control.id: control.name for control in form.controls}
            values = {str(names["username"]): self.username, str(names["password"]): self.password}
            page = self.browser.submit(page, form, values, press="login-submit")
        if page.has_form("otp-submit"):
            page = self.press(page, "otp-submit", {"otp": self.one_time_password()})
        return page

    def press(self, page: Answer, button: str, values: dict[str, str] | None = None) -> Answer:
        """Fill controls by their ids and press the button with that id."""
        form = page.form(button)
        names = {control.id or control.name: control.name for control in form.controls}
        unknown = set(values or {}) - set(names)
        assert not unknown, f"no control {sorted(unknown)} beside {button}; there are {sorted(filter(None, names))}"
        return self.browser.submit(
            page, form, {str(names[name]): value for name, value in (values or {}).items()}, press=button
        )

    def authorize(self, url: str) -> Answer:
        """Open a relying party's request and go through it; returns the redirect that leaves us."""
        page = self.log_in(self.browser.open(url))
        if page.has_form("consent-allow"):
            page = self.press(page, "consent-allow")
        return page

    # Signing -------------------------------------------------------------------------------------------------------

    def make_certificate(self) -> Answer:
        """Ask for a signing certificate on one's own page, with a PIN of one's own choice."""
        page = self.log_in(self.browser.open("/me/credentials"))
        return self.create_certificate(page) if page.has_form("credential-create") else page

    def create_certificate(self, page: Answer) -> Answer:
        """Choose a PIN on the page that offers a certificate."""
        page = self.press(page, "credential-create", {"credential-pin": self.pin, "credential-pin-repeat": self.pin})
        assert page.status == 200, page.words[:500]
        return page

    def open_request(self, signing_url: str) -> Answer:
        """Follow a signing link, logging in when asked."""
        return self.log_in(self.browser.open(signing_url))

    def step_through(self, page: Answer) -> Answer:
        """Look at every page of the document until the service offers to sign."""
        for _ in range(MAX_PAGES):
            if page.has_form("sign-confirm"):
                return page
            for image in page.images:
                if image.endswith(".png"):
                    seen = self.browser.get(image)
                    assert seen.status == 200 and seen.body.startswith(b"\x89PNG"), image
            page = self._next(page)
        raise AssertionError(f"the review has no end: {page.url}")

    def _next(self, page: Answer) -> Answer:
        for button in ("sign-review-done", "sign-next"):
            if page.has_form(button):
                return self.press(page, button)
            for link in page.links:
                if link.get("id") == button:
                    return self.browser.open(link["href"])
        raise AssertionError(f"the ceremony stopped at {page.url} ({page.status}): {page.words[:800]}")

    def confirm(self, page: Answer) -> Answer:
        """Give the PIN for exactly this document."""
        return self.press(page, "sign-confirm", {"pin": self.pin})

    def sign(self, signing_url: str) -> Answer:
        """The whole ceremony, to the page that follows the PIN."""
        return self.confirm(self.step_through(self.open_request(signing_url)))
