"""A Redis server of the tests' own: empty, loopback port, nothing written to disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import Server, free_port, listens
from tests.support.tools import require_tool


@dataclass(frozen=True)
class Redis:
    """A running server."""

    port: int
    server: Server

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


def start(directory: Path) -> Redis:
    """Serve an empty Redis from `directory`."""
    program = require_tool("redis-server", "redis-server")
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    server = Server(
        [
            program,
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            str(directory),
        ],
        log=directory / "log",
    )
    server.wait_until(lambda: listens(port))
    return Redis(port, server)
