"""Generations of the key that wraps citizens' keys: one is current, older ones are emptied while the service runs.

    begin      a new wrapping key is made in the token and becomes current: every new citizen's key goes under it
    empty      each older key is unwrapped and wrapped again inside the token, a batch at a time
    destroy    a wrapping key that holds nothing any more is destroyed, and with it every old copy of what it held

A row is changed only if it is still what was read, so signing goes on meanwhile, and a run that was broken off is
simply repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import CursorResult, func, select, update
from sqlalchemy.orm import Session

from core.audit import AuditLog, Fact
from core.clock import Clock
from core.database import Database
from core.logs import get_logger
from hsm.keystore import Keystore
from hsm.wrapped import WrappedKeys
from signing import events
from signing.credentials import stored_key
from signing.errors import WrappingKeyInUse, WrappingKeyUnknown
from signing.tables import CredentialRow, WrappingKeyRow

log = get_logger("signing.wrapping")

BATCH = 50
# Longer than any process may take between asking for the current key and entering what it wrapped.
GRACE = timedelta(hours=1)


@dataclass(frozen=True)
class WrappingGeneration:
    """One wrapping key and how many credentials it holds."""

    label: str
    current: bool
    credentials: int
    begun_at: datetime | None
    emptied_at: datetime | None


class WrappingKeys:
    """Knows the generations and moves credentials from one to the next."""

    def __init__(self, *, database: Database, audit: AuditLog, clock: Clock, keystore: Keystore, first: str) -> None:
        """``first`` is the label of the generation an instance begins with, such as ``wrapping-1``."""
        self._database = database
        self._audit = audit
        self._clock = clock
        self._keystore = keystore
        self._first = first

    def current(self) -> str:
        """The label that new keys are wrapped under."""
        with self._database.reading() as session:
            return self._current(session)

    def wrapped_keys(self) -> WrappedKeys:
        """Makes keys under the current generation."""
        return WrappedKeys(self._keystore, self.current())

    def generations(self) -> tuple[WrappingGeneration, ...]:
        """Every generation that still exists, the oldest first."""
        held = select(CredentialRow.wrapping_key, func.count()).where(CredentialRow.wrapped_key != b"")
        with self._database.reading() as session:
            grouped = session.execute(held.group_by(CredentialRow.wrapping_key))
            counts = {label: int(count) for label, count in grouped}
            rows = session.scalars(select(WrappingKeyRow).order_by(WrappingKeyRow.generation)).all()
            current = self._current(session)
        gone = {row.label for row in rows if row.destroyed_at is not None}
        known = {row.label: row for row in rows}
        labels = [label for label in dict.fromkeys((self._first, *known)) if label not in gone]
        return tuple(
            WrappingGeneration(
                label=label,
                current=label == current,
                credentials=counts.get(label, 0),
                begun_at=known[label].begun_at if label in known else None,
                emptied_at=known[label].emptied_at if label in known else None,
            )
            for label in labels
        )

    def rotate(self, *, actor: str) -> int:
        """Begin a new generation, or go on where a rotation was broken off; returns how many keys were moved.

        Raises WrappedKeyRefused at a row that was changed behind our back, and what the keystore raises.
        """
        if not self._unfinished():
            self._begin(actor)
        moved = 0
        while batch := self._batch():
            moved += self._move(batch, actor)
        self._note_emptied(actor)
        return moved

    def destroy(self, label: str, *, actor: str) -> None:
        """Destroy an emptied generation. Raises WrappingKeyUnknown, WrappingKeyInUse."""
        found = next((one for one in self.generations() if one.label == label), None)
        if found is None:
            raise WrappingKeyUnknown(f"there is no wrapping key {label}")
        if found.current or found.credentials:
            raise WrappingKeyInUse(f"{label} is current or holds keys")
        if found.emptied_at is None or self._clock() - found.emptied_at < GRACE:
            raise WrappingKeyInUse(f"{label} was emptied less than {GRACE.total_seconds() / 3600:g} h ago")
        with self._database.transaction() as session:
            session.get_one(WrappingKeyRow, label).destroyed_at = self._clock()
            self._audit.append(session, events.WRAPPING_KEY_DESTROYED, actor=actor, subject=label)
        # On record first: a crash here leaves a key that nothing refers to, never a reference to no key.
        if self._keystore.has(label):
            self._keystore.destroy(label)

    def _current(self, session: Session) -> str:
        query = select(WrappingKeyRow.label).where(WrappingKeyRow.destroyed_at.is_(None))
        return session.scalar(query.order_by(WrappingKeyRow.generation.desc()).limit(1)) or self._first

    def _unfinished(self) -> bool:
        """Whether an older generation still holds keys."""
        return any(one.credentials for one in self.generations() if not one.current)

    def _begin(self, actor: str) -> None:
        with self._database.reading() as session:
            highest = session.scalar(select(func.max(WrappingKeyRow.generation))) or 1
        stem, _, number = self._first.rpartition("-")
        generation = max(highest, int(number)) + 1
        label = f"{stem}-{generation}"
        # The key first: a crash leaves an unused key, which the next run takes up.
        WrappedKeys(self._keystore, label).prepare()
        now = self._clock()
        with self._database.transaction() as session:
            if session.get(WrappingKeyRow, self._first) is None:
                session.add(WrappingKeyRow(label=self._first, generation=int(number), begun_at=now))
            session.add(WrappingKeyRow(label=label, generation=generation, begun_at=now))
            self._audit.append(session, events.WRAPPING_KEY_BEGUN, actor=actor, subject=label)

    def _batch(self) -> Sequence[CredentialRow]:
        with self._database.reading() as session:
            query = select(CredentialRow).where(
                CredentialRow.wrapping_key != self._current(session), CredentialRow.wrapped_key != b""
            )
            return session.scalars(query.order_by(CredentialRow.id).limit(BATCH)).all()

    def _move(self, batch: Sequence[CredentialRow], actor: str) -> int:
        """Wrap these keys anew; a row that changed meanwhile is left for the next batch."""
        label = self.current()
        keys = WrappedKeys(self._keystore, label)
        moved = []
        for row in batch:
            wrapped, context = stored_key(row)
            moved.append((row, keys.rewrap(wrapped, context, label)))
        done = 0
        with self._database.transaction() as session:
            for row, wrapped in moved:
                result = session.execute(
                    update(CredentialRow)
                    .where(CredentialRow.id == row.id, CredentialRow.wrapped_key_mac == row.wrapped_key_mac)
                    .values(wrapped_key=wrapped.blob, wrapped_key_mac=wrapped.mac, wrapping_key=wrapped.wrapping_key)
                )
                assert isinstance(result, CursorResult)  # noqa: S101 - an UPDATE gives a cursor
                done += result.rowcount
            facts: dict[str, Fact] = {"credentials": done}
            self._audit.append(session, events.WRAPPED_KEYS_MOVED, actor=actor, subject=label, facts=facts)
        return done

    def _note_emptied(self, actor: str) -> None:
        with self._database.transaction() as session:
            current = self._current(session)
            rows = session.scalars(
                select(WrappingKeyRow).where(WrappingKeyRow.label != current, WrappingKeyRow.emptied_at.is_(None))
            ).all()
            for row in rows:
                row.emptied_at = self._clock()
                self._audit.append(session, events.WRAPPING_KEY_EMPTIED, actor=actor, subject=row.label)
        log.info("wrapping_key_rotated", current=current)
