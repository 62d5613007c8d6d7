"""Approvals: nobody approves his own request, each signature counts once and for exactly what was shown."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ca.officers import errors, keys
from ca.officers.roles import AUDITOR, CA_ADMINISTRATOR, RA_OFFICER, SECURITY_OFFICER
from ca.officers.tables import ApprovalRequestRow, ApprovalRow
from ca.settings import CaSettings, QuorumSettings
from core.database import Database
from core.errors import CodedError
from tests.support.officers import Clock, House
from tests.support.postgresql import PostgreSQL

KIND, DIGEST = "mass-revocation", "5a" * 32


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def any_house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    if request.param == "SQLite":
        url = f"sqlite:///{tmp_path / 'officers.sqlite3'}"
    else:
        server: PostgreSQL = request.getfixturevalue("postgresql_server")
        url = server.database()
    database = Database(url, pool_size=10)
    database.create_all()
    yield staffed(House(database, Clock(), CaSettings()))
    database.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    database = Database(f"sqlite:///{tmp_path / 'officers.sqlite3'}")
    database.create_all()
    yield staffed(House(database, Clock(), CaSettings()))
    database.close()


def staffed(house: House) -> House:
    """Security officers bold and saran, administrators dorj and tuya, the RA officer naran, the auditor erdene."""
    house.begin()
    house.enrol("dorj", CA_ADMINISTRATOR)
    house.enrol("tuya", CA_ADMINISTRATOR)
    house.enrol("naran", RA_OFFICER)
    house.enrol("erdene", AUDITOR)
    return house


def asked(house: House, by: str = "naran", kind: str = KIND) -> str:
    return house.approvals.request(kind, "the keys of one card", DIGEST, actor=f"officer:{by}", facts={"count": 417})


def take(house: House, request: str, **changes: str) -> None:
    wanted = {"kind": KIND, "digest": DIGEST, "actor": "officer:naran", **changes}
    with house.database.transaction() as session:
        house.approvals.take(session, request, **wanted)


def test_what_enough_others_signed_may_be_done_once(any_house: House) -> None:
    request = asked(any_house)
    any_house.approve(request, "bold")
    with pytest.raises(errors.ApprovalMissing):
        take(any_house, request)
    any_house.approve(request, "dorj")
    assert (any_house.approvals.get(request).valid, any_house.approvals.get(request).needed) == (2, 2)
    take(any_house, request)
    with pytest.raises(errors.ApprovalSpent) as caught:
        take(any_house, request)
    assert (caught.value.code, caught.value.exit_code) == ("approval_spent", 5)
    assert any_house.events()[-3:] == ["ca:approval:given", "ca:approval:given", "ca:approval:taken"]


def test_an_act_that_fails_leaves_its_approval_unused(house: House) -> None:
    request = asked(house)
    house.approve(request, "bold")
    house.approve(request, "dorj")
    with contextlib.suppress(ZeroDivisionError), house.database.transaction() as session:
        house.approvals.take(session, request, kind=KIND, digest=DIGEST, actor="officer:naran")
        raise ZeroDivisionError
    assert house.approvals.get(request).state == "open"
    take(house, request)


def test_nobody_approves_what_he_asked_for(house: House) -> None:
    request = asked(house, by="bold")
    with pytest.raises(errors.OwnRequest) as caught:
        house.approve(request, "bold")
    assert (caught.value.code, caught.value.exit_code) == ("own_request", 3)


def test_an_officer_counts_once(house: House) -> None:
    request = asked(house)
    house.approve(request, "bold")
    with pytest.raises(errors.ApprovalSigned):
        house.approve(request, "bold")
    with pytest.raises(errors.ApprovalMissing):
        take(house, request)


@pytest.mark.parametrize(
    ("kind", "deciding"),
    [
        (KIND, {"bold", "saran", "dorj", "tuya"}),
        ("ceremony", {"bold", "saran", "dorj", "tuya"}),
        ("role-change", {"bold", "saran"}),
        ("something-new", {"bold", "saran", "dorj", "tuya"}),
    ],
)
def test_only_the_roles_that_decide_a_kind_approve_it(house: House, kind: str, deciding: set[str]) -> None:
    request = asked(house, by="somebody", kind=kind)
    admitted = set()
    for name in ("bold", "saran", "dorj", "tuya", "naran", "erdene"):
        with contextlib.suppress(errors.RoleMissing):
            house.approve(request, name)
            admitted.add(name)
    assert admitted == deciding


def test_a_signature_over_something_else_is_refused(house: House) -> None:
    request, other = asked(house), asked(house)
    text = house.approvals.get(request).text
    forgeries = (
        keys.sign(house.keys["saran"], text),
        keys.sign(house.keys["bold"], house.approvals.get(other).text),
        keys.sign(house.keys["bold"], text.replace(DIGEST.encode(), b"00" * 32)),
        keys.sign(house.keys["bold"], text.replace(b"tamga approval 1", b"tamga officer authentication 1")),
        b"",
        b"\x00" * 64,
        b"\x00" * 10_000,
    )
    for forgery in forgeries:
        with pytest.raises(errors.ApprovalSignatureRefused):
            house.approvals.approve(request, house.officers.get("bold"), forgery)
    assert house.approvals.get(request).approvals == ()


def test_what_was_signed_names_the_instance_and_all_that_was_shown(house: House) -> None:
    request = house.approvals.get(asked(house))
    lines = request.text.decode().splitlines()
    assert lines[0] == "tamga approval 1"
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "instance", "request", "kind", "subject", "digest", "facts-sha256", "requester", "signatures-needed",
        "expires",
    ]  # fmt: skip
    assert lines[1] == "instance: http://127.0.0.1:8080" and lines[5] == f"digest: {DIGEST}"


@pytest.mark.parametrize("change", [{"kind": "ceremony"}, {"digest": "00" * 32}])
def test_an_approval_permits_what_was_approved_and_nothing_else(house: House, change: dict[str, str]) -> None:
    request = asked(house)
    house.approve(request, "bold")
    house.approve(request, "dorj")
    with pytest.raises(errors.ApprovalMismatch) as caught:
        take(house, request, **change)
    assert (caught.value.code, caught.value.exit_code) == ("approval_mismatch", 3)
    take(house, request)


@pytest.mark.parametrize(
    "edit",
    [
        {"digest": "00" * 32},
        {"subject": "every certificate"},
        {"facts": '{"count":1}'},
        {"requester": "officer:saran"},
        {"needed": 1},
        {"kind": "ceremony"},
    ],
)
def test_signatures_do_not_count_for_an_edited_request(house: House, edit: dict[str, Any]) -> None:
    request = asked(house)
    house.approve(request, "bold")
    house.approve(request, "dorj")
    with house.database.transaction() as session:
        row = session.get_one(ApprovalRequestRow, request)
        for name, value in edit.items():
            setattr(row, name, value)
    assert house.approvals.get(request).valid == 0
    with pytest.raises(errors.ApprovalMissing):
        take(house, request, **{name: value for name, value in edit.items() if name in ("kind", "digest")})


def test_a_planted_signature_does_not_count(house: House) -> None:
    request = asked(house)
    house.approve(request, "bold")
    with house.database.transaction() as session:
        signed = session.get_one(ApprovalRow, (request, "bold"))
        for name in ("dorj", "nobody"):
            session.add(
                ApprovalRow(
                    request_id=request,
                    officer=name,
                    key_sha256=signed.key_sha256,
                    signature=signed.signature,
                    approved_at=signed.approved_at,
                )
            )
    assert [(each.officer, each.counts) for each in house.approvals.get(request).approvals] == [
        ("bold", True), ("dorj", False), ("nobody", False),
    ]  # fmt: skip
    with pytest.raises(errors.ApprovalMissing):
        take(house, request)


def test_a_signature_counts_only_while_its_officer_is_one(house: House) -> None:
    changes: tuple[dict[str, Any], ...] = ({"active": False}, {"roles": frozenset({RA_OFFICER})})
    for change, name in zip(changes, ("dorj", "tuya"), strict=True):
        request = asked(house)
        house.approve(request, "bold")
        house.approve(request, name)
        assert house.approvals.get(request).valid == 2
        house.change(replace(house.officers.get(name), **change))
        with pytest.raises(errors.ApprovalMissing) as caught:
            take(house, request)
        assert caught.value.facts == {"needed": 2, "valid": 1}


def test_a_signature_by_a_key_that_was_replaced_does_not_count(house: House) -> None:
    request = asked(house)
    house.approve(request, "bold")
    house.approve(request, "dorj")
    house.change(house.candidate("dorj", CA_ADMINISTRATOR))
    assert house.approvals.get(request).valid == 1


def test_a_rejected_request_is_closed(house: House) -> None:
    request = asked(house)
    house.approve(request, "bold")
    house.approvals.reject(request, house.officers.get("dorj"), reason="not these cards")
    for act in (lambda: house.approve(request, "saran"), lambda: take(house, request)):
        with pytest.raises(errors.ApprovalRejected):
            act()
    found = house.approvals.get(request)
    assert (found.state, found.closed_by, found.reason) == ("rejected", "officer:dorj", "not these cards")


def test_a_requester_may_withdraw_and_a_bystander_may_not_reject(house: House) -> None:
    request = asked(house)
    with pytest.raises(errors.RoleMissing):
        house.approvals.reject(request, house.officers.get("erdene"), reason="no")
    with pytest.raises(errors.ApprovalTextRefused):
        house.approvals.reject(request, house.officers.get("naran"), reason="two\nlines")
    house.approvals.reject(request, house.officers.get("naran"), reason="a mistake")
    assert house.approvals.get(request).state == "rejected"


def test_a_request_ends_with_its_term(house: House) -> None:
    request = asked(house)
    house.approve(request, "bold")
    house.approve(request, "dorj")
    house.clock.moment += timedelta(days=7)
    with pytest.raises(errors.ApprovalExpired) as caught:
        take(house, request)
    assert (caught.value.code, caught.value.exit_code) == ("approval_expired", 3)
    with pytest.raises(errors.ApprovalExpired):
        house.approve(request, "saran")
    assert [each.id for each in house.approvals.all(state="expired")] == [request]
    assert house.approvals.all(state="open") == ()


def test_requests_are_listed_by_state_and_kind(house: House) -> None:
    first, second = asked(house), asked(house, kind="ceremony")
    assert [each.id for each in house.approvals.all(state="open")] == [second, first]
    assert [each.id for each in house.approvals.all(kind="ceremony")] == [second]
    assert {each.kind for each in house.approvals.all(state="taken")} == {"role-change"}
    with pytest.raises(errors.ApprovalNotFound) as caught:
        house.approvals.get("nothing")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("kind", "subject", "digest", "facts"),
    [
        ("", "s", "d", {}),
        ("k" * 41, "s", "d", {}),
        ("k", "two\nlines", "d", {}),
        ("k", "s", "d" * 129, {}),
        ("k", "s", "d", {"long": "x" * 20_000}),
    ],
)
def test_what_cannot_be_shown_cannot_be_asked(
    house: House, kind: str, subject: str, digest: str, facts: dict[str, str | int]
) -> None:
    with pytest.raises(errors.ApprovalTextRefused):
        house.approvals.request(kind, subject, digest, actor="officer:naran", facts=facts)


def test_the_quorum_is_the_settings_and_never_nobody(tmp_path: Path) -> None:
    quorum = QuorumSettings(mass_revocation=3)
    assert [quorum.of(kind) for kind in (KIND, "role-change", "ceremony", "else", "of", "__init__")] == [
        3,
        1,
        2,
        1,
        1,
        1,
    ]
    for wrong in (0, 11):
        with pytest.raises(ValueError, match="quorum"):
            QuorumSettings(other=wrong)


def test_a_request_under_a_smaller_quorum_is_not_approved(house: House) -> None:
    """As somebody might ask who sets the quorum for his own process only."""
    careless = House(house.database, house.clock, CaSettings(quorum=QuorumSettings(mass_revocation=1)))
    request = asked(careless)
    with pytest.raises(errors.ApprovalMismatch):
        house.approve(request, "bold")
    # What was asked for under a larger one keeps it.
    request = asked(house)
    house.approve(request, "bold")
    with pytest.raises(errors.ApprovalMissing) as caught:
        take(careless, request)
    assert caught.value.facts == {"needed": 2, "valid": 1}


@pytest.mark.parametrize("base_url", ["http://localhost:8080", "http://pki.example.mn"])
def test_only_a_development_instance_does_without_officers(tmp_path: Path, base_url: str) -> None:
    database = Database(f"sqlite:///{tmp_path / 'empty.sqlite3'}")
    database.create_all()
    house = House(database, Clock(), CaSettings(base_url=base_url))
    request = asked(house)
    if "localhost" in base_url:
        take(house, request)
        with pytest.raises(errors.ApprovalSpent):
            take(house, request)
    else:
        with pytest.raises(errors.ApprovalMissing):
            take(house, request)
    database.close()


# Races -----------------------------------------------------------------------------------------------------------


def at_once(*acts: Callable[[], object]) -> list[str]:
    """Runs the acts together; what each came to."""
    outcomes: list[str] = []
    barrier = threading.Barrier(len(acts))

    def run(act: Callable[[], object]) -> None:
        barrier.wait()
        try:
            act()
            outcomes.append("done")
        except CodedError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(outcomes)


def test_of_many_that_take_an_approval_one_gets_it(any_house: House) -> None:
    request = asked(any_house)
    any_house.approve(request, "bold")
    any_house.approve(request, "dorj")
    assert at_once(*[lambda: take(any_house, request)] * 6) == ["approval_spent"] * 5 + ["done"]
    assert any_house.events().count("ca:approval:taken") == 1 + 4  # and four officers were enrolled


def test_officers_who_approve_at_once_each_count_once(any_house: House) -> None:
    request = asked(any_house)
    names = ["bold", "saran", "dorj"] * 2
    outcomes = at_once(*[lambda name=name: any_house.approve(request, name) for name in names])  # type: ignore[misc]
    assert outcomes == ["approval_signed"] * 3 + ["done"] * 3
    assert any_house.approvals.get(request).valid == 3


def test_two_changes_at_once_do_not_leave_too_few_security_officers(any_house: House) -> None:
    any_house.enrol("gerel", SECURITY_OFFICER)
    requests = []
    for name in ("gerel", "saran"):
        wanted = replace(any_house.officers.get(name), active=False)
        requests.append(any_house.changes.propose(wanted, actor="officer:nobody"))
        any_house.approve(requests[-1], "bold")
    outcomes = at_once(*[lambda one=one: any_house.changes.apply(one, actor="officer:bold") for one in requests])  # type: ignore[misc]
    assert outcomes == ["done", "too_few_security_officers"]


def test_the_first_officers_are_enrolled_once_even_at_once(tmp_path: Path, postgresql_server: PostgreSQL) -> None:
    database = Database(postgresql_server.database())
    database.create_all()
    house = House(database, Clock(), CaSettings())
    pairs = [[house.candidate(f"{name}{pair}") for name in ("bold", "saran")] for pair in range(3)]
    outcomes = at_once(*[lambda first=first: house.changes.bootstrap(first, actor="root") for first in pairs])  # type: ignore[misc]
    assert outcomes == ["done", "officers_enrolled", "officers_enrolled"]
    assert len(house.officers.all()) == 2
    database.close()
