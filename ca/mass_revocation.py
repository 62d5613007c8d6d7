"""Revoke, suspend or resume very many certificates: plan, approval, batches, one CRL for each issuer.

    drafting ──▶ planned ──approval taken──▶ running ──last batch──▶ changed ──CRLs published──▶ done

The plan is a list, certificate by certificate, and its digest is what officers approve. A batch is one transaction:
rows, suspensions, blocked keys, event and one audit entry that names every serial number. Whoever dies in between
leaves batches that are done and batches that are not; going on does the latter. Any number of processes may work on
one plan, and none of them does a batch twice.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Protocol

from sqlalchemy import CursorResult, case, delete, func, insert, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from ca import errors, events, serial_number
from ca.crl import Crls
from ca.register import Reason, State
from ca.revocation import REVOCATION_REASONS, block_keys
from ca.selection import Action, Selected, Selector, check_profile, select_certificates
from ca.status_changes import announce
from ca.tables import (
    CertificateRow,
    MassRevocationBatchRow,
    MassRevocationItemRow,
    MassRevocationRow,
    SuspensionRow,
)
from core.audit import AuditLog, Fact, canonical
from core.clock import Clock
from core.database import Database
from core.errors import CodedError
from core.logs import get_logger
from core.outbox import Outbox

log = get_logger("ca.mass_revocation")

APPROVAL_KIND = "mass-revocation"
# Certificates changed in one transaction: other writers wait for the length of one batch at most.
BATCH = 1000
# Batches written down in one transaction while planning.
_RECORDED_TOGETHER = 10
# A draft that nobody finished, since its process died, is thrown away by a later plan.
DRAFT_KEPT = timedelta(days=1)
# Until this instance has carried a plan out, and knows better: certificates changed in a second.
CAUTIOUS_RATE = 500

# What stands still when certificates of a profile do, in words for the person who approves.
SERVICES: Mapping[str, str] = {
    "root": "everything below the root",
    "ocsp-responder": "status answers of the issuer",
    "ocsp-responder-root": "status answers of the root",
    "tsa": "time-stamps",
    "token-signing": "log-in tokens",
    "tls-client": "log-in of relying parties' machines",
    "tls-server": "web servers",
    "citizen-signature": "signatures of citizens",
    "citizen-authentication": "log-in of citizens by certificate",
    "organisation-seal": "seals of organisations",
}
_EVENTS = {
    Action.REVOKE: events.BATCH_REVOKED,
    Action.SUSPEND: events.BATCH_SUSPENDED,
    Action.RESUME: events.BATCH_RESUMED,
}


class ApprovalGate(Protocol):
    """Who lets the plan be carried out: officers, by their signatures over its digest."""

    def request(self, kind: str, subject: str, digest: str, *, actor: str, facts: Mapping[str, str | int]) -> str:
        """Ask for approval; the request's id."""
        ...

    def take(self, session: Session, request_id: str, *, kind: str, digest: str, actor: str) -> None:
        """Use the approval up in this transaction. Raises a CodedError while it is missing."""
        ...


@dataclass(frozen=True)
class Plan:
    """A plan as it stands. ``id`` is also the token to go on with. Seconds are an estimate, or None where done."""

    id: str
    action: Action
    reason: Reason | None
    selector: Mapping[str, str | int]
    state: str
    certificates: int
    batches: int
    digest: str
    by_issuer: Mapping[str, int]
    by_profile: Mapping[str, int]
    by_state: Mapping[str, int]
    services: tuple[str, ...]
    approval: str | None
    planned_by: str
    planned_at: datetime
    estimated_seconds: float


@dataclass(frozen=True)
class Published:
    """An issuer's CRL after the change: its number and entries, or the code of what went wrong."""

    issuer: str
    number: int | None
    entries: int | None
    seconds: float
    error: str | None = None


@dataclass(frozen=True)
class Report:
    """What was done, and how long each phase took in seconds. ``changed`` and ``passed_over`` add up to the plan."""

    id: str
    state: str
    certificates: int
    changed: int
    passed_over: int
    batches: int
    batches_done: int
    crls: tuple[Published, ...]
    plan_seconds: float
    approval_seconds: float
    change_seconds: float
    crl_seconds: float


class MassRevocation:
    """Plans and carries out changes of status by the million."""

    def __init__(
        self,
        *,
        database: Database,
        audit: AuditLog,
        outbox: Outbox,
        clock: Clock,
        crls: Crls,
        approvals: ApprovalGate,
        batch: int = BATCH,
    ) -> None:
        self._database = database
        self._audit = audit
        self._outbox = outbox
        self._clock = clock
        self._crls = crls
        self._approvals = approvals
        self._batch = batch

    def plan(self, selector: Selector, action: Action, *, actor: str, reason: Reason | None = None) -> Plan:
        """Record what would be done, and ask for approval. Nothing is changed.

        Raises NothingSelected, SelectionRefused, ReasonNotAllowed.
        """
        _check(selector, action, reason)
        number, plan_id = self._draft(selector, action, reason, actor)
        digest, counts = self._list(number, selector, action)
        if not digest.batches:
            self._discard(number)
            raise errors.NothingSelected("no certificate in force fits the selection")
        self._record(number, digest, counts, actor)
        return self._requested(plan_id, actor)

    def get(self, plan_id: str) -> Plan:
        """The plan of this id. Raises MassRevocationNotFound."""
        with self._database.reading() as session:
            row = _found(session, plan_id)
            rate = _rate(session)
            batches = _number_of_batches(session, row.number)
        return _plan(row, batches, rate)

    def plans(self, *, limit: int = 100) -> tuple[Plan, ...]:
        """The newest plans."""
        query = select(MassRevocationRow.id).where(MassRevocationRow.state != "drafting")
        with self._database.reading() as session:
            ids = session.scalars(query.order_by(MassRevocationRow.number.desc()).limit(limit)).all()
        return tuple(self.get(each) for each in ids)

    def execute(
        self,
        plan_id: str,
        *,
        actor: str,
        batches: int | None = None,
        progress: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> Report:
        """Carry the plan out, or go on with it; ``batches`` at most. ``progress`` hears how many of all are done.

        Raises MassRevocationNotFound, MassRevocationDone, MassRevocationAltered, what the approvals raise while the
        approval is missing, and MassRevocationUnfinished when there is something left to do.
        """
        number = self._begin(plan_id, actor)
        try:
            self._run(number, actor, batches, progress)
        except DBAPIError as error:
            raise errors.MassRevocationUnfinished(
                f"the database does not answer; go on with --resume {plan_id}", resume=plan_id
            ) from error
        if self._waiting(number):
            raise self._unfinished(plan_id, "certificates are left")
        crls = self._publish(number, actor)
        if any(each.error for each in crls):
            raise self._unfinished(plan_id, "every certificate is changed; CRLs are not published", crls)
        self._end(number, actor)
        return self._report(plan_id, crls)

    def report(self, plan_id: str) -> Report:
        """How far the plan is. Raises MassRevocationNotFound."""
        return self._report(plan_id, ())

    # Planning

    def _draft(self, selector: Selector, action: Action, reason: Reason | None, actor: str) -> tuple[int, str]:
        now = self._clock()
        row = MassRevocationRow(
            id=str(uuid.uuid4()),
            action=action.value,
            reason=int(reason) if reason else None,
            selector=canonical(selector.told()).decode(),
            state="drafting",
            certificates=0,
            digest="",
            counts="{}",
            planned_by=actor,
            planned_at=now,
        )
        with self._database.transaction() as session:
            old = select(MassRevocationRow.number).where(
                MassRevocationRow.state == "drafting", MassRevocationRow.planned_at < now - DRAFT_KEPT
            )
            for number in session.scalars(old).all():
                _delete(session, number)
            session.add(row)
            session.flush()
            return row.number, row.id

    def _discard(self, number: int) -> None:
        with self._database.transaction() as session:
            _delete(session, number)

    def _list(self, number: int, selector: Selector, action: Action) -> tuple[_ListDigest, _Counts]:
        digest, counts = _ListDigest(), _Counts()
        with self._database.snapshot() as connection:
            found = select_certificates(connection, selector, action, self._clock())
            batches = _by_issuer(map(counts.seen, found), self._batch)
            while some := list(islice(batches, _RECORDED_TOGETHER)):
                with self._database.transaction() as session:
                    for members in some:
                        digest.add(_write_batch(session, number, digest.batches + 1, members))
        return digest, counts

    def _record(self, number: int, listed: _ListDigest, counts: _Counts, actor: str) -> None:
        with self._database.transaction() as session:
            row = session.get_one(MassRevocationRow, number)
            row.state, row.certificates, row.ready_at = "planned", counts.certificates, self._clock()
            row.counts = canonical(counts.told()).decode()
            row.digest = _digest(row, listed)
            session.flush()
            facts = {"action": row.action, "reason": row.reason, "selector": row.selector, "digest": row.digest}
            told = {**facts, "certificates": row.certificates, "batches": listed.batches}
            self._audit.append(session, events.MASS_REVOCATION_PLANNED, actor=actor, subject=row.id, facts=told)

    def _requested(self, plan_id: str, actor: str) -> Plan:
        """The plan, with the request for its approval; asked for again should a crash have lost it."""
        plan = self.get(plan_id)
        if plan.approval is not None:
            return plan
        facts: dict[str, str | int] = {"action": plan.action.value, "certificates": plan.certificates}
        facts |= {"reason": plan.reason.wire_name if plan.reason else "unspecified"}
        facts |= {f"issuer {issuer}": count for issuer, count in plan.by_issuer.items()}
        facts |= {f"profile {profile}": count for profile, count in plan.by_profile.items()}
        request = self._approvals.request(APPROVAL_KIND, plan.id, plan.digest, actor=actor, facts=facts)
        with self._database.transaction() as session:
            query = update(MassRevocationRow).where(MassRevocationRow.id == plan_id)
            session.execute(query.where(MassRevocationRow.approval.is_(None)).values(approval=request))
        return self.get(plan_id)

    # Carrying out

    def _begin(self, plan_id: str, actor: str) -> int:
        approval = self._requested(plan_id, actor).approval
        with self._database.transaction() as session:
            row = _found(session, plan_id, lock=True)
            if row.state == "done":
                raise errors.MassRevocationDone("the plan was carried out")
            if row.state == "planned":
                listed = _ListDigest()
                for batch in session.scalars(_batches(row.number)):
                    listed.add(batch.sha256)
                if row.digest != _digest(row, listed):
                    raise errors.MassRevocationAltered("the recorded plan is not the one that was made")
                row.state, row.started_at = "running", self._clock()
                session.flush()
                self._approvals.take(session, approval or "", kind=APPROVAL_KIND, digest=row.digest, actor=actor)
                facts = {"digest": row.digest, "approval": approval}
                self._audit.append(session, events.MASS_REVOCATION_BEGUN, actor=actor, subject=row.id, facts=facts)
            return row.number

    def _run(self, number: int, actor: str, batches: int | None, progress: Callable[[int, int], None]) -> None:
        waiting = self._waiting(number)
        for done, batch in enumerate(islice(waiting, batches), start=1):
            self._change(number, batch, actor)
            progress(done, len(waiting))

    def _waiting(self, number: int) -> list[int]:
        query = _batches(number).where(MassRevocationBatchRow.changed_at.is_(None))
        with self._database.reading() as session:
            return [batch.number for batch in session.scalars(query)]

    def _change(self, number: int, batch_number: int, actor: str) -> None:
        with self._database.transaction() as session:
            key = (number, batch_number)
            batch = session.get_one(MassRevocationBatchRow, key, with_for_update=True, populate_existing=True)
            if batch.changed_at is not None:
                return  # another process was quicker
            plan = session.get_one(MassRevocationRow, number)
            # The moment is taken when the rows are held: it comes after every change of them that was before.
            members, now, action = _members(session, key), self._clock(), Action(plan.action)
            if _sha256(row.serial for row in members) != batch.sha256:
                raise errors.MassRevocationAltered(f"batch {batch_number} is not the one that was planned")
            before = frozenset(state.value for state in action.before)
            changed = [row for row in members if row.state in before]
            self._set(session, action, plan.reason, key, changed, now)
            batch.changed_at = now
            batch.skipped = canonical([row.id for row in members if row.state not in before]).decode()
            session.flush()
            self._tell(session, plan, batch, [row.serial for row in changed], actor)

    @staticmethod
    def _set(
        session: Session,
        action: Action,
        reason: int | None,
        key: tuple[int, int],
        changed: Collection[Any],
        now: datetime,
    ) -> None:
        """Change the batch's rows that are in a state to start from, and what hangs on them, in whole statements."""
        if not changed:
            return
        row, item, interval = CertificateRow, MassRevocationItemRow, SuspensionRow
        members = select(item.certificate_id).where(item.plan == key[0], item.batch == key[1])
        if any(each.state == State.SUSPENDED.value for each in changed):
            ended = update(interval).where(interval.certificate_id.in_(members), interval.ended_at.is_(None))
            session.execute(ended.values(ended_at=now).execution_options(synchronize_session=False))
        # What is revoked during suspension counts as revoked since the suspension began.
        began = case((row.state == State.SUSPENDED.value, row.revoked_at), else_=now)
        values: dict[Action, dict[str, Any]] = {
            Action.REVOKE: {"reason": reason, "revoked_at": began},
            Action.SUSPEND: {"reason": int(Reason.CERTIFICATE_HOLD), "revoked_at": now},
            Action.RESUME: {"reason": None, "revoked_at": None},
        }
        change = update(row).where(row.id.in_(members), row.state.in_([state.value for state in action.before]))
        change = change.values(state=action.after.value, state_since=now, **values[action])
        result = session.execute(change.execution_options(synchronize_session=False))
        assert isinstance(result, CursorResult)  # noqa: S101 - an UPDATE gives a cursor
        if result.rowcount != len(changed):
            raise errors.MassRevocationAltered("certificates changed under our hands; nothing of this batch was done")
        if action is Action.SUSPEND:
            rows = [{"id": str(uuid.uuid4()), "certificate_id": each.id, "began_at": now} for each in changed]
            session.execute(insert(interval), rows)
        if action is Action.REVOKE and reason == Reason.KEY_COMPROMISE:
            block_keys(session, members, now)

    def _tell(
        self,
        session: Session,
        plan: MassRevocationRow,
        batch: MassRevocationBatchRow,
        serials: Collection[bytes],
        actor: str,
    ) -> None:
        if not serials or batch.changed_at is None:
            return
        told: dict[str, str | int | None] = {"plan": plan.id, "batch": batch.number, "certificates": len(serials)}
        announce(self._outbox, session, issuer=batch.issuer, at=batch.changed_at, **told)
        # Every serial number stands in the entry: an export alone tells what became of each certificate.
        shown = [serial_number.text(serial_number.from_octets(serial)) for serial in serials]
        facts = {"issuer": batch.issuer, "reason": plan.reason, "batch": batch.number, "serials": shown}
        self._audit.append(session, _EVENTS[Action(plan.action)], actor=actor, subject=plan.id, facts=facts)

    # Publishing

    def _publish(self, number: int, actor: str) -> tuple[Published, ...]:
        with self._database.transaction() as session:
            row = session.get_one(MassRevocationRow, number)
            if row.state == "running":
                row.state, row.changed_at = "changed", self._clock()
                session.flush()
                facts = {"certificates": row.certificates, "passed_over": _counted(session, number)[1]}
                self._audit.append(session, events.MASS_REVOCATION_CHANGED, actor=actor, subject=row.id, facts=facts)
            batch = MassRevocationBatchRow
            query = select(batch.issuer, func.max(batch.changed_at)).where(batch.plan == number).group_by(batch.issuer)
            issuers = session.execute(query.order_by(batch.issuer)).all()
        return tuple(self._publish_one(issuer, at, actor) for issuer, at in issuers if at is not None)

    def _publish_one(self, issuer: str, changed_at: datetime, actor: str) -> Published:
        began = self._clock()
        try:
            published_at = self._crls.published_at(issuer)
            if published_at is not None and published_at > changed_at:
                current = self._crls.current(issuer)  # published before an interruption
            else:
                current = self._crls.publish(issuer, actor=actor, attempts=3)
        except CodedError as error:
            log.error("crl_not_published", issuer=issuer, code=error.code)
            return Published(issuer, None, None, self._since(began), error.code)
        return Published(issuer, current.number, current.entries, self._since(began))

    def _end(self, number: int, actor: str) -> None:
        with self._database.transaction() as session:
            row = session.get_one(MassRevocationRow, number, with_for_update=True, populate_existing=True)
            if row.state == "done":
                return
            row.state, row.finished_at = "done", self._clock()
            session.flush()
            facts: dict[str, Fact] = {"digest": row.digest, "certificates": row.certificates}
            self._audit.append(session, events.MASS_REVOCATION_ENDED, actor=actor, subject=row.id, facts=facts)

    def _unfinished(self, plan_id: str, what: str, crls: tuple[Published, ...] = ()) -> errors.MassRevocationUnfinished:
        report = self._report(plan_id, crls)
        done = f"{report.batches_done} of {report.batches} batches are done"
        failed = [f"{each.issuer}: {each.error}" for each in crls if each.error]
        detail = f"{what}; {done}; go on with --resume {plan_id}"
        return errors.MassRevocationUnfinished(
            detail, resume=plan_id, changed=report.changed, not_published=failed
        )

    def _report(self, plan_id: str, crls: tuple[Published, ...]) -> Report:
        with self._database.reading() as session:
            row = _found(session, plan_id)
            changed, passed_over = _counted(session, row.number)
            batches = _number_of_batches(session, row.number)
        return Report(
            id=row.id,
            state=row.state,
            certificates=row.certificates,
            changed=changed,
            passed_over=passed_over,
            batches=batches,
            batches_done=batches - len(self._waiting(row.number)),
            crls=crls,
            plan_seconds=_between(row.planned_at, row.ready_at),
            approval_seconds=_between(row.ready_at, row.started_at),
            change_seconds=_between(row.started_at, row.changed_at),
            crl_seconds=_between(row.changed_at, row.finished_at),
        )

    def _since(self, moment: datetime) -> float:
        return (self._clock() - moment).total_seconds()


class _ListDigest:
    """The digest of a plan's list, batch by batch."""

    def __init__(self) -> None:
        self.batches = 0
        self._sha256 = hashlib.sha256()

    def add(self, batch_sha256: bytes) -> None:
        self.batches += 1
        self._sha256.update(batch_sha256)

    @property
    def hex(self) -> str:
        return self._sha256.hexdigest()


class _Counts:
    """What a plan holds, counted while its list is written."""

    def __init__(self) -> None:
        self.certificates = 0
        self._by = {name: Counter[str]() for name in ("issuer", "profile", "state")}

    def seen(self, one: Selected) -> Selected:
        self.certificates += 1
        for name, counter in self._by.items():
            counter[getattr(one, name)] += 1
        return one

    def told(self) -> dict[str, dict[str, int]]:
        return {name: dict(counter) for name, counter in self._by.items()}


def _check(selector: Selector, action: Action, reason: Reason | None) -> None:
    check_profile(selector.filters.profile)
    if reason is not None and (action is not Action.REVOKE or reason not in REVOCATION_REASONS):
        raise errors.ReasonNotAllowed("a reason is given to a revocation, and certificateHold is no such reason")


def _by_issuer(found: Iterable[Selected], size: int) -> Iterator[list[Selected]]:
    """Batches of one issuer each, so that an entry of the audit log and a CRL have one to speak of."""
    held: dict[str, list[Selected]] = {}
    for one in found:
        members = held.setdefault(one.issuer, [])
        members.append(one)
        if len(members) == size:
            yield held.pop(one.issuer)
    yield from held.values()


def _write_batch(session: Session, plan: int, number: int, members: list[Selected]) -> bytes:
    sha256 = _sha256(sorted(each.serial for each in members))
    row = {"plan": plan, "number": number, "issuer": members[0].issuer, "certificates": len(members)}
    session.execute(insert(MassRevocationBatchRow).values(**row, sha256=sha256, skipped="[]"))
    items = [{"plan": plan, "batch": number, "certificate_id": each.id} for each in members]
    session.execute(insert(MassRevocationItemRow), items)
    return sha256


def _members(session: Session, key: tuple[int, int]) -> Collection[Any]:
    """The batch's certificates in the order of their serial numbers, held until the transaction ends."""
    row, item = CertificateRow, MassRevocationItemRow
    query = select(row.id, row.serial, row.state).join(item, item.certificate_id == row.id)
    query = query.where(item.plan == key[0], item.batch == key[1]).order_by(row.serial)
    return session.execute(query.with_for_update(of=row)).all()


def _digest(row: MassRevocationRow, listed: _ListDigest) -> str:
    document = {
        "plan": row.id,
        "action": row.action,
        "reason": row.reason,
        "selector": row.selector,
        "certificates": row.certificates,
        "batches": listed.batches,
        "list_sha256": listed.hex,
    }
    return hashlib.sha256(canonical(document)).hexdigest()


def _sha256(serials: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256()
    for serial in serials:
        digest.update(serial)
    return digest.digest()


def _found(session: Session, plan_id: str, *, lock: bool = False) -> MassRevocationRow:
    query = select(MassRevocationRow).where(MassRevocationRow.id == plan_id, MassRevocationRow.state != "drafting")
    row = session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise errors.MassRevocationNotFound("there is no such plan of a mass revocation")
    return row


def _batches(number: int) -> Any:
    return select(MassRevocationBatchRow).where(MassRevocationBatchRow.plan == number).order_by(
        MassRevocationBatchRow.number
    )


def _number_of_batches(session: Session, number: int) -> int:
    query = select(func.count()).where(MassRevocationBatchRow.plan == number)
    return session.scalar(query) or 0


def _counted(session: Session, number: int) -> tuple[int, int]:
    """How many certificates were changed, and how many passed over because of another status by then."""
    done = _batches(number).where(MassRevocationBatchRow.changed_at.is_not(None))
    rows = session.execute(done.with_only_columns(MassRevocationBatchRow.certificates, MassRevocationBatchRow.skipped))
    counts = [(certificates, len(json.loads(skipped))) for certificates, skipped in rows]
    return sum(all_ - passed for all_, passed in counts), sum(passed for _, passed in counts)


def _rate(session: Session) -> float:
    """Certificates changed in a second by the last plan that was carried out."""
    row = MassRevocationRow
    query = select(row).where(row.state == "done").order_by(row.number.desc()).limit(1)
    last = session.scalar(query)
    seconds = _between(last.started_at, last.finished_at) if last else 0.0
    return last.certificates / seconds if last and seconds > 0 else CAUTIOUS_RATE


def _between(begin: datetime | None, end: datetime | None) -> float:
    return (end - begin).total_seconds() if begin and end else 0.0


def _delete(session: Session, number: int) -> None:
    for table, column in (
        (MassRevocationItemRow, MassRevocationItemRow.plan),
        (MassRevocationBatchRow, MassRevocationBatchRow.plan),
        (MassRevocationRow, MassRevocationRow.number),
    ):
        session.execute(delete(table).where(column == number))


def _plan(row: MassRevocationRow, batches: int, rate: float) -> Plan:
    counts = json.loads(row.counts)
    return Plan(
        id=row.id,
        action=Action(row.action),
        reason=Reason(row.reason) if row.reason else None,
        selector=json.loads(row.selector),
        state=row.state,
        certificates=row.certificates,
        batches=batches,
        digest=row.digest,
        by_issuer=counts["issuer"],
        by_profile=counts["profile"],
        by_state=counts["state"],
        services=tuple(sorted({SERVICES.get(profile, profile) for profile in counts["profile"]})),
        approval=row.approval,
        planned_by=row.planned_by,
        planned_at=row.planned_at,
        estimated_seconds=round(row.certificates / rate, 1),
    )
