"""What is seen in the repository is what is installed."""

from __future__ import annotations

import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.support.tools import run
from tests.support.tree import ROOT, files, packages


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    directory = tmp_path_factory.mktemp("dist")
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory, cwd=ROOT)
    assert built.status == 0, built.output
    return zipfile.ZipFile(next(directory.glob("*.whl")))


def test_the_wheel_holds_exactly_the_packages_of_the_tree(wheel: zipfile.ZipFile) -> None:
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name and not name.endswith(".mo")}
    seen = {str(name) for name in files() if name.parts[0] in packages()}
    assert shipped == seen


def test_the_wheel_installs_the_command_and_the_licence(wheel: zipfile.ZipFile) -> None:
    names = {Path(name).name: name for name in wheel.namelist() if ".dist-info/" in name}
    assert "tamga=cli.main:main" in wheel.read(names["entry_points.txt"]).decode().replace(" ", "")
    assert "Apache License" in wheel.read(names["LICENSE"]).decode()


def test_no_installed_distribution_uses_one_of_our_names() -> None:
    installed = packages_distributions()
    taken = {name: installed[name] for name in packages() if set(installed.get(name, ())) - {"tamga"}}
    assert not taken
    assert not set(packages()) & set(sys.stdlib_module_names)


def test_every_package_says_that_it_is_typed() -> None:
    assert not [name for name in packages() if not (ROOT / name / "py.typed").is_file()]


def test_every_requirement_is_locked_with_a_hash() -> None:
    for lock in ("requirements.lock", "requirements-test.lock"):
        requirement: str | None = None
        hashed: dict[str, bool] = {}
        for line in (ROOT / lock).read_text().splitlines():
            if line and not line.startswith((" ", "#")):
                requirement = line.split("==")[0]
                hashed[requirement] = False
            elif requirement and "--hash=sha256:" in line:
                hashed[requirement] = True
        assert hashed
        assert not [name for name, is_hashed in hashed.items() if not is_hashed], lock


def test_the_locks_hold_what_the_project_asks_for() -> None:
    # A dependency added without `make lock` would be missing on the next fresh machine.
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    from tests.support.tree import project

    def locked(lock: str) -> dict[str, str]:
        lines = [line.split(" ")[0] for line in (ROOT / lock).read_text().splitlines() if "==" in line.split(" ")[0]]
        return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}

    asked = project()["project"]
    for lock, wanted in (
        ("requirements.lock", [*asked["dependencies"], *project()["build-system"]["requires"]]),
        ("requirements-test.lock", [*asked["dependencies"], *asked["optional-dependencies"]["test"]]),
    ):
        pinned = locked(lock)
        for line in wanted:
            requirement = Requirement(line)
            version = pinned.get(canonicalize_name(requirement.name))
            assert version is not None, f"{requirement.name} is not in {lock}: run `make lock`"
            assert requirement.specifier.contains(version), f"{line} is not met by {lock}: run `make lock`"
