"""The audit chain: part of the act's own transaction, never forked, and every tampering is found where it happened."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.exc import IntegrityError

from core.audit import AuditEntry, AuditLog, BrokenChain, Fact, Verified, export, verify
from core.database import Database
from tests.unit.core.moving_clock import MovingClock
from tests.unit.core.rolled_back import rolled_back
from tests.unit.core.together import together

Entries = list[dict[str, Any]]


def append(database: Database, log: AuditLog, number: int = 0, **facts: Fact) -> None:
    with database.transaction() as session:
        log.append(session, "ca:certificate:issued", actor="Болд", subject=f"subject-{number}", facts=facts)


def exported(database: Database) -> Entries:
    with database.reading() as session:
        return list(export(session))


def five(database: Database, clock: MovingClock) -> Entries:
    log = AuditLog(clock)
    for number in range(5):
        append(database, log, number, serial=number, names=("Ө", "Ү"), held=None, good=True)
        clock.advance(1)
    return exported(database)


def test_an_export_is_verified_without_the_database(database: Database, clock: MovingClock) -> None:
    lines = [json.dumps(entry, ensure_ascii=False) for entry in five(database, clock)]
    verified = verify(json.loads(line) for line in lines)
    assert verified == Verified(5, json.loads(lines[-1])["entry_hash"])


def test_the_tables_own_chain_holds(database: Database, clock: MovingClock) -> None:
    five(database, clock)
    with database.reading() as session:
        assert verify(export(session)).entries == 5


def test_an_empty_log_holds(sqlite: Database) -> None:
    assert verify(exported(sqlite)) == Verified(0, "00" * 32)


def test_an_export_of_several_pages_misses_nothing(
    database: Database, clock: MovingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.audit._PAGE", 2)
    assert [entry["sequence"] for entry in five(database, clock)] == [1, 2, 3, 4, 5]


def test_writers_at_the_same_time_never_fork_the_chain(database: Database, clock: MovingClock) -> None:
    log = AuditLog(clock)

    def write(number: int) -> None:
        for _ in range(5):
            append(database, log, number)

    together(12, write)
    assert verify(exported(database)).entries == 60


def test_a_rollback_leaves_no_entry_and_no_gap(database: Database, clock: MovingClock) -> None:
    log = AuditLog(clock)
    append(database, log)
    with rolled_back(database) as session:
        log.append(session, "ca:certificate:issued", actor="x")
    append(database, log)
    assert verify(exported(database)).entries == 2


def test_an_entry_is_never_written_outside_a_transaction(database: Database, clock: MovingClock) -> None:
    with database.reading() as session, pytest.raises(RuntimeError, match="transaction"):
        AuditLog(clock).append(session, "ca:certificate:issued", actor="x")
    assert exported(database) == []


def test_several_entries_of_one_transaction_stand_in_their_order(database: Database, clock: MovingClock) -> None:
    log = AuditLog(clock)
    with database.transaction() as session:
        for event in ("sso:person:created", "sso:person:enrolled"):
            log.append(session, event, actor="x")
    assert [entry["event"] for entry in exported(database)] == ["sso:person:created", "sso:person:enrolled"]


def test_the_order_in_which_facts_are_given_does_not_matter(sqlite: Database, clock: MovingClock) -> None:
    hashes = set()
    given: list[dict[str, Fact]] = [{"a": 1, "b": ["x", "y"]}, {"b": ("x", "y"), "a": 1}]
    for facts in given:
        with sqlite.transaction() as session:
            session.execute(delete(AuditEntry))
            AuditLog(clock).append(session, "sso:person:created", actor="x", facts=facts)
        hashes.add(exported(sqlite)[0]["entry_hash"])
    assert len(hashes) == 1


def test_a_clock_of_another_zone_is_entered_in_utc(database: Database, clock: MovingClock) -> None:
    ulaanbaatar = timezone(timedelta(hours=8))
    append(database, AuditLog(lambda: clock().astimezone(ulaanbaatar)))
    entries = exported(database)
    assert entries[0]["at"] == "2026-03-01T08:30:00.123456+00:00"
    assert verify(entries).entries == 1


def _insert_copy(entries: Entries) -> None:
    entries.insert(2, dict(entries[2]))


def _swap(entries: Entries) -> None:
    entries[1], entries[2] = entries[2], entries[1]


def _change(member: str, value: object) -> Callable[[Entries], None]:
    return lambda entries: entries[2].__setitem__(member, value)


def _swap_and_renumber(entries: Entries) -> None:
    _swap(entries)
    for position, entry in enumerate(entries, start=1):
        entry["sequence"] = position


def _drop_and_renumber(entries: Entries) -> None:
    del entries[2]
    for position, entry in enumerate(entries, start=1):
        entry["sequence"] = position


TAMPERING: dict[str, tuple[Callable[[Entries], object], int]] = {
    "changed event": (_change("event", "ca:certificate:revoked"), 3),
    "changed actor": (_change("actor", "Дорж"), 3),
    "changed subject": (_change("subject", None), 3),
    "changed time": (_change("at", "2026-03-01T08:30:02.123457+00:00"), 3),
    "changed facts": (_change("facts", {"serial": 3}), 3),
    "changed type of a fact": (_change("facts", {"serial": "2", "names": ["Ө", "Ү"], "held": None, "good": True}), 3),
    "changed hash": (_change("entry_hash", "00" * 32), 3),
    "changed link": (_change("previous_hash", "00" * 32), 3),
    "hash that is no text": (_change("entry_hash", 7), 3),
    "sequence that is no number": (_change("sequence", "3"), 3),
    "added member": (_change("remark", "checked by the auditor"), 3),
    "removed member": (lambda entries: entries[2].pop("subject"), 3),
    "dropped": (lambda entries: entries.pop(2), 3),
    "dropped and renumbered": (_drop_and_renumber, 3),
    "dropped at the beginning": (lambda entries: entries.pop(0), 1),
    "inserted": (_insert_copy, 4),
    "reordered": (_swap, 2),
    "reordered and renumbered": (_swap_and_renumber, 2),
}


@pytest.mark.parametrize("tampering", TAMPERING)
def test_a_changed_export_is_refused_at_the_first_entry_that_does_not_fit(
    sqlite: Database, clock: MovingClock, tampering: str
) -> None:
    entries = five(sqlite, clock)
    tamper, position = TAMPERING[tampering]
    tamper(entries)
    with pytest.raises(BrokenChain) as caught:
        verify(entries)
    assert caught.value.facts == {"sequence": position}


def test_a_row_changed_in_the_table_is_found(database: Database, clock: MovingClock) -> None:
    five(database, clock)
    with database.transaction() as session:
        session.execute(update(AuditEntry).where(AuditEntry.sequence == 4).values(actor="nobody"))
    with pytest.raises(BrokenChain) as caught:
        verify(exported(database))
    assert caught.value.facts == {"sequence": 4}


def test_a_row_deleted_from_the_middle_of_the_table_is_found(database: Database, clock: MovingClock) -> None:
    five(database, clock)
    with database.transaction() as session:
        session.execute(text("DELETE FROM audit_entries WHERE sequence = 2"))
    with pytest.raises(BrokenChain) as caught:
        verify(exported(database))
    assert caught.value.facts == {"sequence": 2}


def test_a_cut_off_end_is_found_by_whoever_noted_a_later_head(sqlite: Database, clock: MovingClock) -> None:
    entries = five(sqlite, clock)
    noted = verify(entries).head
    assert verify(entries[:3]).entries == 3  # the chain alone cannot know
    with pytest.raises(BrokenChain, match="known head"):
        verify(entries[:3], known_head=noted)


def test_a_chain_that_was_written_anew_is_found_by_whoever_noted_a_head(sqlite: Database, clock: MovingClock) -> None:
    noted = verify(five(sqlite, clock)).head
    with sqlite.transaction() as session:
        session.execute(delete(AuditEntry))
    clock.advance(1)
    anew = five(sqlite, clock)
    assert verify(anew).entries == 5
    with pytest.raises(BrokenChain, match="known head"):
        verify(anew, known_head=noted)


def test_a_chain_that_has_grown_since_a_head_was_noted_holds(sqlite: Database, clock: MovingClock) -> None:
    noted = verify(five(sqlite, clock)).head
    append(sqlite, AuditLog(clock))
    assert verify(exported(sqlite), known_head=noted).entries == 6
    assert verify(exported(sqlite), known_head="00" * 32).entries == 6


def test_two_entries_can_never_share_a_place(database: Database, clock: MovingClock) -> None:
    append(database, AuditLog(clock))
    copy = exported(database)[0]
    with pytest.raises(IntegrityError), database.transaction() as session:
        session.add(
            AuditEntry(
                sequence=1,
                at=clock(),
                event="forged",
                actor="x",
                facts="{}",
                previous_hash=bytes.fromhex(copy["previous_hash"]),
                entry_hash=bytes(32),
            )
        )
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(AuditEntry)) == 1
