"""What the broker costs, beside a process that has the token to itself, and what a wrapped key costs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from hsm.keys import PrivateKey, TokenEllipticCurveKey
from hsm.keystore import KeyAlgorithm, KeyPurpose, initialise_token, open_token
from hsm.settings import HsmSettings
from hsm.token_keystore import TokenKeystore
from hsm.wrapped import WrappedKeys
from tests.bench.harness import Bench, Contest
from tests.support.broker import Broker

ECDSA_256 = ec.ECDSA(hashes.SHA256())
OWNER = b"person"


@contextmanager
def token() -> Iterator[tuple[TokenKeystore, HsmSettings, Path]]:
    """A new token with one P-256 key, opened by this process."""
    with tempfile.TemporaryDirectory(prefix="tamga-bench-") as folder:
        directory = Path(folder)
        settings = HsmSettings(
            pin_file=directory / "pin", token_label="bench", softhsm_conf=directory / "softhsm2.conf", wait_seconds=60
        )
        initialise_token(settings, "only-for-benchmarks")
        keystore = open_token(settings)
        keystore.generate("key", KeyPurpose.OCSP, KeyAlgorithm.P256)
        yield keystore, settings, directory
        keystore.close()


def signing(key: PrivateKey) -> None:
    """One signature over a short message, verified as every caller's is."""
    assert isinstance(key, TokenEllipticCurveKey)
    key.sign(b"message", ECDSA_256)


@contextmanager
def broker_vs_direct() -> Iterator[Contest]:
    """The same key, through the broker and in this process."""
    with token() as (keystore, settings, directory), Broker(settings, directory / "broker") as broker:
        client = broker.keystore()
        remote, local = client.key("key"), keystore.key("key")
        yield Contest(ours=lambda: signing(remote), peer=lambda: signing(local))
        client.close()


@contextmanager
def wrapped_vs_resident() -> Iterator[Contest]:
    """A citizen's key, unwrapped for each signature, and a key that lives in the token."""
    with token() as (keystore, _, _):
        wrapped_keys = WrappedKeys(keystore)
        wrapped_keys.prepare()
        wrapped, resident = wrapped_keys.generate(KeyAlgorithm.P256, OWNER), keystore.key("key")

        def ours() -> None:
            with wrapped_keys.opened(wrapped, OWNER) as key:
                signing(key)

        yield Contest(ours=ours, peer=lambda: signing(resident))


BENCHES = (
    Bench(
        "hsm.broker_vs_direct",
        broker_vs_direct,
        peer_name="signing in this process",
        unit="signatures/s",
        note="P-256, two workers; every signature is verified by the client",
        threads=4,
    ),
    Bench(
        "hsm.wrapped_vs_resident",
        wrapped_vs_resident,
        peer_name="a key in the token",
        unit="signatures/s",
        note="P-256; binding checked twice, unwrapped, signed, verified twice, destroyed",
    ),
)
