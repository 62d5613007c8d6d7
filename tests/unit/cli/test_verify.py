"""``tamga verify``: its answers and its exit statuses (signing specification 8.6)."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from cli.main import main

ROOT = Path(__file__).resolve().parents[3]


def load_pki_module() -> ModuleType:
    """The small infrastructure of the signing room's tests."""
    spec = importlib.util.spec_from_file_location("signing_test_pki", ROOT / "tests/unit/signing/conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = load_pki_module()
    pki, folder = made.make_pki(), tmp_path_factory.mktemp("verify")
    signed = made.sign(pki, made.make_pdf()).data
    (folder / "signed.pdf").write_bytes(signed)
    (folder / "changed.pdf").write_bytes(signed.replace(b"595", b"596", 1))
    (folder / "unsigned.pdf").write_bytes(made.make_pdf())
    (folder / "text.pdf").write_bytes(b"hello")
    (folder / "empty.pdf").write_bytes(b"")
    for name, identity in (("root", pki.root), ("other", made.make_pki(" 2").root)):
        (folder / f"{name}.pem").write_bytes(identity.certificate.public_bytes(Encoding.PEM))
    return folder


@dataclass(frozen=True)
class Terminal:
    """The command as typed in a folder without an instance."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def verify(self, *arguments: str) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["tamga", "verify", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        shown = self.capsys.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, shown.out, shown.err


@pytest.fixture
def terminal(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("TAMGA_CONFIG", raising=False)
    return Terminal(monkeypatch, capsys)


AT = ("--at", "2026-11-21T12:10:00+08:00")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("signed.pdf", "--trust", "root.pem", *AT), 0),
        (("changed.pdf", "--trust", "root.pem", *AT), 1),
        (("signed.pdf", "--trust", "other.pem", *AT), 2),
        (("signed.pdf", *AT), 2),
        (("unsigned.pdf", "--trust", "root.pem"), 2),
        (("text.pdf", "--trust", "root.pem"), 3),
        (("empty.pdf", "--trust", "root.pem"), 3),
        (("absent.pdf", "--trust", "root.pem"), 3),
        (("signed.pdf", "--trust", "signed.pdf"), 3),
        (("signed.pdf", "--trust", "root.pem", "--policy", "absent"), 3),
        (("signed.pdf", "--trust", "root.pem", "--at", "yesterday"), 3),
        (("signed.pdf", "--surprise"), 3),
        ((), 3),
    ],
)
def test_the_exit_status_says_the_verdict(terminal: Terminal, arguments: tuple[str, ...], status: int) -> None:
    returned, _, errors = terminal.verify(*arguments)
    assert returned == status, errors
    assert "internal_error" not in errors


def test_json_is_one_document(terminal: Terminal) -> None:
    _, output, _ = terminal.verify("signed.pdf", "--trust", "root.pem", *AT, "--json")
    answer: dict[str, Any] = json.loads(output)
    assert answer["ok"] is True
    assert answer["result"]["document_status"] == "TOTAL-PASSED"
    _, output, _ = terminal.verify("text.pdf", "--json")
    assert json.loads(output)["error"]["code"] == "NOT_A_PDF"


def test_people_read_who_and_when(terminal: Terminal) -> None:
    _, output, _ = terminal.verify("signed.pdf", "--trust", "root.pem", *AT, "--language", "mn")
    assert "TOTAL-PASSED" in output
    assert "БАТ Өлзий" in output
    assert "2026-11-21T04:05:06Z" in output
