"""What the binding and SoftHSM do that the code around them relies on. A failure here says: read that code again."""

from __future__ import annotations

from typing import Any

import pkcs11
import pytest
from pkcs11 import Attribute, KeyType, MechanismFlag, ObjectClass
from pkcs11.attributes import AttributeMapper

from hsm.keystore import Keystore
from hsm.module import Anchor
from hsm.templates import TamgaAttributes


def test_a_login_belongs_to_the_whole_process(keystore: Keystore, pin: str) -> None:
    def second_login(anchor: Anchor) -> None:
        with pytest.raises(pkcs11.UserAlreadyLoggedIn):
            anchor.session.token.open(user_pin=pin)

    keystore.sessions.run(second_login)


def test_closing_the_anchor_logs_the_process_out(keystore: Keystore) -> None:
    def close(anchor: Anchor) -> None:
        other = anchor.session.token.open()
        key: Any
        (key,) = other.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.LABEL: "responder"})
        anchor.session.close()
        with pytest.raises(pkcs11.ObjectHandleInvalid):
            key.sign(b"0" * 32, mechanism=pkcs11.Mechanism.ECDSA)

    keystore.sessions.run(close)
    keystore.check()


def test_labels_are_not_unique(keystore: Keystore) -> None:
    def twice(anchor: Anchor) -> None:
        made = [anchor.session.generate_key(KeyType.AES, 256, label="twice", store=False) for _ in range(2)]
        with pytest.raises(pkcs11.MultipleObjectsReturned):
            anchor.session.get_key(label="twice")
        for key in made:
            key.destroy()

    keystore.sessions.run(twice)


def test_the_bindings_own_template_does_not_fit_an_unwrapped_private_key() -> None:
    wanted = {"capabilities": MechanismFlag.SIGN, "id_": None, "label": None, "store": False}
    base = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.KEY_TYPE: KeyType.EC}
    assert Attribute.VERIFY in AttributeMapper().generic_key_template(base, **wanted)  # type: ignore[arg-type]
    ours = TamgaAttributes().generic_key_template(base, **wanted)  # type: ignore[arg-type]
    assert Attribute.VERIFY not in ours
    assert Attribute.ENCRYPT not in ours
    assert ours[Attribute.KEY_TYPE] is KeyType.EC


def test_a_secret_keys_template_stays_the_bindings() -> None:
    wanted = {"capabilities": MechanismFlag.WRAP, "id_": b"id", "label": "label", "store": True}
    assert TamgaAttributes().secret_key_template(**wanted) == AttributeMapper().secret_key_template(**wanted)  # type: ignore[arg-type]


def test_a_sensitive_key_does_not_show_its_value(keystore: Keystore) -> None:
    def ask(anchor: Anchor) -> None:
        (key,) = anchor.session.get_objects({Attribute.LABEL: "responder", Attribute.CLASS: ObjectClass.PRIVATE_KEY})
        with pytest.raises(pkcs11.AttributeSensitive):
            key[Attribute.VALUE]
        with pytest.raises(pkcs11.PKCS11Error):
            key[Attribute.SENSITIVE] = False
        with pytest.raises(pkcs11.PKCS11Error):
            key[Attribute.EXTRACTABLE] = True

    keystore.sessions.run(ask)
