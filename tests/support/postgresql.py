"""A PostgreSQL server of the tests' own: fresh cluster, loopback port, ended by process id."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import Server, free_port, listens
from tests.support.tools import require_file, run


@dataclass(frozen=True)
class PostgreSQL:
    """A running server; every caller takes a database of its own."""

    port: int
    directory: Path
    binaries: Path
    server: Server

    def database(self) -> str:
        """Make an empty database and give its SQLAlchemy address."""
        name = f"t{secrets.token_hex(6)}"
        made = run(
            self.binaries / "createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "tamga", "-E", "UTF8",
            "-T", "template0", name,
        )  # fmt: skip
        assert made.status == 0, made.output
        return f"postgresql+psycopg://tamga@127.0.0.1:{self.port}/{name}"


def start(directory: Path) -> PostgreSQL:
    """Make a cluster in `directory` and serve it. PostgreSQL refuses to run as root: then it runs as `postgres`."""
    binaries = require_file("/usr/lib/postgresql/*/bin/initdb", "postgresql").parent
    directory.mkdir(parents=True, exist_ok=True)
    data = directory / "data"
    prefix: list[str] = []
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
        shutil.chown(directory, owner.pw_uid, owner.pw_gid)
    made = run(*prefix, binaries / "initdb", "-D", data, "-U", "tamga", "-A", "trust", "-E", "UTF8", "--no-locale",
               "--no-sync", cwd=directory)  # fmt: skip
    assert made.status == 0, made.output
    port = free_port()
    log = directory / "log"
    log.touch()
    # The tests' data may be lost in a power cut; waiting for the disk would only make them slow.
    server = Server(
        [*prefix, str(binaries / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", str(directory),
         "-c", "fsync=off", "-c", "max_connections=200"],
        log=log,
        cwd=directory,
        stop_signal=signal.SIGINT,  # fast shutdown: does not wait for clients
    )  # fmt: skip
    ready = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    server.wait_until(lambda: listens(port) and run(*ready).status == 0)
    return PostgreSQL(port, directory, binaries, server)
