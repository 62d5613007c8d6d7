"""The check finds each kind of difference between register, intents, log, lists and answers, and names it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import delete, update

import ocsp.parts
from app.adapters.register_status import RegisterResponders, RegisterStatus
from app.adapters.status_answers import HouseAnswers
from ca.check import Answer, Counted, Difference, Extent
from ca.hierarchy import Authority
from ca.register import Filters, IssuedCertificate, Reason
from ca.selection import Action, Selector
from ca.settings import CaSettings
from ca.tables import (
    BlockedKeyRow,
    CertificateRow,
    CrlRow,
    IntentRow,
    MassRevocationItemRow,
)
from core.audit import AuditEntry
from core.errors import Unavailable
from ocsp.settings import OcspSettings
from tests.unit.ca.conftest import START, MovableClock, assembled, make_csr

ISSUER = "citizen-sign-g1"
Plant = Callable[..., None]


@dataclass(frozen=True)
class Lived:
    """An authority in use: its room, six certificates in every state, and the plan that suspended one of them."""

    room: Any
    made: tuple[IssuedCertificate, ...]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.room, name)


@pytest.fixture(scope="module")
def used(held: Path, tmp_path_factory, keystore, linter) -> tuple[Path, tuple[str, ...]]:
    """A folder with an authority that was used, and the ids of the certificates."""
    folder = tmp_path_factory.mktemp("used")
    for file in held.iterdir():
        shutil.copy(file, folder)
    room = assembled(folder, keystore, linter, CaSettings(), MovableClock(START + timedelta(hours=1)))
    ids = live_in(room)
    room.database.close()
    return folder, ids


def live_in(room) -> tuple[str, ...]:
    """Certificates in every state, an intent that was withdrawn and one abandoned, and lists that show all of it."""
    parts = room.parts

    def application(number: int = 0) -> Any:
        subject = {"SN": "Жамъян", "GN": "Өлзийхүү", "CN": "Ж.Өлзийхүү", "serialNumber": "PNOMN-000000000017"}
        return parts.registration.apply(
            profile="citizen-signature",
            csr=make_csr(ec.generate_private_key(ec.SECP256R1())),
            subject=subject,
            holder=f"holder-{number}",
            evidence="visit:1",
        )

    made = [parts.issuance.certify(application(number), actor="test") for number in range(6)]
    parts.revocation.revoke(made[1].id, actor="test", reason=Reason.SUPERSEDED)
    parts.revocation.suspend(made[2].id, actor="test")
    parts.revocation.suspend(made[3].id, actor="test")
    parts.revocation.resume(made[3].id, actor="test")
    taken = parts.issuance.prepare(application(), actor="test")
    parts.issuance._take(taken)
    parts.issuance.prepare(application(), actor="test")
    parts.recovery.settle(min_age=timedelta(0))
    plan = parts.mass_revocation.plan(Selector(filters=Filters(holder="holder-4")), Action.SUSPEND, actor="test")
    parts.mass_revocation.execute(plan.id, actor="test")
    parts.revocation.revoke(made[5].id, actor="test", reason=Reason.KEY_COMPROMISE)
    room.clock.advance(timedelta(minutes=5))
    parts.crls.publish_all(actor="test")
    return tuple(each.id for each in made)


@pytest.fixture
def lived_in(used: tuple[Path, tuple[str, ...]], tmp_path: Path, keystore, linter) -> Iterator[Lived]:
    folder, ids = used
    for file in folder.iterdir():
        shutil.copy(file, tmp_path)
    room = assembled(tmp_path, keystore, linter, CaSettings(), MovableClock(START + timedelta(hours=1, minutes=6)))
    yield Lived(room, tuple(room.parts.register.get(each) for each in ids))
    room.database.close()


@pytest.fixture
def answers(lived_in: Lived) -> HouseAnswers:
    statuses = RegisterStatus(lived_in.parts.hierarchy, lived_in.parts.register)
    responders = RegisterResponders(lived_in.parts.hierarchy, lived_in.keystore)
    parts = ocsp.parts.assemble(settings=OcspSettings(), clock=lived_in.clock, statuses=statuses, responders=responders)
    return HouseAnswers(parts.responder)


def found(room, answers, **extent: Any) -> list[Difference]:
    return list(room.parts.check.differences(answers, Extent(**extent)))


def change(room, statement: Any) -> None:
    with room.database.transaction() as session:
        session.execute(statement.execution_options(synchronize_session=False))


def test_an_instance_that_was_used_shows_no_difference(lived_in, answers) -> None:
    counted = Counted()
    assert list(lived_in.parts.check.differences(answers, Extent(), counted)) == []
    assert counted.certificates == counted.linted == counted.asked > 6
    assert counted.entries > 20 and counted.crl_entries >= 5


def test_a_sample_is_linted_and_asked_about_and_all_are_compared(lived_in, answers) -> None:
    counted = Counted()
    assert list(lived_in.parts.check.differences(answers, Extent(sample=2), counted)) == []
    assert counted.linted == counted.asked == 2 < counted.certificates
    change(lived_in, update(CertificateRow).where(CertificateRow.id == lived_in.made[0].id).values(state="revoked"))
    assert found(lived_in, None, sample=0)


def test_expired_certificates_are_looked_at_when_asked_for(lived_in, answers) -> None:
    one = lived_in.made[0]
    change(lived_in, update(CertificateRow).where(CertificateRow.id == one.id).values(der=b"0"))
    lived_in.clock.advance(timedelta(days=1096))
    kinds = {each.kind for each in found(lived_in, None, sample=0)}
    assert "der_altered" not in kinds and "crl_outdated" in kinds
    assert "der_altered" in {each.kind for each in found(lived_in, None, sample=0, expired=True)}


def row(number: int, **values: Any) -> Plant:
    def plant(room) -> None:
        change(room, update(CertificateRow).where(CertificateRow.id == room.made[number].id).values(**values))

    return plant


def without_row(room) -> None:
    change(room, delete(CertificateRow).where(CertificateRow.id == room.made[0].id))


def without_row_and_intent(room) -> None:
    without_row(room)
    change(room, delete(IntentRow).where(IntentRow.id == room.made[0].id))


def without_entry(room) -> None:
    change(room, delete(AuditEntry).where(AuditEntry.subject == room.made[0].id))


def entry_changed(room) -> None:
    of_issue = (AuditEntry.subject == room.made[0].id, AuditEntry.event == "ca:certificate:issued")
    change(room, update(AuditEntry).where(*of_issue).values(actor="somebody else"))


def other_octets(room) -> None:
    change(room, update(CertificateRow).where(CertificateRow.id == room.made[0].id).values(der=room.made[1].der))


def other_signature(room) -> None:
    der = bytearray(room.made[0].der)
    der[-1] ^= 1
    values = {"der": bytes(der), "sha256": hashlib.sha256(der).digest()}
    change(room, update(CertificateRow).where(CertificateRow.id == room.made[0].id).values(**values))


def intent(number: int, **values: Any) -> Plant:
    def plant(room) -> None:
        change(room, update(IntentRow).where(IntentRow.id == room.made[number].id).values(**values))

    return plant


def stuck_intent(room) -> None:
    change(room, update(IntentRow).where(IntentRow.state == "abandoned").values(state="signing"))


def forgotten_withdrawal(room) -> None:
    change(room, delete(IntentRow).where(IntentRow.state == "withdrawn"))


def unblocked(room) -> None:
    change(room, delete(BlockedKeyRow))


def other_list(room) -> None:
    change(room, update(MassRevocationItemRow).values(certificate_id=room.made[0].id)
           .where(MassRevocationItemRow.certificate_id == room.made[4].id))  # fmt: skip


def older_list(room) -> None:
    change(room, delete(CrlRow).where(CrlRow.issuer == ISSUER, CrlRow.previous != 0))


def no_list(room) -> None:
    change(room, delete(CrlRow).where(CrlRow.issuer == ISSUER))


def list_of_another(room) -> None:
    seals = room.parts.crls.current("seal-g1").der
    change(room, update(CrlRow).where(CrlRow.issuer == ISSUER, CrlRow.previous != 0).values(der=seals))


PLANTED = [
    (without_row, {"certificate_missing"}),
    (without_row_and_intent, {"certificate_missing", "intent_missing"}),
    (without_entry, {"audit_chain", "audit_missing"}),
    (entry_changed, {"audit_chain"}),
    (row(0, state="revoked", reason=4), {"state"}),
    (row(1, state="good", revoked_at=None, reason=None), {"state", "crl_entry_extra"}),
    (row(4, state="good", revoked_at=None, reason=None), {"state", "crl_entry_extra"}),
    (row(1, reason=9), {"state", "crl_entry_differs"}),
    (row(0, holder="somebody-else"), {"register_altered"}),
    (other_octets, {"der_altered"}),
    (other_signature, {"register_altered", "signature"}),
    (row(0, not_after=START + timedelta(days=900)), {"register_altered"}),
    (intent(0, tbs=b"0"), {"intent_altered"}),
    (intent(0, state="abandoned"), {"intent_missing"}),
    (stuck_intent, {"intent_open", "intent_state"}),
    (forgotten_withdrawal, {"intent_missing", "crl_entry_extra"}),
    (unblocked, {"block_missing"}),
    (other_list, {"batch", "state"}),
    (older_list, {"crl_altered"}),
    (no_list, {"crl_missing", "crl_altered"}),
    (list_of_another, {"crl_signature", "crl_altered", "crl_entry_missing"}),
]


@pytest.mark.parametrize(("plant", "kinds"), PLANTED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_difference_that_was_planted_is_named(lived_in, answers, plant: Plant, kinds: set[str]) -> None:
    plant(lived_in)
    differences = found(lived_in, answers, sample=0)
    assert kinds <= {each.kind for each in differences}, differences
    assert all(each.subject and each.detail for each in differences)


def test_what_the_linters_would_refuse_today_is_named(lived_in) -> None:
    row(0, profile="organisation-seal", profile_digest="0" * 64)(lived_in)
    row(1, profile_version=99)(lived_in)
    named = {(each.kind, each.subject) for each in found(lived_in, None)}
    assert {("lint", lived_in.made[0].serial_text), ("profile_changed", lived_in.made[0].serial_text)} <= named
    assert ("profile_missing", lived_in.made[1].serial_text) in named


def test_the_certificate_that_differs_is_the_one_named(lived_in, answers) -> None:
    row(0, state="revoked", reason=4, revoked_at=lived_in.clock())(lived_in)
    named = {(each.kind, each.subject) for each in found(lived_in, answers, sample=0)}
    assert ("state", lived_in.made[0].serial_text) in named
    assert {subject for _, subject in named} == {lived_in.made[0].serial_text}


def test_a_revocation_that_was_dated_back_is_named(lived_in, answers) -> None:
    earlier = lived_in.clock.moment - timedelta(days=30)
    row(1, revoked_at=earlier)(lived_in)
    assert {"revocation_time", "crl_entry_differs"} <= {each.kind for each in found(lived_in, answers, sample=0)}


def test_what_changed_after_the_list_is_no_difference_yet(lived_in, answers) -> None:
    lived_in.clock.advance(timedelta(minutes=5))
    lived_in.parts.revocation.revoke(lived_in.made[0].id, actor="test")
    lived_in.parts.revocation.resume(lived_in.made[2].id, actor="test")
    lived_in.parts.revocation.revoke(lived_in.made[1].id, actor="test", reason=Reason.KEY_COMPROMISE)
    assert found(lived_in, answers) == []


class Lying:
    """A status service that says something else about one serial number, or nothing at all."""

    def __init__(self, honest: HouseAnswers, serial: int, answer: Answer | None) -> None:
        self._honest, self._serial, self._answer = honest, serial, answer

    def ask(self, authority: Authority, serial: int) -> Answer:
        if serial != self._serial:
            return self._honest.ask(authority, serial)
        if self._answer is None:
            raise Unavailable("no answer")
        return self._answer


def test_a_status_service_that_says_something_else_is_named(lived_in, answers) -> None:
    revoked, good = lived_in.made[1], lived_in.made[0]
    lies = Lying(answers, revoked.serial, Answer("good"))
    assert found(lived_in, lies) == [
        Difference("ocsp", revoked.serial_text, f"{ISSUER}: the status service says good, the register revoked")
    ]
    since = revoked.issued_at.replace(microsecond=0)
    for lie in (Answer("revoked", since, Reason.SUPERSEDED), Answer("unknown")):
        assert {(each.kind, each.subject) for each in found(lived_in, Lying(answers, good.serial, lie))} == {
            ("ocsp", good.serial_text)
        }
    assert [each.kind for each in found(lived_in, Lying(answers, good.serial, None))] == ["ocsp_silent"]


def test_an_answer_signed_by_another_authoritys_responder_is_not_believed(lived_in, answers) -> None:
    other = lived_in.parts.hierarchy.responder("seal-g1")
    credentials = RegisterResponders(lived_in.parts.hierarchy, lived_in.keystore)

    class Swapped:
        def current(self, issuer: str) -> Any:
            return credentials.current("seal-g1")

    statuses = RegisterStatus(lived_in.parts.hierarchy, lived_in.parts.register)
    parts = ocsp.parts.assemble(
        settings=OcspSettings(), clock=lived_in.clock, statuses=statuses, responders=Swapped()
    )
    with pytest.raises(Unavailable):
        HouseAnswers(parts.responder).ask(lived_in.parts.hierarchy.authority(ISSUER), lived_in.made[0].serial)
    assert other.certificate.issuer == "seal-g1"
