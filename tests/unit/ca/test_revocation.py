"""Revoke, suspend, resume: the whole table of transitions, with audit, blocked keys and races."""

from __future__ import annotations

import itertools
import secrets
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import func, select

from ca import errors
from ca.register import IssuedCertificate, Reason, Register, State
from ca.revocation import Revocation
from core.audit import AuditEntry, AuditLog, export, verify
from core.database import Database
from core.errors import CodedError
from core.outbox import Outbox, OutboxEntry
from tests.support.postgresql import PostgreSQL
from tests.support.simulated_register import fill
from tests.unit.ca.conftest import MovableClock


@dataclass(frozen=True)
class Books:
    """A register without anything around it, on one of the databases."""

    database: Database
    clock: MovableClock
    revocation: Revocation

    def certificate(self, before: str = "good") -> str:
        """The id of a new certificate in this state."""
        made = str(uuid.uuid4())
        fill(self.database, 1, issuer="citizen-sign-g1", now=self.clock(), der=b"", id=made)
        if before != "good":
            act(self, made, {"suspended": "suspend", "revoked": "superseded", "compromised": "compromise"}[before])
        return made

    def status(self, certificate_id: str) -> tuple[State, Reason | None]:
        status = Register(self.database).get(certificate_id).status
        return status.state, status.reason

    def entries(self) -> Counter[str]:
        """How many audit entries there are of each event."""
        query = select(AuditEntry.event, func.count()).group_by(AuditEntry.event)
        with self.database.reading() as session:
            return Counter({state: int(count) for state, count in session.execute(query)})

    def outbox(self) -> int:
        """How many events wait to be heard."""
        with self.database.reading() as session:
            return int(session.scalar(select(func.count()).select_from(OutboxEntry)) or 0)


@pytest.fixture(params=["SQLite", "PostgreSQL"], scope="module")
def books(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    if request.param == "SQLite":
        url = f"sqlite:///{tmp_path_factory.mktemp('books') / 'tamga.sqlite'}"
    else:
        server: PostgreSQL = request.getfixturevalue("postgresql_server")
        url = server.database()
    database, clock = Database(url), MovableClock()
    database.create_all()
    yield Books(
        database, clock, Revocation(database=database, audit=AuditLog(clock), outbox=Outbox(clock), clock=clock)
    )
    with database.reading() as session:
        verify(export(session))  # whatever raced, the chain never forked
    database.close()


@pytest.fixture
def issued(room, citizen) -> IssuedCertificate:
    return room.parts.issuance.certify(room.parts.registration.apply(**citizen()), actor="test")


def act(books: Books, certificate_id: str, what: str) -> None:
    if what in ("suspend", "resume"):
        getattr(books.revocation, what)(certificate_id, actor="test")
    else:
        reason = {"unspecified": None, "superseded": Reason.SUPERSEDED, "compromise": Reason.KEY_COMPROMISE}[what]
        books.revocation.revoke(certificate_id, actor="test", reason=reason)


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
def test_the_table_of_transitions(books: Books, before: str, what: str, after: object) -> None:
    certificate = books.certificate(before)
    entries, heard, was = books.entries(), books.outbox(), books.status(certificate)
    if isinstance(after, type):
        with pytest.raises(after):
            act(books, certificate, what)
        assert books.status(certificate) == was
        assert (books.entries(), books.outbox()) == (entries, heard)
    else:
        act(books, certificate, what)
        assert books.status(certificate) == after
        blocked = after[1] is Reason.KEY_COMPROMISE and was[1] is not Reason.KEY_COMPROMISE
        assert (books.entries() - entries).total() == (was != after) + blocked
        assert books.outbox() == heard + (was != after)


ACTS = ("suspend", "resume", "unspecified", "superseded", "compromise")
RACES = [
    (before, one, other)
    for before in ("good", "suspended", "revoked")
    for one, other in itertools.combinations_with_replacement(ACTS, 2)
]


def outcome(books: Books, certificate: str, what: str) -> str:
    try:
        act(books, certificate, what)
    except CodedError as error:
        return error.code
    return "done"


@pytest.mark.parametrize(("before", "one", "other"), RACES)
def test_of_two_acts_at_once_one_comes_after_the_other(books: Books, before: str, one: str, other: str) -> None:
    in_turn = set()
    for turned in (False, True):
        certificate = books.certificate(before)
        outcomes = [outcome(books, certificate, what) for what in ((other, one) if turned else (one, other))]
        in_turn.add((*(reversed(outcomes) if turned else outcomes), books.status(certificate)))
    certificate, start = books.certificate(before), threading.Barrier(2)

    def racing(what: str) -> str:
        start.wait()
        return outcome(books, certificate, what)

    with ThreadPoolExecutor(2) as pool:
        raced = list(pool.map(racing, (one, other)))
    assert (*raced, books.status(certificate)) in in_turn


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


def test_of_many_at_once_one_revokes_and_the_others_find_it_done(books: Books) -> None:
    certificate, before = books.certificate(), books.entries()
    reasons = ["superseded", "unspecified"] * 4
    with ThreadPoolExecutor(len(reasons)) as pool:
        outcomes = list(pool.map(lambda what: outcome(books, certificate, what), reasons))
    assert sorted(outcomes) == ["already_revoked"] * 4 + ["done"] * 4
    assert books.entries() - before == {"ca:certificate:revoked": 1}


def test_of_two_certificates_with_one_compromised_key_both_are_revoked_and_the_key_is_blocked_once(
    books: Books,
) -> None:
    key, before = secrets.token_bytes(32), books.entries()
    certificates = [str(uuid.uuid4()) for _ in range(4)]
    for each in certificates:
        now = books.clock()
        fill(books.database, 1, issuer="citizen-sign-g1", now=now, der=b"", id=each, spki_sha256=key)
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda each: outcome(books, each, "compromise"), certificates))
    assert outcomes == ["done"] * 4
    assert books.entries() - before == {"ca:certificate:revoked": 4, "ca:key:blocked": 1}


def test_what_cannot_be_told_is_not_done(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, heard = books.certificate(), books.outbox()

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    for part in (AuditLog, Outbox):
        with monkeypatch.context() as patch:
            patch.setattr(part, "append" if part is AuditLog else "enqueue", full)
            with pytest.raises(OSError):
                books.revocation.revoke(certificate, actor="test")
        assert books.status(certificate) == (State.GOOD, None) and books.outbox() == heard
