"""Parts that many tests share: one running instance, private ones on demand, servers that come from outside."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import postgresql, redis
from tests.support.instance import Instance
from tests.support.tree import ROOT
from tests.support.world import World

ARTIFACTS = ROOT / "var" / "test-artifacts"


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """Where screenshots and other things a person may want to look at are kept."""
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    return ARTIFACTS


@pytest.fixture(scope="session")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One running instance on embedded defaults, shared by the whole run: add to it, never break it."""
    made = Instance(tmp_path_factory.mktemp("instance")).create()
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(scope="session")
def world(instance: Instance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The people and organisations around the shared instance."""
    made = World(instance, tmp_path_factory.mktemp("world"))
    yield made
    made.close()


@pytest.fixture
def private_instance(tmp_path: Path) -> Iterator[Callable[..., Instance]]:
    """Makes instances that one test may break; all are stopped at its end."""
    made: list[Instance] = []

    def make(name: str = "instance", **more: str) -> Instance:
        instance = Instance(tmp_path / name, **more)
        made.append(instance)
        return instance

    yield make
    for instance in made:
        instance.stop()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgresql.PostgreSQL]:
    """A running PostgreSQL; take a database of your own with `.database()`."""
    # Not below pytest's own folder: PostgreSQL runs as another user, who may not enter that.
    directory = Path(tempfile.mkdtemp(prefix="tamga-postgresql-"))
    server = postgresql.start(directory)
    try:
        yield server
    finally:
        server.server.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    """A running, empty Redis."""
    server = redis.start(tmp_path_factory.mktemp("redis"))
    try:
        yield server
    finally:
        server.server.stop()
