"""After a restore: what happened since the backup is read out of a newer export of the audit log (K40).

A database restored from an hour ago has forgotten certificates that exist. An export made later, and kept elsewhere,
tells of them. Their octets are gone, so they cannot be served or renewed; but their serial numbers become known again,
as withdrawn: the status service and the CRL call them revoked, and their holders get new ones. Revocations of
certificates that the backup does know are carried out again, with their own dates.

When nothing was written since the restore, the entries themselves are taken over, and the chain goes on where it was:
heads that were noted elsewhere still fit. When the instance has worked since, the log has forked, which no entry can
heal; then what is done here is written down as new entries, and the fork is named.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from ca import errors, events, serial_number
from ca.hierarchy import Hierarchy
from ca.register import Reason, State
from ca.revocation import block_keys
from ca.status_changes import announce
from ca.tables import BlockedKeyRow, CertificateRow, IntentRow, SuspensionRow
from core import audit
from core.audit import AuditEntry, AuditLog, Fact
from core.clock import Clock
from core.database import Database
from core.outbox import Outbox

Entry = Mapping[str, Any]
# How long a serial number of an authority that is forgotten, too, stays on record: longer than any certificate lives.
LONGEST = timedelta(days=25 * 366)
_STATES = {
    events.CERTIFICATE_REVOKED: State.REVOKED,
    events.CERTIFICATE_SUSPENDED: State.SUSPENDED,
    events.CERTIFICATE_RESUMED: State.GOOD,
    events.BATCH_REVOKED: State.REVOKED,
    events.BATCH_SUSPENDED: State.SUSPENDED,
    events.BATCH_RESUMED: State.GOOD,
}
_SINGLE = {
    State.REVOKED: events.CERTIFICATE_REVOKED,
    State.SUSPENDED: events.CERTIFICATE_SUSPENDED,
    State.GOOD: events.CERTIFICATE_RESUMED,
}


@dataclass
class Reconciled:
    """What was found and done. ``common`` is the last entry that both logs have; ``forked`` says that this instance
    wrote others after it. ``others`` counts entries of acts that cannot be done again from the log."""

    common: int = 0
    forked: bool = False
    lost: int = 0
    withdrawn: int = 0
    changed: int = 0
    blocked: int = 0
    others: Counter[str] = field(default_factory=Counter)


class _NotNow(Exception):
    """Ends a transaction that was only to show what would be done."""


class Reconciliation:
    """Makes the register know again what a newer export of the log tells."""

    def __init__(
        self, *, database: Database, audit: AuditLog, outbox: Outbox, clock: Clock, hierarchy: Hierarchy
    ) -> None:
        self._database = database
        self._audit = audit
        self._outbox = outbox
        self._clock = clock
        self._hierarchy = hierarchy

    def reconcile(self, export: Callable[[], Iterator[Entry]], *, actor: str, execute: bool) -> Reconciled:
        """Take over what ``export`` tells, all of it or nothing. ``export`` gives its entries anew at each call.

        Without ``execute`` nothing is changed. Raises BrokenChain for an export that is not as it was written, and
        ExportRefused for one that is no newer log of this instance.
        """
        head = audit.verify(export()).head
        done = Reconciled()
        try:
            with self._database.transaction() as session:
                done.common, done.forked = _common(session, export())
                lost = (entry for entry in export() if entry["sequence"] > done.common)
                work = _Work(session, done, self._hierarchy, imported=not done.forked)
                for entry in lost:
                    done.lost += 1
                    work.take(entry)
                self._write_down(session, work, done, head, actor)
                if not execute:
                    raise _NotNow
        except _NotNow:
            pass
        return done

    def _write_down(self, session: Session, work: _Work, done: Reconciled, head: str, actor: str) -> None:
        now = self._clock()
        work.withdraw_open_ones(now)
        session.flush()
        own = list(work.own_entries())
        for issuer in sorted(work.issuers):
            announce(self._outbox, session, issuer=issuer, at=now)
        for event, subject, facts in own:
            self._audit.append(session, event, actor=actor, subject=subject, facts=facts)
        if done.lost:
            told: dict[str, Fact] = {"common": done.common, "forked": done.forked, "lost": done.lost, "head": head}
            self._audit.append(session, events.LOG_RECONCILED, actor=actor, facts=told)


class _Work:
    """Takes lost entries one by one."""

    def __init__(self, session: Session, done: Reconciled, hierarchy: Hierarchy, *, imported: bool) -> None:
        self._session = session
        self._done = done
        self._ends = {each.slug: each.certificate.not_valid_after_utc for each in hierarchy.authorities()}
        self._imported = imported
        self._withdrawn: dict[str, None] = {}
        self._told: set[str] = set()
        self._entries: list[tuple[str, str, dict[str, Fact]]] = []
        self.issuers: set[str] = set()

    def take(self, entry: Entry) -> None:
        event = entry["event"]
        if self._imported:
            self._session.add(_row(entry))
        if event == events.INTENT_RECORDED:
            self._recorded(entry)
        elif event in (events.INTENT_ABANDONED, events.INTENT_WITHDRAWN):
            self._closed(entry)
        elif event == events.CERTIFICATE_ISSUED:
            self._issued(entry)
        elif event in _STATES:
            self._changed(entry)
        elif event == events.KEY_BLOCKED:
            self._blocked(entry)
        elif event != events.CRL_PUBLISHED:  # the next list shows everything, whatever was published
            self._done.others[event] += 1

    def withdraw_open_ones(self, now: datetime) -> None:
        """What was under way when the backup was made may have been signed since then and never told of."""
        query = select(IntentRow).where(IntentRow.state.in_(("prepared", "signing")))
        for row in self._session.scalars(query).all():
            row.state, row.changed_at = "withdrawn", now
            self._withdrawn[row.id] = None

    def own_entries(self) -> Iterator[tuple[str, str, dict[str, Fact]]]:
        """What the taken entries do not tell by themselves."""
        yield from self._entries
        for intent_id in self._withdrawn:
            row = self._session.get_one(IntentRow, intent_id)
            if row.state != "withdrawn":
                continue
            self._done.withdrawn += 1
            self.issuers.add(row.issuer)
            if intent_id not in self._told:
                serial = serial_number.text(serial_number.from_octets(row.serial))
                facts: dict[str, Fact] = {"issuer": row.issuer, "serial": serial, "profile": row.profile}
                yield events.INTENT_WITHDRAWN, intent_id, {**facts, "holder": row.holder, "reconciled": True}

    def _recorded(self, entry: Entry) -> None:
        """A serial number that was reserved may stand in a certificate that somebody holds."""
        facts, at = entry["facts"], datetime.fromisoformat(entry["at"])
        if self._session.get(IntentRow, entry["subject"]) is not None:
            return
        self._session.add(
            IntentRow(
                id=entry["subject"],
                issuer=facts["issuer"],
                serial=bytes.fromhex(facts["serial"]),
                state="withdrawn",
                profile=facts["profile"],
                profile_version=facts["profile_version"],
                profile_digest=facts["profile_digest"],
                holder=facts["holder"],
                evidence=facts["evidence"],
                key_label=None,
                spki_sha256=bytes(32),  # the log does not tell the key
                not_before=at,
                not_after=self._ends.get(facts["issuer"], at + LONGEST),
                tbs=b"",  # nor the octets
                recorded_at=at,
                changed_at=at,
            )
        )
        self._session.flush()
        self._withdrawn[entry["subject"]] = None

    def _closed(self, entry: Entry) -> None:
        state = "abandoned" if entry["event"] == events.INTENT_ABANDONED else "withdrawn"
        self._move(entry, state)
        if state == "withdrawn" and self._imported:
            self._told.add(entry["subject"])
        elif state == "abandoned" and not self._imported:
            facts: dict[str, Fact] = {**entry["facts"], "at": entry["at"], "reconciled": True}
            self._entries.append((events.INTENT_ABANDONED, entry["subject"], facts))

    def _issued(self, entry: Entry) -> None:
        if self._session.get(CertificateRow, entry["subject"]) is None:
            self._move(entry, "withdrawn")

    def _move(self, entry: Entry, state: str) -> None:
        at = datetime.fromisoformat(entry["at"])
        changed = update(IntentRow).where(IntentRow.id == entry["subject"]).values(state=state, changed_at=at)
        self._session.execute(changed)
        if state == "withdrawn" and self._session.get(IntentRow, entry["subject"]) is not None:
            self._withdrawn[entry["subject"]] = None

    def _changed(self, entry: Entry) -> None:
        facts, state, at = entry["facts"], _STATES[entry["event"]], datetime.fromisoformat(entry["at"])
        single = "serials" not in facts
        for serial in [facts["serial"]] if single else facts["serials"]:
            query = select(CertificateRow).where(
                CertificateRow.issuer == facts["issuer"], CertificateRow.serial == bytes.fromhex(serial)
            )
            row = self._session.scalar(query.with_for_update())
            if row is None:
                continue  # it is among those that are withdrawn
            self._set(row, state, facts.get("reason"), at)
            if not (single and self._imported):
                told: dict[str, Fact] = {"issuer": row.issuer, "serial": serial, "reason": row.reason}
                told |= {"holder": row.holder, "at": entry["at"], "reconciled": True}
                self._entries.append((_SINGLE[state], row.id, told))

    def _set(self, row: CertificateRow, state: State, reason: int | None, at: datetime) -> None:
        if (row.state, row.reason) == (state.value, reason):
            return
        held = row.state == State.SUSPENDED.value
        if held and state is not State.SUSPENDED:
            interval = SuspensionRow
            ended = update(interval).where(interval.certificate_id == row.id, interval.ended_at.is_(None))
            self._session.execute(ended.values(ended_at=at))
        if state is State.SUSPENDED:
            self._session.add(SuspensionRow(id=str(uuid.uuid4()), certificate_id=row.id, began_at=at, ended_at=None))
        if row.state != state.value:
            row.state_since = at
            row.revoked_at = None if state is State.GOOD else row.revoked_at if held else at
        row.state = state.value
        row.reason = int(Reason.CERTIFICATE_HOLD) if state is State.SUSPENDED else reason
        self._session.flush()
        if row.reason == Reason.KEY_COMPROMISE:
            self._done.blocked += block_keys(self._session, (row.id,), at)
        self._done.changed += 1
        self.issuers.add(row.issuer)

    def _blocked(self, entry: Entry) -> None:
        """Keys of certificates that are lost, too, are never certified again."""
        key = bytes.fromhex(entry["subject"])
        if self._session.get(BlockedKeyRow, key) is None:
            at = datetime.fromisoformat(entry["at"])
            certificate = str(entry["facts"]["certificate"])
            self._session.add(BlockedKeyRow(spki_sha256=key, certificate_id=certificate, blocked_at=at))
            self._session.flush()
            self._done.blocked += 1
            if not self._imported:
                self._entries.append((events.KEY_BLOCKED, entry["subject"], dict(entry["facts"])))


def _common(session: Session, export: Iterator[Entry]) -> tuple[int, bool]:
    """The last entry that this log and the export share, and whether this log has others after it.

    Raises ExportRefused when they share nothing, or when the export tells nothing new.
    """
    common, last = 0, 0
    ours = audit.export(session)
    current = next(ours, None)
    for entry in export:
        last = entry["sequence"]
        if current is None or common != last - 1:
            continue
        if current["entry_hash"] == entry["entry_hash"]:
            common, current = last, next(ours, None)
    if common == 0:
        raise errors.ExportRefused("the export is of another instance's log")
    if common == last:
        raise errors.ExportRefused("the export tells nothing that this log does not tell")
    return common, current is not None


def _row(entry: Entry) -> AuditEntry:
    return AuditEntry(
        sequence=entry["sequence"],
        at=datetime.fromisoformat(entry["at"]),
        event=entry["event"],
        actor=entry["actor"],
        subject=entry["subject"],
        facts=audit.canonical(entry["facts"]).decode(),
        previous_hash=bytes.fromhex(entry["previous_hash"]),
        entry_hash=bytes.fromhex(entry["entry_hash"]),
    )
