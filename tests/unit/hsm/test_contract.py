"""The contract of key custody, held against every PKCS#11 module we have: what callers rely on, whatever the module."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from pkcs11 import Attribute, Mechanism, ObjectClass, PKCS11Error

from hsm.errors import (
    HsmMisused,
    HsmUnavailable,
    KeyExists,
    KeyExtractable,
    KeyNotFound,
    PinIncorrect,
    SealBroken,
    WrappedKeyRefused,
)
from hsm.keys import PrivateKey, TokenEllipticCurveKey, TokenRsaKey
from hsm.keystore import KeyAlgorithm, KeyPurpose, has_token
from hsm.module import Anchor, module_at
from hsm.objects import private_objects, spki
from hsm.sessions import Sessions
from hsm.settings import HsmSettings
from hsm.token_keystore import TokenKeystore
from hsm.wrapped import WrappedKeys
from hsm.wrapping import unwrapped
from tests.support.broker import Broker
from tests.support.pkcs11_modules import MODULES, Gap, TestedModule

PIN = "only-for-tests-5520"
ANNA, BOLD = b"anna", b"bold"

PAIRS = (KeyAlgorithm.P256, KeyAlgorithm.P384, KeyAlgorithm.RSA3072)


@dataclass
class Token:
    """A token in one module, with a key of each kind."""

    module: TestedModule
    settings: HsmSettings
    keystore: TokenKeystore

    def lacks(self, gap: Gap) -> bool:
        return self.module.lacks(gap)

    def objects(self) -> int:
        return self.keystore.sessions.run(lambda anchor: len(list(anchor.session.get_objects())))


@pytest.fixture(scope="module", params=MODULES, ids=lambda module: module.name)
def token(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    module: TestedModule = request.param
    settings = module.initialise(tmp_path_factory.mktemp(module.name), "contract", PIN)
    keystore = opened(settings)
    for algorithm in PAIRS:
        keystore.generate(f"pair-{algorithm}", KeyPurpose.CERTIFICATE_SIGNING, algorithm)
    keystore.generate_secret("mac", KeyPurpose.MAC)
    keystore.generate_secret("seal", KeyPurpose.ENCRYPTION)
    WrappedKeys(keystore).prepare()
    yield Token(module, settings, keystore)
    keystore.close()


def opened(settings: HsmSettings) -> TokenKeystore:
    """The token as a process sees it that asks once an hour: pauses after a failure are over each time."""
    return TokenKeystore(Sessions(settings, monotonic=itertools.count(step=3600).__next__))


def sign(key: PrivateKey, data: bytes) -> bytes:
    if isinstance(key, TokenEllipticCurveKey):
        return key.sign(data, ec.ECDSA(hashes.SHA384()))
    return key.sign(data, padding.PKCS1v15(), hashes.SHA384())


def verify(key: PrivateKey, signature: bytes, data: bytes) -> None:
    public = key.public_key()
    if isinstance(public, ec.EllipticCurvePublicKey):
        public.verify(signature, data, ec.ECDSA(hashes.SHA384()))
    else:
        public.verify(signature, data, padding.PKCS1v15(), hashes.SHA384())


def test_the_token_is_found_by_its_label(token: Token) -> None:
    assert has_token(token.settings)
    assert not has_token(replace(token.settings, token_label="elsewhere"))
    assert token.keystore.status().label == "contract"


def test_keys_are_listed_with_purpose_and_algorithm(token: Token) -> None:
    listed = token.keystore.keys()
    assert {key.label: (key.purpose, key.algorithm) for key in listed} == {
        "mac": (KeyPurpose.MAC, KeyAlgorithm.HMAC_SHA256),
        "seal": (KeyPurpose.ENCRYPTION, KeyAlgorithm.AES256),
        "wrapping-1": (KeyPurpose.WRAPPING, KeyAlgorithm.AES256),
        "wrapping-1-mac": (KeyPurpose.MAC, KeyAlgorithm.HMAC_SHA256),
        **{f"pair-{algorithm}": (KeyPurpose.CERTIFICATE_SIGNING, algorithm) for algorithm in PAIRS},
    }


def test_keys_never_could_leave(token: Token) -> None:
    listed = token.keystore.keys()
    for key in listed:
        attributes = key.attributes
        assert attributes.sensitive and attributes.always_sensitive, key.label
        assert attributes.never_extractable and not attributes.extractable, key.label
        assert attributes.local is not token.lacks(Gap.LOCAL), key.label


def test_a_token_that_cannot_say_where_a_key_was_made_stops_the_start(token: Token) -> None:
    if token.lacks(Gap.LOCAL):
        with pytest.raises(KeyExtractable):
            token.keystore.check()
    else:
        token.keystore.check()


def test_the_locks_of_a_key_cannot_be_opened(token: Token) -> None:
    def tamper(anchor: Anchor) -> None:
        for key in private_objects(anchor.session):
            value = Attribute.PRIVATE_EXPONENT if key.key_type.name == "RSA" else Attribute.VALUE
            with pytest.raises(PKCS11Error):
                key[value]
            for lock, opened in ((Attribute.SENSITIVE, False), (Attribute.EXTRACTABLE, True)):
                with pytest.raises(PKCS11Error):
                    key[lock] = opened

    token.keystore.sessions.run(tamper)


def test_a_wrapping_key_does_not_take_resident_keys_out(token: Token) -> None:
    def take(anchor: Anchor) -> None:
        wrapping = token.keystore.secret("wrapping-1", KeyPurpose.WRAPPING).within(anchor)
        for key in private_objects(anchor.session):
            if token.lacks(Gap.EXTRACTION):
                assert wrapping.wrap_key(key, mechanism=Mechanism.AES_KEY_WRAP_PAD)
            else:
                with pytest.raises(pkcs11.KeyUnextractable):
                    wrapping.wrap_key(key, mechanism=Mechanism.AES_KEY_WRAP_PAD)

    token.keystore.sessions.run(take)


@pytest.mark.parametrize("algorithm", PAIRS)
def test_a_resident_key_signs_for_its_own_public_key(token: Token, algorithm: KeyAlgorithm) -> None:
    key = token.keystore.key(f"pair-{algorithm}")
    for data in (b"", b"message", b"m" * 100_000):
        verify(key, sign(key, data), data)


@pytest.mark.parametrize("salt", [20, 32, 48])
def test_an_rsa_key_signs_with_any_salt(token: Token, salt: int) -> None:
    key = token.keystore.key(f"pair-{KeyAlgorithm.RSA3072}")
    assert isinstance(key, TokenRsaKey)
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), salt)
    key.public_key().verify(key.sign(b"message", scheme, hashes.SHA256()), b"message", scheme, hashes.SHA256())


def test_a_mac_is_a_function_of_secret_and_data(token: Token) -> None:
    first = token.keystore.mac("mac", b"data")
    assert len(first) == 32
    assert token.keystore.mac("mac", b"data") == first != token.keystore.mac("mac", b"other")
    with pytest.raises(HsmMisused):
        token.keystore.mac("wrapping-1-mac", b"data")


@pytest.mark.parametrize("length", [0, 5, 1000])
def test_what_is_sealed_opens_in_its_context_only(token: Token, length: int) -> None:
    if token.lacks(Gap.SEALING):
        with pytest.raises(HsmUnavailable):
            token.keystore.seal("seal", b"x" * length, b"row 1")
        return
    sealed = token.keystore.seal("seal", b"x" * length, b"row 1")
    assert token.keystore.unseal("seal", sealed, b"row 1") == b"x" * length
    for changed, context in ((sealed, b"row 2"), (sealed[:-1] + bytes([sealed[-1] ^ 1]), b"row 1")):
        with pytest.raises(SealBroken):
            token.keystore.unseal("seal", changed, context)


@pytest.mark.parametrize("algorithm", PAIRS)
def test_a_wrapped_key_signs_for_its_owner_and_leaves_nothing_behind(token: Token, algorithm: KeyAlgorithm) -> None:
    wrapped_keys = WrappedKeys(token.keystore)
    before = token.objects()
    annas = wrapped_keys.generate(algorithm, ANNA)
    if algorithm is not KeyAlgorithm.RSA3072 and token.lacks(Gap.WRAPPED_CURVES):
        with pytest.raises(HsmMisused, match="TemplateIncomplete"), wrapped_keys.opened(annas, ANNA) as key:
            sign(key, b"contract")
    else:
        with wrapped_keys.opened(annas, ANNA) as key:
            verify(key, sign(key, b"contract"), b"contract")
    with pytest.raises(WrappedKeyRefused), wrapped_keys.opened(annas, BOLD):
        pytest.fail("opened for somebody else")
    assert token.objects() == before


def test_a_damaged_blob_is_refused_even_when_its_binding_fits(token: Token) -> None:
    annas = WrappedKeys(token.keystore).generate(KeyAlgorithm.RSA3072, ANNA)
    damaged = bytearray(annas.blob)
    damaged[40] ^= 1
    held = token.keystore.secret("wrapping-1", KeyPurpose.WRAPPING)

    def unwrap(anchor: Anchor) -> Any:
        return unwrapped(held.within(anchor), bytes(damaged), KeyAlgorithm.RSA3072)

    with pytest.raises(WrappedKeyRefused):
        token.keystore.sessions.run(unwrap)


def test_an_unwrapped_key_signs_and_does_nothing_else(token: Token) -> None:
    annas = WrappedKeys(token.keystore).generate(KeyAlgorithm.RSA3072, ANNA)
    held = token.keystore.secret("wrapping-1", KeyPurpose.WRAPPING)
    wanted = {
        Attribute.TOKEN: False,
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.SIGN: True,
    }
    denied = dict.fromkeys((Attribute.DECRYPT, Attribute.UNWRAP, Attribute.DERIVE), False)

    def look(anchor: Anchor) -> dict[Attribute, Any]:
        key = unwrapped(held.within(anchor), annas.blob, KeyAlgorithm.RSA3072)
        try:
            return {name: key[name] for name in {**wanted, **denied}}
        finally:
            key.destroy()

    found = token.keystore.sessions.run(look)
    assert {name: found[name] for name in wanted} == wanted
    assert ({name: found[name] for name in denied} != denied) is token.lacks(Gap.UNWRAPPED_ABILITIES)


def test_a_key_is_moved_under_a_new_wrapping_key(token: Token) -> None:
    keystore = token.keystore
    keystore.generate_secret("wrapping-2", KeyPurpose.WRAPPING)
    wrapped_keys = WrappedKeys(keystore)
    annas = wrapped_keys.generate(KeyAlgorithm.RSA3072, ANNA)
    moved = wrapped_keys.rewrap(annas, ANNA, "wrapping-2")
    keystore.destroy("wrapping-2")
    with wrapped_keys.opened(annas, ANNA) as key:
        verify(key, sign(key, b"contract"), b"contract")
    with pytest.raises(KeyNotFound), wrapped_keys.opened(moved, ANNA):
        pytest.fail("opened under a destroyed key")


def test_a_name_is_given_once(token: Token) -> None:
    for label in ("mac", "pair-P-256"):
        with pytest.raises(KeyExists):
            token.keystore.generate(label, KeyPurpose.OCSP, KeyAlgorithm.P256)
        with pytest.raises(KeyExists):
            token.keystore.generate_secret(label, KeyPurpose.MAC)


def test_a_destroyed_key_is_gone_and_its_name_free(token: Token) -> None:
    keystore = token.keystore
    seen = set()
    for _ in range(2):
        key = keystore.generate("short-lived", KeyPurpose.OCSP, KeyAlgorithm.P256)
        seen.add(spki(key.public_key()))
        keystore.destroy("short-lived")
        assert not keystore.has("short-lived")
        with pytest.raises(KeyNotFound):
            keystore.key("short-lived")
    assert len(seen) == 2
    listed = keystore.keys()
    assert "short-lived" not in {key.label for key in listed}


def test_an_unknown_name_is_not_found(token: Token) -> None:
    assert not token.keystore.has("nobody")
    for ask in (token.keystore.key, token.keystore.destroy, lambda label: token.keystore.mac(label, b"")):
        with pytest.raises(KeyNotFound):
            ask("nobody")


def test_keys_outlive_the_process_that_made_them(token: Token) -> None:
    before = token.keystore.keys()
    expected = token.keystore.mac("mac", b"data")
    token.keystore.close()
    again = opened(token.settings)
    assert again.keys() == before
    assert again.mac("mac", b"data") == expected
    for algorithm in PAIRS:
        key = again.key(f"pair-{algorithm}")
        verify(key, sign(key, b"after"), b"after")


def test_a_lost_login_heals_once_unseen(token: Token) -> None:
    key = token.keystore.key("pair-P-256")
    for _ in range(3):
        sign(key, b"before")
        module_at(token.settings.module).anchors["contract"].session.close()
        sign(key, b"after")


def test_a_finalised_module_heals_once_unseen(token: Token) -> None:
    key = token.keystore.key("pair-P-256")
    sign(key, b"before")
    settings = token.settings
    module_at(settings.module).load(settings.softhsm_conf, settings.module_parameters).finalize()
    sign(key, b"after")


def test_a_child_reaches_the_keys_its_parent_found(token: Token) -> None:
    key = token.keystore.key("pair-P-256")
    sign(key, b"in the parent")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            sign(key, b"in the child")
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    sign(key, b"in the parent")


def test_an_operation_the_module_does_not_offer_is_our_mistake_not_an_outage(token: Token) -> None:
    def unheard_of(anchor: Anchor) -> bytes:
        kind = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.LABEL: "pair-P-256"}
        key: Any
        (key,) = anchor.session.get_objects(kind)
        made: bytes = key.sign(b"x" * 32, mechanism=Mechanism.ML_DSA)
        return made

    with pytest.raises(HsmMisused, match="MechanismInvalid"):
        token.keystore.sessions.run(unheard_of)
    key = token.keystore.key("pair-P-256")
    verify(key, sign(key, b"next"), b"next")


def test_a_module_that_does_not_start_is_an_outage(token: Token) -> None:
    missing = replace(token.settings, module=token.settings.module + ".missing")
    with pytest.raises(HsmUnavailable):
        opened(missing).keys()
    if token.settings.module_parameters is not None:
        for parameters in (None, "configDir='sql:/nowhere/at/all'"):
            with pytest.raises(HsmUnavailable):
                opened(replace(token.settings, module_parameters=parameters)).keys()
    sign(token.keystore.key("pair-P-256"), b"the module still starts as it should")


def test_a_broker_serves_the_module_to_others(token: Token, tmp_path: Path) -> None:
    with Broker(token.settings, tmp_path) as broker:
        client = broker.keystore()
        for algorithm in PAIRS:
            key = client.key(f"pair-{algorithm}")
            verify(key, sign(key, b"message"), b"message")
        assert client.mac("mac", b"data") == token.keystore.mac("mac", b"data")
        client.close()


def test_a_wrong_pin_latches_until_a_restart(token: Token, tmp_path: Path) -> None:
    wrong = replace(token.settings, pin_file=tmp_path / "pin", lock_file=token.settings.start_lock)
    (tmp_path / "pin").write_text("not-the-pin\n")
    (tmp_path / "pin").chmod(0o600)
    token.keystore.close()
    locked_out = opened(wrong)
    with pytest.raises(PinIncorrect):
        locked_out.keys()
    (tmp_path / "pin").write_text(PIN + "\n")
    with pytest.raises(PinIncorrect):
        locked_out.keys()
    sign(token.keystore.key("pair-P-256"), b"the right PIN still opens")
