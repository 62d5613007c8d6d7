"""The audit log: entries chained by hash, appended in the transaction of the act they tell of.

Each entry's hash covers its content and the hash before it, so changing, dropping, inserting or reordering entries
is found by walking the chain; an export can be walked without the database. Cutting off the newest entries, or writing
the whole chain anew, leaves a chain that holds: that is found by whoever noted an earlier head and hands it in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, String, Text, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.clock import Clock
from core.database import Base, UtcDateTime
from core.errors import CodedError

Fact = str | int | bool | None | Sequence[str]
GENESIS = bytes(32)
# Any fixed number will do; it names the lock under which PostgreSQL appends, so that the chain never forks.
_CHAIN_LOCK = 0x7461_6D67_61
# Entries an export reads at a time, each page a statement of its own, so that no lock outlives it.
_PAGE = 500
_CONTENT = ("sequence", "at", "event", "actor", "subject", "facts")
_MEMBERS = frozenset({*_CONTENT, "previous_hash", "entry_hash"})


class BrokenChain(CodedError):
    """The log is not what was written; ``facts`` name the first entry that does not fit."""

    code = "audit_chain_broken"
    status = 500
    exit_code = 1


class AuditEntry(Base):
    """One act: what happened, who did it, to whom or what, with which facts."""

    __tablename__ = "audit_entries"
    __table_args__ = (Index("ix_audit_entries_subject_sequence", "subject", "sequence"),)

    sequence: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False
    )
    at: Mapped[datetime] = mapped_column(UtcDateTime())
    event: Mapped[str] = mapped_column(String(100), index=True)
    actor: Mapped[str] = mapped_column(String(200))
    subject: Mapped[str | None] = mapped_column(String(200))
    facts: Mapped[str] = mapped_column(Text)
    previous_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    entry_hash: Mapped[bytes] = mapped_column(LargeBinary(32))


# Made once: an entry is written with every act, and building a statement costs as much as running it.
_TABLE = AuditEntry.metadata.tables[AuditEntry.__tablename__]
_INSERT = _TABLE.insert()
_NEWEST = select(_TABLE.c.sequence, _TABLE.c.entry_hash).order_by(_TABLE.c.sequence.desc()).limit(1)


@dataclass(frozen=True)
class Verified:
    """A chain that holds: how many entries, and the hash at its end (hexadecimal)."""

    entries: int
    head: str


class AuditLog:
    """Appends entries; the caller's commit makes them real, the caller's rollback leaves no trace."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def append(
        self,
        session: Session,
        event: str,
        *,
        actor: str,
        subject: str | None = None,
        facts: Mapping[str, Fact] | None = None,
    ) -> None:
        """Add one entry in ``session``'s transaction. ``event`` is ``room:noun:verb``; facts hold no secret.

        The chain stays locked from here to the transaction's end: append last, after every other row is taken, or
        two transactions that hold each other's rows and wait for the chain block each other.
        """
        self.append_many(session, event, actor=actor, entries=((subject, facts or {}),))

    def append_many(
        self, session: Session, event: str, *, actor: str, entries: Sequence[tuple[str | None, Mapping[str, Fact]]]
    ) -> None:
        """Add entries of one kind of act, each with its subject and facts, in their order; else like ``append``."""
        session.flush()
        last, previous = _head(session)
        rows: list[dict[str, Any]] = []
        for sequence, (subject, facts) in enumerate(entries, start=last + 1):
            now = self._clock()
            document = {
                "sequence": sequence,
                "at": _stamp(now),
                "event": event,
                "actor": actor,
                "subject": subject,
                "facts": dict(facts),
            }
            before, previous = previous, _link(previous, document)
            rows.append(
                {
                    "sequence": sequence,
                    "at": now,
                    "event": event,
                    "actor": actor,
                    "subject": subject,
                    "facts": canonical(document["facts"]).decode(),
                    "previous_hash": before,
                    "entry_hash": previous,
                }
            )
        session.execute(_INSERT, rows)


def export(session: Session) -> Iterator[dict[str, Any]]:
    """Every entry in order, each as a JSON object that carries its hashes in hexadecimal."""
    after: int | None = None
    while True:
        # Read anew each time: what somebody changed in the table is what must be seen, not what this session remembers.
        page = select(AuditEntry).order_by(AuditEntry.sequence).limit(_PAGE).execution_options(populate_existing=True)
        entries = session.scalars(page if after is None else page.where(AuditEntry.sequence > after)).all()
        yield from map(_exported, entries)
        if len(entries) < _PAGE:
            return
        after = entries[-1].sequence


def verify(entries: Iterable[Mapping[str, Any]], *, known_head: str | None = None) -> Verified:
    """Walk exported entries and raise BrokenChain at the first that does not fit; needs nothing but the export.

    ``known_head`` is a head that was noted before (hexadecimal); a chain that does not pass through it was cut off or
    written anew.
    """
    previous, count, met = GENESIS, 0, known_head in (None, GENESIS.hex())
    for position, entry in enumerate(entries, start=1):
        _check_entry(entry, position, previous)
        previous, count = bytes.fromhex(entry["entry_hash"]), position
        met = met or entry["entry_hash"] == known_head
    if not met:
        raise BrokenChain(f"the chain of {count} entries does not lead through the known head", sequence=count)
    return Verified(count, previous.hex())


def canonical(value: object) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes (strings, integers, booleans, null, lists)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _check_entry(entry: Mapping[str, Any], position: int, previous: bytes) -> None:
    if entry.get("sequence") != position:
        raise BrokenChain(f"entry {position} is missing or out of order", sequence=position)
    # A member the hash does not cover could tell a reader anything.
    if set(entry) != _MEMBERS:
        raise BrokenChain(f"entry {position} has other members than those that are hashed", sequence=position)
    document = {member: entry[member] for member in _CONTENT}
    if entry["previous_hash"] != previous.hex() or entry["entry_hash"] != _link(previous, document).hex():
        raise BrokenChain(f"entry {position} is not as it was written", sequence=position)


def _exported(entry: AuditEntry) -> dict[str, Any]:
    return {
        "sequence": entry.sequence,
        "at": _stamp(entry.at),
        "event": entry.event,
        "actor": entry.actor,
        "subject": entry.subject,
        "facts": json.loads(entry.facts),
        "previous_hash": entry.previous_hash.hex(),
        "entry_hash": entry.entry_hash.hex(),
    }


def _head(session: Session) -> tuple[int, bytes]:
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _CHAIN_LOCK})
    row = session.execute(_NEWEST).first()
    return (row[0], row[1]) if row else (0, GENESIS)


def _link(previous: bytes, document: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(previous + canonical(document)).digest()


def _stamp(moment: datetime) -> str:
    # The database gives moments back in UTC, so they are hashed in UTC.
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
