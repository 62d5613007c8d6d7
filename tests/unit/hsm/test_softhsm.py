from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hsm.errors import HsmUnavailable
from hsm.keystore import KeyAlgorithm, KeyPurpose, open_token
from hsm.settings import HsmSettings
from hsm.softhsm import COPY, TOKEN_FILE, guard_tokens
from tests.unit.hsm.hammer import sign


def token_file(settings: HsmSettings) -> Path:
    assert settings.softhsm_conf is not None
    (file,) = settings.softhsm_conf.parent.glob(f"tokens/*/{TOKEN_FILE}")
    return file


def test_a_login_rewrites_the_tokens_own_file(settings: HsmSettings) -> None:
    """Why the file needs a guard; should this fail, a newer SoftHSM is more careful and the guard can go."""
    before = token_file(settings).stat()
    open_token(settings).keys()
    after = token_file(settings).stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)  # in place
    assert after.st_mtime_ns > before.st_mtime_ns


@pytest.mark.parametrize("left", [0, 100])
def test_a_token_whose_file_was_cut_short_in_a_login_is_mended(settings: HsmSettings, left: int) -> None:
    keystore = open_token(settings)
    key = keystore.generate("ca", KeyPurpose.CERTIFICATE_SIGNING, KeyAlgorithm.P256)
    keystore.close()
    os.truncate(token_file(settings), left)
    sign(key, b"message")
    sign(open_token(settings).key("ca"), b"message")


def test_without_the_copy_the_token_would_be_lost(settings: HsmSettings) -> None:
    keystore = open_token(settings)
    keystore.keys()
    keystore.close()
    token_file(settings).with_name(COPY).unlink()
    os.truncate(token_file(settings), 0)
    with pytest.raises(HsmUnavailable):
        open_token(settings).keys()


def test_the_copy_follows_the_file_and_is_its_owners_only(settings: HsmSettings) -> None:
    open_token(settings).keys()
    file, copy = token_file(settings), token_file(settings).with_name(COPY)
    file.write_bytes(file.read_bytes() + b"a longer one")
    assert settings.softhsm_conf is not None
    guard_tokens(settings.softhsm_conf)
    assert copy.read_bytes() == file.read_bytes()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_a_configuration_that_cannot_be_read_stops_nothing(tmp_path: Path, settings: HsmSettings) -> None:
    guard_tokens(tmp_path / "nothing.conf")
    (tmp_path / "database.conf").write_text("objectstore.backend = db\n")
    guard_tokens(tmp_path / "database.conf")
    open_token(settings).keys()
