"""``/oauth2/authorize``: where errors go, who is asked what, and what comes back."""

from __future__ import annotations

from urllib.parse import urlencode

import jwt
import pytest

from tests.unit.sso.conftest import (
    PASSWORD,
    REDIRECT,
    Browser,
    House,
    RelyingParty,
    Somebody,
    answer_of,
    json_of,
)


def claims_of(bank: RelyingParty, browser: Browser, who: Somebody, **changes: str) -> dict[str, object]:
    asked = bank.ask(**changes)
    tokens = json_of(bank.redeem(browser.code(asked, who), asked))
    claims: dict[str, object] = jwt.decode(tokens["id_token"], options={"verify_signature": False})
    return claims


@pytest.mark.parametrize(
    "uri",
    [
        "https://BANK.example.test/callback",
        "https://bank.example.test/callback/",
        "https://bank.example.test/Callback",
        "https://bank.example.test/callback?x=1",
        "https://bank.example.test/callback#x",
        "https://bank.example.test/%63allback",
        "https://bank.example.test/x/../callback",
        "https://bank.example.test/x/%2e%2e/callback",
        "https://bank.example.test/..;/callback",
        "https://bank.example.test\\callback",
        "https://bank.example.test/callback\t",
        "https://bank.example.test/callback\n",
        "https://bank.example.test:443/callback",
        "https://user@bank.example.test/callback",
        "https://bank.example.test@evil.test/callback",
        "https://bаnk.example.test/callback",
        "http://bank.example.test/callback",
        "http://127.0.0.1/callback",
        "javascript:alert(1)",
        " https://bank.example.test/callback",
    ],
)
def test_a01_a_redirect_uri_that_differs_in_one_byte_is_a_page(house: House, bank: RelyingParty, uri: str) -> None:
    page = house.browser().open(bank.ask(redirect_uri=uri).url)
    assert page.status_code == 400 and "Location" not in page.headers
    assert "redirect_uri_mismatch" in page.text


@pytest.mark.parametrize(
    ("uri", "good"),
    [
        ("http://127.0.0.1:53211/cb", True),
        ("http://[::1]:1/cb", True),
        ("http://127.0.0.1/cb", True),
        ("http://127.0.0.1:53211/other", False),
        ("http://127.0.0.1:53211/cb?x=1", False),
        ("http://localhost:53211/cb", False),
        ("http://localhost.evil.test/cb", False),
        ("http://localhost:80@evil.test/cb", False),
        ("http://127.0.0.1:80@evil.test/cb", False),
        ("http://127.0.0.1.evil.test/cb", False),
        ("https://127.0.0.1:53211/cb", False),
        ("http://127.0.0.2/cb", False),
        ("http://127.0.0.1:999999/cb", False),
    ],
)
def test_a02_an_app_may_choose_the_port_of_its_loopback_address_and_nothing_else(
    house: House, uri: str, good: bool
) -> None:
    app = house.new_client(
        kind="native",
        auth_method="none",
        redirect_uris=("http://127.0.0.1/cb", "http://[::1]/cb"),
        post_logout_redirect_uris=(),
        scopes=("openid",),
    )
    page = house.browser().open(app.ask(redirect_uri=uri, scope="openid").url)
    assert page.status_code == (200 if good else 400)


def test_an_app_logs_in_without_a_secret(house: House, citizen: Somebody) -> None:
    app = house.new_client(
        kind="native",
        auth_method="none",
        redirect_uris=("http://127.0.0.1/cb",),
        post_logout_redirect_uris=(),
        scopes=("openid",),
    )
    uri = "http://127.0.0.1:40404/cb"
    asked = app.ask(redirect_uri=uri, scope="openid")
    code = house.browser().code(asked, citizen)
    assert json_of(app.redeem(code, asked, redirect_uri="http://127.0.0.1:40405/cb"))["error"] == "invalid_grant"
    assert app.redeem(code, asked, redirect_uri=uri).status_code == 200
    assert json_of(app.token(grant_type="client_credentials"))["error"] == "unauthorized_client"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"scope": None}, "invalid_request"),
        ({"scope": "profile"}, "invalid_scope"),
        ({"scope": "openid  profile"}, "invalid_scope"),
        ({"scope": 'openid "x"'}, "invalid_scope"),
        ({"scope": "openid " + "x" * 2000}, "invalid_scope"),
        ({"scope": "openid\nprofile"}, "invalid_scope"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "create"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"max_age": "٣"}, "invalid_request"),
        ({"max_age": "1" * 40}, "invalid_request"),
        ({"nonce": "x" * 3000}, "invalid_request"),
        ({"id_token_hint": "garbage"}, "invalid_request"),
    ],
)
def test_an_error_goes_back_to_the_client_with_state_and_issuer(
    house: House, bank: RelyingParty, changes: dict[str, str | None], error: str
) -> None:
    asked = bank.ask(**changes)
    page = house.browser().open(asked.url)
    assert page.headers["Location"].startswith(REDIRECT + "?")
    answer = answer_of(page)
    assert (answer["error"], answer["state"], answer["iss"]) == (error, asked.parameters["state"], house.issuer)


def test_unknown_parameters_are_ignored(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    extra = {"extra": "foobar", "display": "popup", "acr_values": "1 2", "claims": "{", "login_hint": "x", "empty": ""}
    assert "code" in house.browser().authorize(bank.ask(**extra), citizen)


def test_scopes_the_client_may_not_use_are_dropped(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    asked = bank.ask(scope="openid sign.request email admin")
    tokens = json_of(bank.redeem(house.browser().code(asked, citizen), asked))
    assert tokens["scope"] == "openid"


def test_a_redirect_uri_keeps_the_query_it_was_registered_with(house: House, citizen: Somebody) -> None:
    uri = "https://bank.example.test/cb?dummy1=lorem%20x&dummy2=ipsum"
    client = house.new_client(redirect_uris=(uri,))
    page = house.browser().open(client.ask(prompt="none").url)
    assert page.headers["Location"].startswith(uri + "&error=login_required")


def test_a20_a_request_of_a_megabyte_is_refused_at_once(house: House, bank: RelyingParty) -> None:
    assert house.browser().open(bank.ask(state="x" * 1_000_000).url).status_code == 413
    page = house.app.test_client().post("/oauth2/authorize", data={"state": "x" * 100_000})
    assert page.status_code == 413
    assert house.browser().open(bank.ask().url + "&a=1" * 200).status_code == 400


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "application/x-www-form-urlencoded", 400),
        (b"{}", "application/json", 415),
        (b"\xff=\xff", "application/x-www-form-urlencoded", 400),
        (b"%ff=%ff", "application/x-www-form-urlencoded", 400),
    ],
)
def test_a_body_nobody_can_read_is_a_page(house: House, body: bytes, content_type: str, status: int) -> None:
    page = house.app.test_client().post("/oauth2/authorize", data=body, content_type=content_type)
    assert page.status_code == status and page.mimetype == "text/html"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_are_refused(house: House, method: str) -> None:
    assert house.app.test_client().open("/oauth2/authorize", method=method).status_code == 405


def test_a_posted_request_works_although_the_cookie_stays_away(
    house: House, bank: RelyingParty, citizen: Somebody
) -> None:
    browser = house.browser()
    browser.code(bank.ask(), citizen)
    asked = bank.ask(prompt="none")
    # SameSite=Lax: another site's form brings no cookie, so this client sends none.
    response = house.app.test_client().post("/oauth2/authorize", data=asked.parameters)
    assert response.status_code == 303
    assert "code" in answer_of(browser.open(response.headers["Location"]))


# Sessions and prompts ------------------------------------------------------------------------------------------------


def test_a12_prompt_none_shows_no_page_and_asks_for_login(house: House, bank: RelyingParty) -> None:
    assert answer_of(house.browser().open(bank.ask(prompt="none").url))["error"] == "login_required"


def test_a12_prompt_none_without_consent_creates_none(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    browser = house.browser()
    browser.open("/login")
    page = browser.open("/login")
    browser.post(browser.press(page, "login-submit", username=citizen.username, password=PASSWORD), "otp-submit",
                 otp=citizen.code())  # fmt: skip
    for _ in range(2):
        assert answer_of(browser.open(bank.ask(prompt="none").url))["error"] == "consent_required"
    assert "sso:consent:granted" not in house.events()


def test_a_session_answers_a_second_request_without_any_page(
    house: House, bank: RelyingParty, citizen: Somebody
) -> None:
    browser = house.browser()
    first = claims_of(bank, browser, citizen)
    house.clock.turn(60)
    asked = bank.ask()
    assert "code" in answer_of(browser.open(asked.url))
    second = claims_of(bank, browser, citizen, prompt="none")
    assert (first["sub"], first["auth_time"], first["sid"]) == (second["sub"], second["auth_time"], second["sid"])


@pytest.mark.parametrize("demand", [{"prompt": "login"}, {"max_age": "0"}, {"max_age": "10"}])
def test_a13_a_fresh_login_is_fresh_also_after_browser_back(
    house: House, bank: RelyingParty, citizen: Somebody, demand: dict[str, str]
) -> None:
    browser = house.browser()
    first = claims_of(bank, browser, citizen)
    house.clock.turn(20)
    asked = bank.ask(**demand)
    page = browser.open(asked.url)
    assert 'id="login-submit"' in page.text
    # Back, then straight to where a finished login would go on: the login page again.
    resumed = browser.open("/oauth2/authorize/resume?" + page.request.query_string.decode())
    assert 'id="login-submit"' in resumed.text
    answer = answer_of(browser.log_in(resumed, citizen))
    tokens = json_of(bank.redeem(answer["code"], asked))
    second = jwt.decode(tokens["id_token"], options={"verify_signature": False})
    assert second["auth_time"] > first["auth_time"]
    assert second["sub"] == first["sub"]


def test_max_age_of_hours_is_met_by_a_recent_login(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    browser = house.browser()
    claims_of(bank, browser, citizen)
    house.clock.turn(100)
    assert "code" in answer_of(browser.open(bank.ask(max_age="10000").url))
    assert answer_of(browser.open(bank.ask(max_age="50", prompt="none").url))["error"] == "login_required"


def test_prompt_consent_asks_again(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    browser = house.browser()
    claims_of(bank, browser, citizen)
    house.clock.turn(5)
    page = browser.open(bank.ask(prompt="consent").url)
    assert 'id="consent-allow"' in page.text
    assert "code" in answer_of(browser.press(page, "consent-allow"))


def test_a_hint_at_somebody_else_asks_for_login(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    other, browser = house.new_person(), house.browser()
    asked = bank.ask()
    tokens = json_of(bank.redeem(browser.code(asked, citizen), asked))
    hint = tokens["id_token"]
    assert "code" in answer_of(browser.open(bank.ask(id_token_hint=hint, prompt="none").url))
    elsewhere = house.browser()
    claims_of(bank, elsewhere, other)
    answer = answer_of(elsewhere.open(bank.ask(id_token_hint=hint, prompt="none").url))
    assert answer["error"] == "login_required"


def test_a_hint_of_another_client_is_refused(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    asked, other = bank.ask(), house.new_client()
    hint = json_of(bank.redeem(house.browser().code(asked, citizen), asked))["id_token"]
    assert answer_of(house.browser().open(other.ask(id_token_hint=hint).url))["error"] == "invalid_request"


def test_login_hint_fills_the_field(house: House, bank: RelyingParty) -> None:
    assert 'value="person9"' in house.browser().open(bank.ask(login_hint="person9").url).text


def test_a14_a_client_with_a_minimum_is_never_given_less(house: House, bank: RelyingParty) -> None:
    weak = house.new_person(totp=False)
    strict = house.new_client(minimum_acr="urn:tamga:loa:substantial")
    assert claims_of(bank, house.browser(), weak)["acr"] == "urn:tamga:loa:low"
    asked = strict.ask(acr_values="urn:tamga:loa:low")
    assert house.browser().authorize(asked, weak)["error"] == "unmet_authentication_requirements"
    assert "code" in house.browser().authorize(strict.ask(), house.new_person())


def test_a_person_without_a_phone_is_low_and_says_so(house: House, bank: RelyingParty) -> None:
    claims = claims_of(bank, house.browser(), house.new_person(totp=False))
    assert (claims["acr"], claims["amr"]) == ("urn:tamga:loa:low", ["pwd"])


def test_a15_after_a_password_the_browser_is_sent_on_with_303(
    house: House, bank: RelyingParty, citizen: Somebody
) -> None:
    browser = house.browser()
    response = browser.post(browser.open(bank.ask().url), "login-submit", username=citizen.username, password=PASSWORD)
    assert response.status_code == 303


# Consent -------------------------------------------------------------------------------------------------------------


def test_a_refusal_reaches_the_client_as_access_denied(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    browser = house.browser()
    page = browser.log_in(browser.open(bank.ask().url), citizen)
    answer = answer_of(browser.press(page, "consent-deny"))
    assert (answer["error"], answer["error_description"]) == ("access_denied", "consent_denied")
    assert "sso:consent:refused" in house.events()
    assert 'id="consent-allow"' in browser.open(bank.ask().url).text


def test_consent_is_asked_again_for_more_and_not_for_less(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    browser = house.browser()
    page = browser.log_in(browser.open(bank.ask(scope="openid").url), citizen)
    assert "Ж.Өлзийхүү" not in page.text.split("<ul")[1]
    browser.press(page, "consent-allow")
    page = browser.open(bank.ask(scope="openid profile").url)
    assert 'id="consent-allow"' in page.text
    browser.press(page, "consent-allow")
    assert "code" in answer_of(browser.open(bank.ask(scope="openid").url))


def test_consent_is_forgotten_after_a_year(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    house.browser().code(bank.ask(), citizen)
    house.clock.turn(364 * 86400)
    browser = house.browser()
    assert "code" in answer_of(browser.log_in(browser.open(bank.ask().url), citizen))
    house.clock.turn(86400)
    browser = house.browser()
    assert 'id="consent-allow"' in browser.log_in(browser.open(bank.ask().url), citizen).text


def test_a10_consent_to_somebody_elses_interaction_is_refused(
    house: House, bank: RelyingParty, citizen: Somebody
) -> None:
    mine, theirs, other = house.browser(), house.browser(), house.new_person()
    theirs_page = theirs.log_in(theirs.open(bank.ask().url), other)
    mine_page = mine.log_in(mine.open(bank.ask().url), citizen)
    address = "/consent?" + theirs_page.request.query_string.decode()
    assert mine.open(address).status_code == 403
    token = mine.client.post(address, data={"decision": "allow", "csrf_token": csrf_of(mine_page.text)})
    assert token.status_code == 403 and "foreign_interaction" in token.text
    assert "sso:consent:granted" not in house.events()


def test_a_consent_page_is_answered_once(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    browser = house.browser()
    page = browser.log_in(browser.open(bank.ask().url), citizen)
    assert "code" in answer_of(browser.press(page, "consent-allow"))
    again = browser.press(page, "consent-allow")
    assert again.status_code == 400 and "interaction_gone" in again.text


def test_a_consent_without_a_decision_is_refused(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    browser = house.browser()
    page = browser.log_in(browser.open(bank.ask().url), citizen)
    assert browser.post(page, "consent-allow", decision="perhaps").status_code == 400


def csrf_of(html: str) -> str:
    return html.split('name="csrf_token" value="')[1].split('"')[0]


def test_the_page_for_a_wrong_request_repeats_nothing_as_markup(house: House) -> None:
    page = house.browser().open("/oauth2/authorize?" + urlencode({"client_id": "<i>x</i>", '"><b': "<b>"}))
    assert page.status_code == 400 and "<i>" not in page.text and "<b" not in page.text.replace("<body", "")
