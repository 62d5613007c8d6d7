"""A real instance: made by `tamga init` and the ceremony, served by `tamga serve`, asked by commands and over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import urllib3

from tests.support.officers_key import OfficersKey
from tests.support.processes import Server, free_port
from tests.support.tools import Ran, run
from tests.support.tree import ROOT


class Refused(AssertionError):
    """A command did not exit with 0."""

    def __init__(self, arguments: Sequence[str], ran: Ran) -> None:
        super().__init__(f"tamga {' '.join(arguments)}: exit {ran.status}\n{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}")
        self.ran = ran
        try:
            error = json.loads(ran.stdout).get("error") or {}
        except (ValueError, AttributeError):
            error = {}
        self.code: str = error.get("code", "")
        self.status = ran.status


class Instance:
    """One instance in a folder of its own. `create` once, then `start`, `stop`, `kill` as often as wanted."""

    def __init__(self, directory: Path, *, port: int | None = None, base_url: str | None = None) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.base_url = base_url or f"http://localhost:{self.port}"
        self.configuration = directory / "tamga.toml"
        self.log = directory / "serve.log"
        # The authority of the TLS certificate, where something with TLS stands in front.
        self.trust: Path | None = None
        # Who types the commands, where officers are enrolled.
        self.officer: OfficersKey | None = None
        self._server: Server | None = None

    # Commands ------------------------------------------------------------------------------------------------------

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """What the commands see: nothing of the caller's own instance."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TAMGA_", "SOFTHSM2_"))}
        return {**kept, "PYTHONPATH": str(ROOT), "TAMGA_CONFIG": str(self.configuration), **(more or {})}

    def command(
        self, *arguments: str | Path, stdin: bytes | None = None, timeout: float = 120,
        officer: OfficersKey | None = None,
    ) -> Ran:  # fmt: skip
        """Run `tamga …` to its end, whatever its status."""
        officer = officer or self.officer
        with contextlib.ExitStack() as opened:
            shown: list[str | Path] = []
            descriptors: tuple[int, ...] = ()
            if officer is not None:
                descriptors = (opened.enter_context(officer.passphrase_descriptor()),)
                shown = ["--officer-key", officer.file, "--officer-passphrase-fd", str(descriptors[0])]
            return run(
                sys.executable, "-m", "cli.main", *shown, *arguments, cwd=self.directory, env=self.environment(),
                stdin=stdin, timeout=timeout, pass_fds=descriptors,
            )  # fmt: skip

    def cli(
        self, *arguments: str | Path, stdin: bytes | None = None, timeout: float = 120,
        officer: OfficersKey | None = None,
    ) -> Any:  # fmt: skip
        """The `result` of `tamga … --json`; raises Refused unless it exits with 0."""
        ran = self.command(*arguments, "--json", stdin=stdin, timeout=timeout, officer=officer)
        if ran.status != 0:
            raise Refused([str(part) for part in arguments], ran)
        document = json.loads(ran.stdout)
        assert document["ok"] is True
        return document["result"]

    def create(self, *, before_ceremony: Mapping[str, str] | None = None) -> Instance:
        """`tamga init` and the ceremony. `before_ceremony` replaces texts in tamga.toml in between."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.cli("init", "--dir", self.directory, "--base-url", self.base_url, "--port", str(self.port))
        if before_ceremony:
            text = self.configuration.read_text()
            for old, new in before_ceremony.items():
                assert old in text, f"{old!r} is not in tamga.toml:\n{text}"
                text = text.replace(old, new)
            self.configuration.write_text(text)
        self.cli("ca", "ceremony", "run", "--execute", "--yes")
        return self

    # Serving -------------------------------------------------------------------------------------------------------

    def start(self, *arguments: str, seconds: float = 60) -> Instance:
        """`tamga serve`, until it answers."""
        assert self._server is None or not self._server.running(), "it runs already"
        self._server = Server(
            [sys.executable, "-m", "cli.main", "serve", *arguments],
            log=self.log,
            cwd=self.directory,
            env=self.environment(),
        )
        self._server.wait_until(self.healthy, seconds=seconds)
        return self

    def healthy(self) -> bool:
        """Whether the running server answers its health question."""
        try:
            answer = urllib3.request("GET", f"http://127.0.0.1:{self.port}/healthz", timeout=5, retries=False)
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status == 200

    @property
    def server(self) -> Server:
        assert self._server is not None, "it was not started"
        return self._server

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()

    def kill(self) -> None:
        """SIGKILL for the server and all it forked, at once."""
        self.server.kill()

    def restart(self) -> Instance:
        self.stop()
        return self.start()
