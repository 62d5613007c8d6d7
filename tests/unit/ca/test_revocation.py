"""Revoke, suspend, resume: the whole table of transitions, with audit, blocked keys and races."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ca import errors
from ca.register import IssuedCertificate, Reason, State


@pytest.fixture
def issued(room, citizen) -> IssuedCertificate:
    return room.parts.issuance.certify(room.parts.registration.apply(**citizen()), actor="test")


def state_of(room, issued: IssuedCertificate) -> tuple[State, Reason | None]:
    status = room.parts.register.status(issued.issuer, issued.serial)
    return status.state, status.reason


def bring(room, issued: IssuedCertificate, state: str) -> None:
    revocation = room.parts.revocation
    if state == "suspended":
        revocation.suspend(issued.id, actor="test")
    elif state == "revoked":
        revocation.revoke(issued.id, actor="test", reason=Reason.SUPERSEDED)
    elif state == "compromised":
        revocation.revoke(issued.id, actor="test", reason=Reason.KEY_COMPROMISE)


def act(room, issued: IssuedCertificate, what: str) -> None:
    revocation = room.parts.revocation
    if what in ("suspend", "resume"):
        getattr(revocation, what)(issued.id, actor="test")
    else:
        reason = {"unspecified": None, "superseded": Reason.SUPERSEDED, "compromise": Reason.KEY_COMPROMISE}[what]
        revocation.revoke(issued.id, actor="test", reason=reason)


HOLD = Reason.CERTIFICATE_HOLD
TABLE = [
    ("good", "unspecified", (State.REVOKED, None)),
    ("good", "superseded", (State.REVOKED, Reason.SUPERSEDED)),
    ("good", "compromise", (State.REVOKED, Reason.KEY_COMPROMISE)),
    ("good", "suspend", (State.SUSPENDED, HOLD)),
    ("good", "resume", errors.NotSuspended),
    ("suspended", "unspecified", (State.REVOKED, None)),
    ("suspended", "superseded", (State.REVOKED, Reason.SUPERSEDED)),
    ("suspended", "compromise", (State.REVOKED, Reason.KEY_COMPROMISE)),
    ("suspended", "suspend", (State.SUSPENDED, HOLD)),
    ("suspended", "resume", (State.GOOD, None)),
    ("revoked", "unspecified", errors.AlreadyRevoked),
    ("revoked", "superseded", (State.REVOKED, Reason.SUPERSEDED)),
    ("revoked", "compromise", (State.REVOKED, Reason.KEY_COMPROMISE)),
    ("revoked", "suspend", errors.AlreadyRevoked),
    ("revoked", "resume", errors.AlreadyRevoked),
    ("compromised", "compromise", (State.REVOKED, Reason.KEY_COMPROMISE)),
    ("compromised", "superseded", errors.AlreadyRevoked),
    ("compromised", "unspecified", errors.AlreadyRevoked),
    ("compromised", "suspend", errors.AlreadyRevoked),
    ("compromised", "resume", errors.AlreadyRevoked),
]


@pytest.mark.parametrize(("before", "what", "after"), TABLE)
def test_the_table_of_transitions(room, issued, before: str, what: str, after: object) -> None:
    bring(room, issued, before)
    entries, was = room.check_audit(), state_of(room, issued)
    if isinstance(after, type):
        with pytest.raises(after):
            act(room, issued, what)
        assert state_of(room, issued) == was
        assert room.check_audit() == entries
    else:
        act(room, issued, what)
        assert state_of(room, issued) == after
        blocked = after[1] is Reason.KEY_COMPROMISE and was[1] is not Reason.KEY_COMPROMISE
        assert room.check_audit() == entries + (was != after) + blocked


def test_doing_it_again_changes_nothing(room, issued) -> None:
    first = room.parts.revocation.revoke(issued.id, actor="test", reason=Reason.SUPERSEDED)
    room.clock.advance(timedelta(hours=1))
    again = room.parts.revocation.revoke(issued.id, actor="test", reason=Reason.SUPERSEDED)
    raised = room.parts.revocation.revoke(issued.id, actor="test", reason=Reason.KEY_COMPROMISE)
    assert first.status == again.status
    assert raised.status.revoked_at == first.status.revoked_at


def test_every_suspension_is_kept(room, issued) -> None:
    revocation = room.parts.revocation
    for _ in range(2):
        revocation.suspend(issued.id, actor="test")
        room.clock.advance(timedelta(days=1))
        revocation.resume(issued.id, actor="test")
        room.clock.advance(timedelta(days=1))
    suspended = revocation.suspend(issued.id, actor="test")
    first, second, third = room.parts.register.suspensions(issued.id)
    assert first.ended_at and first.began_at < first.ended_at < second.began_at
    assert third.ended_at is None and third.began_at == suspended.status.revoked_at


def test_revoked_during_suspension_counts_from_its_beginning(room, issued) -> None:
    suspended = room.parts.revocation.suspend(issued.id, actor="test")
    room.clock.advance(timedelta(days=3))
    revoked = room.parts.revocation.revoke(issued.id, actor="test", reason=Reason.PRIVILEGE_WITHDRAWN)
    assert revoked.status.revoked_at == suspended.status.revoked_at
    assert revoked.status.since > suspended.status.since
    assert room.parts.register.suspensions(issued.id)[0].ended_at is not None


def test_a_compromised_key_is_never_certified_again(room, citizen) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    issued = room.parts.issuance.certify(room.parts.registration.apply(**citizen(key)), actor="test")
    room.parts.registration.apply(**citizen(key))
    room.parts.revocation.revoke(issued.id, actor="test", reason=Reason.KEY_COMPROMISE)
    with pytest.raises(errors.KeyNotAccepted) as caught:
        room.parts.registration.apply(**citizen(key))
    assert caught.value.facts["reason"] == "key.blocked"


def test_hold_is_not_a_reason_to_revoke(room, issued) -> None:
    with pytest.raises(errors.ReasonNotAllowed):
        room.parts.revocation.revoke(issued.id, actor="test", reason=HOLD)


def test_only_some_profiles_can_be_suspended(room) -> None:
    unit = room.parts.register.certificates(profile="tsa")[0]
    with pytest.raises(errors.SuspensionNotAllowed):
        room.parts.revocation.suspend(unit.id, actor="test")


def test_what_the_register_does_not_know_cannot_be_revoked(room) -> None:
    with pytest.raises(errors.CertificateNotFound):
        room.parts.revocation.revoke("nobody", actor="test")


def test_of_many_at_once_one_revokes_and_the_others_find_it_done(room, issued) -> None:
    outcomes: list[str] = []

    def revoke(reason: Reason) -> None:
        try:
            room.parts.revocation.revoke(issued.id, actor="test", reason=reason)
            outcomes.append("done")
        except errors.AlreadyRevoked:
            outcomes.append("conflict")

    reasons = [Reason.SUPERSEDED, Reason.CESSATION_OF_OPERATION] * 4
    threads = [threading.Thread(target=revoke, args=(reason,)) for reason in reasons]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["conflict"] * 4 + ["done"] * 4
    assert room.events().count("ca:certificate:revoked") == 1
