"""``/oauth2/logout``: a valid hint ends the login it names; everything else asks the person first."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from werkzeug.test import TestResponse

from tests.unit.sso.conftest import GOODBYE, Browser, House, RelyingParty, Somebody, json_of


@pytest.fixture
def browser(house: House) -> Browser:
    return house.browser()


@pytest.fixture
def hint(bank: RelyingParty, citizen: Somebody, browser: Browser) -> str:
    asked = bank.ask()
    return str(json_of(bank.redeem(browser.code(asked, citizen), asked))["id_token"])


def logged_in(browser: Browser, bank: RelyingParty) -> bool:
    page = browser.open(bank.ask(prompt="none").url)
    return "code=" in page.headers["Location"]


def leave(browser: Browser, **parameters: str) -> TestResponse:
    return browser.open("/oauth2/logout?" + urlencode(parameters))


def test_a_valid_hint_ends_the_login_and_returns_with_state(
    house: House, bank: RelyingParty, browser: Browser, hint: str
) -> None:
    assert logged_in(browser, bank)
    page = leave(browser, id_token_hint=hint, post_logout_redirect_uri=GOODBYE, state="a b&c")
    assert (page.status_code, page.headers["Location"]) == (303, GOODBYE + "?state=a+b%26c")
    assert not logged_in(browser, bank)
    assert "sso:session:ended" in house.events()


def test_an_expired_hint_is_as_good(house: House, bank: RelyingParty, browser: Browser, hint: str) -> None:
    house.clock.turn(800)
    assert logged_in(browser, bank)
    page = leave(browser, id_token_hint=hint, post_logout_redirect_uri=GOODBYE)
    assert page.headers["Location"] == GOODBYE
    assert not logged_in(browser, bank)


def test_a_hint_without_a_return_address_ends_on_our_page(bank: RelyingParty, browser: Browser, hint: str) -> None:
    page = leave(browser, id_token_hint=hint, client_id=bank.client_id)
    assert page.status_code == 200 and "You are logged out" in page.text
    assert not logged_in(browser, bank)


def test_a42_a_forged_hint_asks_first(bank: RelyingParty, browser: Browser, hint: str) -> None:
    header, payload, signature = hint.split(".")
    attacker = ECKey.generate_key("P-256")
    claims = {"iss": "http://localhost:8080", "sub": "x", "aud": bank.client_id, "sid": "x"}
    forgeries = [
        f"{header}.{payload}.{signature[::-1]}",
        f"eyJhbGciOiJub25lIn0.{payload}.",
        jwt.encode({"alg": "ES256"}, claims, attacker, ["ES256"]),
        "garbage",
    ]
    for forged in forgeries:
        page = leave(browser, id_token_hint=forged, post_logout_redirect_uri=GOODBYE)
        assert page.status_code == 200 and 'id="logout-confirm"' in page.text
        assert logged_in(browser, bank)


def test_a42_without_a_hint_nothing_ends_before_the_person_confirms(
    bank: RelyingParty, browser: Browser, hint: str
) -> None:
    page = leave(browser, post_logout_redirect_uri=GOODBYE, client_id=bank.client_id)
    assert 'id="logout-confirm"' in page.text and logged_in(browser, bank)
    page = browser.press(page, "logout-confirm")
    assert page.status_code == 200 and "Location" not in page.headers
    assert "You are logged out" in page.text
    assert not logged_in(browser, bank)


@pytest.mark.parametrize(
    "uri", [GOODBYE + "/", GOODBYE + "?x=1", "https://evil.test/", "javascript:alert(1)", GOODBYE.upper()]
)
def test_a18_an_unregistered_return_address_is_a_page_and_ends_nothing(
    bank: RelyingParty, browser: Browser, hint: str, uri: str
) -> None:
    page = leave(browser, id_token_hint=hint, post_logout_redirect_uri=uri)
    assert page.status_code == 400 and "Location" not in page.headers
    assert logged_in(browser, bank)


def test_a_hint_for_somebody_elses_login_asks_first(
    house: House, bank: RelyingParty, browser: Browser, hint: str
) -> None:
    other = house.browser()
    other.code(bank.ask(), house.new_person())
    page = leave(other, id_token_hint=hint, post_logout_redirect_uri=GOODBYE)
    assert 'id="logout-confirm"' in page.text
    assert other.press(page, "logout-confirm").headers["Location"] == GOODBYE
    assert logged_in(browser, bank)


def test_a_form_posted_from_the_service_needs_no_cookie(
    house: House, bank: RelyingParty, browser: Browser, hint: str
) -> None:
    form = {"id_token_hint": hint, "post_logout_redirect_uri": GOODBYE}
    answer = house.app.test_client().post("/oauth2/logout", data=form)
    assert answer.headers["Location"] == GOODBYE
    assert not logged_in(browser, bank)


def test_a_form_posted_without_a_hint_asks_by_get(
    house: House, bank: RelyingParty, browser: Browser, hint: str
) -> None:
    answer = house.app.test_client().post("/oauth2/logout", data={"state": "x"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/oauth2/logout")
    assert logged_in(browser, bank)


def test_a_client_id_that_is_not_the_hints_is_refused(browser: Browser, hint: str) -> None:
    assert leave(browser, id_token_hint=hint, client_id="other").status_code == 400


def test_doubled_parameters_are_refused(browser: Browser, hint: str) -> None:
    assert browser.open("/oauth2/logout?state=1&state=2").status_code == 400


def test_somebody_who_is_not_logged_in_is_told_so(house: House) -> None:
    page = house.browser().open("/oauth2/logout")
    assert page.status_code == 200 and "You are logged out" in page.text


def test_a_disabled_client_ends_nothing(house: House, bank: RelyingParty, browser: Browser, hint: str) -> None:
    house.parts.relying_parties.disable(bank.client_id, actor="test")
    assert 'id="logout-confirm"' in leave(browser, id_token_hint=hint).text


def test_the_cookie_is_taken_back(bank: RelyingParty, browser: Browser, hint: str) -> None:
    assert browser.client.get_cookie("tamga") is not None
    leave(browser, id_token_hint=hint)
    assert browser.client.get_cookie("tamga") is None
