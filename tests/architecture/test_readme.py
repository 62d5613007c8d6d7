"""What the README tells people to type works: each block marked `<!-- test -->` is typed here, in order."""

from __future__ import annotations

import re
import stat
import sys
from pathlib import Path

import pytest

from tests.support.instance import Instance
from tests.support.pdf import contract
from tests.support.tools import run
from tests.support.tree import ROOT

BLOCK = re.compile(r"<!-- test -->\s*```sh\n(.*?)```", re.DOTALL)
README = ROOT / "README.md"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a document in it, where `tamga` is on the PATH."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "contract.pdf").write_bytes(contract())
    programs = folder / "bin"
    programs.mkdir()
    command = programs / "tamga"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cli.main "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return folder


def test_every_marked_block_of_the_readme_works(instance: Instance, sandbox: Path) -> None:
    blocks = BLOCK.findall(README.read_text())
    assert blocks, "the README marks no block with <!-- test -->"
    environment = instance.environment()
    environment["PATH"] = f"{sandbox / 'bin'}:{environment['PATH']}"
    for block in blocks:
        typed = block.replace("http://localhost:8080", instance.base_url)
        ran = run("bash", "-euo", "pipefail", "-c", typed, cwd=sandbox, env=environment, timeout=300)
        assert ran.status == 0, f"{typed}\n{ran.output}"


def test_every_file_the_documents_point_at_exists() -> None:
    broken = []
    for document in [README, *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text()):
            if "://" not in target and not target.startswith("mailto:") and not (document.parent / target).exists():
                broken.append(f"{document.relative_to(ROOT)}: {target}")
    assert not broken
