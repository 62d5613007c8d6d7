"""A client of the broker is a keystore like any other: same answers, same errors, same keys for every builder."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.jwk import ECKey

from hsm.broker import wire
from hsm.broker.wire import Operation, Outcome
from hsm.client import BrokerKeystore
from hsm.errors import HsmMisused, HsmUnavailable, KeyExists, KeyNotFound, SealBroken, SignatureMismatch
from hsm.jwk import token_jwk
from hsm.keys import TokenEllipticCurveKey, TokenRsaKey
from hsm.keystore import KeyAlgorithm, KeyPurpose, Keystore, open_keystore
from hsm.objects import spki
from hsm.settings import HsmSettings
from hsm.token_keystore import TokenKeystore
from tests.support.broker import Broker
from tests.unit.hsm.hammer import sign, use_everything
from tests.unit.hsm.test_sessions import in_threads

ECDSA_256 = ec.ECDSA(hashes.SHA256())


@pytest.fixture(scope="module")
def broker(
    keystore: Keystore, shared_settings: HsmSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker]:
    with Broker(shared_settings, tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def client(broker: Broker) -> Iterator[BrokerKeystore]:
    made = broker.keystore()
    yield made
    made.close()


def test_the_settings_alone_choose_who_is_asked(broker: Broker, shared_settings: HsmSettings) -> None:
    asking, owning = open_keystore(broker.settings), open_keystore(shared_settings)
    assert (type(asking), type(owning)) == (BrokerKeystore, TokenKeystore)
    assert asking.keys() == owning.keys()
    asking.close()


def test_both_keystores_tell_the_same(client: BrokerKeystore, keystore: TokenKeystore) -> None:
    assert client.keys() == keystore.keys()
    assert client.status() == keystore.status()
    assert (client.has("root"), client.has("nobody")) == (True, False)
    assert client.key("root").public_key() == keystore.key("root").public_key()
    client.check()


def test_what_one_keystore_makes_the_other_opens(client: BrokerKeystore, keystore: TokenKeystore) -> None:
    assert client.mac("mac", b"data") == keystore.mac("mac", b"data")
    assert keystore.unseal("seal", client.seal("seal", b"secret", b"row 1"), b"row 1") == b"secret"
    assert client.unseal("seal", keystore.seal("seal", b"secret", b"row 1"), b"row 1") == b"secret"
    with pytest.raises(SealBroken):
        client.unseal("seal", keystore.seal("seal", b"secret", b"row 1"), b"row 2")


def test_keys_are_made_and_destroyed_through_the_broker(client: BrokerKeystore, keystore: TokenKeystore) -> None:
    for _ in range(3):  # each worker must forget what another one has destroyed
        made = client.generate("short-lived", KeyPurpose.OCSP, KeyAlgorithm.P256)
        for _ in range(4):
            sign(made, b"message")
        with pytest.raises(KeyExists):
            client.generate("short-lived", KeyPurpose.OCSP, KeyAlgorithm.P256)
        client.destroy("short-lived")
        with pytest.raises(KeyNotFound):
            client.key("short-lived")
    client.generate_secret("another-mac", KeyPurpose.MAC)
    assert keystore.mac("another-mac", b"") == client.mac("another-mac", b"")
    client.destroy("another-mac")
    with pytest.raises(HsmMisused):
        client.generate("un named", KeyPurpose.OCSP, KeyAlgorithm.P256)


def test_a_key_that_became_another_one_does_not_sign(client: BrokerKeystore) -> None:
    """A signature under the name of a key that is not the one whose public key the caller has would be worthless."""
    first = client.generate("replaced", KeyPurpose.OCSP, KeyAlgorithm.P256)
    client.destroy("replaced")
    with pytest.raises(HsmUnavailable, match="not found"):
        sign(first, b"message")
    second = client.generate("replaced", KeyPurpose.OCSP, KeyAlgorithm.P256)
    with pytest.raises(HsmUnavailable, match="another one"):
        sign(first, b"message")
    sign(second, b"message")
    client.destroy("replaced")


@pytest.mark.parametrize("algorithm", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()], ids=lambda a: a.name)
def test_signatures_of_client_keys_verify_outside(client: BrokerKeystore, algorithm: hashes.HashAlgorithm) -> None:
    for label in ("root", "responder"):
        key = client.key(label)
        assert isinstance(key, TokenEllipticCurveKey)
        key.public_key().verify(key.sign(b"message", ec.ECDSA(algorithm)), b"message", ec.ECDSA(algorithm))
    modulus = client.key("rsa")
    assert isinstance(modulus, TokenRsaKey)
    for scheme in (padding.PKCS1v15(), padding.PSS(padding.MGF1(algorithm), padding.PSS.MAX_LENGTH)):
        signature = modulus.sign(b"message", scheme, algorithm)
        modulus.public_key().verify(signature, b"message", scheme, algorithm)


def test_builders_and_tokens_take_client_keys(client: BrokerKeystore) -> None:
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")]), datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(client.key("root").public_key())
    dated = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1)).serial_number(7)
    certificate = dated.sign(client.key("root"), hashes.SHA384())
    certificate.verify_directly_issued_by(certificate)
    key = token_jwk(client.key("responder"), kid="one", alg="ES256")
    token = jwt.encode({"alg": "ES256"}, {"sub": "x"}, key, algorithms=["ES256"])
    assert jwt.decode(token, ECKey.import_key(key.as_dict(private=False)), algorithms=["ES256"]).claims == {"sub": "x"}


def test_many_threads_share_a_client(client: BrokerKeystore) -> None:
    assert in_threads(8, lambda number: use_everything(client, f"thread {number}", 5)) == []


def test_a_child_uses_its_parents_client(client: BrokerKeystore) -> None:
    key = client.key("responder")
    sign(key, b"before the fork")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            use_everything(client, "child", 5)
            status = 0
        finally:
            os._exit(status)
    use_everything(client, "parent", 5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_request_that_is_too_long_is_not_sent(client: BrokerKeystore) -> None:
    with pytest.raises(HsmMisused, match="65536"):
        client.mac("mac", b"x" * 65536)
    assert len(client.mac("mac", b"x" * 60000)) == 32


def test_a_restarted_broker_is_found_again(broker: Broker, tmp_path: Path, shared_settings: HsmSettings) -> None:
    other = Broker(shared_settings, tmp_path / "other")
    client = other.keystore()
    with pytest.raises(HsmUnavailable, match="cannot be reached"):
        client.has("root")
    broker.stop()
    try:
        other.start()
        key = client.key("responder")
        in_threads(4, lambda number: sign(key, b"so that there are several connections") and None)
        other.kill()
        with pytest.raises(HsmUnavailable):
            sign(key, b"message")
        other.start()
        sign(key, b"message")
    finally:
        client.close()
        other.stop()
        broker.start()


# A broker that misbehaves ------------------------------------------------------------------------------------------

Answer = Callable[[bytes], bytes | None]


@contextmanager
def listening(path: Path, answer: Answer) -> Iterator[list[Operation]]:
    """Somebody who answers as `answer` says, or hangs up; yields what was asked."""
    asked: list[Operation] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    while request := wire.receive(connection, wire.MAX_REQUEST_OCTETS):
                        asked.append(Operation(wire.parsed(request).kind))
                        reply = answer(request)
                        if reply is None:
                            break
                        connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        yield asked
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_only_what_changes_nothing_is_asked_twice(tmp_path: Path, client: BrokerKeystore) -> None:
    key_id = b"k" * 20
    with listening(tmp_path / "sock", lambda request: None) as asked:
        unlucky = BrokerKeystore(tmp_path / "sock")
        task = wire.task_of((b"ecdsa", b"sha256", b"0", b"d" * 32))
        refused: tuple[Callable[[], object], ...] = (
            lambda: unlucky.sign_by_name("root", key_id, task),
            lambda: unlucky.seal("seal", b"", b""),
            lambda: unlucky.generate_secret("new", KeyPurpose.MAC),
            lambda: unlucky.destroy("root"),
            lambda: unlucky.has("root"),
            lambda: unlucky.mac("mac", b""),
        )
        for ask in refused:
            with pytest.raises(HsmUnavailable, match="went away"):
                ask()
        unlucky.close()
    assert asked == [
        Operation.SIGN, Operation.SEAL, Operation.GENERATE_SECRET, Operation.DESTROY,
        Operation.HAS, Operation.HAS, Operation.MAC, Operation.MAC,
    ]  # fmt: skip


def test_a_wrong_signature_never_leaves_the_client_and_is_reported(tmp_path: Path, client: BrokerKeystore) -> None:
    public_key = client.key("responder").public_key()
    other = ec.generate_private_key(ec.SECP256R1())

    def swapped(request: bytes) -> bytes:
        asked = wire.parsed(request)
        if asked.kind == Operation.PUBLIC_KEY:
            return wire.frame(Outcome.DONE, asked.number, (spki(public_key),))
        signature = other.sign(b"message", ECDSA_256) if asked.kind == Operation.SIGN else b""
        return wire.frame(Outcome.DONE, asked.number, (signature,))

    with listening(tmp_path / "sock", swapped) as asked:
        deceived = BrokerKeystore(tmp_path / "sock")
        for _ in range(2):
            with pytest.raises(SignatureMismatch):
                sign(deceived.key("responder"), b"message")
        deceived.close()
    # The broker decides how long: once an operator has restarted it, it may be asked again.
    assert asked == [Operation.PUBLIC_KEY, *[Operation.SIGN, Operation.QUARANTINE] * 2]


@pytest.mark.parametrize(
    "reply",
    [
        b"\xff" * 64,
        wire.HEADER.pack(0, 9, Outcome.DONE, 0, 1),
        wire.HEADER.pack(2**31, wire.VERSION, Outcome.DONE, 0, 1),
        wire.frame(Outcome.DONE, 4711, (b"",)),
        wire.frame(Outcome.DONE, 1, (b"",)) * 2,
        wire.HEADER.pack(9, wire.VERSION, Outcome.DONE, 0, 1) + b"\xff" * 9,
        wire.frame(Outcome.FAILED, 1, (b"no_such_code", b"what?", b"{}")),
        wire.frame(Outcome.FAILED, 1, (b"?",)),
    ],
    ids=["noise", "version", "length", "number", "two", "fields", "code", "error"],
)
def test_an_answer_that_cannot_be_read_is_an_outage(tmp_path: Path, reply: bytes) -> None:
    with listening(tmp_path / "sock", lambda request: reply):
        client = BrokerKeystore(tmp_path / "sock")
        with pytest.raises(HsmUnavailable):
            client.has("root")
        client.close()


def test_a_broker_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen()
        client = BrokerKeystore(tmp_path / "sock", deadline_seconds=-0.6)  # which leaves a tenth of a second of grace
        with pytest.raises(HsmUnavailable, match="in time"):
            client.has("root")
        client.close()
