"""Login sessions: how long they last, and that an old cookie is worth nothing."""

from __future__ import annotations

from pathlib import Path

from core.database import Database
from core.passwords import Passwords
from hsm.keystore import Keystore
from sso.tables import SessionRow
from tests.unit.sso.conftest import PASSWORD, House, RelyingParty, Somebody, TurnableClock, build_house


def start(house: House, who: Somebody, replacing: str | None = None) -> str:
    return house.parts.sessions.start(who.id, ("pwd", "otp", "mfa"), replacing=replacing)


def test_a_session_tells_who_how_and_when(house: House, citizen: Somebody) -> None:
    principal = house.parts.sessions.current(start(house, citizen))
    assert principal is not None
    assert (principal.kind, principal.subject, principal.acr) == ("person", citizen.id, "urn:tamga:loa:substantial")
    assert (principal.amr, principal.authenticated_at) == (("pwd", "otp", "mfa"), house.clock.now)


def test_a_session_idles_away_after_fifteen_minutes(house: House, citizen: Somebody) -> None:
    cookie = start(house, citizen)
    for _ in range(4):
        house.clock.turn(899)
        assert house.parts.sessions.current(cookie) is not None
    house.clock.turn(900)
    assert house.parts.sessions.current(cookie) is None


def test_a_session_ends_after_twelve_hours_however_busy(house: House, citizen: Somebody) -> None:
    cookie = start(house, citizen)
    for _ in range(12 * 6 - 1):
        house.clock.turn(600)
        assert house.parts.sessions.current(cookie) is not None
    house.clock.turn(600)
    assert house.parts.sessions.current(cookie) is None


def test_a09_the_cookie_changes_at_every_login_and_the_old_one_is_dead(house: House, citizen: Somebody) -> None:
    first = start(house, citizen)
    second = start(house, citizen, replacing=first)
    assert house.parts.sessions.current(first) is None
    old, new = house.parts.sessions.find(first), house.parts.sessions.find(second)
    assert old is None and new is not None
    assert house.events().count("sso:session:renewed") == 1


def test_a09_a_planted_cookie_is_not_taken_over(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    browser = house.browser()
    browser.client.set_cookie("tamga", "planted-by-somebody-else")
    browser.code(bank.ask(), citizen)
    cookie = browser.client.get_cookie("tamga")
    assert cookie is not None and cookie.value != "planted-by-somebody-else"
    assert house.parts.sessions.current("planted-by-somebody-else") is None


def test_another_persons_login_ends_the_first_session(house: House, citizen: Somebody) -> None:
    first = start(house, citizen)
    start(house, house.new_person(), replacing=first)
    assert house.parts.sessions.current(first) is None
    assert "sso:session:ended" in house.events()


def test_the_database_holds_no_cookie(house: House, citizen: Somebody) -> None:
    cookie = start(house, citizen)
    with house.database.reading() as session:
        (row,) = session.query(SessionRow).all()
    assert cookie not in (row.id, row.cookie_digest) and len(row.cookie_digest) == 64


def test_an_absurd_cookie_is_nobody(house: House) -> None:
    for cookie in ("", "x" * 10_000, "ө", "\ud800"):
        assert house.parts.sessions.current(cookie) is None


def test_the_cookie_is_pinned_to_https_hosts(
    tmp_path: Path, keystore: Keystore, passwords: Passwords, clock: TurnableClock
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'https.db'}")
    database.create_all()
    house = build_house(
        database=database, clock=clock, keystore=keystore, passwords=passwords, issuer="https://id.example.test"
    )
    who, bank = house.new_person(totp=False), house.new_client()
    browser = house.browser()
    browser.headers["X-Forwarded-Proto"] = "https"
    page = browser.client.get(bank.ask().url, base_url="https://id.example.test")
    page = browser.client.get(page.headers["Location"], base_url="https://id.example.test")
    token = page.text.split('name="csrf_token" value="')[1].split('"')[0]
    answer = browser.client.post(
        page.request.full_path,
        base_url="https://id.example.test",
        data={"username": who.username, "password": PASSWORD, "csrf_token": token},
    )
    cookie = next(value for value in answer.headers.getlist("Set-Cookie") if value.startswith("__Host-tamga="))
    assert all(word in cookie for word in ("; Secure", "; HttpOnly", "; Path=/", "; SameSite=Lax"))
    assert "Domain" not in cookie and "Max-Age" not in cookie and "Expires" not in cookie
    database.close()
