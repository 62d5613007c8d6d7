"""Programs from outside that the tests compare us with: found, run, or named when they are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

# Debian keeps servers in /usr/sbin, which is not on everybody's PATH.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def require_all() -> bool:
    """True where a missing tool is a failure: on the build server."""
    return os.environ.get("TAMGA_REQUIRE_ALL") == "1"


def missing(what: str, install: str) -> None:
    """Skip the test with the line that installs `what`; fail instead when everything is demanded."""
    message = f"{what} is not installed: {install}"
    if require_all():
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def require_tool(name: str, package: str) -> str:
    """The path of the program `name` (`package` is its Debian package)."""
    found = shutil.which(name, path=SEARCH_PATH)
    if found is None:
        missing(name, f"sudo apt-get install {package}")
    assert found is not None
    return found


def require_file(pattern: str, package: str) -> Path:
    """The newest file that matches the absolute `pattern`."""
    found = sorted(Path("/").glob(pattern.lstrip("/")))
    if not found:
        missing(pattern, f"sudo apt-get install {package}")
    return found[-1]


@dataclass(frozen=True)
class Ran:
    """What a finished program said. Several of the tools exit 0 on failure: judge by `output`."""

    status: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


def run(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    timeout: float = 120,
    pass_fds: tuple[int, ...] = (),
) -> Ran:
    """Run a program to its end; neither a status nor words on stderr raise."""
    arguments: Sequence[str] = [str(part) for part in command]
    done = subprocess.run(
        arguments, cwd=cwd, env=None if env is None else dict(env), input=stdin, capture_output=True, timeout=timeout,
        pass_fds=pass_fds,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
