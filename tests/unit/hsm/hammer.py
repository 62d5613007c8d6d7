"""One process's share of the hammering: ``hammer.py CONF PIN_FILE ROUNDS`` uses every kind of key and prints ``ok``."""

from __future__ import annotations

import sys
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from hsm.keys import PrivateKey, TokenEllipticCurveKey
from hsm.keystore import Keystore, open_keystore
from hsm.settings import HsmSettings
from hsm.wrapped import WrappedKeys


def sign(key: PrivateKey, data: bytes) -> bytes:
    """An ECDSA signature of a key known to be on a curve."""
    assert isinstance(key, TokenEllipticCurveKey)
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def use_everything(keystore: Keystore, name: str, rounds: int) -> None:
    wrapped_keys = WrappedKeys(keystore)
    context = name.encode()
    for turn in range(rounds):
        data = f"{name} {turn}".encode()
        sign(keystore.key("responder"), data)
        sign(keystore.key("root"), data)
        assert keystore.mac("mac", data) == keystore.mac("mac", data)
        assert keystore.unseal("seal", keystore.seal("seal", data, context), context) == data
        made = wrapped_keys.generate("P-256", context)
        with wrapped_keys.opened(made, context) as key:
            sign(key, data)


if __name__ == "__main__":
    conf, pin_file, rounds = sys.argv[1:]
    settings = HsmSettings(pin_file=Path(pin_file), token_label="tests", softhsm_conf=Path(conf), wait_seconds=60)
    use_everything(open_keystore(settings), "spawned", int(rounds))
    print("ok")
