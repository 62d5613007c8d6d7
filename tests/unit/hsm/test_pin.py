from __future__ import annotations

import logging
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from hsm.errors import HsmUnavailable, PinFileUnsafe, PinIncorrect, TokenExists
from hsm.keystore import KeyAlgorithm, KeyPurpose, has_token, initialise_token, open_keystore
from hsm.pin import read_pin, write_pin
from hsm.settings import HsmSettings


def test_a_new_token_is_open_to_its_owner_only(settings: HsmSettings, tmp_path: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    expected = {"pin": 0o600, "softhsm2.conf": 0o600, "softhsm2.conf.lock": 0o600, "tokens": 0o700}
    assert modes == expected
    for path in (tmp_path / "tokens").rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077


def test_a_token_is_made_once(settings: HsmSettings, pin: str) -> None:
    assert has_token(settings)
    with pytest.raises(TokenExists):
        initialise_token(settings, pin)
    with pytest.raises(PinIncorrect):
        initialise_token(settings, "another-pin")
    open_keystore(settings).check()


def test_there_is_no_token_before_it_is_made(
    tmp_path: Path, new_settings: Callable[..., HsmSettings], pin: str
) -> None:
    settings = new_settings(tmp_path)
    assert not has_token(settings)
    write_pin(settings.pin_file, pin)
    initialise_token(settings, pin)
    assert has_token(settings)
    assert not has_token(new_settings(tmp_path, "another"))


def test_without_a_token_nothing_is_made_up(tmp_path: Path, new_settings: Callable[..., HsmSettings]) -> None:
    settings = new_settings(tmp_path)
    write_pin(settings.pin_file, "only-for-tests")
    with pytest.raises(HsmUnavailable):
        open_keystore(settings).keys()
    missing = HsmSettings(pin_file=settings.pin_file, module=str(tmp_path / "no-module.so"))
    with pytest.raises(HsmUnavailable, match="does not load"):
        open_keystore(missing).keys()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o610])
def test_a_pin_file_open_to_others_is_refused(settings: HsmSettings, mode: int) -> None:
    settings.pin_file.chmod(mode)
    with pytest.raises(PinFileUnsafe, match="0600"):
        open_keystore(settings).keys()


def test_a_pin_file_of_another_user_is_refused(settings: HsmSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: settings.pin_file.stat().st_uid + 1)
    with pytest.raises(PinFileUnsafe, match="another user"):
        read_pin(settings.pin_file)


def test_a_pin_file_that_is_no_pin_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pin"
    with pytest.raises(PinFileUnsafe):
        read_pin(path)
    with pytest.raises(PinFileUnsafe, match="regular"):
        read_pin(Path("/dev/null"))
    path.touch(mode=0o600)
    for content in (b"", b"123\n", b"1234\n5678\n", b"x" * 256, b"\xff\xfe\xff\xfe", b"1234\x00"):
        path.write_bytes(content)
        with pytest.raises(PinFileUnsafe):
            read_pin(path)
    path.write_bytes(b"1234\n")
    assert read_pin(path) == "1234"


def test_a_pin_file_is_never_overwritten(tmp_path: Path) -> None:
    write_pin(tmp_path / "pin", "first-pin")
    with pytest.raises(PinFileUnsafe):
        write_pin(tmp_path / "pin", "second-pin")
    assert read_pin(tmp_path / "pin") == "first-pin"


def write_into(path: Path, text: str) -> None:
    path.write_text(text)


def test_a_wrong_pin_is_tried_once_and_latches(settings: HsmSettings, pin: str) -> None:
    """SoftHSM says so when a PIN was tried in vain; a second attempt with the right PIN in the file is not made."""
    keystore = open_keystore(settings)
    write_into(settings.pin_file, "wrong-pin")
    with pytest.raises(PinIncorrect):
        keystore.keys()
    write_into(settings.pin_file, pin)
    for _ in range(3):
        with pytest.raises(PinIncorrect):
            keystore.keys()
    open_keystore(settings).check()


def test_an_open_token_is_not_lent_to_who_has_a_wrong_pin(settings: HsmSettings, tmp_path: Path) -> None:
    open_keystore(settings).check()
    write_pin(tmp_path / "wrong", "wrong-pin")
    stranger = HsmSettings(
        pin_file=tmp_path / "wrong", token_label=settings.token_label, softhsm_conf=settings.softhsm_conf
    )
    with pytest.raises(PinIncorrect):
        open_keystore(stranger).keys()


def test_neither_logs_nor_reprs_nor_errors_show_the_pin(
    settings: HsmSettings, pin: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    keystore = open_keystore(settings)
    key = keystore.generate("ca", KeyPurpose.CERTIFICATE_SIGNING, KeyAlgorithm.P256)
    anchor = keystore.sessions.run(lambda anchor: anchor)
    write_into(settings.pin_file, "wrong-pin")
    keystore.close()
    with pytest.raises(PinIncorrect) as refusal:
        keystore.keys()
    shown = [repr(thing) for thing in (settings, keystore, keystore.sessions, key, anchor, refusal.value)]
    shown += [repr(record.__dict__) for record in caplog.records]
    assert not any(pin in text or "wrong-pin" in text for text in shown)
