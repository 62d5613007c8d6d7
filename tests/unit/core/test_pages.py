"""A form is taken only from the browser it was shown in, and from our own pages."""

from __future__ import annotations

import re

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient

from core.pages import FIELD, ForgedForm, FormGuard

ORIGIN = "https://id.example.mn"


def make_app(guard: FormGuard) -> Flask:
    app = Flask(__name__)
    app.after_request(guard.remember)
    app.register_error_handler(ForgedForm, lambda error: Response(error.code, error.status))

    @app.get("/form")
    def form() -> str:
        return f"{guard.field()}{guard.field()}"

    @app.post("/form")
    def taken() -> str:
        guard.check()
        return "taken"

    return app


@pytest.fixture
def app() -> Flask:
    return make_app(FormGuard(b"s" * 32, ORIGIN))


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    return app.test_client()


def shown_token(browser: FlaskClient) -> str:
    page = browser.get("/form", base_url=ORIGIN).get_data(as_text=True)
    first, second = re.findall(rf'<input type="hidden" name="{FIELD}" value="([0-9a-f]{{64}})">', page)
    assert first == second
    return str(first)


def post(browser: FlaskClient, token: str | None, **headers: str) -> int:
    data = {} if token is None else {FIELD: token}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return browser.post("/form", base_url=ORIGIN, data=data, headers=named).status_code


def test_a_form_that_was_shown_here_is_taken(browser: FlaskClient) -> None:
    assert post(browser, shown_token(browser)) == 200


def test_a_second_page_in_the_same_browser_leaves_the_first_one_good(browser: FlaskClient) -> None:
    first = shown_token(browser)
    assert shown_token(browser) == first
    assert post(browser, first) == 200


@pytest.mark.parametrize("origin", [ORIGIN, "null"])
def test_our_own_pages_are_taken_with_or_without_a_referrer(browser: FlaskClient, origin: str) -> None:
    assert post(browser, shown_token(browser), Origin=origin, Sec_Fetch_Site="same-origin") == 200


@pytest.mark.parametrize("token", [None, "", "0" * 64, "ө" * 64, "\ud800".encode("utf-8", "replace").decode()])
def test_a_form_without_its_token_is_refused(browser: FlaskClient, token: str | None) -> None:
    shown_token(browser)
    assert post(browser, token) == 403


def test_a_token_shown_in_another_browser_is_refused(app: Flask, browser: FlaskClient) -> None:
    foreign = shown_token(app.test_client())
    shown_token(browser)
    assert post(browser, foreign) == 403


def test_a_token_replayed_without_its_cookie_is_refused(app: Flask, browser: FlaskClient) -> None:
    assert post(app.test_client(), shown_token(browser)) == 403


def test_a_token_of_another_instance_is_refused(browser: FlaskClient) -> None:
    token = shown_token(browser)
    other = make_app(FormGuard(b"t" * 32, ORIGIN)).test_client()
    cookie = browser.get_cookie("__Host-tamga-form", domain="id.example.mn")
    assert cookie is not None
    other.set_cookie(cookie.key, cookie.value, domain="id.example.mn", secure=True)
    assert post(other, token) == 403


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://id.example.mn",
        "https://id.example.mn:8443",
        "https://id.example.mn.evil.example",
        "",
    ],
)
def test_a_good_token_from_a_foreign_origin_is_refused(browser: FlaskClient, origin: str) -> None:
    assert post(browser, shown_token(browser), Origin=origin) == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_good_token_from_a_frame_that_hides_its_origin_is_refused(browser: FlaskClient, site: str) -> None:
    assert post(browser, shown_token(browser), Origin="null", Sec_Fetch_Site=site) == 403


def test_a_token_in_the_address_does_not_count(browser: FlaskClient) -> None:
    token = shown_token(browser)
    assert browser.post(f"/form?{FIELD}={token}", base_url=ORIGIN).status_code == 403
    assert browser.post("/form", base_url=ORIGIN, json={FIELD: token}).status_code == 403


def test_the_cookie_is_pinned_to_host_and_tls(browser: FlaskClient) -> None:
    cookie = browser.get("/form", base_url=ORIGIN).headers["Set-Cookie"]
    assert cookie.startswith("__Host-tamga-form=")
    for attribute in ("Secure", "HttpOnly", "Path=/", "SameSite=Lax"):
        assert attribute in cookie
    assert "Domain" not in cookie
    assert "Set-Cookie" not in browser.get("/form", base_url=ORIGIN).headers


def test_on_loopback_without_tls_the_guard_works_too() -> None:
    browser = make_app(FormGuard(b"s" * 32, "http://localhost:8080/")).test_client()
    page = browser.get("/form", base_url="http://localhost:8080")
    assert page.headers["Set-Cookie"].startswith("tamga-form=")
    token = re.findall(r'value="([0-9a-f]{64})"', page.get_data(as_text=True))[0]
    answer = browser.post("/form", base_url="http://localhost:8080", data={FIELD: token},
                          headers={"Origin": "http://localhost:8080"})  # fmt: skip
    assert answer.status_code == 200
