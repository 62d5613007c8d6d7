"""The picture in docs/architecture.md is true: arrows point down only."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.tools import run
from tests.support.tree import ROOT, packages, project


def test_every_import_contract_holds() -> None:
    linted = run(Path(sys.executable).with_name("lint-imports"), "--no-cache", cwd=ROOT)
    assert linted.status == 0, linted.output


def test_the_contracts_speak_of_every_package() -> None:
    assert set(project()["tool"]["importlinter"]["root_packages"]) == set(packages())


def test_a_serving_process_starts_without_the_slow_libraries() -> None:
    # Importing pyHanko and pkilint takes longer than answering a thousand OCSP requests.
    program = "import sys, app.application; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = run(sys.executable, "-c", program, cwd=ROOT)
    assert loaded.status == 0, loaded.output
    assert not {"pyhanko", "pkilint", "pyhanko_certvalidator", "reportlab"} & set(loaded.stdout.split())
