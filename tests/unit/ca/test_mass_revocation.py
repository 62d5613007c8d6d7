"""Mass revocation: the list is what was approved, every certificate once, one CRL, whatever interrupts it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from ca import errors
from ca.ceremony import read_plan
from ca.check import Extent
from ca.mass_revocation import MassRevocation
from ca.register import Filters, Reason
from ca.revocation_list import entries_of
from ca.selection import Action, KeyProperty, NumberList, Selector
from ca.serial_number import text
from ca.settings import CaSettings
from ca.tables import BlockedKeyRow, CertificateRow, MassRevocationItemRow, MassRevocationRow, SuspensionRow
from core.audit import AuditLog, export
from core.errors import CodedError
from core.outbox import Outbox, OutboxEntry
from tests.support.simulated_register import fill

ISSUER, OTHER = "citizen-sign-g1", "seal-g1"
ALL_OF_ISSUER = Selector(filters=Filters(issuer=ISSUER))
# A modulus with the fingerprint of CVE-2017-15361: 65537 to some power modulo each small prime.
PRIMES = [n for n in range(3, 168) if all(n % d for d in range(2, n))]


class NotYet(CodedError):
    """The gate of these tests is shut."""

    code = "approval_missing"
    exit_code = 3


class Gate:
    """Two officers who approve a digest, played by the test."""

    def __init__(self) -> None:
        self.requests: dict[str, tuple[str, str, Mapping[str, Any]]] = {}
        self.approved: set[str] = set()
        self.taken: list[str] = []

    def request(self, kind: str, subject: str, digest: str, *, actor: str, facts: Mapping[str, str | int]) -> str:
        request = f"request-{len(self.requests)}"
        self.requests[request] = (kind, digest, facts)
        return request

    def take(self, session: Session, request_id: str, *, kind: str, digest: str, actor: str) -> None:
        assert self.requests[request_id][:2] == (kind, digest)
        if request_id not in self.approved:
            raise NotYet("two officers must sign")
        self.taken.append(request_id)


@pytest.fixture
def gate() -> Gate:
    return Gate()


def mass(room, gate: Gate | None = None, batch: int = 10) -> MassRevocation:
    return MassRevocation(
        database=room.database,
        audit=AuditLog(room.clock),
        outbox=Outbox(room.clock),
        clock=room.clock,
        crls=room.parts.crls,
        approvals=gate or room.parts.approvals,
        batch=batch,
    )


@pytest.fixture
def der(room, citizen) -> bytes:
    return room.parts.issuance.certify(room.parts.registration.apply(**citizen()), actor="test").der


@pytest.fixture
def filled(room, der):
    """35 citizens' certificates beside the one that is real, and 12 seals."""
    fill(room.database, 35, issuer=ISSUER, now=room.clock(), der=der)
    fill(room.database, 12, issuer=OTHER, now=room.clock(), der=der, profile="organisation-seal")
    return room


def states(room, issuer: str = ISSUER) -> Counter[str]:
    query = select(CertificateRow.state, func.count()).where(CertificateRow.issuer == issuer)
    own = CertificateRow.profile.not_in(("ocsp-responder", "tsa", "token-signing"))
    with room.database.reading() as session:
        return Counter(dict(session.execute(query.where(own).group_by(CertificateRow.state)).all()))


def batch_entries(room, event: str) -> list[dict[str, Any]]:
    with room.database.reading() as session:
        return [entry for entry in export(session) if entry["event"] == event]


def crl_serials(room, issuer: str = ISSUER) -> list[int]:
    return [entry.serial for entry in entries_of(room.parts.crls.current(issuer).der)]


def test_a_plan_counts_and_changes_nothing(filled, gate: Gate) -> None:
    before = filled.events()
    plan = mass(filled, gate).plan(ALL_OF_ISSUER, Action.REVOKE, actor="officer:a", reason=Reason.SUPERSEDED)
    assert (plan.state, plan.certificates, plan.batches) == ("planned", 36, 4)
    assert plan.by_issuer == {ISSUER: 36} and plan.by_profile == {"citizen-signature": 36}
    assert plan.by_state == {"good": 36} and plan.services == ("signatures of citizens",)
    assert plan.selector == {"issuer": ISSUER} and plan.estimated_seconds > 0
    assert states(filled) == {"good": 36}
    assert filled.events()[len(before) :] == ["ca:mass-revocation:planned"]
    (kind, digest, facts) = gate.requests[plan.approval]
    assert (kind, digest) == ("mass-revocation", plan.digest)
    assert facts["certificates"] == 36 and facts[f"issuer {ISSUER}"] == 36


def test_nothing_is_done_before_the_approval_and_the_approval_is_taken_once(filled, gate: Gate) -> None:
    revocation = mass(filled, gate)
    plan = revocation.plan(ALL_OF_ISSUER, Action.REVOKE, actor="officer:a")
    with pytest.raises(NotYet):
        revocation.execute(plan.id, actor="officer:a")
    assert states(filled) == {"good": 36} and revocation.get(plan.id).state == "planned"
    gate.approved.add(plan.approval)
    report = revocation.execute(plan.id, actor="officer:a")
    assert (report.state, report.changed, report.passed_over) == ("done", 36, 0)
    assert gate.taken == [plan.approval]
    with pytest.raises(errors.MassRevocationDone):
        revocation.execute(plan.id, actor="officer:a")


def test_every_certificate_is_revoked_once_and_stands_in_one_crl_and_in_the_log(filled) -> None:
    revocation, before = mass(filled), filled.events().count("ca:crl:published")
    plan = revocation.plan(ALL_OF_ISSUER, Action.REVOKE, actor="test", reason=Reason.KEY_COMPROMISE)
    revocation.execute(plan.id, actor="test")
    assert states(filled) == {"revoked": 36} and states(filled, OTHER) == {"good": 12}
    entries = batch_entries(filled, "ca:certificates:revoked")
    assert [len(entry["facts"]["serials"]) for entry in entries] == [10, 10, 10, 6]
    told = [serial for entry in entries for serial in entry["facts"]["serials"]]
    listed = crl_serials(filled)
    assert sorted(told) == [text(serial) for serial in listed] and len(set(told)) == 36
    assert filled.events().count("ca:crl:published") == before + 1
    with filled.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(BlockedKeyRow)) == 36
        assert session.scalar(select(func.count()).select_from(OutboxEntry)) == 4
    filled.check_audit()


def test_what_stops_in_the_middle_goes_on_without_gaps_or_double_entries(filled) -> None:
    revocation = mass(filled)
    plan = revocation.plan(Selector(everything=True), Action.REVOKE, actor="test")
    with pytest.raises(errors.MassRevocationUnfinished) as caught:
        revocation.execute(plan.id, actor="test", batches=2)
    assert caught.value.exit_code == 7 and caught.value.facts["resume"] == plan.id
    assert caught.value.facts["changed"] == 20
    assert states(filled) + states(filled, OTHER) == {"revoked": 20, "good": 28}
    report = mass(filled).execute(plan.id, actor="test")
    assert (report.changed, report.batches_done, report.batches) == (48, 6, 6)
    told = [s for entry in batch_entries(filled, "ca:certificates:revoked") for s in entry["facts"]["serials"]]
    assert len(told) == len(set(told)) == 48
    assert len(crl_serials(filled)) == 36 and len(crl_serials(filled, OTHER)) == 12


def test_a_batch_that_breaks_leaves_no_trace_of_itself(filled, monkeypatch: pytest.MonkeyPatch) -> None:
    revocation = mass(filled)
    plan = revocation.plan(ALL_OF_ISSUER, Action.REVOKE, actor="test")
    original = AuditLog.append

    def cut(self: AuditLog, session: Session, event: str, **named: Any) -> None:
        if event == "ca:certificates:revoked" and len(batch_entries(filled, event)) == 2:
            raise KeyboardInterrupt
        original(self, session, event, **named)

    monkeypatch.setattr(AuditLog, "append", cut)
    with pytest.raises(KeyboardInterrupt):
        revocation.execute(plan.id, actor="test")
    monkeypatch.undo()
    assert states(filled) == {"revoked": 20, "good": 16}
    assert revocation.report(plan.id).changed == 20
    assert revocation.execute(plan.id, actor="test").changed == 36
    filled.check_audit()


def test_two_processes_share_one_plan_and_none_does_a_batch_twice(filled) -> None:
    plan = mass(filled, batch=3).plan(ALL_OF_ISSUER, Action.REVOKE, actor="test")
    reports: list[Any] = []

    def execute() -> None:
        try:
            reports.append(mass(filled, batch=3).execute(plan.id, actor="test"))
        except errors.MassRevocationDone:
            reports.append(None)

    threads = [threading.Thread(target=execute) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reports) == 3 and any(reports)
    told = [s for entry in batch_entries(filled, "ca:certificates:revoked") for s in entry["facts"]["serials"]]
    assert len(told) == len(set(told)) == 36
    filled.check_audit()


def test_a_suspension_is_lifted_by_its_plan_and_nobody_elses_is(filled) -> None:
    revocation, one = mass(filled), filled.parts.register.certificates(issuer=ISSUER, profile="citizen-signature")
    mine, revoked, again = one[0].id, one[1].id, one[2].id
    filled.parts.revocation.suspend(mine, actor="somebody")
    plan = revocation.plan(ALL_OF_ISSUER, Action.SUSPEND, actor="test")
    assert plan.certificates == 35
    revocation.execute(plan.id, actor="test")
    assert states(filled) == {"suspended": 36} and len(crl_serials(filled)) == 36
    filled.parts.revocation.revoke(revoked, actor="somebody")
    filled.parts.revocation.resume(again, actor="somebody")
    filled.parts.revocation.suspend(again, actor="somebody")
    lifted = revocation.plan(Selector(of_plan=plan.id), Action.RESUME, actor="test")
    assert lifted.certificates == 33
    revocation.execute(lifted.id, actor="test")
    assert states(filled) == {"good": 33, "suspended": 2, "revoked": 1}
    assert len(crl_serials(filled)) == 3
    with filled.database.reading() as session:
        open_ones = select(SuspensionRow.certificate_id).where(SuspensionRow.ended_at.is_(None))
        assert set(session.scalars(open_ones)) == {mine, again}


def test_what_has_another_status_by_then_is_passed_over_and_named_nowhere(filled) -> None:
    revocation = mass(filled)
    plan = revocation.plan(ALL_OF_ISSUER, Action.REVOKE, actor="test", reason=Reason.SUPERSEDED)
    early = filled.parts.register.certificates(issuer=ISSUER, profile="citizen-signature")[0]
    first = filled.parts.revocation.revoke(early.id, actor="somebody", reason=Reason.AFFILIATION_CHANGED)
    report = revocation.execute(plan.id, actor="test")
    assert (report.changed, report.passed_over) == (35, 1)
    assert filled.parts.register.get(early.id).status == first.status
    told = [s for entry in batch_entries(filled, "ca:certificates:revoked") for s in entry["facts"]["serials"]]
    assert len(told) == 35 and early.serial_text not in told


def test_a_suspended_certificate_counts_as_revoked_since_its_suspension(filled) -> None:
    suspended = filled.parts.register.certificates(issuer=ISSUER, profile="citizen-signature")[0]
    began = filled.parts.revocation.suspend(suspended.id, actor="somebody").status.revoked_at
    filled.clock.advance(timedelta(days=2))
    revocation = mass(filled)
    revocation.execute(revocation.plan(ALL_OF_ISSUER, Action.REVOKE, actor="test").id, actor="test")
    assert filled.parts.register.get(suspended.id).status.revoked_at == began
    assert filled.parts.register.suspensions(suspended.id)[0].ended_at is not None


@pytest.mark.parametrize("change", ["item", "digest", "batch"])
def test_a_list_that_was_changed_after_the_plan_is_refused(filled, change: str) -> None:
    from ca.tables import MassRevocationBatchRow

    revocation = mass(filled)
    plan = revocation.plan(ALL_OF_ISSUER, Action.REVOKE, actor="test")
    seal = filled.parts.register.certificates(issuer=OTHER, profile="organisation-seal")[0]
    with filled.database.transaction() as session:
        if change == "item":
            some = select(MassRevocationItemRow.certificate_id).limit(1).scalar_subquery()
            row = update(MassRevocationItemRow).where(MassRevocationItemRow.certificate_id == some)
            session.execute(row.values(certificate_id=seal.id))
        elif change == "batch":
            session.execute(update(MassRevocationBatchRow).values(sha256=bytes(32)))
        else:
            session.execute(update(MassRevocationRow).values(reason=1))
    with pytest.raises(errors.MassRevocationAltered):
        revocation.execute(plan.id, actor="test")
    assert states(filled, OTHER) == {"good": 12}


def test_a_crl_that_cannot_be_published_undoes_nothing_and_is_made_up_for(filled, monkeypatch) -> None:
    revocation = mass(filled)
    plan = revocation.plan(Selector(everything=True), Action.REVOKE, actor="test")
    original = filled.parts.crls.publish

    def broken(issuer: str, **named: Any) -> object:
        if issuer == OTHER:
            raise errors.SignatureRefused("broken")
        return original(issuer, **named)

    monkeypatch.setattr(filled.parts.crls, "publish", broken)
    with pytest.raises(errors.MassRevocationUnfinished) as caught:
        revocation.execute(plan.id, actor="test")
    assert caught.value.facts["not_published"] == [f"{OTHER}: signature_refused"]
    assert states(filled) == {"revoked": 36} and states(filled, OTHER) == {"revoked": 12}
    published = filled.parts.crls.current(ISSUER).number
    monkeypatch.undo()
    report = revocation.execute(plan.id, actor="test")
    assert report.state == "done" and [each.entries for each in report.crls] == [36, 12]
    assert filled.parts.crls.current(ISSUER).number == published


def test_our_own_certificates_are_left_out_unless_their_profile_is_named(filled) -> None:
    revocation = mass(filled)
    plan = revocation.plan(Selector(everything=True), Action.REVOKE, actor="test")
    assert set(plan.by_profile) <= {"citizen-signature", "organisation-seal"} and plan.certificates == 48
    named = revocation.plan(Selector(filters=Filters(profile="tsa")), Action.REVOKE, actor="test")
    assert (named.certificates, named.services) == (1, ("time-stamps",))


def test_only_profiles_that_know_suspension_are_suspended(filled) -> None:
    fill(filled.database, 3, issuer="service-g1", now=filled.clock(), der=b"", profile="tsa")
    with pytest.raises(errors.NothingSelected):
        mass(filled).plan(Selector(filters=Filters(profile="tsa")), Action.SUSPEND, actor="test")


def test_expired_certificates_are_left_alone(filled) -> None:
    filled.clock.advance(timedelta(days=1001))
    plan = mass(filled).plan(ALL_OF_ISSUER, Action.REVOKE, actor="test")
    assert plan.certificates == 1


def test_a_list_of_serial_numbers_selects_them_and_no_others(filled) -> None:
    seals = filled.parts.register.certificates(issuer=OTHER, profile="organisation-seal")
    wanted = sorted(each.serial for each in seals)[:5]
    lines = ["# from the auditor", "", *(text(serial).upper() for serial in wanted), "01"]
    listed = NumberList.of_serials([*lines, lines[2]])
    assert len(listed.numbers) == 6
    revocation = mass(filled)
    plan = revocation.plan(Selector(serials=listed), Action.REVOKE, actor="test")
    assert (plan.certificates, plan.selector["serials"]) == (5, 6)
    revocation.execute(plan.id, actor="test")
    assert crl_serials(filled, OTHER) == wanted
    with pytest.raises(errors.SelectionRefused):
        NumberList.of_serials(["no serial"])
    with pytest.raises(errors.SelectionRefused):
        NumberList.of_serials([])


def roca_modulus() -> int:
    product = 1
    for prime in PRIMES:
        product *= prime
    return product * (1 << (2048 - product.bit_length() - 8)) * 2 + pow(65537, 5, product)


def certificate_with(key: Any) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test")])
    signer = ec.generate_private_key(ec.SECP256R1())
    from tests.unit.ca.conftest import START

    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key).serial_number(1)
    builder = builder.not_valid_before(START).not_valid_after(START + timedelta(days=1))
    return builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.DER)


def test_keys_are_selected_by_what_is_wrong_with_them(filled) -> None:
    from policies.keys import has_roca_fingerprint

    modulus = roca_modulus()
    assert has_roca_fingerprint(modulus)
    roca = certificate_with(rsa.RSAPublicNumbers(65537, modulus).public_key())
    small = certificate_with(rsa.RSAPublicNumbers(65537, (1 << 1023) + 1155).public_key())
    fill(filled.database, 2, issuer=OTHER, now=filled.clock(), der=roca, profile="organisation-seal")
    fill(filled.database, 1, issuer=OTHER, now=filled.clock(), der=small, profile="organisation-seal")
    revocation = mass(filled)
    assert revocation.plan(Selector(keys=KeyProperty.ROCA), Action.REVOKE, actor="test").certificates == 2
    assert revocation.plan(Selector(keys=KeyProperty.WEAK), Action.REVOKE, actor="test").certificates == 3
    with pytest.raises(errors.NothingSelected):
        revocation.plan(Selector(keys=KeyProperty.BLOCKED), Action.REVOKE, actor="test")
    some = filled.parts.register.certificates(issuer=ISSUER, profile="citizen-signature")
    with filled.database.transaction() as session:
        keys = session.scalars(select(CertificateRow.spki_sha256).where(CertificateRow.id == some[3].id)).all()
        session.add(BlockedKeyRow(spki_sha256=keys[0], certificate_id="elsewhere", blocked_at=filled.clock()))
    assert revocation.plan(Selector(keys=KeyProperty.BLOCKED), Action.REVOKE, actor="test").certificates == 1
    listed = Selector(public_keys=NumberList.of_digests([keys[0].hex(), "00" * 32]))
    assert revocation.plan(listed, Action.REVOKE, actor="test").certificates == 1


@pytest.mark.parametrize(
    ("selector", "action", "reason", "refusal"),
    [
        (lambda: Selector(), Action.REVOKE, None, errors.SelectionRefused),
        (lambda: Selector(filters=Filters(profile="no-such")), Action.REVOKE, None, errors.SelectionRefused),
        (lambda: Selector(filters=Filters(holder="nobody")), Action.REVOKE, None, errors.NothingSelected),
        (lambda: Selector(everything=True), Action.RESUME, None, errors.NothingSelected),
        (lambda: Selector(everything=True), Action.SUSPEND, Reason.SUPERSEDED, errors.ReasonNotAllowed),
        (lambda: Selector(everything=True), Action.REVOKE, Reason.CERTIFICATE_HOLD, errors.ReasonNotAllowed),
    ],
)
def test_a_plan_that_says_nothing_or_too_much_is_refused(filled, selector, action, reason, refusal) -> None:
    with pytest.raises(refusal):
        mass(filled).plan(selector(), action, actor="test", reason=reason)
    with filled.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(MassRevocationRow)) == 0


def test_a_plan_that_is_not_there_is_not_found(filled) -> None:
    with pytest.raises(errors.MassRevocationNotFound):
        mass(filled).execute("nowhere", actor="test")


def test_a_draft_that_a_crash_left_is_thrown_away_by_a_later_plan(filled, monkeypatch) -> None:
    revocation = mass(filled)
    with monkeypatch.context() as patch:
        patch.setattr(MassRevocation, "_record", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            revocation.plan(ALL_OF_ISSUER, Action.REVOKE, actor="test")
    assert revocation.plans() == ()
    filled.clock.advance(timedelta(days=2))
    plan = revocation.plan(ALL_OF_ISSUER, Action.REVOKE, actor="test")
    assert [each.id for each in revocation.plans()] == [plan.id]
    with filled.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(MassRevocationItemRow)) == plan.certificates


def test_the_first_run_tells_the_next_plan_how_long_it_takes(filled) -> None:
    revocation = mass(filled)
    plan = revocation.plan(ALL_OF_ISSUER, Action.SUSPEND, actor="test")
    report = revocation.execute(plan.id, actor="test")
    assert report.plan_seconds > 0 and report.change_seconds > 0 and report.crl_seconds > 0
    later = revocation.plan(Selector(of_plan=plan.id), Action.RESUME, actor="test")
    assert later.estimated_seconds != plan.estimated_seconds


PLAN = """
name = "mass-on-postgresql"
kind = "hierarchy"
policy_url = "https://localhost/cps"
[organisation]
O = "Test"
organizationIdentifier = "NTRMN-0000000"
[[authority]]
slug = "pm-root-g1"
purpose = "root"
profile = "root"
key = "P-384"
subject = { CN = "PM Root" }
[[authority]]
slug = "pm-sign-g1"
purpose = "citizen-sign"
issuer = "pm-root-g1"
profile = "issuing-ca"
key = "P-384"
subject = { CN = "PM CA" }
"""


def test_on_postgresql_several_processes_share_a_plan_and_the_books_agree_afterwards(postgresql_room, citizen) -> None:
    room, parts = postgresql_room, postgresql_room.parts
    parts.ceremony.hold(read_plan(PLAN, CaSettings()), actor="test")
    made = [parts.issuance.certify(parts.registration.apply(**citizen()), actor="test") for _ in range(8)]
    parts.revocation.suspend(made[0].id, actor="test")
    plan = mass(room, batch=2).plan(
        Selector(filters=Filters(issuer="pm-sign-g1")), Action.REVOKE, actor="test", reason=Reason.KEY_COMPROMISE
    )
    with ThreadPoolExecutor(3) as pool:
        outcomes = list(pool.map(lambda _: executed(mass(room, batch=2), plan.id), range(3)))
    assert "done" in outcomes and set(outcomes) <= {"done", "mass_revocation_done", "crl_conflict"}
    told = [s for entry in batch_entries(room, "ca:certificates:revoked") for s in entry["facts"]["serials"]]
    assert sorted(told) == sorted(each.serial_text for each in made)
    assert len(crl_serials(room, "pm-sign-g1")) == 8
    again = mass(room).plan(Selector(filters=Filters(profile="root")), Action.REVOKE, actor="test")
    assert again.certificates == 1
    room.clock.advance(timedelta(minutes=5))
    parts.crls.publish_all(actor="test")
    assert list(parts.check.differences(None, Extent(sample=2))) == []
    assert len(list(parts.register.stream(Filters(issuer="pm-sign-g1", reason=Reason.KEY_COMPROMISE)))) == 8
    room.check_audit()


def executed(revocation: MassRevocation, plan_id: str) -> str:
    try:
        return revocation.execute(plan_id, actor="test").state
    except CodedError as error:
        return error.code
