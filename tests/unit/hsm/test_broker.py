"""The broker under everything that can go wrong beside it, within it and at its socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from pkcs11 import Attribute, KeyType

from cli.context import Context
from cli.hsm import hsm
from core.errors import CodedError
from hsm.broker import wire
from hsm.broker.admission import Admission
from hsm.broker.wire import Operation
from hsm.client import BrokerKeystore
from hsm.errors import BrokerMisconfigured, HsmBusy, HsmUnavailable, KeyNotAllowed, PinIncorrect, SignatureMismatch
from hsm.keystore import KeyAlgorithm, KeyPurpose, open_token
from hsm.settings import HsmClient, HsmSettings
from hsm.wrapped import WrappedKeys
from tests.support.broker import Broker
from tests.support.processes import ServerDied
from tests.unit.hsm.hammer import sign

OWN = str(os.geteuid())
Brokers = Callable[..., Broker]


@pytest.fixture
def new_broker(tmp_path: Path) -> Iterator[Brokers]:
    """Brokers that are stopped at the test's end."""
    made: list[Broker] = []

    def make(settings: HsmSettings, **more: Any) -> Broker:
        made.append(Broker(settings, tmp_path / f"broker-{len(made)}", **more))
        return made[-1]

    yield make
    for broker in made:
        broker.stop()


@pytest.fixture
def settings(settings: HsmSettings) -> HsmSettings:
    """A token of its own with a CA's key, a responder's, and secrets."""
    keystore = open_token(settings)
    for label, purpose in (("ca", KeyPurpose.CERTIFICATE_SIGNING), ("ocsp-ca-1", KeyPurpose.OCSP)):
        keystore.generate(label, purpose, KeyAlgorithm.P256)
    keystore.generate_secret("mac", KeyPurpose.MAC)
    WrappedKeys(keystore).prepare()
    keystore.close()
    return settings


def eventually(attempt: Callable[[], object], *, seconds: float = 30) -> float:
    """How long it took until `attempt` raised no outage any more."""
    begun = time.monotonic()
    while True:
        try:
            attempt()
        except (HsmUnavailable, HsmBusy):
            if time.monotonic() - begun > seconds:
                raise
            time.sleep(0.02)
        else:
            return time.monotonic() - begun


def until(true: Callable[[], bool], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# Who may use which key ---------------------------------------------------------------------------------------------

RESPONDER = HsmClient(user="4242", room="ocsp", keys=("ocsp-*",))
AUTHORITY = HsmClient(user="4243", room="ca", keys=("ca", "wrapping-*"), operations=("sign", "wrap", "list"))


def test_a_client_may_do_what_it_is_listed_with_and_nothing_else() -> None:
    admission = Admission((RESPONDER, AUTHORITY), own_user=1)
    admission.check(4242, Operation.SIGN, ("ocsp-ca-1",))
    admission.check(4242, Operation.PUBLIC_KEY, ("ocsp-ca-1",))
    admission.check(4242, Operation.METRICS, ())
    admission.check(4243, Operation.REWRAP, ("wrapping-1", "wrapping-2"))
    refused = (
        (4242, Operation.SIGN, ("ca",)),
        (4242, Operation.PUBLIC_KEY, ("ca",)),
        (4242, Operation.HAS, ("ca",)),
        (4242, Operation.DESTROY, ("ocsp-ca-1",)),
        (4242, Operation.MAC, ("ocsp-ca-1",)),
        (4242, Operation.KEYS, ()),
        (4242, Operation.QUARANTINE, ("ca",)),
        (4243, Operation.SIGN, ("ocsp-ca-1",)),
        (4243, Operation.REWRAP, ("wrapping-1", "ocsp-ca-1")),
        (4243, Operation.REWRAP, ("rogue", "wrapping-1")),
        (4243, Operation.GENERATE, ("ca",)),
        (9999, Operation.METRICS, ()),
        (9999, Operation.CHECK, ()),
    )
    for user, operation, labels in refused:
        for _ in range(2):
            with pytest.raises(KeyNotAllowed):
                admission.check(user, operation, labels)


def test_rights_of_two_entries_are_not_mixed() -> None:
    two = (
        HsmClient(user="7", room="a", keys=("a",), operations=("sign",)),
        HsmClient(user="7", room="b", keys=("b",), operations=("mac",)),
    )
    admission = Admission(two, own_user=1)
    admission.check(7, Operation.SIGN, ("a",))
    admission.check(7, Operation.MAC, ("b",))
    for operation, label in ((Operation.SIGN, "b"), (Operation.MAC, "a")):
        with pytest.raises(KeyNotAllowed):
            admission.check(7, operation, (label,))
    assert admission.room(7) == "a"


def test_the_brokers_own_user_may_everything_unless_it_is_listed() -> None:
    Admission((RESPONDER,), own_user=1).check(1, Operation.DESTROY, ("ca",))
    with pytest.raises(KeyNotAllowed):
        Admission((RESPONDER,), own_user=4242).check(4242, Operation.DESTROY, ("ca",))


def test_an_unknown_user_stops_the_start() -> None:
    with pytest.raises(BrokerMisconfigured, match="nobody-of-that-name"):
        Admission((HsmClient(user="nobody-of-that-name", room="x", keys=("*",)),), own_user=1)


def test_a_refused_request_is_answered_and_logged_with_user_and_key(settings: HsmSettings, new_broker: Brokers) -> None:
    listed = HsmClient(user=OWN, room="ocsp", keys=("ocsp-*",), operations=("sign", "list"))
    broker = new_broker(settings, clients=(listed,)).start()
    client = broker.keystore()
    sign(client.key("ocsp-ca-1"), b"message")
    (only,) = client.keys()
    assert only.label == "ocsp-ca-1"
    attempts: tuple[Callable[[], object], ...] = (
        lambda: client.key("ca"),
        lambda: client.mac("mac", b""),
        lambda: client.destroy("ocsp-ca-1"),
        lambda: WrappedKeys(client).generate("P-256", b"me"),
    )
    for attempt in attempts:
        with pytest.raises(KeyNotAllowed) as refusal:
            attempt()
        assert (refusal.value.code, refusal.value.exit_code) == ("key_not_allowed", 3)
    client.close()
    logged = [(event["user"], event["room"], event["labels"]) for event in broker.events("hsm_key_not_allowed")]
    assert logged == [(int(OWN), "ocsp", [label]) for label in ("ca", "mac", "ocsp-ca-1", "wrapping-1")]
    assert open_token(settings).has("ocsp-ca-1")


# Workers that die ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_under_load_is_replaced_and_no_answer_is_wrong(
    settings: HsmSettings, new_broker: Brokers, number: signal.Signals
) -> None:
    broker = new_broker(settings, broker_deadline=20).start()
    client = broker.keystore()
    key, stop = client.key("ca"), threading.Event()
    made, lost, wrong = [0], [0], []

    def load() -> None:
        while not stop.is_set():
            try:
                sign(key, b"message")  # verified before it is released
                made[0] += 1
            except HsmUnavailable:
                lost[0] += 1
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for kill in range(1, 6):
        os.kill(broker.workers()[kill % 2], number)
        until(lambda expected=kill: broker.metrics()["restarts"] == {"crash": expected})  # type: ignore[misc]
    before = made[0]
    until(lambda: made[0] > before)
    stop.set()
    for thread in threads:
        thread.join()
    client.close()
    assert wrong == []
    assert lost[0] <= 5  # one request for each worker that died, at most
    assert len(broker.workers()) == 2


def test_a_worker_that_hangs_is_ended_and_replaced(settings: HsmSettings, new_broker: Brokers) -> None:
    broker = new_broker(settings, broker_workers=1, broker_deadline=0.5).start()
    client = broker.keystore()
    key = client.key("ca")
    (hanging,) = broker.workers()
    os.kill(hanging, signal.SIGSTOP)
    with pytest.raises(HsmUnavailable, match="lost"):
        sign(key, b"message")
    eventually(lambda: sign(key, b"message"))
    client.close()
    assert not is_running(hanging)
    assert broker.metrics()["restarts"] == {"hang": 1}


def test_more_than_the_queue_holds_is_refused_at_once(settings: HsmSettings, new_broker: Brokers) -> None:
    broker = new_broker(settings, broker_workers=1, broker_queue=1, broker_deadline=20).start()
    client = broker.keystore()
    key = client.key("ca")
    (worker,) = broker.workers()
    os.kill(worker, signal.SIGSTOP)
    waiting = [threading.Thread(target=sign, args=(key, b"message")) for _ in range(2)]
    waiting[0].start()
    until(lambda: broker.metrics()["workers"][0]["state"] == "busy")
    waiting[1].start()
    until(lambda: broker.metrics()["queue"] == 1)
    with pytest.raises(HsmBusy):
        sign(key, b"message")
    os.kill(worker, signal.SIGCONT)
    for thread in waiting:
        thread.join()
    sign(key, b"message")
    client.close()
    assert broker.metrics()["restarts"] == {}


def test_what_waits_in_vain_is_told_so_at_the_deadline(settings: HsmSettings, new_broker: Brokers) -> None:
    broker = new_broker(settings, broker_workers=1, broker_deadline=0.5).start()
    client = broker.keystore()
    key = client.key("ca")
    os.kill(broker.workers()[0], signal.SIGSTOP)
    failures: list[str] = []

    def attempt() -> None:
        try:
            sign(key, b"message")
        except CodedError as error:
            failures.append(error.code)

    threads = [threading.Thread(target=attempt) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()
    assert "hsm_unavailable" in failures
    assert set(failures) <= {"hsm_unavailable", "hsm_busy"}


# Tokens that fail ---------------------------------------------------------------------------------------------------


def test_a_wrong_pin_is_tried_once_by_all_workers_together(
    settings: HsmSettings, new_broker: Brokers, pin: str
) -> None:
    settings.pin_file.write_text("wrong-pin\n")
    broker = new_broker(settings, broker_workers=3).start(until=("latched",))
    client = broker.keystore()
    settings.pin_file.write_text(pin + "\n")
    for _ in range(3):
        with pytest.raises(PinIncorrect):
            client.key("ca")
    assert broker.state() == "latched"
    assert len(broker.events("hsm_pin_refused")) == 1
    broker.stop()
    broker.start(until=("up",))
    sign(client.key("ca"), b"message")
    client.close()
    assert pin not in broker.log.read_text()
    assert "wrong-pin" not in broker.log.read_text()


def test_a_pin_file_that_is_open_to_others_is_an_outage_until_it_is_closed(
    settings: HsmSettings, new_broker: Brokers
) -> None:
    settings.pin_file.chmod(0o644)
    broker = new_broker(settings).start(until=("down",))
    client = broker.keystore()
    with pytest.raises(CodedError, match="0600") as refusal:
        client.key("ca")
    assert refusal.value.code == "hsm_pin_file_unsafe"
    settings.pin_file.chmod(0o600)
    until(lambda: broker.state() == "up")
    sign(client.key("ca"), b"message")
    client.close()


def test_a_token_that_goes_and_comes_back_is_an_outage_with_one_alarm(
    settings: HsmSettings, new_broker: Brokers, tmp_path: Path
) -> None:
    broker = new_broker(settings).start()
    client = broker.keystore()
    key = client.key("ca")
    (tmp_path / "tokens").rename(tmp_path / "away")
    (tmp_path / "tokens").mkdir()

    def away() -> bool:
        with pytest.raises(HsmUnavailable):
            sign(key, b"message")
        return broker.state() == "down"

    until(away)
    for _ in range(20):
        with pytest.raises(HsmUnavailable):
            sign(key, b"message")
    (tmp_path / "tokens").rmdir()
    (tmp_path / "away").rename(tmp_path / "tokens")
    eventually(lambda: sign(key, b"message"), seconds=20)
    client.close()
    assert len(broker.events("hsm_breaker_open")) == 1
    assert broker.metrics()["breaker_openings"] == 1


def test_a_broker_starts_without_its_token_and_serves_when_it_is_there(
    settings: HsmSettings, new_broker: Brokers, tmp_path: Path
) -> None:
    (tmp_path / "tokens").rename(tmp_path / "away")
    (tmp_path / "tokens").mkdir()
    broker = new_broker(settings).start(until=("down",))
    client = broker.keystore()
    with pytest.raises(HsmUnavailable):
        client.key("ca")
    (tmp_path / "tokens").rmdir()
    (tmp_path / "away").rename(tmp_path / "tokens")
    eventually(lambda: client.key("ca"))
    client.close()


def test_a_key_in_quarantine_signs_for_nobody_until_the_broker_restarts(
    settings: HsmSettings, new_broker: Brokers
) -> None:
    broker = new_broker(settings).start()
    client = broker.keystore()
    client.report_mismatch("ca")
    for _ in range(3):
        with pytest.raises(SignatureMismatch):
            sign(client.key("ca"), b"message")
    sign(client.key("ocsp-ca-1"), b"message")
    assert broker.metrics()["quarantined"] == ["ca"]
    assert [event["label"] for event in broker.events("hsm_key_quarantined")] == ["ca"]
    broker.stop()
    broker.start()
    sign(client.key("ca"), b"message")
    client.close()


# K1: keys that could leave ------------------------------------------------------------------------------------------


@pytest.fixture
def with_loose_key(settings: HsmSettings) -> HsmSettings:
    keystore = open_token(settings)
    loose = {Attribute.EXTRACTABLE: True}
    keystore.sessions.run(
        lambda anchor: anchor.session.generate_key(KeyType.AES, 256, label="loose", id=b"1", store=True, template=loose)
    )
    keystore.close()
    return settings


def test_in_production_a_key_that_could_leave_stops_the_start(with_loose_key: HsmSettings, new_broker: Brokers) -> None:
    broker = new_broker(with_loose_key, strict=True)
    with pytest.raises(ServerDied, match="ended with 3") as death:
        broker.start(until=("up", "down"))
    assert "loose" in str(death.value)
    assert not broker.socket.exists()


def test_on_a_development_instance_clients_find_such_a_key(with_loose_key: HsmSettings, new_broker: Brokers) -> None:
    broker = new_broker(with_loose_key).start(until=("up",))
    client = broker.keystore()
    with pytest.raises(CodedError) as refusal:
        client.check()
    client.close()
    assert refusal.value.code == "key_extractable"


# The socket ---------------------------------------------------------------------------------------------------------


def test_a_token_has_one_broker(settings: HsmSettings, new_broker: Brokers) -> None:
    first = new_broker(settings).start()
    with pytest.raises(ServerDied, match="ended with 5"):
        new_broker(settings).start()
    assert first.state() == "up"


def test_the_socket_is_its_owners_and_goes_with_the_broker(settings: HsmSettings, new_broker: Brokers) -> None:
    broker = new_broker(settings).start()
    assert broker.socket.stat().st_mode & 0o777 == 0o600
    workers = broker.workers()
    broker.stop()
    assert not broker.socket.exists()
    assert not any(is_running(process) for process in workers)


def test_a_named_group_may_connect(settings: HsmSettings, new_broker: Brokers) -> None:
    broker = new_broker(settings, broker_group=str(os.getegid())).start()
    found = broker.socket.stat()
    assert (found.st_mode & 0o777, found.st_gid) == (0o660, os.getegid())


def test_a_socket_that_others_could_replace_is_not_made(settings: HsmSettings, new_broker: Brokers) -> None:
    broker = new_broker(settings)
    for mode in (0o777, 0o770):
        broker.directory.chmod(mode)
        with pytest.raises(ServerDied, match="ended with 2"):
            broker.start()
    broker.directory.chmod(0o755)
    broker.socket.write_text("no socket")
    with pytest.raises(ServerDied, match="ended with 2"):
        broker.start()
    assert broker.socket.read_text() == "no socket"


def test_without_a_socket_there_is_no_broker(settings: HsmSettings, new_broker: Brokers) -> None:
    broker = new_broker(settings)
    configuration = broker.directory / "tamga.toml"
    lines = [line for line in configuration.read_text().splitlines() if not line.startswith("broker =")]
    configuration.write_text("\n".join(lines))
    with pytest.raises(ServerDied, match="names no socket"):
        broker.start()


def test_a_broker_that_was_killed_leaves_no_worker_and_no_lock(settings: HsmSettings, new_broker: Brokers) -> None:
    broker = new_broker(settings).start()
    workers = broker.workers()
    os.kill(broker.pid, signal.SIGKILL)
    until(lambda: not any(is_running(process) for process in workers))
    broker.kill()
    broker.start()
    client = broker.keystore()
    sign(client.key("ca"), b"message")
    client.close()


def test_sigterm_lets_what_is_under_way_end(settings: HsmSettings, new_broker: Brokers) -> None:
    broker = new_broker(settings, broker_workers=1, broker_deadline=20).start()
    client = broker.keystore()
    key = client.key("ca")
    (worker,) = broker.workers()
    os.kill(worker, signal.SIGSTOP)
    signatures: list[bytes] = []
    waiting = threading.Thread(target=lambda: signatures.append(sign(key, b"message")))
    waiting.start()
    until(lambda: broker.metrics()["workers"][0]["state"] == "busy")
    os.kill(broker.pid, signal.SIGTERM)
    until(lambda: broker.state() == "away")
    os.kill(worker, signal.SIGCONT)
    waiting.join()
    client.close()
    assert len(signatures) == 1


NOISE = {
    "noise": b"\xff" * 4096,
    "another version": wire.HEADER.pack(0, 9, Operation.METRICS, 0, 1),
    "too long": wire.HEADER.pack(wire.MAX_REQUEST_OCTETS + 1, wire.VERSION, Operation.METRICS, 0, 1),
    "an order to a worker": wire.frame(Operation.OPEN, 1, (b"check",)),
    "no operation": wire.frame(0, 1),
    "no label": wire.frame(Operation.SIGN, 1),
    "a label that is no text": wire.frame(Operation.SIGN, 1, (b"\xff\xfe",)),
    "a field beyond the end": wire.HEADER.pack(4, wire.VERSION, Operation.SIGN, 0, 1) + struct.pack("!I", 99),
    "two requests at once": wire.frame(Operation.METRICS, 1) * 2,
}


@pytest.fixture(scope="module")
def shared_broker(
    keystore: object, shared_settings: HsmSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker]:
    with Broker(shared_settings, tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.mark.parametrize("what", NOISE)
def test_who_does_not_speak_the_protocol_is_hung_up_on(shared_broker: Broker, what: str) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.settimeout(30)
        stranger.connect(str(shared_broker.socket))
        stranger.sendall(NOISE[what])
        assert stranger.recv(1024) == b""
    assert shared_broker.state() == "up"


@pytest.mark.parametrize("fields", [(b"mac",), (b"mac", b"", b""), (b"mac", b"", *[b""] * 12)])
def test_a_request_of_another_form_is_refused_and_nothing_else_happens(
    shared_broker: Broker, fields: tuple[bytes, ...]
) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.settimeout(30)
        stranger.connect(str(shared_broker.socket))
        stranger.sendall(wire.frame(Operation.MAC, 7, fields))
        answer = wire.receive(stranger, wire.MAX_REPLY_OCTETS)
        assert answer is not None
        told = wire.parsed(answer)
    assert (told.number, told.fields[0]) == (7, b"hsm_request_refused")
    assert shared_broker.metrics()["restarts"] == {}


def test_a_request_may_arrive_in_pieces_and_its_sender_may_leave(shared_broker: Broker) -> None:
    request = wire.frame(Operation.HAS, 3, (b"root",))
    with socket.socket(socket.AF_UNIX) as slow:
        slow.settimeout(30)
        slow.connect(str(shared_broker.socket))
        for octet in request:
            slow.sendall(bytes([octet]))
        answer = wire.receive(slow, wire.MAX_REPLY_OCTETS)
        assert answer is not None
        assert wire.parsed(answer).fields == (b"\x01",)
    for length in (1, len(request) - 1, len(request)):
        with socket.socket(socket.AF_UNIX) as impatient:
            impatient.connect(str(shared_broker.socket))
            impatient.sendall(request[:length])
    assert shared_broker.state() == "up"


def test_the_broker_counts_what_it_did(shared_broker: Broker) -> None:
    client: BrokerKeystore = shared_broker.keystore()
    before = shared_broker.metrics()
    for _ in range(3):
        sign(client.key("responder"), b"message")
    with pytest.raises(CodedError):
        client.key("nobody")
    client.close()
    after = shared_broker.metrics()

    def count(told: dict[str, Any], operation: str, outcome: str) -> int:
        rows = (row for row in told["requests"] if (row["operation"], row["outcome"]) == (operation, outcome))
        return sum(row["count"] for row in rows)

    assert count(after, "sign", "done") - count(before, "sign", "done") == 3
    assert count(after, "public_key", "key_not_found") - count(before, "public_key", "key_not_found") == 1
    assert sum(after["latency"]["counts"]) - sum(before["latency"]["counts"]) == 5
    assert len(after["latency"]["counts"]) == len(after["latency"]["bounds_seconds"]) + 1
    assert after["queue"] == 0


def test_a_worker_cannot_be_looked_into_by_its_own_user(shared_broker: Broker) -> None:
    """Another program of the same user, such as a web process, could otherwise read the keys out of its memory."""
    for process in shared_broker.workers():
        owner = Path(f"/proc/{process}/mem").stat().st_uid
        limits = Path(f"/proc/{process}/limits").read_text()
        assert owner == 0  # proc(5): what is not dumpable belongs to root
        assert any(line.split()[4:6] == ["0", "0"] for line in limits.splitlines() if line.startswith("Max core"))


def test_the_status_command_tells_of_the_broker(shared_broker: Broker) -> None:
    context = Context()
    context.__dict__["settings"] = SimpleNamespace(hsm=shared_broker.settings)
    told = CliRunner().invoke(hsm, ["status", "--json"], obj=context)
    assert json.loads(told.stdout)["result"]["broker"]["state"] == "up"
    assert f"broker {shared_broker.pid} is up: 2 workers" in CliRunner().invoke(hsm, ["status"], obj=context).stdout
