"""`tamga hsm test`: what it says of each module, and that every question can be answered badly."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from pkcs11 import MechanismFlag

from cli.context import Context
from cli.hsm import hsm
from hsm import probes, self_test
from hsm.errors import HsmUnavailable, PinIncorrect
from hsm.keystore import KeyAlgorithm, KeyPurpose, initialise_token, open_token
from hsm.self_test import QUESTIONS, RATES, Need, Report, examine
from hsm.settings import SOFTHSM_MODULE, HsmSettings
from hsm.templates import SECRET_CAPABILITIES, WRAPPABLE
from hsm.wrapping import unwrapped
from tests.support.fault_shim import Ckr, FaultShim, build
from tests.support.pkcs11_modules import MODULES, TestedModule
from tests.support.tree import ROOT

PIN = "only-for-tests-7742"
SUCCESS = 0  # CKR_OK: nothing was done, and the opposite told

# docs/pkcs11-modules.md says what each of these means.
FAILS = {
    "softhsm": {"ml-dsa"},
    "nss-softoken": {
        "aes-256-gcm", "aes-key-wrap-pad", "resident-keys", "no-extraction", "unwrapped-keys", "trusted-mark",
        "wrap-with-trusted", "eddsa", "ml-dsa",
    },
}  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def objects(settings: HsmSettings) -> int:
    keystore = open_token(settings)
    try:
        return keystore.sessions.run(lambda anchor: len(list(anchor.session.get_objects())))
    finally:
        keystore.close()


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_each_module_gets_the_verdict_that_is_documented(
    module: TestedModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rate of RSA is left out: it takes a key as long to make as all else together."""
    monkeypatch.setattr(self_test, "RATES", [rate for rate in RATES if not rate[0].startswith("rsa")])
    settings = module.initialise(tmp_path, "examined", PIN)
    open_token(settings).generate("ca", KeyPurpose.CERTIFICATE_SIGNING, KeyAlgorithm.P256)
    before = objects(settings)
    report = examine(settings, rate_seconds=0)
    assert {probe.name for probe in report.probes if not probe.passed} == FAILS[module.name]
    assert report.passed is (module.name == "softhsm")
    assert {rate.name for rate in report.rates if rate.per_second is None} == (
        set() if report.passed else {"aes-256-gcm", "wrapped-p256"}
    )
    assert objects(settings) == before


@dataclass(frozen=True)
class Bench:
    settings: HsmSettings
    shim: FaultShim
    monkeypatch: pytest.MonkeyPatch

    def only(self, *names: str) -> None:
        """Ask these questions only, and measure nothing."""
        self.monkeypatch.setattr(self_test, "QUESTIONS", [each for each in QUESTIONS if each[0] in names])
        self.monkeypatch.setattr(self_test, "RATES", ())

    def failures(self, *names: str) -> dict[str, str]:
        """What the questions of these names find wrong."""
        self.only(*names)
        report: Report = examine(self.settings, rate_seconds=0)
        return {probe.name: probe.detail for probe in report.probes if not probe.passed}

    def run(self, *arguments: str) -> Any:
        context = Context()
        context.__dict__["settings"] = SimpleNamespace(hsm=self.settings)
        return CliRunner().invoke(hsm, ["test", *arguments], obj=context)


@pytest.fixture(scope="module")
def shimmed(tmp_path_factory: pytest.TempPathFactory) -> tuple[HsmSettings, FaultShim]:
    folder = tmp_path_factory.mktemp("examined")
    shim = FaultShim(build(tmp_path_factory.getbasetemp()), folder, SOFTHSM_MODULE)
    settings = HsmSettings(
        module=str(shim.path), pin_file=folder / "pin", softhsm_conf=folder / "softhsm2.conf", token_label="examined"
    )
    initialise_token(settings, PIN)
    return settings, shim


@pytest.fixture
def bench(shimmed: tuple[HsmSettings, FaultShim], monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    settings, shim = shimmed
    shim.clear()
    yield Bench(settings, shim, monkeypatch)
    shim.clear()


# How a module must behave for the question of this name to be answered badly.
BAD_BEHAVIOUR: dict[str, Callable[[Bench], None]] = {
    "ecdsa-p256": lambda bench: bench.shim.flip("C_Sign"),
    "hmac-sha-256": lambda bench: bench.shim.flip("C_Sign", times=1),
    "aes-256-gcm": lambda bench: bench.shim.flip("C_Decrypt"),
    "aes-key-wrap-pad": lambda bench: bench.shim.flip("C_WrapKey"),
    "locks": lambda bench: bench.shim.refuse("C_SetAttributeValue", SUCCESS),
    "wrapping-keys": lambda bench: bench.monkeypatch.setitem(
        SECRET_CAPABILITIES, KeyPurpose.WRAPPING, MechanismFlag.WRAP | MechanismFlag.UNWRAP | MechanismFlag.DECRYPT
    ),
    "unwrapped-keys": lambda bench: bench.monkeypatch.setattr(
        probes, "unwrapped", lambda wrapping, blob: unwrapped(wrapping, blob, template=WRAPPABLE)
    ),
    "names": lambda bench: bench.shim.refuse("C_DestroyObject", SUCCESS),
    "unknown-key": lambda bench: bench.shim.refuse("C_FindObjects", Ckr.FUNCTION_FAILED, skip=4),
    "damaged-blob": lambda bench: bench.monkeypatch.setattr(
        probes, "unwrapped", lambda *_: SimpleNamespace(destroy=lambda: None)
    ),
    "destroyed-key": lambda bench: bench.shim.refuse("C_DestroyObject", SUCCESS),
    "lost-session": lambda bench: bench.shim.refuse("C_OpenSession", Ckr.DEVICE_REMOVED, skip=1),
    "restarted-module": lambda bench: bench.shim.refuse("C_Initialize", Ckr.CANT_LOCK, skip=1),
    "wrong-mechanism": lambda bench: bench.shim.refuse("C_SignInit", Ckr.GENERAL_ERROR),
    "wrong-length": lambda bench: bench.shim.refuse("C_UnwrapKey", Ckr.GENERAL_ERROR),
    "threads": lambda bench: bench.shim.refuse("C_Sign", Ckr.DEVICE_REMOVED, skip=9, times=1),
    "processes": lambda bench: bench.shim.crash("C_Sign", skip=5, times=1),
}


@pytest.mark.parametrize("name", BAD_BEHAVIOUR)
def test_a_question_that_is_answered_badly_is_told(bench: Bench, name: str) -> None:
    assert bench.failures(name) == {}
    BAD_BEHAVIOUR[name](bench)
    failures = bench.failures(name)
    assert name in failures
    assert failures[name]


def test_a_question_does_not_spoil_the_next(bench: Bench) -> None:
    bench.shim.refuse("C_WrapKey", Ckr.DEVICE_ERROR)
    failures = bench.failures("hmac-sha-256", "aes-key-wrap-pad", "unwrapped-keys", "names", "destroyed-key")
    assert failures.keys() == {"aes-key-wrap-pad", "unwrapped-keys"}


def test_what_an_interrupted_test_left_is_swept_up_and_told(bench: Bench) -> None:
    bench.shim.refuse("C_DestroyObject", SUCCESS, times=2)  # both halves of the key pair
    failures = bench.failures("unknown-key", "lost-session")
    assert failures == {"left-nothing": "1 keys were left over and are destroyed"}
    assert bench.failures("unknown-key") == {}


def test_a_token_that_does_not_open_ends_the_examination(bench: Bench) -> None:
    bench.shim.take_away(Ckr.TOKEN_NOT_PRESENT)
    with pytest.raises(HsmUnavailable):
        examine(bench.settings)


def test_a_wrong_pin_is_tried_once(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "pin").write_text("not-the-pin\n")
    (tmp_path / "pin").chmod(0o600)
    before = bench.shim.calls("C_Login")
    with pytest.raises(PinIncorrect):
        examine(replace(bench.settings, pin_file=tmp_path / "pin"))
    assert bench.shim.calls("C_Login") == before + 1


def test_the_command_ends_with_the_verdict(bench: Bench) -> None:
    bench.only("hmac-sha-256", "ml-dsa")
    done = bench.run()
    assert (done.exit_code, done.exception) == (0, None)
    assert "lacks  ml-dsa" in done.stdout
    assert done.stdout.endswith("fit for use: nothing required failed\n")
    bench.shim.flip("C_Sign", times=1)
    done = bench.run("--rate-seconds", "0")
    assert done.exit_code == 1
    assert done.stdout.endswith("not fit for use: hmac-sha-256\n")


def test_the_report_can_be_read_by_a_program(bench: Bench) -> None:
    bench.only("hmac-sha-256", "ml-dsa")
    bench.monkeypatch.setattr(self_test, "RATES", [("hmac-sha-256", probes.authenticating)])
    result = json.loads(bench.run("--json", "--rate-seconds", "0.01").stdout)["result"]
    assert result["passed"] is True
    assert result["token"]["label"] == "examined"
    assert {(probe["name"], probe["need"], probe["passed"]) for probe in result["probes"]} == {
        ("hmac-sha-256", "required", True), ("ml-dsa", "optional", False), ("left-nothing", "required", True),
    }  # fmt: skip
    assert result["rates"][0]["per_second"] > 0


def test_each_question_has_its_own_name_and_only_what_is_needed_is_required() -> None:
    names = [name for name, _, _, _ in QUESTIONS]
    assert len(names) == len(set(names))
    assert {name for name, _, need, _ in QUESTIONS if need is Need.OPTIONAL} == {
        "aes-key-wrap-pad-rsa", "rsa-3072", "eddsa", "ml-dsa", "trusted-mark", "wrap-with-trusted", "wrong-mechanism",
        "wrong-length",
    }  # fmt: skip


def test_the_documented_table_is_what_is_asked_and_answered() -> None:
    """| `ecdsa-p256` | required | … | yes | no |"""
    rows = re.findall(
        r"^\| `([a-z0-9-]+)` \| (required|optional) \|.*\| (yes|no) \| (yes|no) \|$",
        (ROOT / "docs" / "pkcs11-modules.md").read_text(),
        re.MULTILINE,
    )
    assert {name: need for name, need, _, _ in rows} == {
        **{name: need.value for name, _, need, _ in QUESTIONS},
        "left-nothing": "required",
    }
    assert {name for name, _, softhsm, _ in rows if softhsm == "no"} == FAILS["softhsm"]
    assert {name for name, _, _, softoken in rows if softoken == "no"} == FAILS["nss-softoken"]
