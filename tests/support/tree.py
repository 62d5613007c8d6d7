"""The repository as it would be published: its files, its packages."""

from __future__ import annotations

import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@cache
def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages() -> tuple[str, ...]:
    """The top-level packages of the wheel."""
    return tuple(project()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])


@cache
def files() -> tuple[Path, ...]:
    """Every file that is or will be in the repository, relative to ROOT; outside a clone all but the ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if listed.returncode == 0:
        names = {Path(name) for name in listed.stdout.decode().split("\0") if name}
    else:
        ignored = {".git", ".venv", "var", "dist", "node_modules", "__pycache__"}
        names = {
            path.relative_to(ROOT)
            for path in ROOT.rglob("*")
            if not any(part in ignored or part.endswith("_cache") for part in path.relative_to(ROOT).parts)
            and path.suffix not in (".pyc", ".mo")
        }
    return tuple(sorted(name for name in names if (ROOT / name).is_file()))


def text_files() -> list[tuple[Path, str]]:
    """The files that are UTF-8 text, with it."""
    found = []
    for name in files():
        try:
            found.append((name, (ROOT / name).read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue
    return found
