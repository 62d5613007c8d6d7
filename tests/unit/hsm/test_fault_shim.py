"""What custody says and does when the module beneath it fails, call by call: in one process, and behind a broker."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes

from core.errors import CodedError
from hsm.errors import (
    HsmBusy,
    HsmMisused,
    HsmUnavailable,
    PinIncorrect,
    SealBroken,
    SignatureMismatch,
    WrappedKeyRefused,
)
from hsm.keystore import KeyAlgorithm, KeyPurpose, Keystore, initialise_token
from hsm.sessions import Sessions
from hsm.settings import SOFTHSM_MODULE, HsmSettings
from hsm.token_keystore import TokenKeystore
from hsm.wrapped import WrappedKeys
from tests.support.broker import Broker
from tests.support.fault_shim import FUNCTIONS, Ckr, FaultShim, build
from tests.unit.hsm.hammer import sign

PIN = "only-for-tests-8261"
CONTEXT = b"anna"

# The binding ends a search that it could not begin, too, and complains of the answer where nobody can catch it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

# The table of what each code means. Whatever is in none of these rows is our bug or our configuration.
HANDLE_LOST = {
    Ckr.SESSION_HANDLE_INVALID, Ckr.SESSION_CLOSED, Ckr.KEY_HANDLE_INVALID, Ckr.OBJECT_HANDLE_INVALID,
    Ckr.USER_NOT_LOGGED_IN, Ckr.WRAPPING_KEY_HANDLE_INVALID, Ckr.UNWRAPPING_KEY_HANDLE_INVALID,
}  # fmt: skip
MODULE_LOST = {Ckr.USER_ALREADY_LOGGED_IN, Ckr.CRYPTOKI_NOT_INITIALIZED, Ckr.CRYPTOKI_ALREADY_INITIALIZED}
# The binding has no class of its own for these; it says the same of them as of a module that was finalised.
NAMELESS = {
    Ckr.CANCEL, Ckr.NEED_TO_CREATE_THREADS, Ckr.CANT_LOCK, Ckr.ACTION_PROHIBITED, Ckr.FUNCTION_NOT_PARALLEL,
    Ckr.KEY_CHANGED, Ckr.KEY_FUNCTION_NOT_PERMITTED, Ckr.SESSION_PARALLEL_NOT_SUPPORTED, Ckr.USER_TYPE_INVALID,
    Ckr.CURVE_NOT_SUPPORTED, Ckr.BUFFER_TOO_SMALL, Ckr.SAVED_STATE_INVALID, Ckr.INFORMATION_SENSITIVE,
    Ckr.STATE_UNSAVEABLE, Ckr.MUTEX_BAD, Ckr.MUTEX_NOT_LOCKED, Ckr.NEW_PIN_MODE, Ckr.NEXT_OTP,
    Ckr.FIPS_SELF_TEST_FAILED, Ckr.LIBRARY_LOAD_FAILED, Ckr.VENDOR_DEFINED,
}  # fmt: skip
DEVICE_TROUBLE = {
    Ckr.DEVICE_ERROR, Ckr.DEVICE_MEMORY, Ckr.DEVICE_REMOVED, Ckr.TOKEN_NOT_PRESENT, Ckr.TOKEN_NOT_RECOGNIZED,
    Ckr.HOST_MEMORY, Ckr.FUNCTION_FAILED, Ckr.GENERAL_ERROR, Ckr.SLOT_ID_INVALID,
}  # fmt: skip
WRONG_PIN = {
    Ckr.PIN_INCORRECT, Ckr.PIN_LOCKED, Ckr.PIN_EXPIRED, Ckr.PIN_INVALID, Ckr.PIN_LEN_RANGE,
    Ckr.USER_PIN_NOT_INITIALIZED,
}  # fmt: skip
AT_CAPACITY = {Ckr.SESSION_COUNT, Ckr.OPERATION_ACTIVE}
HEALED_ONCE = HANDLE_LOST | MODULE_LOST | NAMELESS


def expected(code: Ckr) -> type[CodedError]:
    if code in WRONG_PIN:
        return PinIncorrect
    if code in AT_CAPACITY:
        return HsmBusy
    if code in HEALED_ONCE | DEVICE_TROUBLE:
        return HsmUnavailable
    return HsmMisused


@dataclass
class HandTurnedClock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """A token behind the shim, and whoever uses it."""

    settings: HsmSettings
    shim: FaultShim
    clock: HandTurnedClock = field(default_factory=HandTurnedClock)

    def keystore(self) -> TokenKeystore:
        """A fresh user of the token, as after a restart of the process."""
        return TokenKeystore(Sessions(self.settings, monotonic=self.clock))

    def settled(self) -> None:
        """Nothing fails any more, and any pause has passed."""
        self.shim.clear()
        self.clock.now += 3600


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("shimmed")
    shim = FaultShim(build(tmp_path_factory.getbasetemp()), folder, SOFTHSM_MODULE)
    settings = HsmSettings(
        module=str(shim.path),
        pin_file=folder / "pin",
        softhsm_conf=folder / "softhsm2.conf",
        token_label="shimmed",
        wait_seconds=0.2,
    )
    initialise_token(settings, PIN)
    made = Bench(settings, shim)
    keystore = made.keystore()
    keystore.generate("ca", KeyPurpose.CERTIFICATE_SIGNING, KeyAlgorithm.P256)
    keystore.generate_secret("mac", KeyPurpose.MAC)
    keystore.generate_secret("seal", KeyPurpose.ENCRYPTION)
    WrappedKeys(keystore).prepare()
    return made


@pytest.fixture
def bench(standing: Bench) -> Iterator[Bench]:
    standing.settled()
    yield standing
    standing.settled()


def sign_once(keystore: Keystore) -> None:
    sign(keystore.key("ca"), b"message")


def outcome_of(act: Callable[[], object]) -> type[CodedError] | None:
    try:
        act()
    except CodedError as error:
        return type(error)
    return None


def test_the_shim_knows_every_function_and_hides_none(bench: Bench) -> None:
    assert (len(FUNCTIONS), FUNCTIONS[0], FUNCTIONS[18], FUNCTIONS[-1]) == (
        68, "C_Initialize", "C_Login", "C_WaitForSlotEvent",
    )  # fmt: skip
    keystore = bench.keystore()
    before = bench.shim.calls("C_Sign")
    sign_once(keystore)
    assert bench.shim.calls("C_Sign") == before + 1


def test_the_shim_remembers_what_was_signed(bench: Bench) -> None:
    sign_once(bench.keystore())
    digest = hashes.Hash(hashes.SHA256())
    digest.update(b"message")
    assert bench.shim.signed()[-1] == digest.finalize()


# One function for each step of a call: starting, opening, logging in, finding, reading, signing.
OPENING = ("C_GetSlotList", "C_GetTokenInfo", "C_OpenSession", "C_Login")
USING = ("C_FindObjectsInit", "C_FindObjects", "C_GetAttributeValue", "C_SignInit", "C_Sign")


@pytest.mark.parametrize("function", USING)
def test_each_code_has_its_class_wherever_it_comes_from(bench: Bench, function: str) -> None:
    keystore = bench.keystore()
    sign_once(keystore)
    met = {}
    for code in set(Ckr) - WRONG_PIN - ({Ckr.BUFFER_TOO_SMALL} if function == "C_SignInit" else set()):
        bench.shim.refuse(function, code)
        met[code] = outcome_of(lambda: sign_once(bench.keystore()))
        bench.settled()
        sign_once(keystore)
    assert met == {code: expected(code) for code in met}


@pytest.mark.parametrize("function", OPENING)
def test_each_code_has_its_class_while_opening(bench: Bench, function: str) -> None:
    met = {}
    for code in Ckr:
        bench.keystore().close()
        bench.shim.refuse(function, code)
        met[code] = outcome_of(lambda: sign_once(bench.keystore()))
        bench.settled()
        sign_once(bench.keystore())
    assert met == {code: expected(code) for code in met}


@pytest.mark.parametrize("code", sorted(WRONG_PIN))
def test_one_attempt_is_made_with_a_wrong_pin(bench: Bench, code: Ckr) -> None:
    keystore = bench.keystore()
    keystore.close()
    before = bench.shim.calls("C_Login")
    bench.shim.refuse("C_Login", code)
    for _ in range(5):
        bench.clock.now += 3600
        assert outcome_of(lambda: sign_once(keystore)) is PinIncorrect
    assert bench.shim.calls("C_Login") == before + 1
    bench.settled()
    assert outcome_of(lambda: sign_once(keystore)) is PinIncorrect  # only a restart, which is an operator's act, helps


def test_a_lost_handle_is_found_again_once_unseen(bench: Bench) -> None:
    keystore = bench.keystore()
    sign_once(keystore)
    for code in HEALED_ONCE:
        signs, logins = bench.shim.calls("C_Sign"), bench.shim.calls("C_Login")
        bench.shim.refuse("C_Sign", code, times=1)
        sign_once(keystore)
        assert bench.shim.calls("C_Sign") == signs + 2, code
        assert bench.shim.calls("C_Login") == logins + 1, code


def test_a_handle_that_stays_lost_is_not_sought_for_ever(bench: Bench) -> None:
    keystore = bench.keystore()
    sign_once(keystore)
    for code in HEALED_ONCE:
        signs = bench.shim.calls("C_Sign")
        bench.shim.refuse("C_Sign", code)
        assert outcome_of(lambda: sign_once(keystore)) is HsmUnavailable
        assert bench.shim.calls("C_Sign") == signs + 2, code
        bench.settled()


def test_a_device_in_trouble_is_left_alone_for_a_while(bench: Bench) -> None:
    keystore = bench.keystore()
    sign_once(keystore)
    for code in DEVICE_TROUBLE:
        signs = bench.shim.calls("C_Sign")
        bench.shim.refuse("C_Sign", code)
        for _ in range(5):
            assert outcome_of(lambda: sign_once(keystore)) is HsmUnavailable
        assert bench.shim.calls("C_Sign") == signs + 1, code
        bench.settled()
        sign_once(keystore)


def test_a_refused_request_is_not_repeated_and_does_not_harm_the_next(bench: Bench) -> None:
    keystore = bench.keystore()
    sign_once(keystore)
    for code in set(Ckr) - HEALED_ONCE - DEVICE_TROUBLE - WRONG_PIN - AT_CAPACITY:
        signs = bench.shim.calls("C_Sign")
        bench.shim.refuse("C_Sign", code, times=1)
        assert outcome_of(lambda: sign_once(keystore)) is HsmMisused
        assert bench.shim.calls("C_Sign") == signs + 1, code
        sign_once(keystore)


def test_a_wrong_signature_never_leaves_and_its_key_is_not_used_again(bench: Bench) -> None:
    keystore = bench.keystore()
    key = keystore.key("ca")
    bench.shim.flip("C_Sign", times=1)
    with pytest.raises(SignatureMismatch):
        sign(key, b"message")
    signs = bench.shim.calls("C_Sign")
    with pytest.raises(SignatureMismatch, match="quarantine"):
        sign(key, b"message")
    assert bench.shim.calls("C_Sign") == signs


def test_a_failed_search_is_never_taken_for_a_missing_key(bench: Bench) -> None:
    """Who believed it would make a second key of the same name."""
    keystore = bench.keystore()
    for code in DEVICE_TROUBLE | HANDLE_LOST:
        bench.shim.refuse("C_FindObjects", code)
        with pytest.raises(HsmUnavailable):
            keystore.has("ca")
        with pytest.raises(HsmUnavailable):
            keystore.generate("ca", KeyPurpose.OCSP, KeyAlgorithm.P256)
        bench.settled()
    keys = keystore.keys()
    assert [key.label for key in keys].count("ca") == 1


@pytest.mark.parametrize("function", ["C_GenerateKeyPair", "C_SetAttributeValue"])
def test_a_key_that_was_half_made_has_no_name(bench: Bench, function: str) -> None:
    keystore = bench.keystore()
    bench.shim.refuse_after(function, Ckr.DEVICE_REMOVED, times=1)
    with pytest.raises(HsmUnavailable):
        keystore.generate("half", KeyPurpose.OCSP, KeyAlgorithm.P256)
    bench.settled()
    assert not keystore.has("half")
    keystore.check()
    keystore.generate("half", KeyPurpose.OCSP, KeyAlgorithm.P256)
    sign(keystore.key("half"), b"message")
    keystore.destroy("half")


def test_a_broken_device_is_not_reported_as_a_broken_seal(bench: Bench) -> None:
    keystore = bench.keystore()
    sealed = keystore.seal("seal", b"secret", b"row 1")
    bench.shim.take_away(Ckr.DEVICE_REMOVED)
    assert outcome_of(lambda: keystore.unseal("seal", sealed, b"row 1")) is HsmUnavailable
    bench.settled()
    bench.shim.flip("C_Encrypt", times=1)
    changed = keystore.seal("seal", b"secret", b"row 1")
    assert outcome_of(lambda: keystore.unseal("seal", changed, b"row 1")) is SealBroken
    assert keystore.unseal("seal", sealed, b"row 1") == b"secret"


def test_a_wrapped_key_survives_what_happens_around_it(bench: Bench) -> None:
    keystore = bench.keystore()
    wrapped_keys = WrappedKeys(keystore)
    annas = wrapped_keys.generate("P-256", CONTEXT)
    for function in ("C_UnwrapKey", "C_SignInit", "C_Sign"):
        bench.shim.refuse(function, Ckr.SESSION_HANDLE_INVALID, times=1)
        with wrapped_keys.opened(annas, CONTEXT) as key:
            sign(key, b"contract")
        bench.shim.refuse(function, Ckr.DEVICE_REMOVED)
        with pytest.raises(HsmUnavailable), wrapped_keys.opened(annas, CONTEXT) as key:
            sign(key, b"contract")
        bench.settled()
        with wrapped_keys.opened(annas, CONTEXT) as key:
            sign(key, b"contract")


def test_a_damaged_blob_proves_no_possession(bench: Bench) -> None:
    """A key whose blob was spoilt on its way out of the token cannot sign its request, so it is never certified."""
    wrapped_keys = WrappedKeys(bench.keystore())
    bench.shim.flip("C_WrapKey", times=1)
    made = wrapped_keys.generate("P-256", CONTEXT)
    with pytest.raises(WrappedKeyRefused), wrapped_keys.opened(made, CONTEXT) as key:
        sign(key, b"proof of possession")


# Behind a broker: whatever happens to the module happens to one of the workers.


BACK_WITHIN_SECONDS = 5.0  # of the token's return


@pytest.fixture
def broker(bench: Bench, tmp_path: Path) -> Iterator[Broker]:
    with Broker(bench.settings, tmp_path / "broker", broker_workers=2, broker_deadline=1.0) as started:
        yield started
        bench.settled()


@pytest.fixture
def client(broker: Broker) -> Iterator[Keystore]:
    keystore = broker.keystore()
    sign_once(keystore)
    yield keystore
    keystore.close()


def back_in_time(keystore: Keystore) -> None:
    """Signing is possible again within the time promised; until then it is refused, never wrong."""
    deadline = time.monotonic() + BACK_WITHIN_SECONDS
    while (refused := outcome_of(lambda: sign_once(keystore))) is not None:
        assert refused in (HsmUnavailable, HsmBusy)
        assert time.monotonic() < deadline, "signing is not back"
        time.sleep(0.02)


def test_a_crash_costs_one_request_and_one_worker(bench: Bench, broker: Broker, client: Keystore) -> None:
    supervisor, workers = broker.pid, set(broker.workers())
    bench.shim.crash("C_Sign", times=1)
    assert outcome_of(lambda: sign_once(client)) is HsmUnavailable
    back_in_time(client)
    assert broker.pid == supervisor
    assert len(workers & set(broker.workers())) == len(workers) - 1
    assert [event["reason"] for event in broker.events("hsm_worker_replaced")] == ["crash"]


def test_a_hang_is_ended_and_costs_one_worker(bench: Bench, broker: Broker, client: Keystore) -> None:
    supervisor, workers = broker.pid, set(broker.workers())
    bench.shim.hang("C_Sign", seconds=600, times=1)
    assert outcome_of(lambda: sign_once(client)) in (HsmUnavailable, HsmBusy)
    back_in_time(client)
    assert broker.pid == supervisor
    assert len(workers & set(broker.workers())) == len(workers) - 1
    assert [event["reason"] for event in broker.events("hsm_worker_replaced")] == ["hang"]


@pytest.mark.parametrize("function", ["C_Initialize", "C_OpenSession", "C_Login"])
def test_a_token_that_crashes_or_hangs_while_opening_is_back_when_it_stops(
    bench: Bench, broker: Broker, client: Keystore, function: str
) -> None:
    for disturb in (bench.shim.crash, functools.partial(bench.shim.hang, seconds=600)):
        disturb(function)
        bench.shim.crash("C_Sign")
        for _ in range(3):
            assert outcome_of(lambda: sign_once(client)) in (HsmUnavailable, HsmBusy)
        bench.shim.clear()
        back_in_time(client)


def test_a_token_that_was_away_signs_soon_after_its_return(bench: Bench, broker: Broker, client: Keystore) -> None:
    supervisor = broker.pid
    for code in (Ckr.DEVICE_REMOVED, Ckr.TOKEN_NOT_PRESENT, Ckr.SESSION_HANDLE_INVALID, Ckr.CANCEL):
        bench.shim.take_away(code)
        for _ in range(5):
            assert outcome_of(lambda: sign_once(client)) in (HsmUnavailable, HsmBusy)
            assert outcome_of(lambda: client.has("ca")) in (HsmUnavailable, HsmBusy)
            assert outcome_of(lambda: client.mac("mac", b"data")) in (HsmUnavailable, HsmBusy)
        bench.shim.clear()
        back_in_time(client)
    assert broker.pid == supervisor


def test_a_device_in_trouble_is_not_asked_by_each_request(bench: Bench, broker: Broker, client: Keystore) -> None:
    bench.shim.take_away(Ckr.DEVICE_ERROR)
    outcome_of(lambda: sign_once(client))
    signs = bench.shim.calls("C_Sign")
    for _ in range(50):
        assert outcome_of(lambda: sign_once(client)) is HsmUnavailable
    assert bench.shim.calls("C_Sign") == signs


@pytest.mark.parametrize("code", [Ckr.PIN_INCORRECT, Ckr.PIN_LOCKED])
def test_all_workers_together_make_one_attempt_with_a_wrong_pin(bench: Bench, tmp_path: Path, code: Ckr) -> None:
    before = bench.shim.calls("C_Login")
    bench.shim.refuse("C_Login", code)
    with Broker(bench.settings, tmp_path / "broker", broker_workers=4) as broker:
        assert broker.state() == "latched"
        bench.shim.clear()
        client = broker.keystore()
        for _ in range(5):
            assert outcome_of(lambda: sign_once(client)) is PinIncorrect
        client.close()
    assert bench.shim.calls("C_Login") == before + 1


def test_a_wrong_signature_puts_its_key_in_quarantine_for_everybody(
    bench: Bench, broker: Broker, client: Keystore
) -> None:
    bench.shim.flip("C_Sign", times=1)
    assert outcome_of(lambda: sign_once(client)) is SignatureMismatch
    other = broker.keystore()
    assert outcome_of(lambda: sign_once(other)) is SignatureMismatch
    assert other.mac("mac", b"data") == client.mac("mac", b"data")
    other.close()
    assert broker.metrics()["quarantined"] == ["ca"]


def test_a_code_means_the_same_on_the_other_side_of_the_socket(bench: Bench, broker: Broker, client: Keystore) -> None:
    for code in set(Ckr) - HEALED_ONCE - DEVICE_TROUBLE - WRONG_PIN:
        bench.shim.refuse("C_Sign", code)
        assert outcome_of(lambda: sign_once(client)) is expected(code)
        bench.shim.clear()
        sign_once(client)
    assert broker.events("hsm_worker_replaced") == []


def test_nothing_is_left_in_the_token_by_a_worker_that_died(bench: Bench, broker: Broker, client: Keystore) -> None:
    """Wrapped keys are session objects: they go with the session, however it ends."""
    wrapped_keys = WrappedKeys(client)
    annas = wrapped_keys.generate("P-256", CONTEXT)

    def objects() -> int:
        return bench.keystore().sessions.run(lambda anchor: len(list(anchor.session.get_objects())))

    before = objects()
    for function in ("C_UnwrapKey", "C_SignInit", "C_Sign", "C_DestroyObject"):
        bench.shim.crash(function, times=1)
        with pytest.raises(HsmUnavailable), wrapped_keys.opened(annas, CONTEXT) as key:
            sign(key, b"contract")
        back_in_time(client)
    assert objects() == before
