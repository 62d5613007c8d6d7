"""A small pool of warm processes in which pkilint runs, so that no request's thread waits for its Python.

A worker gets octets and nothing else: no token, no database, no secrets from the environment. One that dies, hangs or
answers nonsense is a refusal to issue, never a pass; the next question starts another.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ca.errors import LinterUnavailable
from core.logs import get_logger
from policies.lints import Finding

log = get_logger("ca.lint_workers")

MAX_ANSWER_OCTETS = 1024 * 1024  # ours: a thousand findings are refused as well as ten
# Ours. A lint takes a hundredth of a second; a worker that starts needs one or two seconds, more when busy.
DEADLINE_SECONDS = 30.0
_PROGRAM = ["-m", "ca.lint_worker"]
# A CRL's entries cost a fifth of a millisecond each; certificates are a kilobyte or two.
SECONDS_FOR_MEBIBYTE = 30
_SEVERITIES = frozenset({"FATAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG"})


class LintWorkers:
    """Processes by number, started when first needed. Any thread may ask; ``close`` ends the processes.

    Made before a fork, each process of a server starts its own.
    """

    def __init__(self, count: int, *, version: str, deadline: float = DEADLINE_SECONDS) -> None:
        """``version`` is what every worker must report; ``deadline`` is in seconds, waiting for a worker included."""
        self._count = max(count, 1)
        self._version = version
        self._deadline = deadline
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._free: queue.LifoQueue[_Worker | None] = queue.LifoQueue()

    def findings(self, kind: str, der: bytes) -> list[Finding]:
        """What pkilint says. Raises LinterUnavailable."""
        ends = time.monotonic() + self._deadline + SECONDS_FOR_MEBIBYTE * len(der) / 2**20
        free = self._mine()
        try:
            worker = free.get(timeout=self._deadline)
        except queue.Empty as error:
            raise LinterUnavailable("every linter is busy; nothing was signed") from error
        kept: _Worker | None = None
        try:
            worker = _living(worker, (kind,))
            answer = worker.ask({"kind": kind, "der": der.hex()}, ends)
            findings = _findings(answer, self._version)
            kept = worker
            return findings
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("lint_worker_failed", kind=kind, reason=type(error).__name__)
            raise LinterUnavailable("the linter failed; nothing was signed") from error
        finally:
            if kept is None and worker is not None:
                worker.end()
            free.put(kept)

    def warm_up(self, kinds: Sequence[str]) -> None:
        """Start every worker; it builds the validators of these kinds while it is not asked."""
        free = self._mine()
        taken: list[_Worker | None] = []
        with contextlib.suppress(queue.Empty):
            while len(taken) < self._count:
                taken.append(free.get_nowait())
        for worker in taken:
            free.put(_living(worker, kinds))

    def close(self) -> None:
        """End the processes that are free; the others end with their parent's pipes."""
        free = self._mine()
        with contextlib.suppress(queue.Empty):
            while True:
                worker = free.get_nowait()
                if worker is not None:
                    worker.end()
        with self._lock:
            self._owner = None

    def _mine(self) -> queue.LifoQueue[_Worker | None]:
        """The queue of this process: pipes inherited over a fork belong to the parent."""
        with self._lock:
            if self._owner != os.getpid():
                self._owner = os.getpid()
                self._free = queue.LifoQueue()
                for _ in range(self._count):
                    self._free.put(None)
            return self._free


class _Worker:
    """One process and its pipes. Used by one thread at a time."""

    def __init__(self, kinds: Sequence[str]) -> None:
        root = str(Path(__file__).resolve().parent.parent)
        environment = {"PYTHONPATH": root, "PATH": os.defpath, "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        self._process = subprocess.Popen(
            [sys.executable, *_PROGRAM, *kinds],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, close_fds=True,
            start_new_session=True,
        )  # fmt: skip
        # Whoever forgets to close leaves no process behind; at the interpreter's end the pipe's end does it.
        self._ending = weakref.finalize(self, _end, self._process, os.getpid())
        self._ending.atexit = False

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, question: dict[str, str], ends: float) -> Any:
        """The answer to one question. Raises OSError or ValueError when there is none before ``ends``."""
        pipe_in, pipe_out = self._process.stdin, self._process.stdout
        assert pipe_in is not None  # noqa: S101 - asked for above
        assert pipe_out is not None  # noqa: S101
        pipe_in.write(json.dumps(question).encode() + b"\n")
        pipe_in.flush()
        octets = b""
        while not octets.endswith(b"\n"):
            left = ends - time.monotonic()
            if left <= 0 or not select.select([pipe_out.fileno()], [], [], left)[0]:
                raise TimeoutError("the worker took too long")
            part = os.read(pipe_out.fileno(), MAX_ANSWER_OCTETS)
            if not part or len(octets) + len(part) > MAX_ANSWER_OCTETS:
                raise ValueError("the worker ended, or says too much")
            octets += part
        return json.loads(octets)

    def end(self) -> None:
        """Kill the process and wait for it."""
        self._ending()


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() != owner:
        return  # a fork's copy of somebody else's worker
    process.kill()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()
    process.wait()


def _living(worker: _Worker | None, kinds: Sequence[str]) -> _Worker:
    if worker is not None and worker.is_alive:
        return worker
    if worker is not None:
        worker.end()
    return _Worker(kinds)


def _findings(answer: Any, version: str) -> list[Finding]:
    """Findings as the worker tells them; ones of an unknown severity, or by another linter, are no answer."""
    if answer["version"] != version:
        raise ValueError("the linter was exchanged while this process ran")
    findings = [Finding(*map(str, each)) for each in answer["findings"]]
    if not {finding.severity for finding in findings} <= _SEVERITIES:
        raise ValueError("a severity nobody knows")
    return findings
