"""A crash at any step leaves nothing that the register does not know of."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509

from ca import errors
from ca.issuance import Issuance
from ca.recovery import Settled
from ca.register import Reason, State
from ca.serial_number import SerialNumber

NOW = timedelta(0)


class PowerCut(Exception):
    """The process ends here."""


def prepared(room, citizen):
    return room.parts.issuance.prepare(room.parts.registration.apply(**citizen()), actor="test")


def crash(monkeypatch: pytest.MonkeyPatch, step: str, *, after: bool) -> None:
    original = getattr(Issuance, step)

    def cut(*args: object, **kwargs: object) -> object:
        if after:
            original(*args, **kwargs)
        raise PowerCut

    monkeypatch.setattr(Issuance, step, cut)


def test_an_intent_that_was_never_signed_is_abandoned(room, citizen) -> None:
    intent = prepared(room, citizen)
    assert room.parts.recovery.settle(min_age=NOW) == Settled(abandoned=1, withdrawn=0)
    with pytest.raises(errors.IntentSpent):
        room.parts.issuance.issue(intent, actor="test")
    assert room.parts.register.status(intent.issuer, intent.serial) is None
    assert room.events()[-1] == "ca:intent:abandoned"


@pytest.mark.parametrize(("step", "after"), [("_take", True), ("_sign", False), ("_sign", True), ("_enter", False)])
def test_an_intent_that_may_have_been_signed_is_withdrawn_and_counts_as_revoked(
    room, citizen, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    intent = prepared(room, citizen)
    crash(monkeypatch, step, after=after)
    with pytest.raises(PowerCut):
        room.parts.issuance.issue(intent, actor="test")
    monkeypatch.undo()
    assert room.parts.recovery.settle(min_age=NOW) == Settled(abandoned=0, withdrawn=1)
    status = room.parts.register.status(intent.issuer, intent.serial)
    assert status is not None
    assert (status.state, status.reason) == (State.REVOKED, Reason.CESSATION_OF_OPERATION)
    crl = x509.load_der_x509_crl(room.parts.crls.publish(intent.issuer, actor="test").der)
    assert [entry.serial_number for entry in crl] == [intent.serial]
    room.check_audit()


def test_a_crash_inside_the_entering_transaction_leaves_no_certificate(room, citizen) -> None:
    intent = prepared(room, citizen)

    def cut(*_: object) -> None:
        raise PowerCut

    with pytest.raises(PowerCut):
        room.parts.issuance.issue(intent, actor="test", entering=cut)
    with pytest.raises(errors.CertificateNotFound):
        room.parts.register.by_serial(SerialNumber(intent.serial))
    assert room.parts.recovery.settle(min_age=NOW) == Settled(abandoned=0, withdrawn=1)
    assert room.events()[-1] != "ca:certificate:issued"


def test_an_issuance_overtaken_by_recovery_releases_nothing(room, citizen, monkeypatch: pytest.MonkeyPatch) -> None:
    intent = prepared(room, citizen)
    original = Issuance._sign

    def slow(*args: object) -> bytes:
        room.parts.recovery.settle(min_age=NOW)
        return original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(Issuance, "_sign", slow)
    with pytest.raises(errors.IntentSpent):
        room.parts.issuance.issue(intent, actor="test")
    with pytest.raises(errors.CertificateNotFound):
        room.parts.register.get(intent.id)
    assert room.parts.register.status(intent.issuer, intent.serial).state is State.REVOKED


def test_what_was_issued_and_what_is_young_is_left_alone(room, citizen) -> None:
    issued = room.parts.issuance.certify(room.parts.registration.apply(**citizen()), actor="test")
    prepared(room, citizen)
    assert room.parts.recovery.settle() == Settled(0, 0)
    room.clock.advance(timedelta(seconds=61))
    assert room.parts.recovery.settle() == Settled(abandoned=1, withdrawn=0)
    assert room.parts.recovery.settle() == Settled(0, 0)
    assert room.parts.register.get(issued.id).status.state is State.GOOD
