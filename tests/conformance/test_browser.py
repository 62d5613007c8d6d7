"""A citizen in a real browser, without JavaScript, in both languages, on a small phone and on a desk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.chromium import chromium
from tests.support.citizen import Citizen
from tests.support.pdf import with_byte_changed
from tests.support.relying_party import Login
from tests.support.world import World

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SIZES = {"phone": {"width": 320, "height": 640}, "desk": {"width": 1280, "height": 900}}
PAGE_LIMIT = 100_000  # octets of HTML and style a citizen loads for a page (people's rule U14)
CYRILLIC = re.compile(r"[А-Яа-яӨөҮүЁё]")
LATIN_WORD = re.compile(r"\b[a-z]{3,}\b")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@dataclass
class Walk:
    """One citizen's walk in one language; every page is looked at in both sizes and photographed."""

    page: Page
    language: str
    artifacts: Path
    _number: int = 0

    def look(self, name: str) -> None:
        """Check what holds on every page, and keep a picture of it in both sizes."""
        self._number += 1
        assert self.page.locator("html").get_attribute("lang") == self.language, name
        assert self.page.title().strip(), name
        assert "internal_error" not in self.page.content(), name
        assert self.page.locator("h1").count() == 1, f"{name}: one task, one heading"
        for size, viewport in SIZES.items():
            self.page.set_viewport_size(viewport)
            picture = self.artifacts / f"{self.language}-{self._number:02d}-{name}-{size}.png"
            self.page.screenshot(path=picture, full_page=True)
            wide, room = self.page.evaluate(
                "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
            )
            assert wide <= room, f"{name} is {wide} px wide where there are {room} (see {picture.name})"
        self._check_language(name)
        self._check_labels(name)

    def _check_language(self, name: str) -> None:
        words = self.page.locator("main").inner_text()
        if self.language == "mn":
            assert CYRILLIC.search(words), f"{name} speaks no Mongolian"
        else:
            # Names and titles stay as they are; the page's own sentences are English.
            assert LATIN_WORD.search(words), f"{name} speaks no English"

    def _check_labels(self, name: str) -> None:
        unnamed = self.page.evaluate(
            """[...document.querySelectorAll('input:not([type=hidden]):not([type=submit]), select, textarea')]
               .filter(c => !c.labels.length && !c.getAttribute('aria-label')).map(c => c.outerHTML)"""
        )
        assert not unnamed, f"{name}: controls without a label: {unnamed}"

    def press(self, button: str) -> None:
        with self.page.expect_navigation(wait_until="load"):
            self.page.click(f"#{button}")

    def has(self, button: str) -> bool:
        return self.page.locator(f"#{button}").count() > 0


@pytest.fixture
def walk(request: pytest.FixtureRequest, browser: Browser, artifacts: Path) -> Iterator[Walk]:
    language: str = request.param
    context = browser.new_context(java_script_enabled=False, locale={"mn": "mn-MN", "en": "en-GB"}[language])
    page = context.new_page()
    page.set_default_timeout(20_000)
    folder = artifacts / "pages"
    folder.mkdir(exist_ok=True)
    yield Walk(page, language, folder)
    context.close()


def log_in(walk: Walk, citizen: Citizen) -> None:
    walk.page.fill("#username", citizen.username)
    walk.page.fill("#password", citizen.password)
    walk.press("login-submit")
    walk.look("one-time-code")
    walk.page.fill("#otp", citizen.one_time_password())
    walk.press("otp-submit")


def redeemed_subject(world: World, login: Login, callback: str) -> str:
    """What the bank learns from the code in the address the browser came back to."""
    code = parse_qs(urlsplit(callback).query)["code"][0]
    tokens = world.bank.redeem(code, login.verifier).json()
    return str(world.bank.verified(tokens["id_token"], login)["sub"])


@pytest.mark.browser
@pytest.mark.parametrize("walk", ["mn", "en"], indirect=True)
def test_a_citizen_logs_in_consents_signs_and_checks(walk: Walk, world: World, tmp_path: Path) -> None:
    citizen = world.new_citizen()
    page = walk.page
    # Login, refused once, then right; consent.
    login = world.bank.begin()
    page.goto(login.url)
    walk.look("login")
    page.fill("#username", citizen.username)
    page.fill("#password", "not the password")
    walk.press("login-submit")
    walk.look("login-refused")
    log_in(walk, citizen)
    walk.look("consent")
    walk.press("consent-allow")
    assert page.url.startswith(world.bank.redirect_uri)
    subject = redeemed_subject(world, login, page.url)
    # A signing certificate of one's own.
    page.goto(f"{world.instance.base_url}/me/credentials")
    walk.look("credentials-none")
    page.fill("#credential-pin", citizen.pin)
    page.fill("#credential-pin-repeat", citizen.pin)
    walk.press("credential-create")
    walk.look("credentials")
    # The ceremony.
    asked = world.ask_to_sign(subject, title="Зээлийн гэрээ 2026/117", language=walk.language)
    page.goto(asked["signers"][0]["signing_url"])
    walk.look("review")
    while not walk.has("sign-confirm"):
        walk.press("sign-review-done" if walk.has("sign-review-done") else "sign-next")
    walk.look("summary")
    page.fill("#pin", "000000")
    walk.press("sign-confirm")
    walk.look("pin-refused")
    page.fill("#pin", citizen.pin)
    walk.press("sign-confirm")
    walk.look("signed")
    assert walk.has("sign-download")
    # Checking what was signed, and what was changed afterwards.
    signed = world.download(asked["id"])
    for name, document in (("verify-passed", signed), ("verify-failed", with_byte_changed(signed, 1000))):
        page.goto(f"{world.instance.base_url}/verify")
        walk.look("verify")
        file = tmp_path / f"{name}.pdf"
        file.write_bytes(document)
        page.set_input_files("#verify-file", file)
        walk.press("verify-submit")
        walk.look(name)
        assert ("TOTAL-PASSED" in page.content()) == (name == "verify-passed")
