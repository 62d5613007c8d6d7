"""Real SoftHSM tokens for the tests of key custody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hsm.keystore import KeyAlgorithm, KeyPurpose, Keystore, initialise_token, open_keystore
from hsm.settings import HsmSettings
from hsm.wrapped import WrappedKeys

PIN = "only-for-tests-8261"

NewSettings = Callable[..., HsmSettings]


@pytest.fixture(scope="session")
def pin() -> str:
    return PIN


@pytest.fixture(scope="session")
def new_settings() -> NewSettings:
    def make(directory: Path, label: str = "tests") -> HsmSettings:
        conf = directory / "softhsm2.conf"
        return HsmSettings(pin_file=directory / "pin", token_label=label, softhsm_conf=conf, wait_seconds=60)

    return make


@pytest.fixture(scope="session")
def shared_settings(tmp_path_factory: pytest.TempPathFactory, new_settings: NewSettings) -> HsmSettings:
    settings = new_settings(tmp_path_factory.mktemp("token"))
    initialise_token(settings, PIN)
    return settings


@pytest.fixture(scope="session")
def keystore(shared_settings: HsmSettings) -> Iterator[Keystore]:
    """A token with one key of each kind."""
    opened = open_keystore(shared_settings)
    opened.generate("root", KeyPurpose.CERTIFICATE_SIGNING, KeyAlgorithm.P384)
    opened.generate("responder", KeyPurpose.OCSP, KeyAlgorithm.P256)
    opened.generate("rsa", KeyPurpose.DOCUMENT_SIGNING, KeyAlgorithm.RSA3072)
    opened.generate_secret("mac", KeyPurpose.MAC)
    opened.generate_secret("seal", KeyPurpose.ENCRYPTION)
    WrappedKeys(opened).prepare()
    yield opened
    opened.close()


@pytest.fixture
def settings(tmp_path: Path, new_settings: NewSettings) -> HsmSettings:
    """A token of its own, for tests that break it."""
    made = new_settings(tmp_path)
    initialise_token(made, PIN)
    return made
