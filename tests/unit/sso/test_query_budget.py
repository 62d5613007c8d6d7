"""How many statements a login and a token cost; more would be a regression nobody sees in a small test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event

from tests.unit.sso.conftest import House, RelyingParty, Somebody, answer_of, json_of


@contextmanager
def statements(house: House) -> Iterator[list[str]]:
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if not statement.startswith("BEGIN"):
            seen.append(" ".join(statement.split()))

    event.listen(house.database.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(house.database.engine, "before_cursor_execute", note)


def reads_before_the_transaction(seen: list[str]) -> list[str]:
    first = next((n for n, statement in enumerate(seen) if statement.startswith(("INSERT", "UPDATE"))), len(seen))
    return [statement for statement in seen[:first] if statement.startswith("SELECT")]


def test_a_login_and_its_token_stay_within_their_budget(house: House, bank: RelyingParty, citizen: Somebody) -> None:
    browser, asked = house.browser(), bank.ask()
    browser.code(asked, citizen)
    asked = bank.ask()
    with statements(house) as seen:
        code = answer_of(browser.client.get(asked.url))["code"]
    # Client, login, consent; then one transaction that checks they still stand, issues and records.
    assert len(reads_before_the_transaction(seen)) <= 3 + 1, seen
    assert len(seen) <= 3 + 4, seen
    with statements(house) as seen:
        tokens = json_of(bank.redeem(code, asked))
    # One read of the client before; then redeem, the chain's head, and the rows of token and audit.
    assert len(seen) <= 1 + 4, seen
    assert seen[1].startswith("UPDATE sso_authorization_codes"), "taken before anything is issued"
    with statements(house) as seen:
        assert bank.userinfo(tokens["access_token"]).status_code == 200
    assert len(seen) <= 2, seen
