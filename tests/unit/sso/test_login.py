"""Logging in: nothing tells who exists, guessing is slowed, and a one-time code works one time."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from werkzeug.test import TestResponse

from sso.authentication import otp
from sso.authentication.attempts import ACCOUNT, Brake
from tests.unit.sso.conftest import PASSWORD, Browser, House, RelyingParty, Somebody, answer_of


def attempt(house: House, username: str, password: str, browser: Browser | None = None) -> TestResponse:
    browser = browser or house.browser()
    return browser.press(browser.open("/login"), "login-submit", username=username, password=password)


def shown(page: TestResponse, username: str) -> str:
    """The page without what differs by design: form tokens, the interaction and the name typed."""
    text = re.sub(r"[A-Za-z0-9_-]{32,}", "", page.text)
    return text.replace(username, "NAME")


# RFC 6238 appendix B, SHA-1, shortened to six digits.
@pytest.mark.parametrize(
    ("seconds", "code"),
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (20000000000, "353130")],
)
def test_one_time_codes_are_those_of_rfc_6238(seconds: int, code: str) -> None:
    moment = datetime.fromtimestamp(seconds, UTC)
    assert otp.code_at(b"12345678901234567890", moment) == code
    assert otp.matching_step(b"12345678901234567890", f" {code[:3]} {code[3:]} ", moment) == seconds // 30


def test_the_address_for_the_phone_holds_what_the_phone_needs() -> None:
    address = otp.provisioning_uri(b"12345678901234567890", account="бат", issuer="Tamga & co")
    assert address.startswith(
        "otpauth://totp/Tamga%20%26%20co:%D0%B1%D0%B0%D1%82?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    )
    assert address.endswith("&algorithm=SHA1&digits=6&period=30")


def test_a38_unknown_and_known_names_get_the_same_answer(house: House, citizen: Somebody) -> None:
    known, unknown = attempt(house, citizen.username, "wrong password"), attempt(house, "nobody-here", "wrong password")
    assert (known.status_code, shown(known, citizen.username)) == (unknown.status_code, shown(unknown, "nobody-here"))


def test_a38_a_disabled_person_is_told_no_more_than_a_stranger(house: House, citizen: Somebody) -> None:
    house.parts.people.disable(citizen.id, actor="test")
    page = attempt(house, citizen.username, PASSWORD)
    assert page.status_code == 400 and "not right" in page.text


@pytest.mark.parametrize("known", [True, False])
def test_a39_after_five_failures_each_try_waits_longer_and_never_for_good(
    house: House, citizen: Somebody, known: bool
) -> None:
    username = citizen.username if known else "nobody-here"
    for _ in range(4):
        assert attempt(house, username, "wrong").status_code == 400
    waits = []
    for _ in range(5):
        assert attempt(house, username, "wrong").status_code == 400
        paused = attempt(house, username, PASSWORD)
        assert paused.status_code == 429
        waits.append(int(paused.headers["Retry-After"]))
        house.clock.turn(waits[-1])
    assert waits == [2, 4, 8, 16, 32]
    if known:
        assert 'id="otp-submit"' in attempt(house, username, PASSWORD).text


def test_a39_a_right_password_forgets_the_failures(house: House, citizen: Somebody) -> None:
    for _ in range(3):
        for _ in range(4):
            assert attempt(house, citizen.username, "wrong").status_code == 400
        assert 'id="otp-submit"' in attempt(house, citizen.username, PASSWORD).text


def test_a39_a_source_that_sprays_many_names_is_slowed(house: House) -> None:
    statuses = [attempt(house, f"name{number}", "Winter2026").status_code for number in range(31)]
    assert statuses[:30] == [400] * 30
    assert statuses[30] == 429


def test_pauses_have_an_upper_end() -> None:
    assert ACCOUNT.pause_after(10_000) == 900
    assert Brake("x", free=1).pause_after(0) == 0
    # With these pauses a day holds fewer than the hundred failures that SP 800-63B 3.2.2 allows, plus the free ones.
    moment, failures = 0, 0
    while moment < 24 * 3600:
        failures += 1
        moment += ACCOUNT.pause_after(failures)
    assert failures <= 110


def test_a39_a_code_is_taken_once(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    code = citizen.code()
    for expected in (303, 400):
        browser = house.browser()
        page = browser.press(browser.open(bank.ask().url), "login-submit", username=citizen.username, password=PASSWORD)
        assert browser.post(page, "otp-submit", otp=code).status_code == expected


@pytest.mark.parametrize("code", ["000000", "abcdef", "", "1234567890123", "١٢٣٤٥٦", "12345"])
def test_a_wrong_code_keeps_the_flow_alive(house: House, bank: RelyingParty, citizen: Somebody, code: str) -> None:
    browser = house.browser()
    page = browser.press(browser.open(bank.ask().url), "login-submit", username=citizen.username, password=PASSWORD)
    page = browser.press(page, "otp-submit", otp=code)
    assert page.status_code == 400 and 'id="otp-submit"' in page.text
    page = browser.press(page, "otp-submit", otp=citizen.code())
    assert "code" in answer_of(browser.press(page, "consent-allow"))


def test_a39_codes_cannot_be_guessed_on_and_on(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    browser = house.browser()
    page = browser.press(browser.open(bank.ask().url), "login-submit", username=citizen.username, password=PASSWORD)
    for _ in range(5):
        page = browser.press(page, "otp-submit", otp="000000")
    assert 'id="login-submit"' in page.text
    page = browser.press(page, "login-submit", username=citizen.username, password=PASSWORD)
    page = browser.press(page, "otp-submit", otp=otp.code_at(citizen.enrolled.totp_secret or b"", house.clock.now))
    assert page.status_code == 429 and 'id="otp-submit"' in page.text


def test_the_code_page_belongs_to_a_given_password(house: House, bank: RelyingParty) -> None:
    page = house.browser().open(bank.ask().url)
    again = house.browser().open("/login/otp?" + page.request.query_string.decode())
    assert 'id="login-submit"' in again.text


def test_a_name_is_read_as_people_type_it(house: House, citizen: Somebody) -> None:
    assert 'id="otp-submit"' in attempt(house, f" {citizen.username.upper()} ", PASSWORD).text


@pytest.mark.parametrize(
    ("username", "password"), [("x" * 100_000, "y"), ("x", "y" * 100_000), ("\0", "\0"), ("%", "'")]
)
def test_absurd_input_is_a_wrong_password(house: House, username: str, password: str) -> None:
    assert attempt(house, username, password).status_code == 400


def test_no_secret_and_no_name_enters_the_log(
    house: House, bank: RelyingParty, citizen: Somebody, caplog: pytest.LogCaptureFixture
) -> None:
    attempt(house, citizen.username, "wrong password")
    attempt(house, citizen.username + "\r\nforged line", "wrong password")
    code = house.browser().code(bank.ask(), citizen)
    bank.redeem("wrong", bank.ask())
    logged = " ".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    for secret in (citizen.username, "wrong password", PASSWORD, code, "forged line", "0000000000"):
        assert secret not in logged
