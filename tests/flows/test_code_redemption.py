"""A code is redeemed once, however many ask at the same moment; and who asked too late ends what came of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

from tests.support.relying_party import Login, RelyingParty, describe
from tests.support.web import Answer
from tests.support.world import World

AT_ONCE = 50


def redeem_at_once(bank: RelyingParty, code: str, login: Login) -> list[Answer]:
    start = Barrier(AT_ONCE)
    parties = [replace(bank) for _ in range(AT_ONCE)]

    def redeem(party: RelyingParty) -> Answer:
        start.wait()
        return party.redeem(code, login.verifier)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(redeem, parties))
    for party in parties:
        party.http.close()
    return answers


def test_of_fifty_parallel_redemptions_exactly_one_succeeds(world: World) -> None:
    login = world.bank.begin()
    code = world.bank.code(login, world.citizen.authorize(login.url))
    answers = redeem_at_once(world.bank, code, login)
    succeeded = [answer for answer in answers if answer.status == 200]
    assert len(succeeded) == 1, [describe(answer) for answer in answers][:5]
    refused = [answer for answer in answers if answer.status != 200]
    assert {(answer.status, answer.json()["error"]) for answer in refused} == {(400, "invalid_grant")}
    # RFC 6749 4.1.2: what was given for a code that somebody else tries too is revoked.
    assert world.bank.userinfo(succeeded[0].json()["access_token"]).status == 401


def test_a_client_with_a_secret_is_served_too(world: World) -> None:
    login = world.agency.begin()
    code = world.agency.code(login, world.citizen.authorize(login.url))
    answer = world.agency.redeem(code, login.verifier)
    assert answer.status == 200, describe(answer)
    tokens = answer.json()
    claims = world.agency.verified(tokens["id_token"], login, tokens["access_token"])
    # Two organisations cannot compare notes: each knows the citizen by another name (OIDC Core 8.1).
    assert claims["sub"] != world.subject


def test_a_code_is_bound_to_its_verifier(world: World) -> None:
    login = world.bank.begin()
    code = world.bank.code(login, world.citizen.authorize(login.url))
    answer = world.bank.redeem(code, "another-verifier-that-nobody-hashed-into-the-request")
    assert (answer.status, answer.json()["error"]) == (400, "invalid_grant")


def test_a_code_of_one_client_is_nothing_to_another(world: World) -> None:
    login = world.bank.begin()
    code = world.bank.code(login, world.citizen.authorize(login.url))
    answer = world.agency.redeem(code, login.verifier)
    assert (answer.status, answer.json()["error"]) == (400, "invalid_grant")
