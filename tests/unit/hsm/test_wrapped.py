"""Wrapped keys behave alike in a process that has the token and in one that asks the broker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag

from hsm.errors import HsmMisused, KeyNotFound, WrappedKeyRefused
from hsm.keys import Scheme, SignTask, TokenEllipticCurveKey, TokenRsaKey
from hsm.keystore import KeyAlgorithm, KeyPurpose, Keystore, open_token
from hsm.module import module_at
from hsm.pin import write_pin
from hsm.settings import HsmSettings
from hsm.token_keystore import TokenKeystore
from hsm.wrapped import WrappedKey, WrappedKeys
from hsm.wrapping import bound_octets, unwrapped
from tests.support.broker import Broker
from tests.support.tools import require_tool, run

ECDSA_256 = ec.ECDSA(hashes.SHA256())
ANNA, BOLD = b"person anna", b"person bold"
TASK = SignTask(Scheme.ECDSA, "sha256", b"d" * 32)


@pytest.fixture(scope="module")
def broker(
    keystore: Keystore, shared_settings: HsmSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker]:
    with Broker(shared_settings, tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(params=["in this process", "through the broker"])
def custody(request: pytest.FixtureRequest, keystore: TokenKeystore) -> Iterator[Keystore]:
    if request.param == "in this process":
        yield keystore
        return
    client = request.getfixturevalue("broker").keystore()
    yield client
    client.close()


@pytest.fixture
def wrapped_keys(custody: Keystore) -> WrappedKeys:
    return WrappedKeys(custody)


@pytest.fixture
def annas(wrapped_keys: WrappedKeys) -> WrappedKey:
    return wrapped_keys.generate(KeyAlgorithm.P256, ANNA)


def objects(keystore: TokenKeystore) -> int:
    return keystore.sessions.run(lambda anchor: len(list(anchor.session.get_objects())))


def signs(wrapped_keys: WrappedKeys, wrapped: WrappedKey, context: bytes) -> bool:
    with wrapped_keys.opened(wrapped, context) as key:
        assert isinstance(key, TokenEllipticCurveKey)
        key.public_key().verify(key.sign(b"contract", ECDSA_256), b"contract", ECDSA_256)
    return True


def binding_of(keystore: TokenKeystore, wrapped: WrappedKey) -> bytes:
    """Anna's MAC over a forgery, as only who has the token to himself could make it."""
    binding = keystore.secret("wrapping-1-mac", KeyPurpose.MAC)
    return binding.use(lambda key: bytes(key.sign(bound_octets(wrapped, ANNA), mechanism=Mechanism.SHA256_HMAC)))


@pytest.mark.parametrize(("algorithm", "octets"), [(KeyAlgorithm.P256, 80), (KeyAlgorithm.P384, 88)])
def test_a_wrapped_key_signs_for_its_owner(wrapped_keys: WrappedKeys, algorithm: KeyAlgorithm, octets: int) -> None:
    wrapped = wrapped_keys.generate(algorithm, ANNA)
    assert (len(wrapped.blob), len(wrapped.mac), wrapped.algorithm) == (octets, 32, algorithm.value)
    public_key = serialization.load_der_public_key(wrapped.public_key)
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    with wrapped_keys.opened(wrapped, ANNA) as key:
        assert isinstance(key, TokenEllipticCurveKey)
        assert key.public_key() == public_key
        public_key.verify(key.sign(b"contract", ECDSA_256), b"contract", ECDSA_256)


def test_an_rsa_key_is_wrapped_too(
    keystore: TokenKeystore, custody: Keystore, wrapped_keys: WrappedKeys
) -> None:
    wrapped = wrapped_keys.generate(KeyAlgorithm.RSA3072, ANNA)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    with wrapped_keys.opened(wrapped, ANNA) as key:
        assert isinstance(key, TokenRsaKey)
        for scheme in (padding.PKCS1v15(), pss):
            signature = key.sign(b"contract", scheme, hashes.SHA256())
            key.public_key().verify(signature, b"contract", scheme, hashes.SHA256())
    public_key = serialization.load_der_public_key(wrapped.public_key)
    assert isinstance(public_key, rsa.RSAPublicKey)
    assert public_key.key_size == 3072
    before = objects(keystore)
    impossible = SignTask(Scheme.RSA_PSS, "sha256", b"d" * 32, salt_octets=1000)
    with pytest.raises(HsmMisused, match="salt"):
        custody.sign_wrapped(wrapped, ANNA, impossible)
    assert objects(keystore) == before


def test_making_and_using_wrapped_keys_leaves_nothing_in_the_token(
    keystore: TokenKeystore, wrapped_keys: WrappedKeys
) -> None:
    before = objects(keystore)
    for number in range(20):
        context = f"person {number}".encode()
        assert signs(wrapped_keys, wrapped_keys.generate(KeyAlgorithm.P256, context), context)
    assert objects(keystore) == before


def test_a_key_is_in_the_token_only_while_it_signs(keystore: TokenKeystore) -> None:
    wrapped_keys = WrappedKeys(keystore)
    annas = wrapped_keys.generate(KeyAlgorithm.P256, ANNA)
    before = objects(keystore)
    with wrapped_keys.opened(annas, ANNA) as key:
        assert objects(keystore) == before
        assert isinstance(key, TokenEllipticCurveKey)
        key.sign(b"contract", ECDSA_256)
        assert objects(keystore) == before


def test_an_unwrapped_key_signs_and_can_do_nothing_else(keystore: TokenKeystore) -> None:
    expected = {
        Attribute.TOKEN: False,
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.SIGN: True,
        Attribute.DECRYPT: False,
        Attribute.UNWRAP: False,
        Attribute.DERIVE: False,
    }
    annas = WrappedKeys(keystore).generate(KeyAlgorithm.P256, ANNA)
    wrapping = keystore.secret("wrapping-1", KeyPurpose.WRAPPING)

    def attributes(handle: object) -> dict[Attribute, object]:
        key = unwrapped(handle, annas.blob)
        try:
            return {name: key[name] for name in expected}
        finally:
            key.destroy()

    assert wrapping.use(attributes) == expected


def test_a_key_signs_in_the_ways_of_its_kind_only(custody: Keystore, annas: WrappedKey) -> None:
    for scheme in (Scheme.RSA_PKCS1, Scheme.RSA_PSS):
        with pytest.raises(HsmMisused, match="kind of key"):
            custody.sign_wrapped(annas, ANNA, SignTask(scheme, "sha256", b"d" * 32))
    assert custody.sign_wrapped(annas, ANNA, TASK)


def test_a_closed_key_signs_no_more(wrapped_keys: WrappedKeys, annas: WrappedKey) -> None:
    with wrapped_keys.opened(annas, ANNA) as key:
        pass
    assert isinstance(key, TokenEllipticCurveKey)
    with pytest.raises(HsmMisused, match="closed"):
        key.sign(b"contract", ECDSA_256)


def test_another_context_is_refused(custody: Keystore, wrapped_keys: WrappedKeys, annas: WrappedKey) -> None:
    for context in (BOLD, ANNA + b"\0", ANNA[:-1]):
        with pytest.raises(WrappedKeyRefused), wrapped_keys.opened(annas, context):
            pytest.fail("opened for somebody else")
        with pytest.raises(WrappedKeyRefused):
            custody.sign_wrapped(annas, context, TASK)
        with pytest.raises(WrappedKeyRefused):
            wrapped_keys.rewrap(annas, context, "wrapping-1")
        with pytest.raises(WrappedKeyRefused):
            wrapped_keys.rebound(annas, context, BOLD)
    for context in (b"", b"x" * 1025):
        with pytest.raises(HsmMisused), wrapped_keys.opened(annas, context):
            pytest.fail("opened for nobody")


def test_swapped_parts_are_refused(custody: Keystore, wrapped_keys: WrappedKeys, annas: WrappedKey) -> None:
    bolds = wrapped_keys.generate(KeyAlgorithm.P256, BOLD)
    forgeries = (
        replace(annas, blob=bolds.blob),
        replace(annas, public_key=bolds.public_key),
        replace(annas, mac=bolds.mac),
        replace(annas, blob=bolds.blob, public_key=bolds.public_key),
        replace(annas, algorithm="P-384"),
        bolds,
    )
    for forgery in forgeries:
        with pytest.raises(WrappedKeyRefused), wrapped_keys.opened(forgery, ANNA):
            pytest.fail("opened a forgery")
        with pytest.raises(WrappedKeyRefused):
            custody.sign_wrapped(forgery, ANNA, TASK)


def test_changed_octets_are_refused(wrapped_keys: WrappedKeys, annas: WrappedKey) -> None:
    for field in ("blob", "mac", "public_key"):
        value: bytes = getattr(annas, field)
        for changed in (value[:-1] + bytes([value[-1] ^ 1]), value[:-1], b"", value + b"\0", value * 30):
            with pytest.raises(WrappedKeyRefused), wrapped_keys.opened(replace(annas, **{field: changed}), ANNA):  # type: ignore[arg-type]
                pytest.fail("opened a forgery")


def test_a_blob_that_does_not_unwrap_is_refused(keystore: TokenKeystore, custody: Keystore, annas: WrappedKey) -> None:
    """Even when whoever swapped it could make the binding fit."""
    damaged = replace(annas, blob=b"\0" * len(annas.blob))
    with pytest.raises(WrappedKeyRefused, match="unwrap"):
        custody.sign_wrapped(replace(damaged, mac=binding_of(keystore, damaged)), ANNA, TASK)
    assert custody.has("root")


def test_nobody_gets_the_mac_that_binds(custody: Keystore, annas: WrappedKey) -> None:
    """Whoever could ask for it could give one person's key to another."""
    with pytest.raises(HsmMisused, match="binds"):
        custody.mac("wrapping-1-mac", bound_octets(annas, BOLD))


def test_two_generations_of_wrapping_keys_open_their_own(settings: HsmSettings) -> None:
    keystore = open_token(settings)
    old, new = WrappedKeys(keystore, "wrapping-1"), WrappedKeys(keystore, "wrapping-2")
    for generation in (old, new, new):
        generation.prepare()
    annas = old.generate("P-256", ANNA)
    assert signs(new, annas, ANNA)
    with pytest.raises(WrappedKeyRefused), new.opened(replace(annas, wrapping_key="wrapping-2"), ANNA):
        pytest.fail("opened under another wrapping key")
    with pytest.raises(KeyNotFound), new.opened(replace(annas, wrapping_key="wrapping-3"), ANNA):
        pytest.fail("opened without a wrapping key")


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.P256, KeyAlgorithm.RSA3072])
def test_a_key_moves_to_a_new_wrapping_key_and_outlives_the_old(
    keystore: TokenKeystore, custody: Keystore, algorithm: KeyAlgorithm
) -> None:
    old, new = WrappedKeys(custody, "outgoing"), WrappedKeys(custody, "incoming")
    old.prepare()
    new.prepare()
    annas = old.generate(algorithm, ANNA)
    before = objects(keystore)
    moved = old.rewrap(annas, ANNA, "incoming")
    assert objects(keystore) == before
    assert (moved.wrapping_key, moved.public_key, moved.algorithm) == ("incoming", annas.public_key, algorithm.value)
    custody.destroy("outgoing")
    task = TASK if algorithm is KeyAlgorithm.P256 else SignTask(Scheme.RSA_PKCS1, "sha256", TASK.digest)
    assert custody.sign_wrapped(moved, ANNA, task)
    with pytest.raises(WrappedKeyRefused):
        custody.sign_wrapped(moved, BOLD, task)
    with pytest.raises(KeyNotFound):
        custody.sign_wrapped(annas, ANNA, task)
    custody.destroy("incoming")


def test_a_key_is_moved_under_a_wrapping_key_only(wrapped_keys: WrappedKeys, annas: WrappedKey) -> None:
    with pytest.raises(KeyNotFound):
        wrapped_keys.rewrap(annas, ANNA, "nothing")
    with pytest.raises(HsmMisused):
        wrapped_keys.rewrap(annas, ANNA, "seal")


def test_a_key_is_bound_to_another_context_without_being_touched(wrapped_keys: WrappedKeys, annas: WrappedKey) -> None:
    bolds = wrapped_keys.rebound(annas, ANNA, BOLD)
    assert (bolds.blob, bolds.public_key) == (annas.blob, annas.public_key)
    assert signs(wrapped_keys, bolds, BOLD)
    with pytest.raises(WrappedKeyRefused), wrapped_keys.opened(bolds, ANNA):
        pytest.fail("opened for the owner before")


def test_an_opened_key_outlives_a_lost_session(custody: Keystore, wrapped_keys: WrappedKeys, annas: WrappedKey) -> None:
    with wrapped_keys.opened(annas, ANNA) as key:
        custody.close()
        assert isinstance(key, TokenEllipticCurveKey)
        key.sign(b"contract", ECDSA_256)


def test_only_what_signs_documents_is_wrapped(wrapped_keys: WrappedKeys) -> None:
    for algorithm in ("RSA-4096", "AES-256", "Ed25519"):
        with pytest.raises(HsmMisused):
            wrapped_keys.generate(algorithm, ANNA)


def test_a_wrapped_keys_repr_shows_neither_blob_nor_mac(annas: WrappedKey) -> None:
    shown = repr(annas)
    assert "blob" not in shown
    assert "mac=" not in shown


def test_hundreds_of_keys_are_made_and_used_with_a_handful_of_token_objects(
    broker: Broker, keystore: TokenKeystore
) -> None:
    """A token holds thousands of objects; citizens' keys are counted by the million."""
    client = broker.keystore()
    wrapped_keys = WrappedKeys(client)
    seen: list[int] = []

    def live(person: int) -> None:
        for key in range(25):
            context = f"person {person} key {key}".encode()
            wrapped = wrapped_keys.generate(KeyAlgorithm.P256, context)
            assert client.sign_wrapped(wrapped, context, TASK)
        seen.append(objects(keystore))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(live, range(8)))
    client.close()
    assert len(seen) == 8
    assert max(seen) < 100


OFFICER_PIN = "officer-only-for-tests"


@pytest.fixture
def with_officer(tmp_path: Path) -> HsmSettings:
    """A token whose security officer is known; ``tamga init`` forgets that one's PIN."""
    settings = HsmSettings(pin_file=tmp_path / "pin", token_label="officer", softhsm_conf=tmp_path / "softhsm2.conf")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path / 'tokens'}\n")
    write_pin(settings.pin_file, "user-only-for-tests")
    util = require_tool("softhsm2-util", "softhsm2")
    pins = ("--so-pin", OFFICER_PIN, "--pin", "user-only-for-tests")
    made = run(
        util, "--init-token", "--free", "--label", "officer", *pins,
        env={**os.environ, "SOFTHSM2_CONF": str(settings.softhsm_conf)},
    )  # fmt: skip
    assert made.status == 0, made.output
    return settings


def make_trusted(settings: HsmSettings, keystore: TokenKeystore, label: str) -> None:
    """A wrapping key made and marked by the officer; only what users may see can be marked."""
    keystore.generate_secret(f"{label}-mac", KeyPurpose.MAC)
    keystore.close()
    module = module_at(settings.module)
    token = module.load(settings.softhsm_conf).get_token(token_label="officer")
    marked = {Attribute.PRIVATE: False, Attribute.TRUSTED: True}
    options = {"store": True, "capabilities": MechanismFlag.WRAP | MechanismFlag.UNWRAP}
    with token.open(rw=True, so_pin=OFFICER_PIN) as session:
        session.generate_key(KeyType.AES, 256, id=b"1", label=label, template=marked, **options)
    module.unload()


def test_a_key_from_under_a_trusted_wrapping_key_goes_under_a_trusted_one_only(with_officer: HsmSettings) -> None:
    """The mark is the security officer's to give (CKA_TRUSTED, CKA_WRAP_WITH_TRUSTED)."""
    keystore = open_token(with_officer)
    make_trusted(with_officer, keystore, "trusted")
    keystore.generate_secret("rogue", KeyPurpose.WRAPPING)
    wrapped_keys = WrappedKeys(keystore, "trusted")
    annas = wrapped_keys.generate("P-256", ANNA)
    assert signs(wrapped_keys, annas, ANNA)
    assert signs(wrapped_keys, wrapped_keys.rewrap(annas, ANNA, "trusted"), ANNA)
    with pytest.raises(HsmMisused, match="KeyNotWrappable"):
        wrapped_keys.rewrap(annas, ANNA, "rogue")
    loose = WrappedKeys(keystore, "rogue").generate("P-256", ANNA)
    assert wrapped_keys.rewrap(loose, ANNA, "trusted").wrapping_key == "trusted"
