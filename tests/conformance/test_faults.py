"""The promises of the certificate authority while its token fails: nothing lost, twice or wrong, and back soon.

A real authority on a SoftHSM token behind the fault shim, reached through a real broker. Everything but the broker's
workers lives in the process of the test and is never started again, so what works afterwards works without a restart.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as library
from sqlalchemy import select

import ca.parts
import ocsp.parts
from app.adapters.register_status import RegisterResponders, RegisterStatus
from ca.hierarchy import Authority, Hierarchy
from ca.linting import Linter
from ca.register import IssuedCertificate, State
from ca.settings import CaSettings
from ca.tables import CertificateRow, IntentRow
from core.audit import AuditLog, export, verify
from core.database import Database
from core.errors import CodedError
from hsm.client import BrokerKeystore
from hsm.errors import HsmBusy, HsmMisused, HsmUnavailable, PinIncorrect, SignatureMismatch
from hsm.keystore import initialise_token, open_token
from hsm.sessions import Sessions
from hsm.settings import SOFTHSM_MODULE, HsmSettings
from hsm.token_keystore import TokenKeystore
from ocsp.errors import TryLater
from ocsp.request import parse_request
from ocsp.settings import OcspSettings
from tests.support.broker import Broker
from tests.support.fault_shim import Ckr, FaultShim, build

BACK_WITHIN_SECONDS = 5.0  # of the token's return
OPEN_STATES = ("prepared", "signing")
CA_HASH_OCTETS = 48  # the authorities sign with P-384 over SHA-384, their responders with P-256 over SHA-256


@dataclass
class Town:
    """An authority, its status service and its broker, over a token that fails when told."""

    shim: FaultShim
    broker: Broker
    keystore: BrokerKeystore
    database: Database
    parts: ca.parts.Parts
    status: ocsp.parts.Parts
    released: list[IssuedCertificate] = field(default_factory=list)
    refused: list[CodedError] = field(default_factory=list)

    def issue(self) -> IssuedCertificate | None:
        """Ask for a certificate; what comes of it is noted."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ignored")])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        try:
            application = self.parts.registration.apply(
                profile="citizen-signature",
                csr=csr.public_bytes(Encoding.DER),
                subject={"SN": "Жамъян", "GN": "Өлзийхүү", "CN": "Ж.Өлзийхүү", "serialNumber": "PNOMN-000000000017"},
                holder="6f1d7a34-6a53-4f2f-9ed0-0d4a0d0f0001",
                evidence="visit:1",
            )
            made = self.parts.issuance.certify(application, actor="test")
        except CodedError as refusal:
            self.refused.append(refusal)
            return None
        self.released.append(made)
        return made

    def ask(self, issuer: str, serial: int) -> library.OCSPResponse | None:
        """The status service's answer about a serial, checked; None when it says to try later."""
        authority = self.parts.hierarchy.authority(issuer).certificate
        builder = library.OCSPRequestBuilder().add_certificate_by_hash(
            hashlib.sha256(authority.subject.public_bytes()).digest(), _key_hash(authority), serial, hashes.SHA256()
        )
        request = parse_request(builder.build().public_bytes(Encoding.DER))
        try:
            answer = library.load_der_ocsp_response(self.status.responder.answer(request).body)
        except TryLater:
            return None
        (responder,) = answer.certificates
        responder.verify_directly_issued_by(authority)
        key, algorithm = responder.public_key(), answer.signature_hash_algorithm
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert algorithm is not None
        key.verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(algorithm))
        assert answer.serial_number == serial
        return answer

    def back_in_time(self) -> None:
        """Certificates are issued again within the time promised."""
        deadline = time.monotonic() + BACK_WITHIN_SECONDS
        while self.issue() is None:
            assert time.monotonic() < deadline, f"issuance is not back: {self.refused[-1]}"
            time.sleep(0.02)

    def intents(self) -> list[IntentRow]:
        with self.database.reading() as session:
            return list(session.scalars(select(IntentRow)))

    def settle(self) -> None:
        """What a timer does a minute later."""
        self.parts.recovery.settle(min_age=timedelta(0))


def _key_hash(certificate: x509.Certificate) -> bytes:
    """RFC 6960 4.1.1: over the BIT STRING's content, without tag, length and unused bits."""
    from asn1crypto.x509 import Certificate

    info = Certificate.load(certificate.public_bytes(Encoding.DER))["tbs_certificate"]["subject_public_key_info"]
    return hashlib.sha256(bytes(info["public_key"])).digest()


def now() -> datetime:
    return datetime.now(UTC)


def assembled(database: Database, keystore: object, linter: Linter) -> ca.parts.Parts:
    return ca.parts.assemble(
        settings=CaSettings(),
        database=database,
        audit=AuditLog(now),
        clock=now,
        keystore=keystore,  # type: ignore[arg-type]
        linter=linter,
    )


@dataclass(frozen=True)
class Founded:
    """A token behind the shim and the database of the ceremony held on it."""

    settings: HsmSettings
    shim: FaultShim
    database: Path
    linter: Linter


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Founded:
    folder = tmp_path_factory.mktemp("founded")
    shim = FaultShim(build(tmp_path_factory.getbasetemp()), folder, SOFTHSM_MODULE)
    settings = HsmSettings(module=str(shim.path), pin_file=folder / "pin", softhsm_conf=folder / "softhsm2.conf")
    initialise_token(settings, "4402-not-a-secret")
    linter = Linter(on_loopback=True)
    linter.warm_up()
    database = Database(f"sqlite:///{folder / 'tamga.sqlite'}")
    database.create_all()
    keystore = open_token(settings)
    assembled(database, keystore, linter).ceremony.run_default(actor="test")
    keystore.close()
    database.close()
    return Founded(settings, shim, folder / "tamga.sqlite", linter)


@pytest.fixture(scope="module")
def lasting(founded: Founded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("lasting")
    database = Database(f"sqlite:///{shutil.copy(founded.database, folder)}")
    with Broker(founded.settings, folder / "broker", broker_workers=2, broker_deadline=1.0) as broker:
        keystore = broker.keystore()
        parts = assembled(database, keystore, founded.linter)
        status = status_service(parts, keystore, OcspSettings(reuse_seconds=0))  # every answer is signed when asked
        yield Town(founded.shim, broker, keystore, database, parts, status)
        founded.shim.clear()
        keystore.close()
    database.close()


def status_service(parts: ca.parts.Parts, keystore: BrokerKeystore, settings: OcspSettings) -> ocsp.parts.Parts:
    return ocsp.parts.assemble(
        settings=settings,
        clock=now,
        statuses=RegisterStatus(parts.hierarchy, parts.register),
        responders=RegisterResponders(parts.hierarchy, keystore),
    )


@pytest.fixture
def town(lasting: Town) -> Town:
    """One town for all tests: it is never started again, whatever befalls it."""
    lasting.shim.clear()
    lasting.shim.forget()
    lasting.released.clear()
    lasting.back_in_time()
    lasting.refused.clear()
    return lasting


@pytest.fixture
def upset_town(town: Town) -> Iterator[Town]:
    """For tests after which an operator has to act: he restarts the broker, and nothing else."""
    yield town
    town.shim.clear()
    town.broker.stop()
    town.broker.start()


def check_promises(town: Town, *, same_octets_twice: bool = False) -> None:
    """Whatever happened, register, audit log, token and status service tell one story."""
    town.settle()
    intents = town.intents()
    assert not [intent for intent in intents if intent.state in OPEN_STATES]
    with town.database.reading() as session:
        entered = list(session.scalars(select(CertificateRow)))
        verify(export(session))
    # Nothing is lost: what was released is registered, what was not is revocable and counts as revoked.
    by_id = {row.id: row for row in entered}
    assert {made.id for made in town.released} <= by_id.keys()
    assert {row.id for row in entered} == {intent.id for intent in intents if intent.state == "issued"}
    # No wrong signature left: each certificate verifies under its authority.
    for row in entered:
        certificate = x509.load_der_x509_certificate(row.der)
        certificate.verify_directly_issued_by(town.parts.hierarchy.authority(row.issuer).certificate)
    # Nothing was signed that is not on record, and nothing twice.
    signed = Counter(data for data in town.shim.signed() if len(data) == CA_HASH_OCTETS)
    recorded = {hashlib.sha384(intent.tbs).digest() for intent in intents}
    assert signed.keys() <= recorded
    assert max(signed.values(), default=0) <= (2 if same_octets_twice else 1)
    # The status service knows it all.
    for intent in intents[-20:]:
        answer = town.ask(intent.issuer, int.from_bytes(intent.serial, "big"))
        assert answer is not None
        good = intent.id in by_id and by_id[intent.id].state == State.GOOD
        assert (answer.certificate_status is library.OCSPCertStatus.GOOD) is good, intent.state


def refuse(function: str, code: Ckr) -> Callable[[FaultShim], None]:
    return lambda shim: shim.refuse(function, code)


def refuse_after(function: str, code: Ckr) -> Callable[[FaultShim], None]:
    return lambda shim: shim.refuse_after(function, code)


def take_away(code: Ckr) -> Callable[[FaultShim], None]:
    return lambda shim: shim.take_away(code)


FAULTS: dict[str, Callable[[FaultShim], None]] = {
    "a lost handle": refuse("C_Sign", Ckr.KEY_HANDLE_INVALID),
    "a lost session": refuse("C_SignInit", Ckr.SESSION_HANDLE_INVALID),
    "a nameless error": refuse("C_Sign", Ckr.CANCEL),
    "a device in trouble": refuse("C_Sign", Ckr.DEVICE_ERROR),
    "a token pulled out": take_away(Ckr.TOKEN_NOT_PRESENT),
    "a module that forgot us": take_away(Ckr.CRYPTOKI_NOT_INITIALIZED),
    "a refused request": refuse("C_Sign", Ckr.DATA_LEN_RANGE),
    "a full token": refuse("C_OpenSession", Ckr.SESSION_COUNT),
    "an operation left over": refuse("C_Sign", Ckr.OPERATION_ACTIVE),
    "signed but told otherwise": refuse_after("C_Sign", Ckr.DEVICE_ERROR),
    "a crash before the signature": lambda shim: shim.crash("C_Sign"),
    "a crash at the next search": lambda shim: shim.crash("C_FindObjects"),
    "a hang": lambda shim: shim.hang("C_Sign", seconds=600),
}
PERSISTENT = (HsmUnavailable, HsmBusy, HsmMisused)


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_lost_or_signed_twice(town: Town, fault: str) -> None:
    supervisor = town.broker.pid
    before = town.issue()
    assert before is not None
    FAULTS[fault](town.shim)
    during = [town.issue() for _ in range(2)]
    answer = town.ask(before.issuer, before.serial)
    assert answer is None or answer.certificate_status is library.OCSPCertStatus.GOOD
    town.parts.revocation.revoke(before.id, actor="test")
    answer = town.ask(before.issuer, before.serial)
    assert answer is None or answer.certificate_status is library.OCSPCertStatus.REVOKED
    assert all(isinstance(refusal, PERSISTENT) for refusal in town.refused)
    assert len(town.released) + len(town.refused) == 2 + len(during)
    town.shim.clear()
    town.back_in_time()
    assert town.broker.pid == supervisor
    check_promises(town)


def test_what_was_signed_and_told_lost_is_the_same_certificate(town: Town) -> None:
    """Custody asks again once after a lost handle: two signatures over the same octets, of which one is released."""
    before = len(town.intents())
    town.shim.refuse_after("C_Sign", Ckr.SESSION_HANDLE_INVALID, times=1)
    made = town.issue()
    assert made is not None
    assert len(town.intents()) == before + 1
    digest = hashlib.sha384(x509.load_der_x509_certificate(made.der).tbs_certificate_bytes).digest()
    assert town.shim.signed().count(digest) == 2
    check_promises(town, same_octets_twice=True)


def test_prepared_answers_go_on_while_the_token_is_away(town: Town) -> None:
    before = town.issue()
    assert before is not None
    keeping = replace(town, status=status_service(town.parts, town.keystore, OcspSettings()))
    first = keeping.ask(before.issuer, before.serial)
    assert first is not None
    town.shim.take_away(Ckr.DEVICE_REMOVED)
    again = keeping.ask(before.issuer, before.serial)
    assert again is not None
    assert again.signature == first.signature
    town.parts.revocation.revoke(before.id, actor="test")
    assert keeping.ask(before.issuer, before.serial) is None  # never good, once it is known to be revoked
    town.shim.clear()
    town.back_in_time()
    answer = keeping.ask(before.issuer, before.serial)
    assert answer is not None
    assert answer.certificate_status is library.OCSPCertStatus.REVOKED


def test_a_wrong_signature_is_never_released_and_its_key_rests_until_somebody_looked(upset_town: Town) -> None:
    town = upset_town
    before = town.issue()
    assert before is not None
    town.shim.flip("C_Sign", times=1)
    assert town.issue() is None
    town.shim.clear()
    assert town.issue() is None
    assert [type(refusal) for refusal in town.refused] == [SignatureMismatch] * 2
    assert town.broker.metrics()["quarantined"] == [before.issuer]
    answer = town.ask(before.issuer, before.serial)  # another key
    assert answer is not None
    assert answer.certificate_status is library.OCSPCertStatus.GOOD
    town.broker.stop()  # which only an operator does
    town.broker.start()
    town.back_in_time()
    check_promises(town)


def test_a_wrong_signature_of_a_status_is_never_sent(upset_town: Town) -> None:
    town = upset_town
    before = town.issue()
    assert before is not None
    assert town.ask(before.issuer, before.serial) is not None
    town.shim.flip("C_Sign", times=1)
    assert town.ask(before.issuer, before.serial) is None
    town.shim.clear()
    assert town.ask(before.issuer, before.serial) is None  # in quarantine
    town.back_in_time()
    assert town.broker.metrics()["quarantined"] == [f"ocsp-{before.issuer}-1"]


@pytest.mark.parametrize("fault", ["a device in trouble", "a token pulled out", "a crash before the signature"])
def test_a_revocation_list_that_cannot_be_signed_leaves_the_last_one(town: Town, fault: str) -> None:
    before = town.issue()
    assert before is not None
    town.parts.crls.publish(before.issuer, actor="test")
    last = town.parts.crls.current(before.issuer).der
    town.parts.revocation.revoke(before.id, actor="test")
    FAULTS[fault](town.shim)
    with pytest.raises((HsmUnavailable, HsmBusy)):
        town.parts.crls.publish(before.issuer, actor="test")
    assert town.parts.crls.current(before.issuer).der == last
    town.shim.clear()
    town.back_in_time()
    town.parts.crls.publish(before.issuer, actor="test")
    published = x509.load_der_x509_crl(town.parts.crls.current(before.issuer).der)
    assert published.get_revoked_certificate_by_serial_number(before.serial) is not None
    assert published.is_signature_valid(town.parts.hierarchy.authority(before.issuer).certificate.public_key())  # type: ignore[arg-type]


def test_a_wrong_pin_is_tried_once_and_only_a_restart_of_the_broker_helps(upset_town: Town) -> None:
    town = upset_town
    before = town.issue()
    assert before is not None
    town.broker.stop()
    logins = town.shim.calls("C_Login")
    town.shim.refuse("C_Login", Ckr.PIN_INCORRECT)
    town.broker.start()
    town.shim.clear()
    for _ in range(3):
        assert town.issue() is None
        assert town.ask(before.issuer, before.serial) is None
    assert {type(refusal) for refusal in town.refused} == {PinIncorrect}
    assert town.shim.calls("C_Login") == logins + 1
    town.broker.stop()
    town.broker.start()
    town.back_in_time()
    check_promises(town)


def test_a_storm_of_faults_under_load_breaks_no_promise(upset_town: Town) -> None:
    """Four issue without pause while the token crashes, hangs, forgets and is pulled out, and the broker is killed."""
    town, over = upset_town, threading.Event()

    def work() -> None:
        while not over.is_set():
            if town.issue() is None:
                time.sleep(0.02)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for disturb in (*FAULTS.values(), None):
            if disturb is None:
                town.broker.kill()
                town.broker.start()
            else:
                disturb(town.shim)
                time.sleep(0.3)
                town.shim.clear()
            _another_is_released(town)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert {type(refusal) for refusal in town.refused} <= {HsmUnavailable, HsmBusy, HsmMisused}
    check_promises(town)


def _another_is_released(town: Town) -> None:
    released, deadline = len(town.released), time.monotonic() + BACK_WITHIN_SECONDS
    while len(town.released) == released:
        assert time.monotonic() < deadline, f"issuance is not back: {town.refused[-1:]}"
        time.sleep(0.02)


def test_a_ceremony_that_its_token_interrupts_is_gone_on_with(founded: Founded, tmp_path: Path) -> None:
    """Every few signatures and every few keys the token fails, until the ceremony is over."""
    shim = FaultShim(founded.shim.path, tmp_path, SOFTHSM_MODULE)
    settings = HsmSettings(module=str(shim.path), pin_file=tmp_path / "pin", softhsm_conf=tmp_path / "softhsm2.conf")
    initialise_token(settings, "4402-not-a-secret")
    keystore = TokenKeystore(Sessions(settings, monotonic=itertools.count(step=3600).__next__))
    database = Database(f"sqlite:///{tmp_path / 'tamga.sqlite'}")
    database.create_all()
    parts = assembled(database, keystore, founded.linter)
    interruptions = 0
    for turn in range(60):
        shim.refuse("C_Sign", Ckr.DEVICE_ERROR, skip=4 + turn % 3, times=1)
        shim.refuse_after("C_GenerateKeyPair", Ckr.DEVICE_REMOVED, skip=4, times=1)
        try:
            parts.ceremony.run_default(actor="test")
            break
        except HsmUnavailable:
            interruptions += 1
            parts.recovery.settle(min_age=timedelta(0))
    shim.clear()
    assert interruptions > 3
    authorities = parts.hierarchy.authorities()
    expected = [authority.slug for authority in _authorities_of(founded)]
    assert [authority.slug for authority in authorities] == expected
    for authority in authorities:
        issuer = authority if authority.issuer is None else parts.hierarchy.authority(authority.issuer)
        authority.certificate.verify_directly_issued_by(issuer.certificate)
    keystore.check()
    with database.reading() as session:
        verify(export(session))
    keystore.close()
    database.close()


def _authorities_of(founded: Founded) -> Sequence[Authority]:
    database = Database(f"sqlite:///{founded.database}")
    try:
        return Hierarchy(database, now).authorities()
    finally:
        database.close()
