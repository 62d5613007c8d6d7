"""Do the register, the intents, the audit log, the CRLs, the status answers and the linters say the same?

Each difference names the certificate or entry that it is about. Everything is read in portions; what is compared in one
go comes from one moment of the database, so that a running instance shows no differences that are none.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import random
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice, pairwise
from typing import Any, Protocol

from asn1crypto import x509 as asn1_x509
from cryptography import x509
from sqlalchemy import Connection, case, func, select
from sqlalchemy.orm import Session

from ca import events, serial_number, to_be_signed
from ca.crl import Crls, PublishedCrl, listed, moment_of
from ca.errors import CrlNotFound, LintRefused
from ca.hierarchy import Authority, Hierarchy
from ca.linting import Linter
from ca.register import CertificateStatus, Reason, Register, State
from ca.revocation_list import Entry, entries_of
from ca.tables import (
    BlockedKeyRow,
    CertificateRow,
    CrlRow,
    IntentRow,
    MassRevocationBatchRow,
    MassRevocationItemRow,
    MassRevocationRow,
)
from core import audit
from core.clock import Clock
from core.database import Database
from core.errors import CodedError
from policies.profiles import ProfileUnknown, load_profile

# Rows compared in one go.
_TOGETHER = 200
# Entry and row are written in one transaction: their moments lie closer together than any transaction lasts.
CLOSE = timedelta(seconds=60)
_EPOCH = datetime.fromtimestamp(0, tz=UTC)
_BATCH_EVENTS = {
    events.BATCH_REVOKED: State.REVOKED,
    events.BATCH_SUSPENDED: State.SUSPENDED,
    events.BATCH_RESUMED: State.GOOD,
}
_STATUS_EVENTS = {
    events.CERTIFICATE_REVOKED: State.REVOKED,
    events.CERTIFICATE_SUSPENDED: State.SUSPENDED,
    events.CERTIFICATE_RESUMED: State.GOOD,
}


@dataclass(frozen=True)
class Difference:
    """Two books that disagree. ``kind`` is stable English for programs, ``subject`` a serial number, id or slug."""

    kind: str
    subject: str
    detail: str


@dataclass(frozen=True)
class Answer:
    """What the status service says of a serial number: ``good``, ``revoked`` or ``unknown``."""

    status: str
    revoked_at: datetime | None = None
    reason: Reason | None = None


class StatusAnswers(Protocol):
    """Asks the status service as anybody can, and believes only an answer whose signature stands."""

    def ask(self, authority: Authority, serial: int) -> Answer:
        """The answer about one serial number of this authority. Raises a CodedError when there is none."""
        ...


@dataclass(frozen=True)
class Extent:
    """How much is checked: expired certificates too, and of how many the costly parts are (None for all).

    The costly parts are linting, about 20 ms each, and a status answer, which takes a signature.
    """

    expired: bool = False
    sample: int | None = None


@dataclass
class Counted:
    """How much was looked at, for the report."""

    entries: int = 0
    certificates: int = 0
    linted: int = 0
    asked: int = 0
    crl_entries: int = 0


@dataclass(frozen=True)
class _Told:
    """One change of status as the log tells it; for a batch that is the moment of its rows."""

    at: datetime
    state: State
    reason: Reason | None


class Check:
    """Compares the books."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        register: Register,
        hierarchy: Hierarchy,
        crls: Crls,
        linter: Linter,
        intent_expiry: timedelta,
    ) -> None:
        self._database = database
        self._clock = clock
        self._register = register
        self._hierarchy = hierarchy
        self._crls = crls
        self._linter = linter
        self._intent_expiry = intent_expiry

    def differences(
        self, answers: StatusAnswers | None, extent: Extent = Extent(), counted: Counted | None = None
    ) -> Generator[Difference, None, None]:
        """Every difference, as it is found. ``answers`` None asks no status service.

        Close it when it is not read to its end.
        """
        seen = counted or Counted()
        yield from self._chain(seen)
        yield from self._log(seen)
        yield from self._intents()
        yield from self._certificates(answers, extent, seen)
        for authority in self._hierarchy.authorities():
            yield from self._crl(authority, seen)
            if answers is not None:
                yield from self._other_answers(authority, answers)

    # The audit log

    def _chain(self, seen: Counted) -> Iterator[Difference]:
        with self._database.reading() as session:
            try:
                seen.entries = audit.verify(audit.export(session)).entries
            except audit.BrokenChain as error:
                yield Difference("audit_chain", str(error.facts.get("sequence", "")), error.detail)

    def _log(self, seen: Counted) -> Iterator[Difference]:
        """Forward: what the log tells of is there."""
        with self._database.reading() as session:
            entries, taken_over = audit.export(session), _taken_over(session)
            while page := list(islice(entries, _TOGETHER)):
                with self._database.connect() as connection:
                    yield from _missing_certificates(connection, page)
                    yield from _missing_intents(connection, page)
                    yield from _missing_blocks(connection, page)
                    ours = [entry for entry in page if not any(entry["sequence"] in some for some in taken_over)]
                    yield from _missing_crls(connection, ours)
                    for entry in ours:
                        if entry["event"] in _BATCH_EVENTS:
                            yield from _batch(connection, entry)

    def _intents(self) -> Iterator[Difference]:
        """What was begun has ended, and what was issued is in the register."""
        late = self._clock() - self._intent_expiry - CLOSE
        open_ones = select(IntentRow.id, IntentRow.issuer, IntentRow.serial, IntentRow.state).where(
            IntentRow.state.in_(("prepared", "signing")), IntentRow.changed_at < late
        )
        entered = select(CertificateRow.id).where(CertificateRow.id == IntentRow.id).exists()
        lost = select(IntentRow.id, IntentRow.issuer, IntentRow.serial, IntentRow.state).where(
            IntentRow.state == "issued", ~entered
        )
        with self._database.snapshot() as connection:
            for row in connection.execute(open_ones):
                yield Difference("intent_open", _shown(row.serial), f"{row.issuer}: {row.state}, and nobody ends it")
            for row in connection.execute(_untold()):
                yield Difference("intent_state", _shown(row.serial), f"{row.issuer}: {row.state}, not by the log")
            for row in connection.execute(lost):
                yield Difference("certificate_missing", _shown(row.serial), f"{row.issuer} issued it; it is not there")

    # The register

    def _certificates(
        self, answers: StatusAnswers | None, extent: Extent, seen: Counted
    ) -> Iterator[Difference]:
        condition = [] if extent.expired else [CertificateRow.not_after >= self._clock()]
        authorities = {authority.slug: authority for authority in self._hierarchy.authorities()}
        with self._database.snapshot() as connection:
            query = select(*CertificateRow.__table__.columns).where(*condition)
            chosen = _chosen(connection, query, extent.sample)
            rows = iter(connection.execute(query.order_by(CertificateRow.issuer, CertificateRow.serial)))
            while page := list(islice(rows, _TOGETHER)):
                books = _Books.of(connection, [row.id for row in page])
                for row in page:
                    seen.certificates += 1
                    yield from _register_and_log(row, books)
                    yield from _octets(row, books, authorities.get(row.issuer))
                    if chosen(seen.certificates - 1):
                        yield from self._lint(row, seen)
                        yield from self._answer(row, authorities.get(row.issuer), answers, seen)

    def _lint(self, row: Any, seen: Counted) -> Iterator[Difference]:
        seen.linted += 1
        try:
            profile = load_profile(row.profile, row.profile_version)
        except ProfileUnknown as error:
            yield Difference("profile_missing", _shown(row.serial), str(error))
            return
        if profile.digest != row.profile_digest:
            told = f"{row.profile} version {row.profile_version} is not what it was when it was used"
            yield Difference("profile_changed", _shown(row.serial), told)
        try:
            self._linter.check_certificate(row.der, profile, self._clock().date())
        except LintRefused as error:
            yield Difference("lint", _shown(row.serial), error.detail)
        except Exception as error:  # whatever parsers say of octets that are no certificate
            yield Difference("lint", _shown(row.serial), f"it cannot be linted: {type(error).__name__}")

    def _answer(
        self, row: Any, authority: Authority | None, answers: StatusAnswers | None, seen: Counted
    ) -> Iterator[Difference]:
        if answers is None or authority is None:
            return
        seen.asked += 1
        serial = serial_number.from_octets(row.serial)
        try:
            answer = answers.ask(authority, serial)
        except CodedError as error:
            yield Difference("ocsp_silent", _shown(row.serial), error.detail)
            return
        # The register is asked now, as the status service does, not as it was when the check began.
        if answer != _expected_answer(self._register.status(row.issuer, serial)):
            told = f"{row.issuer}: the status service says {_said(answer)}, the register {row.state}"
            yield Difference("ocsp", _shown(row.serial), told)

    def _other_answers(self, authority: Authority, answers: StatusAnswers) -> Iterator[Difference]:
        """Withdrawn serial numbers are revoked, and one that was never issued is not good."""
        query = select(IntentRow.serial).where(IntentRow.issuer == authority.slug, IntentRow.state == "withdrawn")
        try:
            with self._database.snapshot() as connection:
                for serial in connection.execute(query).scalars():
                    if answers.ask(authority, serial_number.from_octets(serial)).status != "revoked":
                        yield Difference("ocsp", _shown(serial), f"{authority.slug}: withdrawn, and not revoked")
            unknown = serial_number.draw(127)
            if answers.ask(authority, unknown).status == "good":
                told = f"{authority.slug}: good, and never issued"
                yield Difference("ocsp", serial_number.text(unknown), told)
        except CodedError as error:
            yield Difference("ocsp_silent", authority.slug, error.detail)

    # The lists

    def _crl(self, authority: Authority, seen: Counted) -> Iterator[Difference]:
        try:
            crl = self._crls.current(authority.slug)
        except CrlNotFound as error:
            yield Difference("crl_missing", authority.slug, error.detail)
            return
        yield from self._crl_itself(authority, crl)
        seen.crl_entries += crl.entries
        try:
            on_list = _rising(crl.der)
        except ValueError as error:
            yield Difference("crl_unreadable", authority.slug, str(error))
            return
        with self._database.snapshot() as connection:
            before = _moment_before(connection, crl)
            rows = connection.execute(listed(authority.slug, before))
            in_register = (_registered(*row) for row in rows)
            for serial, one, other in _side_by_side(on_list, in_register):
                yield from self._entry(connection, authority, crl, serial, one, other)

    def _crl_itself(self, authority: Authority, crl: PublishedCrl) -> Iterator[Difference]:
        parsed = x509.load_der_x509_crl(crl.der)
        if not parsed.is_signature_valid(authority.public_key):
            yield Difference("crl_signature", authority.slug, "the list is not signed by its authority")
        if crl.next_update < self._clock():
            yield Difference("crl_outdated", authority.slug, f"nextUpdate was {crl.next_update.isoformat()}")
        with self._database.connect() as connection:
            stored = connection.execute(
                select(CrlRow.sha256, CrlRow.entries).where(
                    CrlRow.issuer == crl.issuer, CrlRow.shard == crl.shard, CrlRow.number == crl.number
                )
            ).one()
        if stored.sha256.hex() != crl.sha256 or stored.entries != len(parsed):
            yield Difference("crl_altered", authority.slug, "the stored list is not the one that was published")

    def _entry(
        self,
        connection: Connection,
        authority: Authority,
        crl: PublishedCrl,
        serial: int,
        on_list: Entry | None,
        in_register: Entry | None,
    ) -> Iterator[Difference]:
        if on_list == in_register:
            return
        shown, published = serial_number.text(serial), moment_of(crl.number)
        changed = _changed_at(connection, authority.slug, serial)
        if changed is not None and changed > published - CLOSE:
            return  # the list may not have seen it yet; the next one will
        if in_register is None:
            yield Difference("crl_entry_extra", shown, f"{authority.slug}: listed, and not revoked in the register")
        elif on_list is None:
            yield Difference("crl_entry_missing", shown, f"{authority.slug}: revoked, and not on the list")
        else:
            yield Difference("crl_entry_differs", shown, f"{authority.slug}: the list has another date or reason")


@dataclass(frozen=True)
class _Books:
    """What intents and audit log say of some certificates, by their ids."""

    intents: Mapping[str, Any]
    issued: Mapping[str, Mapping[str, Any]]
    told: Mapping[str, Sequence[_Told]]

    @classmethod
    def of(cls, connection: Connection, ids: Sequence[str]) -> _Books:
        entries = _entries(connection, ids, [events.CERTIFICATE_ISSUED, *_STATUS_EVENTS])
        told: dict[str, list[_Told]] = {}
        for entry in entries:
            if entry["event"] in _STATUS_EVENTS:
                reason = entry["facts"].get("reason")
                # What was carried out again after a restore keeps its first date, which the entry names.
                at = entry["facts"].get("at")
                moment = datetime.fromisoformat(at) if at else entry["at"]
                change = _Told(moment, _STATUS_EVENTS[entry["event"]], Reason(reason) if reason else None)
                told.setdefault(entry["subject"], []).append(change)
        for certificate_id, change in _told_in_batches(connection, ids):
            told.setdefault(certificate_id, []).append(change)
        columns = (IntentRow.id, IntentRow.state, IntentRow.tbs, IntentRow.issuer, IntentRow.serial)
        intents = connection.execute(select(*columns).where(IntentRow.id.in_(ids)))
        return cls(
            {row.id: row for row in intents},
            {entry["subject"]: entry["facts"] for entry in entries if entry["event"] == events.CERTIFICATE_ISSUED},
            {each: sorted(changes, key=lambda change: change.at) for each, changes in told.items()},
        )


def _entries(connection: Connection, subjects: Sequence[str], wanted: Sequence[str]) -> list[dict[str, Any]]:
    row = audit.AuditEntry
    query = select(row.at, row.event, row.subject, row.facts).where(row.subject.in_(subjects), row.event.in_(wanted))
    found = connection.execute(query.order_by(row.sequence))
    return [{"at": at, "event": event, "subject": subject, "facts": json.loads(facts)}
            for at, event, subject, facts in found]  # fmt: skip


def _told_in_batches(connection: Connection, ids: Sequence[str]) -> Iterator[tuple[str, _Told]]:
    item, batch, plan = MassRevocationItemRow, MassRevocationBatchRow, MassRevocationRow
    query = (
        select(item.certificate_id, plan.action, plan.reason, batch.changed_at, batch.skipped)
        .join(batch, (batch.plan == item.plan) & (batch.number == item.batch))
        .join(plan, plan.number == item.plan)
        .where(item.certificate_id.in_(ids), batch.changed_at.is_not(None))
    )
    states = {"revoke": State.REVOKED, "suspend": State.SUSPENDED, "resume": State.GOOD}
    for certificate_id, action, reason, at, skipped in connection.execute(query):
        if f'"{certificate_id}"' not in skipped and at is not None:
            held = Reason.CERTIFICATE_HOLD if action == "suspend" else None
            yield certificate_id, _Told(at, states[action], Reason(reason) if reason else held)


def _register_and_log(row: Any, books: _Books) -> Iterator[Difference]:
    """Backward: what is in the register is in the log, and stands as the log says."""
    facts, shown = books.issued.get(row.id), _shown(row.serial)
    if facts is None:
        yield Difference("audit_missing", shown, f"{row.issuer}: no entry tells that it was issued")
    elif (facts["issuer"], facts["serial"], facts["profile"], facts["holder"], facts["sha256"]) != (
        row.issuer, shown, row.profile, row.holder, row.sha256.hex()
    ):  # fmt: skip
        yield Difference("register_altered", shown, f"{row.issuer}: the log tells of another certificate")
    state, reason, since = _replayed(books.told.get(row.id, ()))
    if (row.state, row.reason) != (state.value, int(reason) if reason else None):
        told = f"{row.issuer}: {row.state} in the register, {state} by the log"
        yield Difference("state", shown, told)
    elif since is not None and (row.revoked_at is None or abs(row.revoked_at - since) > CLOSE):
        yield Difference("revocation_time", shown, f"{row.issuer}: the register and the log have different times")


def _replayed(changes: Iterable[_Told]) -> tuple[State, Reason | None, datetime | None]:
    """State, reason and since when signatures do not count, from the changes in their order."""
    state, reason, since = State.GOOD, None, None
    for change in changes:
        if change.state is State.GOOD:
            since = None
        elif state is State.GOOD:
            since = change.at
        state, reason = change.state, change.reason
    return state, reason, since


def _octets(row: Any, books: _Books, authority: Authority | None) -> Iterator[Difference]:
    """The certificate is the one that was linted, signed and entered."""
    shown = _shown(row.serial)
    if hashlib.sha256(row.der).digest() != row.sha256:
        yield Difference("der_altered", shown, f"{row.issuer}: its octets are not those that were entered")
        return
    intent = books.intents.get(row.id)
    if intent is None or intent.state != "issued":
        yield Difference("intent_missing", shown, f"{row.issuer}: no intent was recorded and carried out")
    elif intent.tbs != to_be_signed.tbs_of(row.der):
        yield Difference("intent_altered", shown, f"{row.issuer}: what was signed is not what was recorded")
    certificate = x509.load_der_x509_certificate(row.der)
    spki = asn1_x509.Certificate.load(row.der).public_key.dump()
    if (
        certificate.serial_number != serial_number.from_octets(row.serial)
        or (certificate.not_valid_before_utc, certificate.not_valid_after_utc) != (row.not_before, row.not_after)
        or hashlib.sha256(spki).digest() != row.spki_sha256
    ):
        yield Difference("register_altered", shown, f"{row.issuer}: the register's columns do not fit the certificate")
    tbs, signature = to_be_signed.tbs_of(row.der), certificate.signature
    if authority is None or not to_be_signed.verify(authority.public_key, tbs, signature):
        yield Difference("signature", shown, f"{row.issuer}: not signed by its authority")


def _untold() -> Any:
    """Intents that are closed in their rows and not in the log."""
    row, told = IntentRow, {"abandoned": events.INTENT_ABANDONED, "withdrawn": events.INTENT_WITHDRAWN}
    entry = audit.AuditEntry
    event = case(told, value=row.state)
    there = select(entry.sequence).where(entry.subject == row.id, entry.event == event).exists()
    return select(row.issuer, row.serial, row.state).where(row.state.in_(told), ~there)


def _taken_over(session: Session) -> list[range]:
    """Entries that came out of an export after a restore: the lists and plans they tell of were lost for good."""
    row = audit.AuditEntry
    told = session.scalars(select(row.facts).where(row.event == events.LOG_RECONCILED))
    found = [json.loads(facts) for facts in told]
    return [range(each["common"] + 1, each["common"] + 1 + each["lost"]) for each in found if not each["forked"]]


def _missing_certificates(connection: Connection, page: Sequence[Mapping[str, Any]]) -> Iterator[Difference]:
    wanted = {events.CERTIFICATE_ISSUED, *_STATUS_EVENTS}
    entries = [entry for entry in page if entry["event"] in wanted]
    ids = {entry["subject"] for entry in entries}
    known = set(connection.execute(select(CertificateRow.id).where(CertificateRow.id.in_(ids))).scalars())
    # A restored backup had forgotten it; its serial number is on record as withdrawn.
    withdrawn = select(IntentRow.id).where(IntentRow.id.in_(ids - known), IntentRow.state == "withdrawn")
    known |= set(connection.execute(withdrawn).scalars())
    for entry in entries:
        if entry["subject"] not in known:
            told = f"entry {entry['sequence']} tells of it ({entry['event']}); it is not in the register"
            yield Difference("certificate_missing", str(entry["facts"].get("serial")), told)


def _missing_intents(connection: Connection, page: Sequence[Mapping[str, Any]]) -> Iterator[Difference]:
    states = {
        events.INTENT_RECORDED: None,
        events.INTENT_ABANDONED: "abandoned",
        events.INTENT_WITHDRAWN: "withdrawn",
    }
    entries = [entry for entry in page if entry["event"] in states]
    ids = [entry["subject"] for entry in entries]
    rows = connection.execute(select(IntentRow.id, IntentRow.state, IntentRow.tbs).where(IntentRow.id.in_(ids)))
    known = {row.id: row for row in rows}
    for entry in entries:
        row, serial, wanted = known.get(entry["subject"]), str(entry["facts"].get("serial")), states[entry["event"]]
        if row is None:
            yield Difference("intent_missing", serial, f"entry {entry['sequence']} tells of it; it is not there")
        elif wanted is not None and row.state != wanted:
            yield Difference("intent_state", serial, f"{row.state} in its row, {wanted} by the log")
        elif wanted is None and row.tbs and hashlib.sha256(row.tbs).hexdigest() != entry["facts"]["tbs_sha256"]:
            yield Difference("intent_altered", serial, "what was recorded to be signed is not what the log tells")


def _missing_crls(connection: Connection, page: Sequence[Mapping[str, Any]]) -> Iterator[Difference]:
    for entry in page:
        if entry["event"] != events.CRL_PUBLISHED:
            continue
        facts = entry["facts"]
        query = select(CrlRow.sha256).where(
            CrlRow.issuer == entry["subject"], CrlRow.shard == facts["shard"], CrlRow.number == int(facts["number"])
        )
        sha256 = connection.execute(query).scalar()
        if sha256 is None or sha256.hex() != facts["sha256"]:
            told = f"list {facts['number']} is not as entry {entry['sequence']} tells"
            yield Difference("crl_altered", str(entry["subject"]), told)


def _missing_blocks(connection: Connection, page: Sequence[Mapping[str, Any]]) -> Iterator[Difference]:
    keys = {bytes.fromhex(entry["subject"]) for entry in page if entry["event"] == events.KEY_BLOCKED}
    known = connection.execute(select(BlockedKeyRow.spki_sha256).where(BlockedKeyRow.spki_sha256.in_(keys))).scalars()
    for key in sorted(keys - set(known)):
        yield Difference("block_missing", key.hex(), "the log tells that this key is blocked; it is not")


def _batch(connection: Connection, entry: Mapping[str, Any]) -> Iterator[Difference]:
    """A batch's entry names exactly the certificates that the plan's list has for it, without those passed over."""
    facts, item, batch, plan = entry["facts"], MassRevocationItemRow, MassRevocationBatchRow, MassRevocationRow
    named, what = f"batch {facts['batch']} of {entry['subject']}", f"entry {entry['sequence']}"
    query = (
        select(CertificateRow.id, CertificateRow.serial, batch.skipped)
        .join(item, item.certificate_id == CertificateRow.id)
        .join(batch, (batch.plan == item.plan) & (batch.number == item.batch))
        .join(plan, plan.number == item.plan)
        .where(plan.id == entry["subject"], batch.number == facts["batch"], batch.changed_at.is_not(None))
    )
    rows = connection.execute(query).all()
    there = {_shown(row.serial) for row in rows if f'"{row.id}"' not in row.skipped}
    for serial in sorted(there ^ set(facts["serials"])):
        where = "in the entry only" if serial in facts["serials"] else "in the list only"
        yield Difference("batch", serial, f"{what}, {named}: {where}")


def _chosen(connection: Connection, query: Any, sample: int | None) -> Callable[[int], bool]:
    if sample is None:
        return lambda _position: True
    total = connection.execute(select(func.count()).select_from(query.subquery())).scalar_one()
    positions = set(random.SystemRandom().sample(range(total), min(sample, total)))
    return positions.__contains__


def _expected_answer(status: CertificateStatus | None) -> Answer:
    if status is None:
        return Answer("unknown")
    if status.revoked_at is None:
        return Answer("good")
    return Answer("revoked", status.revoked_at.replace(microsecond=0), status.reason)


def _said(answer: Answer) -> str:
    reason = f" ({answer.reason.wire_name})" if answer.reason else ""
    return f"{answer.status}{reason}" + (f" since {answer.revoked_at.isoformat()}" if answer.revoked_at else "")


def _rising(der: bytes) -> Iterable[Entry]:
    """The entries in the order of their serial numbers; lists of the first release have another one."""
    if all(one.serial < other.serial for one, other in pairwise(entries_of(der))):
        return entries_of(der)
    return sorted(entries_of(der), key=lambda entry: entry.serial)


def _registered(serial: bytes, revoked_at: datetime | None, reason: int | None) -> Entry:
    # A row that somebody rewrote may say that it is revoked and not since when.
    at = (revoked_at or _EPOCH).replace(microsecond=0)
    return Entry(serial_number.from_octets(serial), at, Reason(reason) if reason else None)


def _side_by_side(
    on_list: Iterable[Entry], in_register: Iterable[Entry]
) -> Iterator[tuple[int, Entry | None, Entry | None]]:
    """Both in the order of serial numbers, joined."""
    both = heapq.merge(
        ((entry.serial, 0, entry) for entry in on_list),
        ((entry.serial, 1, entry) for entry in in_register),
        key=lambda each: each[:2],
    )
    for serial, group in groupby(both, key=lambda each: each[0]):
        found = {side: entry for _, side, entry in group}
        yield serial, found.get(0), found.get(1)


def _moment_before(connection: Connection, crl: PublishedCrl) -> datetime:
    """The thisUpdate of the list before: what had expired by then is not on this one (RFC 5280 3.3)."""
    query = select(func.max(CrlRow.number)).where(
        CrlRow.issuer == crl.issuer, CrlRow.shard == crl.shard, CrlRow.number < crl.number
    )
    number = connection.execute(query).scalar()
    return moment_of(number).replace(microsecond=0) if number else _EPOCH


def _changed_at(connection: Connection, issuer: str, serial: int) -> datetime | None:
    """When the status of a serial number last changed, its reason included; None for one that is not known."""
    stored, row, intent = serial_number.octets(serial), CertificateRow, IntentRow
    query = select(row.id, row.state_since).where(row.issuer == issuer, row.serial == stored)
    found = connection.execute(query).first()
    if found is None:
        withdrawn = (intent.issuer == issuer, intent.serial == stored, intent.state == "withdrawn")
        at: datetime | None = connection.execute(select(intent.changed_at).where(*withdrawn)).scalar()
        return at
    told: list[datetime] = [entry["at"] for entry in _entries(connection, [found.id], list(_STATUS_EVENTS))]
    since: datetime = found.state_since
    return max([since, *told])


def _shown(serial: bytes) -> str:
    return serial_number.text(serial_number.from_octets(serial))
