from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pkcs11
import pytest

from core.errors import CodedError
from hsm.errors import HsmBusy, HsmMisused, HsmUnavailable, KeyNotFound, PinIncorrect, translated
from hsm.keystore import KeyAlgorithm, KeyPurpose, Keystore, open_keystore
from hsm.module import Anchor, module_at
from hsm.sessions import Sessions
from hsm.settings import HsmSettings
from hsm.token_keystore import TokenKeystore
from tests.unit.hsm.hammer import sign, use_everything

ROOT = Path(__file__).parents[3]


def in_threads(count: int, work: Callable[[int], None]) -> list[BaseException]:
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def spawn(settings: HsmSettings, rounds: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", str(Path(__file__).with_name("hammer.py"))]
    arguments = [str(settings.softhsm_conf), str(settings.pin_file), str(rounds)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command + arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_eight_threads_use_the_token_without_an_error(keystore: Keystore) -> None:
    assert in_threads(8, lambda number: use_everything(keystore, f"thread {number}", 10)) == []


def test_threads_that_open_at_the_same_moment_log_in_once(settings: HsmSettings) -> None:
    keystores = [open_keystore(settings) for _ in range(4)]
    assert in_threads(8, lambda number: assert_empty(keystores[number % 4])) == []


def assert_empty(keystore: Keystore) -> None:
    assert keystore.keys() == ()


def test_keys_are_made_by_many_threads_each_name_once(settings: HsmSettings) -> None:
    keystore = open_keystore(settings)
    errors = in_threads(6, lambda number: make(keystore, f"key-{number % 3}"))
    assert [type(error).__name__ for error in errors] == ["KeyExists"] * 3
    listed = keystore.keys()
    assert [key.label for key in listed] == ["key-0", "key-1", "key-2"]


def make(keystore: Keystore, label: str) -> None:
    keystore.generate(label, KeyPurpose.OCSP, KeyAlgorithm.P256)


def test_four_started_processes_use_the_token_at_once(keystore: Keystore, shared_settings: HsmSettings) -> None:
    children = [spawn(shared_settings, 10) for _ in range(4)]
    use_everything(keystore, "parent", 10)
    for child in children:
        assert (*child.communicate(timeout=120), child.returncode) == ("ok\n", "", 0)


def test_four_forked_processes_use_the_token_while_threads_do(keystore: Keystore) -> None:
    """Forked in the middle of the parent's own calls; each child opens the token for itself."""
    sign(keystore.key("responder"), b"opened before the fork")
    fork = multiprocessing.get_context("fork")
    statuses: list[int | None] = []

    def work(number: int) -> None:
        if number < 4:
            child = fork.Process(target=use_everything, args=(keystore, f"child {number}", 10))
            child.start()
            child.join()
            statuses.append(child.exitcode)
        else:
            use_everything(keystore, f"thread {number}", 10)

    assert in_threads(8, work) == []
    assert statuses == [0] * 4


def test_a_child_reaches_keys_its_parent_found(keystore: Keystore) -> None:
    key = keystore.key("responder")
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


def library_of(settings: HsmSettings) -> Any:
    return module_at(settings.module).load(settings.softhsm_conf)


def damage_logout(settings: HsmSettings) -> None:
    module_at(settings.module).anchors[settings.token_label].session.close()


def damage_finalise(settings: HsmSettings) -> None:
    library_of(settings).finalize()


def damage_restart(settings: HsmSettings) -> None:
    library_of(settings).reinitialize()


def damage_unload(settings: HsmSettings) -> None:
    module_at(settings.module).unload()


@pytest.mark.parametrize("damage", [damage_logout, damage_finalise, damage_restart, damage_unload])
def test_a_lost_session_heals_once_unseen(
    keystore: Keystore, shared_settings: HsmSettings, damage: Callable[[HsmSettings], None]
) -> None:
    key = keystore.key("responder")
    for _ in range(3):
        sign(key, b"before")
        damage(shared_settings)
        sign(key, b"after")


class HandTurnedClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_missing_token_is_an_outage_that_ends_when_it_is_back(settings: HsmSettings, tmp_path: Path) -> None:
    clock = HandTurnedClock()
    keystore = TokenKeystore(Sessions(settings, monotonic=clock))
    key = keystore.generate("ca", KeyPurpose.CERTIFICATE_SIGNING, KeyAlgorithm.P256)
    keystore.generate_secret("mac", KeyPurpose.MAC)
    expected = keystore.mac("mac", b"data")
    (tmp_path / "tokens").rename(tmp_path / "away")
    (tmp_path / "tokens").mkdir()
    for _ in range(2):
        clock.now += 10
        with pytest.raises(HsmUnavailable):
            sign(key, b"message")
        with pytest.raises(HsmUnavailable):
            keystore.key("ca-2")
    (tmp_path / "tokens").rmdir()
    (tmp_path / "away").rename(tmp_path / "tokens")
    with pytest.raises(HsmUnavailable, match="moment ago"):
        keystore.mac("mac", b"data")
    clock.now += 10
    assert keystore.mac("mac", b"data") == expected
    sign(key, b"message")
    with pytest.raises(KeyNotFound):
        keystore.key("ca-2")


def test_an_error_that_cannot_heal_is_tried_twice_at_most(settings: HsmSettings) -> None:
    tries: list[int] = []

    def lost(anchor: Anchor) -> None:
        tries.append(anchor.generation)
        raise pkcs11.SessionHandleInvalid

    with pytest.raises(HsmUnavailable):
        Sessions(settings).run(lost)
    assert len(tries) == len(set(tries)) == 2


def test_a_request_the_token_refuses_is_not_repeated(settings: HsmSettings) -> None:
    tries: list[int] = []

    def refused(anchor: Anchor) -> None:
        tries.append(anchor.generation)
        raise pkcs11.MechanismInvalid

    sessions = Sessions(settings)
    with pytest.raises(HsmMisused):
        sessions.run(refused)
    assert len(tries) == 1
    sessions.run(lambda anchor: anchor.session.generate_random(64))


def test_a_call_that_would_wait_too_long_is_refused(settings: HsmSettings) -> None:
    impatient = HsmSettings(
        pin_file=settings.pin_file, token_label="tests", softhsm_conf=settings.softhsm_conf, wait_seconds=0.01
    )
    inside, leave = threading.Event(), threading.Event()

    def dawdle(anchor: Anchor) -> None:
        inside.set()
        leave.wait(60)

    slow = threading.Thread(target=lambda: Sessions(settings).run(dawdle))
    slow.start()
    inside.wait(60)
    with pytest.raises(HsmBusy):
        Sessions(impatient).run(lambda anchor: None)
    leave.set()
    slow.join()


CLASSES: list[tuple[type[CodedError], list[type[pkcs11.PKCS11Error]]]] = [
    (
        HsmUnavailable,
        [
            pkcs11.SessionHandleInvalid, pkcs11.SessionClosed, pkcs11.KeyHandleInvalid, pkcs11.ObjectHandleInvalid,
            pkcs11.UserNotLoggedIn, pkcs11.NoSuchKey, pkcs11.NoSuchToken, pkcs11.UserAlreadyLoggedIn,
            pkcs11.PKCS11Error, pkcs11.DeviceError, pkcs11.DeviceRemoved, pkcs11.TokenNotPresent, pkcs11.DeviceMemory,
            pkcs11.HostMemory, pkcs11.FunctionFailed, pkcs11.GeneralError,
        ],
    ),
    (PinIncorrect, [pkcs11.PinIncorrect, pkcs11.PinLocked, pkcs11.PinExpired, pkcs11.PinInvalid]),
    (
        HsmMisused,
        [
            pkcs11.MechanismInvalid, pkcs11.KeySizeRange, pkcs11.KeyTypeInconsistent, pkcs11.TemplateIncomplete,
            pkcs11.TemplateInconsistent, pkcs11.AttributeTypeInvalid, pkcs11.AttributeValueInvalid,
            pkcs11.AttributeReadOnly, pkcs11.AttributeSensitive, pkcs11.DataLenRange,
        ],
    ),
    (HsmBusy, [pkcs11.SessionCount, pkcs11.OperationActive]),
]  # fmt: skip


@pytest.mark.parametrize(("error", "expected"), [(error, expected) for expected, errors in CLASSES for error in errors])
def test_each_pkcs11_error_has_its_class(error: type[pkcs11.PKCS11Error], expected: type[CodedError]) -> None:
    assert type(translated(error())) is expected


def test_exit_statuses_follow_the_class() -> None:
    assert (HsmUnavailable.exit_code, HsmUnavailable.status) == (6, 503)
    assert (PinIncorrect.exit_code, KeyNotFound.exit_code, HsmMisused.exit_code) == (2, 4, 70)
