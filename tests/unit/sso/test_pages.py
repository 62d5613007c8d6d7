"""What every page of the provider keeps: both languages, no script, forms that are ours, headers that protect."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sso
from tests.unit.sso.conftest import PASSWORD, House, RelyingParty, Somebody, answer_of, catalogue, form_of

ROOM = Path(sso.__file__).parent
SENTENCES = sorted(
    {
        sentence
        for pattern, files in ((r'\b_\("([^"]*)"', ROOM.rglob("*.html")), (r'N_\(\s*"([^"]*)"', ROOM.rglob("*.py")))
        for file in files
        for sentence in re.findall(pattern, file.read_text("utf-8"))
    }
)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_every_sentence_has_a_mongolian_form_with_the_same_blanks(sentence: str) -> None:
    assert catalogue().has(sentence, "mn")
    blanks = re.compile(r"%\((\w+)\)s")
    assert sorted(blanks.findall(catalogue().translate(sentence, "mn"))) == sorted(blanks.findall(sentence))


def test_no_page_holds_a_script_or_anything_from_elsewhere() -> None:
    for template in ROOM.rglob("*.html"):
        text = template.read_text("utf-8")
        assert "<script" not in text and "javascript:" not in text, template
        assert not re.search(r"\son\w+=|\sstyle=", text), template
        assert "http://" not in text and "https://" not in text and "|safe" not in text, template


def test_the_ids_that_tools_find_controls_by_stand(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    browser = house.browser()
    page = browser.open(bank.ask().url)
    assert all(f'id="{name}"' in page.text for name in ("username", "password", "login-submit"))
    page = browser.press(page, "login-submit", username=citizen.username, password=PASSWORD)
    assert all(f'id="{name}"' in page.text for name in ("otp", "otp-submit"))
    page = browser.press(page, "otp-submit", otp=citizen.code())
    assert all(f'id="{name}"' in page.text for name in ("consent-allow", "consent-deny"))
    browser.press(page, "consent-allow")
    assert 'id="logout-confirm"' in browser.open("/oauth2/logout").text


def test_ui_locales_choose_the_language_of_the_pages(house: House, bank: RelyingParty) -> None:
    mongolian = house.browser("en").open(bank.ask(ui_locales="fr mn").url)
    assert 'lang="mn"' in mongolian.text and "таныг танихыг хүсэж байна" in mongolian.text
    english = house.browser("mn").open(bank.ask(ui_locales="en-GB").url)
    assert 'lang="en"' in english.text and "asks who you are" in english.text


def test_a_language_nobody_has_is_no_error(house: House, bank: RelyingParty) -> None:
    assert 'lang="mn"' in house.browser("mn").open(bank.ask(ui_locales="tlh", claims_locales="tlh").url).text


def test_an_empty_form_is_answered_with_links_to_its_fields(house: House, bank: RelyingParty) -> None:
    browser = house.browser()
    page = browser.press(browser.open(bank.ask().url), "login-submit")
    assert page.status_code == 400
    assert 'href="#username"' in page.text and 'href="#password"' in page.text
    assert 'role="alert"' in page.text and 'aria-invalid="true"' in page.text


def test_pages_forbid_framing_caching_and_referrers(house: House, bank: RelyingParty) -> None:
    browser = house.browser()
    for page in (browser.open(bank.ask().url), browser.open("/oauth2/authorize"), browser.open("/oauth2/logout")):
        assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
        assert "unsafe-inline" not in page.headers["Content-Security-Policy"]
        assert page.headers["X-Frame-Options"] == "DENY"
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("token", ["", "0" * 64])
def test_a08_a_form_that_is_not_ours_is_refused(house: House, bank: RelyingParty, token: str) -> None:
    browser = house.browser()
    page = browser.open(bank.ask().url)
    refused = browser.post(page, "login-submit", username="x", password="y", csrf_token=token)
    assert refused.status_code == 403


def test_a08_a_form_from_another_origin_is_refused(house: House, bank: RelyingParty) -> None:
    browser = house.browser()
    action, fields = form_of(browser.open(bank.ask().url).text, "login-submit")
    refused = browser.client.post(action, data=fields, headers={"Origin": "https://evil.test"})
    assert refused.status_code == 403


def test_a08_a_form_shown_in_another_browser_is_refused(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    theirs, ours = house.browser(), house.browser()
    action, fields = form_of(theirs.open(bank.ask().url).text, "login-submit")
    ours.open(bank.ask().url)
    assert ours.client.post(action, data=fields).status_code == 403


@pytest.mark.parametrize("path", ["/login", "/login/otp", "/login/cancel", "/consent", "/oauth2/logout/confirm"])
def test_posting_to_any_page_without_its_form_is_a_coded_refusal(house: House, path: str) -> None:
    assert house.app.test_client().post(path).status_code == 403


def test_a17_what_others_write_is_shown_as_text(house: House) -> None:
    evil = house.new_client(name_en='<script>alert("1")</script>', name_mn="<b>Банк</b>")
    page = house.browser().open(evil.ask(login_hint='"><script>x</script>', ui_locales="en").url)
    assert "<script" not in page.text
    assert "&lt;script&gt;" in page.text


def test_going_back_without_logging_in_tells_the_service(house: House, bank: RelyingParty) -> None:
    asked, browser = bank.ask(), house.browser()
    answer = answer_of(browser.press(browser.open(asked.url), "login-cancel"))
    assert answer == {
        "error": "access_denied",
        "error_description": "user_cancel",
        "state": asked.parameters["state"],
        "iss": house.issuer,
    }
    assert "sso:session:started" not in house.events()


def test_an_expired_interaction_offers_to_start_again(house: House, bank: RelyingParty) -> None:
    browser, asked = house.browser(), bank.ask()
    page = browser.open(asked.url)
    house.clock.turn(1801)
    page = browser.press(page, "login-submit", username="x", password="y")
    assert page.status_code == 400 and "interaction_expired" in page.text
    again = re.search(r'id="start-again" href="([^"]*)"', page.text)
    assert again is not None
    assert 'id="login-submit"' in browser.open(again[1].replace("&amp;", "&")).text


def test_a_page_of_an_unknown_interaction_is_refused(house: House) -> None:
    page = house.browser().open("/consent?interaction=nobody")
    assert page.status_code == 400 and "interaction_gone" in page.text


def test_two_tabs_do_not_disturb_each_other(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    browser, first, second = house.browser(), bank.ask(), bank.ask()
    page_one, page_two = browser.open(first.url), browser.open(second.url)
    done = browser.press(browser.log_in(page_one, citizen), "consent-allow")
    assert answer_of(done)["state"] == first.parameters["state"]
    done = browser.log_in(page_two, citizen)
    assert answer_of(done)["state"] == second.parameters["state"]


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.test/",
        "//evil.test",
        "/\\evil.test",
        "javascript:alert(1)",
        "evil",
        "/a b",
        "/%0a\n",
        "/é",
        "http:/x",
    ],
)
def test_a18_login_returns_to_paths_of_this_site_only(house: House, address: str) -> None:
    page = house.browser().client.get("/login", query_string={"return_to": address})
    assert page.status_code == 400 and "invalid_return_to" in page.text


def test_a_first_party_login_comes_back_to_its_page(house: House, citizen: Somebody) -> None:
    browser = house.browser()
    page = browser.open("/login?return_to=/sign/abc%3Fx%3D1")
    page = browser.press(page, "login-submit", username=citizen.username, password=PASSWORD)
    response = browser.post(page, "otp-submit", otp=citizen.code())
    resumed = browser.client.get(response.headers["Location"])
    assert (resumed.status_code, resumed.headers["Location"]) == (303, "/sign/abc?x=1")
    cookie = browser.client.get_cookie("tamga")
    assert cookie is not None
    principal = house.parts.sessions.current(cookie.value)
    assert principal is not None and principal.subject == citizen.id and principal.kind == "person"
