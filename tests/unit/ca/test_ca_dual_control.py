"""Acts on authorities outside of ceremonies: asked for by one officer, approved by two others, done once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ca import errors
from ca.dual_control import Act
from ca.officers.errors import ApprovalMismatch, ApprovalMissing, ApprovalSpent
from tests.support.officers import House

ADMINISTRATOR = "officer:dorj"
RETIRE = Act("retire", "seal-g1", {"last_crl": "no"})


@pytest.fixture
def house(room) -> House:
    """Two security officers and a CA administrator."""
    house = House(room.database, room.clock, room.parts.settings)
    house.begin()
    house.enrol("dorj", "ca-administrator")
    return house


@pytest.fixture
def retire(room) -> Callable[[str | None, Act], None]:
    def run(request: str | None, act: Act = RETIRE) -> None:
        permit = room.parts.dual_control.permit(act, request, actor=ADMINISTRATOR)
        room.parts.retirement.retire(act.authority, actor=ADMINISTRATOR, without_successor=True, permit=permit)

    return run


def is_retired(room, slug: str = "seal-g1") -> bool:
    return any(each.slug == slug and each.retired_at is not None for each in room.parts.hierarchy.authorities())


def test_an_authority_is_retired_with_the_approval_of_two_others(room, house: House, retire) -> None:
    with pytest.raises(ApprovalMissing):
        retire(None)
    request = room.parts.dual_control.ask(RETIRE, actor=ADMINISTRATOR)
    for name in ("bold", "saran"):
        with pytest.raises(ApprovalMissing):
            retire(request)
        assert not is_retired(room)
        house.approve(request, name)
    retire(request)
    assert is_retired(room)


def test_an_approval_permits_one_act_and_no_other(room, house: House, retire) -> None:
    request = room.parts.dual_control.ask(RETIRE, actor=ADMINISTRATOR)
    for name in ("bold", "saran"):
        house.approve(request, name)
    for other in (Act("retire", "tls-g1", {"last_crl": "no"}), Act("retire", "tls-g1", {"last_crl": "yes"})):
        with pytest.raises(ApprovalMismatch):
            retire(request, other)
    serve = Act("serve-chain", "seal-g1", {"chain": "own"})
    permit = room.parts.dual_control.permit(serve, request, actor=ADMINISTRATOR)
    with pytest.raises(ApprovalMismatch):
        room.parts.subordination.serve("seal-g1", None, actor=ADMINISTRATOR, permit=permit)
    retire(request)
    again = room.parts.dual_control.permit(RETIRE, request, actor=ADMINISTRATOR)
    with pytest.raises(ApprovalSpent):
        room.parts.subordination.request("tls-g1", actor=ADMINISTRATOR, permit=again)
    assert not is_retired(room, "tls-g1")


def test_without_approval_no_key_signs_a_request(room, house: House) -> None:
    act = Act("request-certificate", "seal-g1")
    before = room.events()
    with pytest.raises(ApprovalMissing):
        room.parts.subordination.request(
            "seal-g1", actor=ADMINISTRATOR, permit=room.parts.dual_control.permit(act, None, actor=ADMINISTRATOR)
        )
    assert room.events() == before


def test_a_development_instance_without_officers_asks_nobody(room, retire) -> None:
    retire(None)
    assert is_retired(room)
    with pytest.raises(errors.AuthorityRetired):
        room.parts.hierarchy.check_in_force("seal-g1")
