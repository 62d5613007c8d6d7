"""Every change of status leaves an event that is settled by a CRL that shows it, and nothing piles up."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from ca import errors
from ca.mass_revocation import MassRevocation
from ca.register import Filters, Reason
from ca.revocation_list import entries_of
from ca.selection import Action, Selector
from ca.status_changes import KIND, STANDSTILL, Round
from core.outbox import OutboxEntry
from tests.support.simulated_register import fill

ISSUER = "citizen-sign-g1"


@pytest.fixture
def issued(room, citizen):
    return room.parts.issuance.certify(room.parts.registration.apply(**citizen()), actor="test")


def waiting(room) -> int:
    query = select(func.count()).select_from(OutboxEntry).where(OutboxEntry.state == "waiting")
    with room.database.reading() as session:
        return int(session.scalar(query) or 0)


def listed(room) -> list[int]:
    return [entry.serial for entry in entries_of(room.parts.crls.current(ISSUER).der)]


def test_an_event_tells_what_changed(room, issued) -> None:
    room.parts.revocation.suspend(issued.id, actor="test")
    room.parts.revocation.revoke(issued.id, actor="test", reason=Reason.SUPERSEDED)
    with room.database.reading() as session:
        entries = session.scalars(select(OutboxEntry).order_by(OutboxEntry.created_at)).all()
    assert {entry.kind for entry in entries} == {KIND}
    bodies = [json.loads(entry.body) for entry in entries]
    assert [(body["state"], body["reason"]) for body in bodies] == [("suspended", 6), ("revoked", 4)]
    assert {(body["issuer"], body["serial"], body["certificate"]) for body in bodies} == {
        (ISSUER, issued.serial_text, issued.id)
    }


def test_a_change_that_nobody_published_stands_in_a_crl_after_the_next_round(room, issued) -> None:
    room.parts.revocation.revoke(issued.id, actor="test")
    assert listed(room) == []
    assert room.parts.status_changes.run() == Round(settled=1, waiting=0, published=(ISSUER,), deleted=0)
    assert listed(room) == [issued.serial] and waiting(room) == 0
    assert room.parts.status_changes.run() == Round(0, 0, (), 0)


def test_a_change_that_was_published_is_settled_without_another_crl(room, issued) -> None:
    room.parts.revocation.revoke(issued.id, actor="test")
    published = room.parts.crls.publish(ISSUER, actor="test")
    assert room.parts.status_changes.run().published == ()
    assert room.parts.crls.current(ISSUER) == published and waiting(room) == 0


def test_a_crl_that_missed_the_change_by_a_moment_is_followed_by_one_that_shows_it(room, issued) -> None:
    # The list reads the register while the revocation, dated a moment before, is not committed yet.
    before = room.clock.moment
    room.clock.advance(timedelta(seconds=1))
    room.parts.crls.publish(ISSUER, actor="test")
    after, room.clock.moment = room.clock.moment, before
    room.parts.revocation.revoke(issued.id, actor="test")
    room.clock.moment = after
    assert room.parts.crls.published_at(ISSUER) > before and listed(room) == []
    assert room.parts.status_changes.run().published == (ISSUER,)
    assert listed(room) == [issued.serial]


def test_a_crl_that_fails_is_tried_again(room, issued, monkeypatch) -> None:
    room.parts.revocation.revoke(issued.id, actor="test")

    def broken(*_: object, **__: object) -> None:
        raise errors.SignatureRefused("broken")

    with monkeypatch.context() as patch:
        patch.setattr(room.parts.crls, "publish", broken)
        assert room.parts.status_changes.run() == Round(settled=0, waiting=1, published=(), deleted=0)
    assert room.parts.status_changes.run() == Round(0, 0, (), 0)
    room.clock.advance(timedelta(seconds=11))
    assert room.parts.status_changes.run().published == (ISSUER,)
    assert listed(room) == [issued.serial]


def test_a_root_signs_on_an_explicit_command_only(room) -> None:
    before = room.parts.crls.current("root-g1")
    room.parts.revocation.revoke(room.parts.hierarchy.authority("seal-g1").certificate_id, actor="test")
    assert room.parts.status_changes.run() == Round(settled=1, waiting=0, published=(), deleted=0)
    assert room.parts.crls.current("root-g1") == before


def test_settled_events_are_deleted_after_a_week(room, issued) -> None:
    room.parts.revocation.revoke(issued.id, actor="test")
    room.parts.status_changes.run()
    room.clock.advance(timedelta(days=6))
    assert room.parts.status_changes.run().deleted == 0
    room.clock.advance(timedelta(days=2))
    assert room.parts.status_changes.run().deleted == 1


def test_events_of_others_are_left_alone(room) -> None:
    from core.outbox import Outbox

    with room.database.transaction() as session:
        Outbox(room.clock).enqueue(session, kind="webhook", destination="https://rp.example/", body={})
    room.clock.advance(timedelta(days=400))
    assert room.parts.status_changes.run() == Round(0, 0, (), 0)
    assert waiting(room) == 1


def test_a_mass_revocation_publishes_itself_and_one_that_died_is_published_after_ten_minutes(room, issued) -> None:
    fill(room.database, 20, issuer=ISSUER, now=room.clock(), der=issued.der)
    mass: MassRevocation = room.parts.mass_revocation
    mass._batch = 10
    plan = mass.plan(Selector(filters=Filters(issuer=ISSUER)), Action.REVOKE, actor="test")
    with pytest.raises(errors.MassRevocationUnfinished):
        mass.execute(plan.id, actor="test", batches=1)
    assert room.parts.status_changes.run() == Round(settled=1, waiting=0, published=(), deleted=0)
    assert listed(room) == []
    room.clock.advance(STANDSTILL)
    assert room.parts.status_changes.run().published == (ISSUER,)
    assert len(listed(room)) == 10
    assert room.parts.status_changes.run().published == ()
    mass.execute(plan.id, actor="test")
    assert len(listed(room)) == 21
    assert room.parts.status_changes.run().published == ()
