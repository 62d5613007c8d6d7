"""An instance restored from an older backup knows again every serial number that a newer log tells of."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from ca import errors
from ca.check import Extent
from ca.reconciliation import Reconciled
from ca.register import IssuedCertificate, Reason, State
from ca.revocation_list import entries_of
from ca.selection import Action, NumberList, Selector
from ca.settings import CaSettings
from cli.ca import ca
from cli.context import Context
from core.audit import BrokenChain, export, verify
from tests.unit.ca.conftest import MovableClock, assembled

ISSUER = "citizen-sign-g1"


@pytest.fixture
def restored(room, citizen, tmp_path: Path, keystore, linter) -> Iterator[Any]:
    """An hour of life after the backup, the log of it, and the instance as the backup has it."""
    parts = room.parts

    def issue() -> IssuedCertificate:
        return parts.issuance.certify(parts.registration.apply(**citizen()), actor="test")

    known = [issue() for _ in range(6)]
    parts.revocation.suspend(known[0].id, actor="test")
    begun = parts.issuance.prepare(parts.registration.apply(**citizen()), actor="test")
    with room.database.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    backup = tmp_path / "backup"
    backup.mkdir()
    shutil.copy(tmp_path / "tamga.sqlite", backup)

    room.clock.advance(timedelta(minutes=10))
    lost = [issue(), issue(), issue()]
    parts.issuance.issue(begun, actor="test")
    abandoned = parts.issuance.prepare(parts.registration.apply(**citizen()), actor="test")
    parts.recovery.settle(min_age=timedelta(0))
    parts.revocation.resume(known[0].id, actor="test")
    parts.revocation.suspend(known[1].id, actor="test")
    parts.revocation.revoke(known[2].id, actor="test", reason=Reason.KEY_COMPROMISE)
    parts.revocation.revoke(lost[0].id, actor="test", reason=Reason.KEY_COMPROMISE)
    numbers = NumberList.of_serials([known[3].serial_text, known[4].serial_text, lost[1].serial_text])
    plan = parts.mass_revocation.plan(Selector(serials=numbers), Action.REVOKE, actor="test", reason=Reason.SUPERSEDED)
    parts.mass_revocation.execute(plan.id, actor="test")
    room.clock.advance(timedelta(minutes=50))
    with room.database.reading() as session:
        entries = list(export(session))
    again = assembled(backup, keystore, linter, CaSettings(), MovableClock(room.clock.moment + timedelta(minutes=5)))
    yield SimpleNamespace(
        room=again, before=room, known=known, lost=lost, begun=begun, abandoned=abandoned, entries=entries
    )
    again.database.close()


def reconcile(restored: Any, entries: list[dict[str, Any]] | None = None, *, execute: bool = True) -> Reconciled:
    told = restored.entries if entries is None else entries
    done: Reconciled = restored.room.parts.reconciliation.reconcile(lambda: iter(told), actor="test", execute=execute)
    return done


def statuses(restored: Any) -> list[tuple[State, Reason | None]]:
    register = restored.room.parts.register
    return [(found.status.state, found.status.reason) for found in map(register.get, (c.id for c in restored.known))]


def serial_numbers(restored: Any) -> set[int]:
    """Every serial number that was reserved after the backup, or under way when it was made."""
    return {each.serial for each in (*restored.lost, restored.begun)}


WANTED = [
    (State.GOOD, None),
    (State.SUSPENDED, Reason.CERTIFICATE_HOLD),
    (State.REVOKED, Reason.KEY_COMPROMISE),
    (State.REVOKED, Reason.SUPERSEDED),
    (State.REVOKED, Reason.SUPERSEDED),
    (State.GOOD, None),
]


def test_a_restored_instance_has_forgotten_and_knows_again(restored) -> None:
    register = restored.room.parts.register
    assert {register.status(ISSUER, serial) for serial in serial_numbers(restored)} == {None}
    done = reconcile(restored)
    assert (done.forked, done.withdrawn, done.changed) == (False, 4, 5)
    for serial in serial_numbers(restored):
        status = register.status(ISSUER, serial)
        assert status is not None and status.state is State.REVOKED
    assert register.status(ISSUER, restored.abandoned.serial) is None
    assert statuses(restored) == WANTED


def test_revocations_keep_their_own_dates_and_suspensions_their_intervals(restored) -> None:
    reconcile(restored)
    ours, theirs = restored.room.parts.register, restored.before.parts.register
    for each in restored.known:
        mine, real = ours.get(each.id).status, theirs.get(each.id).status
        close = timedelta(seconds=1)
        assert (mine.revoked_at is None) == (real.revoked_at is None)
        assert mine.revoked_at is None or abs(mine.revoked_at - real.revoked_at) < close
        assert [one.ended_at is None for one in ours.suspensions(each.id)] == [
            one.ended_at is None for one in theirs.suspensions(each.id)
        ]


def test_the_chain_goes_on_and_a_head_that_was_noted_still_fits(restored) -> None:
    noted = restored.entries[-1]["entry_hash"]
    reconcile(restored)
    with restored.room.database.reading() as session:
        verified = verify(export(session), known_head=noted)
    assert verified.entries > len(restored.entries)
    facts = restored.room.facts("ca:log:reconciled")
    assert facts["forked"] is False and facts["head"] == noted
    assert facts["lost"] == len(restored.entries) - facts["common"]


def test_the_crl_lists_them_and_the_books_agree(restored) -> None:
    reconcile(restored)
    room = restored.room
    assert ISSUER in room.parts.status_changes.run().published
    listed = {entry.serial for entry in entries_of(room.parts.crls.current(ISSUER).der)}
    assert serial_numbers(restored) < listed
    assert {each.serial for each in restored.known[1:5]} < listed
    room.clock.advance(timedelta(minutes=5))
    room.parts.crls.publish_all(actor="test")
    assert list(room.parts.check.differences(None, Extent(sample=0))) == []


def test_a_key_that_was_compromised_after_the_backup_stays_blocked(restored, citizen) -> None:
    assert reconcile(restored).blocked == 2
    facts = restored.room.events()
    assert facts.count("ca:key:blocked") == 2


def test_an_instance_that_worked_since_the_restore_has_forked_and_knows_all_the_same(restored) -> None:
    restored.room.parts.crls.publish(ISSUER, actor="too-early")
    done = reconcile(restored)
    assert done.forked and done.withdrawn == 4 and done.changed == 5
    assert statuses(restored) == WANTED
    for serial in serial_numbers(restored):
        assert restored.room.parts.register.status(ISSUER, serial).state is State.REVOKED
    assert restored.room.facts("ca:log:reconciled")["forked"] is True
    room = restored.room
    room.clock.advance(timedelta(minutes=5))
    room.parts.crls.publish_all(actor="test")
    assert list(room.parts.check.differences(None, Extent(sample=0))) == []


def test_without_execute_nothing_is_changed(restored) -> None:
    before = restored.room.check_audit()
    shown = reconcile(restored, execute=False)
    assert shown.withdrawn == 4 and shown.lost > 10
    assert restored.room.check_audit() == before
    assert {restored.room.parts.register.status(ISSUER, serial) for serial in serial_numbers(restored)} == {None}


def test_it_is_done_once(restored) -> None:
    reconcile(restored)
    with pytest.raises(errors.ExportRefused):
        reconcile(restored)


def changed(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    made = copy.deepcopy(entries)
    made[-1]["facts"]["x"] = 1
    return made


@pytest.mark.parametrize(
    ("spoil", "refusal"),
    [
        (changed, BrokenChain),
        (lambda entries: entries[:5], errors.ExportRefused),
        (lambda _entries: [], errors.ExportRefused),
    ],
)
def test_an_export_that_is_not_a_newer_log_of_ours_is_refused(
    restored, spoil: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        reconcile(restored, spoil(restored.entries))


def test_the_command_shows_and_then_does_it(restored, tmp_path: Path) -> None:
    import json

    path = tmp_path / "audit.jsonl"
    path.write_text("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in restored.entries), "utf-8")
    context = Context()
    context.services = SimpleNamespace(ca=restored.room.parts)  # type: ignore[assignment]

    def run(*arguments: str) -> Any:
        outcome = CliRunner().invoke(ca, [*arguments, "--json"], obj=context)
        assert outcome.exit_code == 0, outcome.output
        return json.loads(outcome.stdout)["result"]

    shown = run("reconcile", "--audit", str(path))
    assert (shown["executed"], shown["withdrawn"], shown["forked"]) == (False, 4, False)
    assert run("reconcile", "--audit", str(path), "--execute")["withdrawn"] == 4
    assert run("recover") == {"abandoned": 0, "withdrawn": 0}
