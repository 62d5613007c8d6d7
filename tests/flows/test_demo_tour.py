"""The promise of the first command: `make demo` walks the whole way and says so."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from cryptography import x509

from tests.support.pdf import contract
from tests.support.processes import free_port
from tests.support.tools import Ran, run
from tests.support.tree import ROOT

PROMISED = (
    "login",
    "consents",
    "ID token",
    "certificate issued",
    "sends a document",
    "reviews and signs",
    "downloads",
    "TOTAL-PASSED",
    "revoked",
    "OCSP",
    "refused",
    "still verifies",
    "audit",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


def demo(folder: Path, port: int, *more: str | Path) -> Ran:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TAMGA_", "SOFTHSM2_"))}
    return run(
        sys.executable, "-m", "cli.main", "demo", "--once", "--json", "--port", str(port), "--dir", folder / "var",
        *more, cwd=folder.parent, env={**environment, "PYTHONPATH": str(ROOT)}, timeout=300,
    )  # fmt: skip


def test_the_tour_holds_twice_and_with_a_document_of_ones_own(folder: Path) -> None:
    port = free_port()
    (folder / "own.pdf").write_bytes(contract(pages=3))
    for more in ((), ("--pdf", folder / "own.pdf")):
        toured = demo(folder, port, *more)
        assert toured.status == 0, toured.output
        last = json.loads(toured.stdout.splitlines()[-1])
        assert last["ok"] is True
        steps = last["steps"]
        assert all(step["ok"] and isinstance(step["ms"], int) for step in steps)
        told = " | ".join(step["name"] for step in steps)
        assert not [words for words in PROMISED if words not in told], told
        assert Path(last["signed_pdf"]).read_bytes().startswith(b"%PDF-")
        assert x509.load_pem_x509_certificate(Path(last["root_certificate"]).read_bytes())
        assert last["client"]["client_id"]
    assert Path(last["signed_pdf"]).read_bytes().startswith((folder / "own.pdf").read_bytes())


def test_a_taken_port_is_said_so(folder: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = demo(folder / "other", taken.getsockname()[1])
    assert refused.status != 0
    assert json.loads(refused.stdout.splitlines()[-1])["ok"] is False
