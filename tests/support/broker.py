"""A real broker: `tamga hsm broker` for the token of given settings, stopped by its id.

    with Broker(settings, tmp_path / "broker") as broker:
        broker.keystore().key("ca").sign(…)        # a client in this process
        broker.workers()                           # processes that hold the token, to be killed or looked into
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import CodedError
from hsm.client import BrokerKeystore
from hsm.settings import HsmClient, HsmSettings
from tests.support.processes import Server
from tests.support.tree import ROOT


class Broker:
    """One broker with a configuration of its own in `directory`; more `settings` fields can be given by name.

    `environment` is added to the broker's, such as what a module in front of the real one reads. With `strict` the
    instance is no development instance, so a key that could leave the token stops the start.
    """

    def __init__(
        self,
        settings: HsmSettings,
        directory: Path,
        *,
        environment: Mapping[str, str] | None = None,
        strict: bool = False,
        **more: Any,
    ) -> None:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.directory = directory
        self.socket = directory / "hsm.sock"
        self.settings = dataclasses.replace(settings, broker=self.socket, **more)
        self.log = directory / "broker.log"
        self._environment = dict(environment or {})
        self._configuration = directory / "tamga.toml"
        self._configuration.write_text(_toml(self.settings, "https://id.example.mn" if strict else "http://localhost"))
        self._server: Server | None = None

    def __enter__(self) -> Broker:
        return self.start()

    def __exit__(self, *details: object) -> None:
        self.stop()

    def start(self, *, until: Sequence[str] = ("up", "latched", "down"), seconds: float = 60) -> Broker:
        """Start it and wait until its state is one of `until`."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TAMGA_")}
        self._server = Server(
            [sys.executable, "-m", "cli.main", "--config", str(self._configuration), "hsm", "broker"],
            log=self.log,
            cwd=self.directory,
            env={**kept, "PYTHONPATH": str(ROOT), **self._environment},
        )
        self._server.wait_until(lambda: self.state() in until, seconds=seconds)
        return self

    def state(self) -> str:
        """`starting`, `up`, `down` (the token is away), `latched` (wrong PIN), or `away` when nobody answers."""
        try:
            return str(self.metrics()["state"])
        except CodedError:
            return "away"

    def metrics(self) -> dict[str, Any]:
        """What the broker tells about itself."""
        keystore = self.keystore()
        try:
            return keystore.metrics()
        finally:
            keystore.close()

    def workers(self) -> list[int]:
        """The processes that have the module loaded."""
        return [int(worker["process"]) for worker in self.metrics()["workers"]]

    def keystore(self) -> BrokerKeystore:
        """A client in this process; close it when the test is over."""
        return BrokerKeystore(self.socket, deadline_seconds=self.settings.broker_deadline)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log's lines of one event."""
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [event for event in map(json.loads, lines) if event["event"] == name]

    @property
    def server(self) -> Server:
        assert self._server is not None, "it was not started"
        return self._server

    @property
    def pid(self) -> int:
        """The supervisor's process."""
        return self.server.pid

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()

    def kill(self) -> None:
        """SIGKILL for the supervisor and its workers at once."""
        self.server.kill()


def _toml(settings: HsmSettings, base_url: str) -> str:
    lines = [f'base_url = "{base_url}"', "[floor]", 'database_url = "sqlite:///unused.sqlite3"', "[hsm]"]
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name != "clients" and value is not None:
            lines.append(f"{field.name} = {_value(value)}")
    for client in settings.clients:
        lines += ["[[hsm.clients]]", *_client(client)]
    return "\n".join(lines) + "\n"


def _client(client: HsmClient) -> list[str]:
    return [f"{field.name} = {_value(getattr(client, field.name))}" for field in dataclasses.fields(client)]


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return json.dumps(list(value))
    return json.dumps(str(value) if isinstance(value, Path) else value)
