"""``/oauth2/userinfo``: only a live token for a person opens it."""

from __future__ import annotations

import pytest

from tests.unit.sso.conftest import House, RelyingParty, Somebody, json_of


@pytest.fixture
def token(house: House, bank: RelyingParty, citizen: Somebody) -> str:
    asked = bank.ask()
    return str(json_of(bank.redeem(house.browser().code(asked, citizen), asked))["access_token"])


def test_header_and_body_are_the_two_ways_to_show_a_token(house: House, token: str) -> None:
    client = house.app.test_client()
    bearer = {"Authorization": f"Bearer {token}"}
    answers = [
        client.get("/oauth2/userinfo", headers=bearer),
        client.post("/oauth2/userinfo", headers=bearer),
        client.post("/oauth2/userinfo", data={"access_token": token}),
        client.get("/oauth2/userinfo", headers={"Authorization": f"bearer {token}"}),
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].headers["Cache-Control"] == "no-store"


def test_a34_a_token_in_the_address_is_not_seen(house: House, token: str) -> None:
    answer = house.app.test_client().get(f"/oauth2/userinfo?access_token={token}")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="userinfo"'


@pytest.mark.parametrize("shown", ["wrong", "x" * 5000, "a b", "Өө", "eyJhbGciOiJub25lIn0.e30."])
def test_a34_a_wrong_token_is_challenged(house: House, shown: str) -> None:
    answer = house.app.test_client().post("/oauth2/userinfo", data={"access_token": shown})
    assert answer.status_code == 401 and json_of(answer)["error"] == "invalid_token"
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_a34_a_token_is_dead_after_its_time_and_after_logout(
    house: House, bank: RelyingParty, citizen: Somebody
) -> None:
    browser, first = house.browser(), bank.ask()
    old = json_of(bank.redeem(browser.code(first, citizen), first))["access_token"]
    house.clock.turn(599)
    assert bank.userinfo(old).status_code == 200
    house.clock.turn(1)
    assert bank.userinfo(old).status_code == 401
    second = bank.ask()
    fresh = json_of(bank.redeem(browser.code(second, citizen), second))["access_token"]
    browser.press(browser.open("/oauth2/logout"), "logout-confirm")
    assert bank.userinfo(fresh).status_code == 401


def test_a34_a_client_acting_for_itself_is_nobody(bank: RelyingParty) -> None:
    token = json_of(bank.token(grant_type="client_credentials"))["access_token"]
    answer = bank.userinfo(token)
    assert answer.status_code == 403 and json_of(answer)["error"] == "insufficient_scope"
    assert 'scope="openid"' in answer.headers["WWW-Authenticate"]


def test_two_tokens_at_once_are_refused(house: House, token: str) -> None:
    answer = house.app.test_client().post(
        "/oauth2/userinfo", data={"access_token": token}, headers={"Authorization": f"Bearer {token}"}
    )
    assert answer.status_code == 400 and json_of(answer)["error"] == "invalid_request"


def test_a_body_of_another_kind_is_not_read(house: House) -> None:
    client = house.app.test_client()
    assert client.post("/oauth2/userinfo", json={"access_token": "x"}).status_code == 401
    assert client.post("/oauth2/userinfo", data={"access_token": "x" * 50_000}).status_code == 413
    assert client.put("/oauth2/userinfo").status_code == 405


def test_a35_two_relying_parties_cannot_join_what_they_know(
    house: House, bank: RelyingParty, citizen: Somebody
) -> None:
    shop = house.new_client(redirect_uris=("https://shop.example.test/cb",))
    sister = house.new_client(redirect_uris=("https://bank.example.test/other",))
    browser, subjects, sids = house.browser(), [], []
    for client in (bank, shop, sister):
        asked = client.ask()
        tokens = json_of(client.redeem(browser.code(asked, citizen), asked))
        claims = house.parts.id_tokens.read_hint(tokens["id_token"])
        assert claims is not None
        assert json_of(client.userinfo(tokens["access_token"]))["sub"] == claims["sub"]
        assert house.parts.subjects.person_for(client.client_id, claims["sub"]) == citizen.id
        subjects.append(claims["sub"])
        sids.append(claims["sid"])
    assert subjects[0] == subjects[2] != subjects[1]  # one sector, one name
    assert len(set(sids)) == 3
