from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pkcs11 import Attribute

from hsm.errors import HsmMisused, KeyNotFound, WrappedKeyRefused
from hsm.keys import TokenEllipticCurveKey
from hsm.keystore import KeyAlgorithm, Keystore, open_keystore
from hsm.settings import HsmSettings
from hsm.wrapped import WrappedKey, WrappedKeys

ECDSA_256 = ec.ECDSA(hashes.SHA256())
ANNA, BOLD = b"person anna", b"person bold"


@pytest.fixture
def wrapped_keys(keystore: Keystore) -> WrappedKeys:
    return WrappedKeys(keystore)


@pytest.fixture
def annas(wrapped_keys: WrappedKeys) -> WrappedKey:
    return wrapped_keys.generate(KeyAlgorithm.P256, ANNA)


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


def test_making_and_using_wrapped_keys_leaves_nothing_in_the_token(
    keystore: Keystore, wrapped_keys: WrappedKeys
) -> None:
    def objects() -> int:
        return keystore.sessions.run(lambda anchor: len(list(anchor.session.get_objects())))

    before = objects()
    for number in range(20):
        wrapped = wrapped_keys.generate(KeyAlgorithm.P256, f"person {number}".encode())
        with wrapped_keys.opened(wrapped, f"person {number}".encode()):
            assert objects() == before + 1
    assert objects() == before


def test_an_opened_key_signs_and_can_do_nothing_else(wrapped_keys: WrappedKeys, annas: WrappedKey) -> None:
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
    with wrapped_keys.opened(annas, ANNA) as key:
        found: Any = key._custody.use(lambda handle: {name: handle[name] for name in expected})  # type: ignore[arg-type, return-value]
    assert found == expected


def test_a_closed_key_signs_no_more(wrapped_keys: WrappedKeys, annas: WrappedKey) -> None:
    with wrapped_keys.opened(annas, ANNA) as key:
        pass
    assert isinstance(key, TokenEllipticCurveKey)
    with pytest.raises(HsmMisused, match="closed"):
        key.sign(b"contract", ECDSA_256)


def test_a_key_is_destroyed_when_its_block_fails(keystore: Keystore, wrapped_keys: WrappedKeys) -> None:
    annas = wrapped_keys.generate(KeyAlgorithm.P256, ANNA)
    before = keystore.sessions.run(lambda anchor: len(list(anchor.session.get_objects())))
    with pytest.raises(ZeroDivisionError), wrapped_keys.opened(annas, ANNA):
        raise ZeroDivisionError
    assert keystore.sessions.run(lambda anchor: len(list(anchor.session.get_objects()))) == before


def test_another_context_is_refused(wrapped_keys: WrappedKeys, annas: WrappedKey) -> None:
    for context in (BOLD, ANNA + b"\0", ANNA[:-1]):
        with pytest.raises(WrappedKeyRefused), wrapped_keys.opened(annas, context):
            pytest.fail("opened for somebody else")
    for context in (b"", b"x" * 1025):
        with pytest.raises(HsmMisused), wrapped_keys.opened(annas, context):
            pytest.fail("opened for nobody")


def test_swapped_parts_are_refused(wrapped_keys: WrappedKeys, annas: WrappedKey) -> None:
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


def test_changed_octets_are_refused(wrapped_keys: WrappedKeys, annas: WrappedKey) -> None:
    for field in ("blob", "mac", "public_key"):
        value: bytes = getattr(annas, field)
        for changed in (value[:-1] + bytes([value[-1] ^ 1]), value[:-1], b"", value + b"\0", value * 9):
            with pytest.raises(WrappedKeyRefused), wrapped_keys.opened(replace(annas, **{field: changed}), ANNA):  # type: ignore[arg-type]
                pytest.fail("opened a forgery")


def test_a_blob_that_does_not_unwrap_is_refused(
    wrapped_keys: WrappedKeys, annas: WrappedKey, keystore: Keystore
) -> None:
    """Even when whoever swapped it could make the binding fit."""
    damaged = replace(annas, blob=b"\0" * len(annas.blob))
    forged = replace(damaged, mac=wrapped_keys._binding(damaged, ANNA))
    with pytest.raises(WrappedKeyRefused), wrapped_keys.opened(forged, ANNA):
        pytest.fail("opened a forgery")
    assert keystore.has("root")


def test_two_generations_of_wrapping_keys_open_their_own(settings: HsmSettings) -> None:
    keystore = open_keystore(settings)
    old, new = WrappedKeys(keystore, "wrapping-1"), WrappedKeys(keystore, "wrapping-2")
    for generation in (old, new, new):
        generation.prepare()
    annas = old.generate("P-256", ANNA)
    with new.opened(annas, ANNA) as key:
        assert isinstance(key, TokenEllipticCurveKey)
        key.sign(b"contract", ECDSA_256)
    with pytest.raises(WrappedKeyRefused), new.opened(replace(annas, wrapping_key="wrapping-2"), ANNA):
        pytest.fail("opened under another wrapping key")
    with pytest.raises(KeyNotFound), new.opened(replace(annas, wrapping_key="wrapping-3"), ANNA):
        pytest.fail("opened without a wrapping key")


def test_an_opened_key_outlives_a_lost_session(
    wrapped_keys: WrappedKeys, annas: WrappedKey, keystore: Keystore
) -> None:
    with wrapped_keys.opened(annas, ANNA) as key:
        keystore.close()
        assert isinstance(key, TokenEllipticCurveKey)
        key.sign(b"contract", ECDSA_256)


def test_only_curves_are_wrapped(wrapped_keys: WrappedKeys) -> None:
    for algorithm in ("RSA-3072", "AES-256", "Ed25519"):
        with pytest.raises(HsmMisused):
            wrapped_keys.generate(algorithm, ANNA)


def test_a_wrapped_keys_repr_shows_neither_blob_nor_mac(annas: WrappedKey) -> None:
    shown = repr(annas)
    assert "blob" not in shown
    assert "mac=" not in shown
