"""Passwords: right and wrong, a bounded number of hashes at a time, and nothing told about who exists."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from argon2 import PasswordHasher, extract_parameters

from core.errors import Unavailable
from core.passwords import NOBODY, Passwords


@pytest.fixture(scope="module")
def passwords() -> Passwords:
    return Passwords()


def test_the_right_secret_is_right_and_no_other(passwords: Passwords) -> None:
    encoded = passwords.hash("нууц Ү")
    assert passwords.verify(encoded, "нууц Ү")
    for wrong in ("нууц ү", "нууц Ү ", "", "\ud800"):
        assert not passwords.verify(encoded, wrong)


def test_a_hash_says_argon2id_with_the_floor_of_the_cheat_sheet(passwords: Passwords) -> None:
    encoded = passwords.hash("x")
    assert encoded.startswith("$argon2id$")
    parameters = extract_parameters(encoded)
    assert (parameters.time_cost, parameters.memory_cost, parameters.parallelism) == (2, 19 * 1024, 1)


def test_the_same_secret_never_gives_the_same_hash(passwords: Passwords) -> None:
    assert passwords.hash("x") != passwords.hash("x")


@pytest.mark.parametrize("encoded", ["", "plain", "$argon2id$v=19$m=19456,t=2,p=1$bad", "$2b$12$" + "a" * 53])
def test_what_is_no_hash_matches_nothing(passwords: Passwords, encoded: str) -> None:
    assert not passwords.verify(encoded, encoded)


def test_a_hash_of_weaker_parameters_is_outdated_and_one_of_todays_is_not(passwords: Passwords) -> None:
    weaker = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("x")
    assert passwords.verify(weaker, "x")
    assert passwords.outdated(weaker)
    assert not passwords.outdated(passwords.hash("x"))


def test_nobodys_hash_costs_what_anybodys_does(passwords: Passwords) -> None:
    mine, nobodys = extract_parameters(passwords.hash("x")), extract_parameters(NOBODY)
    assert mine == nobodys
    passwords.spend("x")
    assert not passwords.verify(NOBODY, "")


def test_when_every_slot_is_taken_the_next_caller_is_told_to_come_later() -> None:
    passwords = Passwords(slots=1, patience=0.01)
    inside, leave = threading.Event(), threading.Event()

    def occupy() -> bool:
        inside.set()
        return leave.wait(30)

    with ThreadPoolExecutor(1) as pool:
        occupant = pool.submit(passwords._slotted, occupy)
        inside.wait(30)
        for act in (passwords.hash, passwords.spend):
            with pytest.raises(Unavailable):
                act("x")
        leave.set()
        assert occupant.result()
    assert passwords.verify(passwords.hash("x"), "x")


def test_a_failure_gives_its_slot_back() -> None:
    passwords = Passwords(slots=1, patience=0.01)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            passwords._slotted(lambda: 1 // 0)
    assert passwords.hash("x")
