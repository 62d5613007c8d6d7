"""Whoever is killed while issuing, at whichever point: nothing exists that the register does not know of."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import event, select

from ca import to_be_signed
from ca.register import State
from ca.tables import CertificateRow, IntentRow


class Killed(BaseException):
    """The process ends here: no handler for mere errors sees it."""


def killing(function):
    """Do the step, then end."""

    def step(*args, **kwargs):
        function(*args, **kwargs)
        raise Killed

    return step


def kill_after(room, monkeypatch, point: str) -> None:
    issuance, linter = room.parts.issuance, room.parts.linter
    places = {
        "validated": (issuance, "_period"),
        "serial drawn": (issuance, "_draw_serial"),
        "built": (to_be_signed, "certificate_tbs"),
        "linted": (linter, "check_to_be_signed"),
        "being recorded": (issuance, "_pin_profile"),
        "recorded": (issuance, "_record"),
        "signed": (to_be_signed, "sign"),
        "verified": (to_be_signed, "verify"),
        "being stored": (issuance, "_enter"),
    }
    place, name = places[point]
    step = getattr(place, name)
    deadly = killing(step)
    if point == "signed":  # by the token, not by the linter's throw-away key
        monkeypatch.setattr(place, name, lambda key, tbs: (deadly if from_token(key) else step)(key, tbs))
    else:
        monkeypatch.setattr(place, name, deadly)


def from_token(key) -> bool:
    return type(key).__module__.startswith("hsm.")


def dying_after_commit(session, _certificate) -> None:
    event.listen(session, "after_commit", killing(lambda _session: None), once=True)


def intents(room) -> list[IntentRow]:
    with room.database.reading() as session:
        return list(session.scalars(select(IntentRow).where(IntentRow.profile == "citizen-signature")))


def certificates(room) -> list[CertificateRow]:
    with room.database.reading() as session:
        return list(session.scalars(select(CertificateRow).where(CertificateRow.profile == "citizen-signature")))


@pytest.fixture
def sign_counted(monkeypatch) -> list[bytes]:
    """Everything that the token signed."""
    signed: list[bytes] = []
    original = to_be_signed.sign

    def sign(key, tbs: bytes) -> bytes:
        if from_token(key):
            signed.append(tbs)
        return original(key, tbs)

    monkeypatch.setattr(to_be_signed, "sign", sign)
    return signed


BEFORE = ("validated", "serial drawn", "built", "linted", "being recorded")
AFTER = ("recorded", "signed", "verified", "being stored")


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("point", BEFORE)
def test_before_the_intent_is_recorded_nothing_was_signed(
    room, citizen, monkeypatch, sign_counted, point: str, count: int
) -> None:
    applications = [room.parts.registration.apply(**citizen()) for _ in range(count)]
    entries = room.check_audit()
    with monkeypatch.context() as patched:
        kill_after(room, patched, point)
        with pytest.raises(Killed):
            room.parts.issuance.certify_many(applications, actor="test")
    assert not sign_counted and not intents(room) and not certificates(room)
    assert room.check_audit() == entries
    assert room.parts.recovery.settle(min_age=timedelta(0)).withdrawn == 0


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("point", AFTER)
def test_after_the_intent_is_recorded_recovery_withdraws_it_and_its_serial_counts_as_revoked(
    room, citizen, monkeypatch, point: str, count: int
) -> None:
    applications = [room.parts.registration.apply(**citizen()) for _ in range(count)]
    with monkeypatch.context() as patched:
        kill_after(room, patched, point)
        with pytest.raises(Killed):
            room.parts.issuance.certify_many(applications, actor="test")
    assert [row.state for row in intents(room)] == ["signing"] * count
    assert room.parts.recovery.settle().withdrawn == 0, "a living issuance is left in peace"
    room.clock.advance(timedelta(seconds=61))
    assert room.parts.recovery.settle().withdrawn == count
    assert [row.state for row in intents(room)] == ["withdrawn"] * count and not certificates(room)
    for row in intents(room):
        status = room.parts.register.status(row.issuer, int.from_bytes(row.serial, "big"))
        assert status is not None and status.state is State.REVOKED
    room.check_audit()
    assert room.events().count("ca:intent:withdrawn") == count


@pytest.mark.parametrize("count", [1, 3])
def test_after_the_certificate_is_stored_it_is_issued_whatever_becomes_of_the_reply(room, citizen, count: int) -> None:
    applications = [room.parts.registration.apply(**citizen()) for _ in range(count)]
    with pytest.raises(Killed):
        room.parts.issuance.certify_many(applications, actor="test", entering=dying_after_commit)
    room.clock.advance(timedelta(seconds=61))
    assert room.parts.recovery.settle().withdrawn == 0
    assert [row.state for row in intents(room)] == ["issued"] * count
    stored = certificates(room)
    assert len(stored) == count
    for row in stored:
        assert room.openssl_verify(row.der).returncode == 0
    room.check_audit()


@pytest.mark.parametrize("point", ["being recorded", "recorded", "being stored"])
def test_a_prepared_intent_is_settled_too(room, citizen, monkeypatch, point: str) -> None:
    application = room.parts.registration.apply(**citizen())
    with monkeypatch.context() as patched:
        kill_after(room, patched, point)
        with pytest.raises(Killed):
            room.parts.issuance.issue(room.parts.issuance.prepare(application, actor="test"), actor="test")
    room.clock.advance(timedelta(seconds=61))
    room.parts.recovery.settle()
    assert not {row.state for row in intents(room)} & {"prepared", "signing"}
    assert not certificates(room)


def test_an_issuance_that_recovery_took_for_dead_releases_nothing(room, citizen, monkeypatch) -> None:
    from ca import errors

    application = room.parts.registration.apply(**citizen())
    original = to_be_signed.verify

    def slow(*args):
        room.clock.advance(timedelta(seconds=61))
        room.parts.recovery.settle()
        return original(*args)

    monkeypatch.setattr(to_be_signed, "verify", slow)
    with pytest.raises(errors.IntentSpent):
        room.parts.issuance.certify(application, actor="test")
    assert not certificates(room) and [row.state for row in intents(room)] == ["withdrawn"]
