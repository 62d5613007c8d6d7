from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pkcs11 import Attribute, KeyType, MechanismFlag

from hsm.errors import (
    HsmMisused,
    HsmUnavailable,
    KeyDamaged,
    KeyExists,
    KeyExtractable,
    KeyNotFound,
    SealBroken,
)
from hsm.keystore import KeyAlgorithm, KeyPurpose, Keystore, initialise_token, open_keystore
from hsm.objects import spki
from hsm.settings import HsmSettings
from tests.unit.hsm.hammer import sign

SIGNING = MechanismFlag.SIGN | MechanismFlag.VERIFY


def test_a_made_key_is_listed_with_its_purpose_and_locked_in(keystore: Keystore) -> None:
    listed = keystore.keys()
    found = {key.label: key for key in listed}
    kinds = {label: (key.purpose, key.algorithm) for label, key in found.items()}
    assert kinds == {
        "root": (KeyPurpose.CERTIFICATE_SIGNING, KeyAlgorithm.P384),
        "responder": (KeyPurpose.OCSP, KeyAlgorithm.P256),
        "rsa": (KeyPurpose.DOCUMENT_SIGNING, KeyAlgorithm.RSA3072),
        "mac": (KeyPurpose.MAC, KeyAlgorithm.HMAC_SHA256),
        "seal": (KeyPurpose.ENCRYPTION, KeyAlgorithm.AES256),
        "wrapping-1": (KeyPurpose.WRAPPING, KeyAlgorithm.AES256),
        "wrapping-1-mac": (KeyPurpose.MAC, KeyAlgorithm.HMAC_SHA256),
    }
    assert all(key.attributes.locked_in for key in found.values())
    keystore.check()


def test_the_status_names_token_and_mechanisms(keystore: Keystore) -> None:
    status = keystore.status()
    assert (status.label, status.keys, status.unfinished) == ("tests", 7, 0)
    assert {"ECDSA", "AES_GCM", "AES_KEY_WRAP_PAD", "SHA256_HMAC", "RSA_PKCS_PSS"} <= set(status.mechanisms)


def test_a_name_is_given_once(keystore: Keystore) -> None:
    with pytest.raises(KeyExists):
        keystore.generate("root", KeyPurpose.OCSP, KeyAlgorithm.P256)
    with pytest.raises(KeyExists):
        keystore.generate_secret("root", KeyPurpose.MAC)
    with pytest.raises(KeyExists):
        keystore.generate("mac", KeyPurpose.OCSP, KeyAlgorithm.P256)


def test_an_unknown_name_is_not_found(keystore: Keystore) -> None:
    assert not keystore.has("nobody")
    for ask in (keystore.key, keystore.destroy, lambda label: keystore.mac(label, b"")):
        with pytest.raises(KeyNotFound):
            ask("nobody")


@pytest.mark.parametrize("label", ["", "a b", "x" * 65, "-x", "a/b", "нэр", "unfinished-1"])
def test_a_label_that_could_confuse_is_refused(keystore: Keystore, label: str) -> None:
    with pytest.raises(HsmMisused):
        keystore.generate(label, KeyPurpose.OCSP, KeyAlgorithm.P256)


def test_a_secret_is_no_key_pair_and_a_key_pair_no_secret(keystore: Keystore) -> None:
    with pytest.raises(HsmMisused):
        keystore.generate("new", KeyPurpose.MAC, KeyAlgorithm.AES256)
    with pytest.raises(HsmMisused):
        keystore.generate_secret("new", KeyPurpose.OCSP)
    assert not keystore.has("new")


def test_a_destroyed_key_is_gone(settings: HsmSettings) -> None:
    keystore = open_keystore(settings)
    key = keystore.generate("short-lived", KeyPurpose.OCSP, KeyAlgorithm.P256)
    keystore.destroy("short-lived")
    assert not keystore.has("short-lived")
    with pytest.raises(KeyNotFound):
        keystore.key("short-lived")
    with pytest.raises(HsmUnavailable):  # who knew the key meets an outage, not an invitation to make a new one
        sign(key, b"message")


def test_a_mac_depends_on_data_and_secret_and_outlives_the_session(keystore: Keystore) -> None:
    first = keystore.mac("mac", b"data")
    assert len(first) == len(keystore.mac("mac", b"")) == 32
    assert keystore.mac("mac", b"data") == first
    assert keystore.mac("mac", b"other") != first
    keystore.generate_secret("mac-2", KeyPurpose.MAC)
    assert keystore.mac("mac-2", b"data") != first
    keystore.destroy("mac-2")
    keystore.close()
    assert keystore.mac("mac", b"data") == first


@pytest.mark.parametrize("length", [0, 1, 16, 1000, 100_000])
def test_what_is_sealed_opens_in_its_context(keystore: Keystore, length: int) -> None:
    plaintext = b"x" * length
    sealed = keystore.seal("seal", plaintext, b"row 1")
    assert len(sealed) == length + 29
    assert keystore.unseal("seal", sealed, b"row 1") == plaintext
    assert keystore.seal("seal", plaintext, b"row 1") != sealed


def test_a_seal_does_not_open_elsewhere_or_changed(keystore: Keystore) -> None:
    sealed = keystore.seal("seal", b"secret", b"row 1")
    for context in (b"row 2", b"", b"row 1 "):
        with pytest.raises(SealBroken):
            keystore.unseal("seal", sealed, context)
    for position in range(len(sealed)):
        changed = sealed[:position] + bytes([sealed[position] ^ 1]) + sealed[position + 1 :]
        with pytest.raises(SealBroken):
            keystore.unseal("seal", changed, b"row 1")
    for cut in (b"", sealed[:1], sealed[:28], sealed[:-1], sealed + b"\0"):
        with pytest.raises(SealBroken):
            keystore.unseal("seal", cut, b"row 1")
    assert keystore.unseal("seal", sealed, b"row 1") == b"secret"


def test_secrets_only_do_what_they_are_for(keystore: Keystore) -> None:
    for misuse in (
        lambda: keystore.mac("seal", b"data"),
        lambda: keystore.seal("mac", b"data", b""),
        lambda: keystore.seal("wrapping-1", b"data", b""),
    ):
        with pytest.raises(HsmMisused):
            misuse()
    capabilities = keystore.secret("wrapping-1", KeyPurpose.WRAPPING).use(
        lambda key: [key[able] for able in (Attribute.WRAP, Attribute.UNWRAP, Attribute.ENCRYPT, Attribute.DECRYPT)]
    )
    assert capabilities == [True, True, False, False]


def test_a_destroyed_wrapping_key_takes_its_mac_key_along(settings: HsmSettings) -> None:
    keystore = open_keystore(settings)
    for _ in range(2):
        keystore.generate_secret("wrapping-9", KeyPurpose.WRAPPING)
        assert len(keystore.keys()) == 2
        keystore.destroy("wrapping-9")
        assert keystore.keys() == ()


def make_foreign(keystore: Keystore, **template: Any) -> None:
    """A key pair as another program might leave it."""
    attributes = {Attribute[name]: value for name, value in template.items()}

    def make(anchor: Any) -> None:
        anchor.session.generate_keypair(
            KeyType.RSA, 2048, label="foreign", id=b"foreign", store=True, capabilities=SIGNING,
            private_template=attributes,
        )  # fmt: skip

    keystore.sessions.run(make)


def test_an_extractable_key_stops_the_start(settings: HsmSettings) -> None:
    keystore = open_keystore(settings)
    make_foreign(keystore, EXTRACTABLE=True)
    with pytest.raises(KeyExtractable, match="foreign") as refusal:
        keystore.check()
    assert refusal.value.exit_code == 3


def test_a_key_that_is_not_sensitive_stops_the_start(settings: HsmSettings) -> None:
    keystore = open_keystore(settings)
    make_foreign(keystore, EXTRACTABLE=False, SENSITIVE=False)
    with pytest.raises(KeyExtractable):
        keystore.check()


def test_a_secret_brought_from_outside_stops_the_start(settings: HsmSettings) -> None:
    keystore = open_keystore(settings)
    brought = {
        Attribute.CLASS: 4, Attribute.KEY_TYPE: KeyType.AES, Attribute.VALUE: b"k" * 32, Attribute.TOKEN: True,
        Attribute.LABEL: "brought", Attribute.ID: b"brought", Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False,
    }  # fmt: skip
    keystore.sessions.run(lambda anchor: anchor.session.create_object(brought))
    with pytest.raises(KeyExtractable, match="brought"):
        keystore.check()


def test_an_identifier_that_is_not_the_keys_stops_the_start(settings: HsmSettings) -> None:
    keystore = open_keystore(settings)
    make_foreign(keystore, EXTRACTABLE=False)
    with pytest.raises(KeyDamaged):
        keystore.check()
    with pytest.raises(KeyDamaged):
        keystore.key("foreign")


def test_two_keys_of_one_name_are_refused(settings: HsmSettings) -> None:
    keystore = open_keystore(settings)
    for _ in range(2):
        make_foreign(keystore, EXTRACTABLE=False)
    with pytest.raises(KeyDamaged, match="2 keys"):
        keystore.key("foreign")


def test_a_crash_while_making_a_key_leaves_no_half_named_one(
    settings: HsmSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    keystore = open_keystore(settings)

    def crash(public_key: Any) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("hsm.objects.key_identifier", crash)
        with pytest.raises(KeyboardInterrupt):
            keystore.generate("ca", KeyPurpose.CERTIFICATE_SIGNING, KeyAlgorithm.P256)
    assert not keystore.has("ca")
    assert keystore.status().unfinished == 1
    keystore.check()
    keystore.generate("ca", KeyPurpose.CERTIFICATE_SIGNING, KeyAlgorithm.P256)


def test_several_instances_live_in_one_process(tmp_path: Path, new_settings: Callable[..., HsmSettings]) -> None:
    """Two configurations, one of them with two tokens, used in turn and at once."""
    stores = []
    for number, (folder, label) in enumerate((("one", "first"), ("one", "second"), ("two", "first"))):
        settings = new_settings(tmp_path / folder, label)
        settings = HsmSettings(
            pin_file=tmp_path / folder / f"pin-{label}", token_label=label, softhsm_conf=settings.softhsm_conf
        )
        initialise_token(settings, f"pin-{number}")
        stores.append(open_keystore(settings))
    keys = [store.generate("same-name", KeyPurpose.OCSP, KeyAlgorithm.P256) for store in stores]
    assert len({spki(key.public_key()) for key in keys}) == len({store.status().serial for store in stores}) == 3
    for key in keys * 3:
        sign(key, b"message")
    assert [len(store.keys()) for store in stores] == [1, 1, 1]
    stores[0].close()
    for key in keys:
        sign(key, b"message")
