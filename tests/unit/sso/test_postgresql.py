"""What must be atomic is so on PostgreSQL too, where two transactions really run at once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from core.database import Database
from core.passwords import Passwords
from hsm.keystore import Keystore
from sso.errors import PersonNotFound
from tests.support.postgresql import PostgreSQL
from tests.unit.sso.conftest import House, TurnableClock, build_house, json_of


@pytest.fixture
def house(
    postgresql_server: PostgreSQL, keystore: Keystore, passwords: Passwords, clock: TurnableClock
) -> Iterator[House]:
    database = Database(postgresql_server.database(), pool_size=20)
    database.create_all()
    yield build_house(database=database, clock=clock, keystore=keystore, passwords=passwords)
    database.close()


def test_of_fifty_parallel_redemptions_exactly_one_succeeds_and_its_tokens_are_then_revoked(house: House) -> None:
    bank, citizen = house.new_client(), house.new_person()
    asked = bank.ask()
    code = house.browser().code(asked, citizen)
    forms = [bank.proof()[0] for _ in range(50)]
    start, outcomes = threading.Barrier(50), []

    def redeem(form: dict[str, str]) -> None:
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": bank.redirect_uri,
            "code_verifier": asked.verifier,
        }
        start.wait()
        answer = house.app.test_client().post("/oauth2/token", data={**form, **fields})
        outcomes.append((answer.status_code, json_of(answer)))

    threads = [threading.Thread(target=redeem, args=(form,)) for form in forms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(status for status, _ in outcomes) == {200: 1, 400: 49}
    (tokens,) = [body for status, body in outcomes if status == 200]
    assert bank.userinfo(tokens["access_token"]).status_code == 401
    assert house.events().count("sso:token:issued") == 1


def test_strings_that_postgresql_cannot_hold_are_refused_and_not_failures(house: House) -> None:
    house.new_person()
    client, browser = house.app.test_client(), house.browser()
    for name in ("\0", "a\0b", "x" * 10_000, "\ufffe", "person1\0"):
        answer = client.post("/oauth2/token", auth=(name, "secret"), data={"grant_type": "client_credentials"})
        assert (answer.status_code, json_of(answer)["error"]) == (401, "invalid_client")
        assert client.get("/oauth2/authorize", query_string={"client_id": name}).status_code == 400
        page = browser.press(browser.open("/login"), "login-submit", username=name, password=name)
        assert page.status_code == 400
        with pytest.raises(PersonNotFound):
            house.parts.subjects.person_for("bank", name)


def test_a_disabling_and_fifty_token_requests_leave_no_live_token(house: House) -> None:
    bank = house.new_client()
    forms = [bank.proof()[0] for _ in range(50)]
    start, tokens = threading.Barrier(51), []

    def ask(form: dict[str, str]) -> None:
        start.wait()
        answer = house.app.test_client().post("/oauth2/token", data={**form, "grant_type": "client_credentials"})
        if answer.status_code == 200:
            tokens.append(json_of(answer)["access_token"])

    threads = [threading.Thread(target=ask, args=(form,)) for form in forms]
    for thread in threads:
        thread.start()
    start.wait()
    house.parts.relying_parties.disable(bank.client_id, actor="test")
    for thread in threads:
        thread.join()
    assert all(bank.userinfo(token).status_code == 401 for token in tokens)
