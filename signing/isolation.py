"""PDF work in processes of their own: limited in memory and time, without keys, replaced when they die (S31).

A worker gets the bytes of a document and nothing else of this service: no PKCS#11 module, no database, no secrets from
the environment. What comes back is read with an allow-list, so that a parser taken over by a document cannot reach
further than a wrong answer.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, cast

from core.errors import CodedError
from core.logs import get_logger
from signing import document_errors
from signing.document_errors import DocumentError, ParserLimit
from signing.documents import MAX_DOCUMENT_OCTETS, DocumentFacts, check_form
from signing.pades import Evidence, Placement, PreparedSignature, SignerFacts
from signing.validation import (
    EvidenceSource,
    TrustAnchors,
    ValidationReport,
    check_policy,
    fetch_evidence,
    judge,
)
from signing.validation import facts as validation_facts
from signing.validation.findings import Finding

log = get_logger("signing.isolation")

MEBIBYTE = 1024 * 1024
MAX_ANSWER_OCTETS = 512 * MEBIBYTE
_HEADER = struct.Struct(">Q")
_ALLOWED_MODULES = (
    "signing.documents", "signing.pades", "signing.validation.facts", "signing.validation.cms",
    "signing.validation.der", "signing.validation.findings", "signing.validation.report",
    "signing.validation.revocation", "signing.validation.time_stamps",
)  # fmt: skip
_ALLOWED_NAMES = frozenset({("datetime", "datetime"), ("datetime", "timezone"), ("datetime", "timedelta")})


class WorkerDied(Exception):
    """The worker ran out of memory or time, or crashed."""


@dataclass(frozen=True)
class WorkerLimits:
    """What one worker may use. ``cpu_seconds`` and ``deadline`` are for one piece of work."""

    memory: int = 512 * MEBIBYTE  # octets of writable memory
    cpu_seconds: int = 10
    deadline: float = 30.0  # seconds on the clock, waiting for a processor included
    jobs: int = 500  # then the worker is replaced


class PdfWorkers:
    """A small pool of workers. Every method may be called from any thread; ``close`` ends the processes."""

    def __init__(self, count: int = 2, *, limits: WorkerLimits | None = None) -> None:
        self._limits = limits or WorkerLimits()
        self._free: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(max(count, 1)):
            self._free.put(None)  # started when first needed
        self._count = max(count, 1)
        self._closed = threading.Event()

    def open_document(self, data: bytes, *, limit: int = MAX_DOCUMENT_OCTETS) -> DocumentFacts:
        """``signing.documents.open_document``. Raises its errors, and ParserLimit when the worker dies."""
        check_form(data, limit=limit)
        return cast(DocumentFacts, self._for_signing("open_document", data, limit=limit))

    def preflight(
        self, data: bytes, *, placement: Placement | None = None, limit: int = MAX_DOCUMENT_OCTETS
    ) -> DocumentFacts:
        """``signing.pades.preflight``, the same way."""
        check_form(data, limit=limit)
        return cast(DocumentFacts, self._for_signing("preflight", data, placement=placement, limit=limit))

    def page_png(self, data: bytes, page: int, *, width: int = 900) -> bytes:
        """``signing.rendering.page_png``, the same way."""
        return cast(bytes, self._for_signing("page_png", data, page, width=width))

    def prepare(
        self,
        data: bytes,
        *,
        signer: SignerFacts,
        chain: tuple[bytes, ...],
        placement: Placement | None,
        language: str,
        signing_time: datetime,
        reason: str | None = None,
        field_name: str | None = None,
        evidence: Evidence | None = None,
    ) -> PreparedSignature:
        """``signing.pades.prepare``, the same way."""
        return cast(
            PreparedSignature,
            self._for_signing(
                "prepare", data, signer=signer, chain=chain, placement=placement, language=language,
                signing_time=signing_time, reason=reason, field_name=field_name, evidence=evidence,
            ),
        )  # fmt: skip

    def validate(
        self,
        data: bytes,
        *,
        policy: str = "mn-default",
        trust: TrustAnchors,
        evidence: EvidenceSource | None = None,
        at: datetime,
        language: str = "mn",
        limit: int = MAX_DOCUMENT_OCTETS,
    ) -> ValidationReport:
        """``signing.validation.validate``; a dead worker is a report, FORMAT_FAILURE with PARSER_LIMIT."""
        check_policy(policy)
        check_form(data, limit=limit)
        try:
            facts, wanted = self._run("facts", data, trust, limit=limit)
            fetched = fetch_evidence(evidence, wanted)
            report = self._run("judge", facts, policy=policy, trust=trust, evidence=fetched, at=at, language=language)
            return cast(ValidationReport, report)
        except WorkerDied:
            return _limit_report(data, policy=policy, trust=trust, at=at, language=language)

    def warm_up(self) -> None:
        """Start every worker, so that the first caller does not wait for it."""
        workers = [self._take() for _ in range(self._count)]
        for worker in workers:
            self._free.put(worker)

    def close(self) -> None:
        """End the processes that are free; the others end when they finish."""
        self._closed.set()
        with contextlib.suppress(queue.Empty):
            while True:
                worker = self._free.get_nowait()
                if worker is not None:
                    worker.end()

    def _for_signing(self, work: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._run(work, *args, **kwargs)
        except WorkerDied as error:
            raise ParserLimit("reading the document takes more time or memory than is allowed") from error

    def _run(self, work: str, *args: Any, **kwargs: Any) -> Any:
        worker = self._take()
        kept: _Worker | None = None
        try:
            kind, answer = worker.ask((work, args, kwargs), self._limits.deadline)
            kept = worker if worker.jobs < self._limits.jobs and not self._closed.is_set() else None
        finally:
            if kept is None:
                worker.end()
            if not self._closed.is_set():
                self._free.put(kept)
        if kind == "error":
            raise _rebuilt(answer)
        return answer

    def _take(self) -> _Worker:
        worker = self._free.get()
        if worker is not None and worker.is_alive:
            return worker
        if worker is not None:
            worker.end()
        return _Worker(self._limits)


class _Worker:
    """One process and the pipe to it. Used by one thread at a time."""

    def __init__(self, limits: WorkerLimits) -> None:
        root = str(Path(__file__).resolve().parent.parent)
        environment = {"PYTHONPATH": root, "PATH": os.defpath, "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "signing.isolation_worker", str(limits.memory), str(limits.cpu_seconds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, close_fds=True,
            start_new_session=True,
        )  # fmt: skip
        self.jobs = 0

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: object, deadline: float) -> tuple[str, Any]:
        """Send a piece of work and wait for its answer. Raises WorkerDied."""
        self.jobs += 1
        ends = time.monotonic() + deadline
        pipe_in, pipe_out = self._process.stdin, self._process.stdout
        assert pipe_in is not None  # noqa: S101 - asked for above
        assert pipe_out is not None  # noqa: S101
        timer = threading.Timer(deadline, self._process.kill)
        timer.start()
        try:
            message = pickle.dumps(request, protocol=pickle.HIGHEST_PROTOCOL)
            pipe_in.write(_HEADER.pack(len(message)))
            pipe_in.write(message)
            pipe_in.flush()
            (length,) = _HEADER.unpack(_read(pipe_out.fileno(), _HEADER.size, ends))
            if length > MAX_ANSWER_OCTETS:
                raise WorkerDied("the answer is too long")
            return _load(_read(pipe_out.fileno(), length, ends))
        except pickle.UnpicklingError as error:
            # Either a parser was taken over, or a value class is missing from the lists above.
            log.error("worker_answer_refused", reason=str(error))
            raise WorkerDied("the worker's answer is not of the expected form") from error
        except (OSError, ValueError, EOFError, struct.error) as error:
            raise WorkerDied("the worker ended") from error
        finally:
            timer.cancel()

    def end(self) -> None:
        """Kill the process and wait for it."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self._process.wait()


def _read(descriptor: int, length: int, ends: float) -> bytes:
    parts, missing = [], length
    while missing:
        left = ends - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            raise WorkerDied("the worker took too long")
        part = os.read(descriptor, min(missing, MEBIBYTE))
        if not part:
            raise EOFError
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


class _Unpickler(pickle.Unpickler):
    """Reads values of our own value classes and plain data; anything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if module in _ALLOWED_MODULES and "." not in name:
            found = getattr(sys.modules[module], name)
            if isinstance(found, type) and found.__module__ == module:
                return found
        if (module, name) in _ALLOWED_NAMES:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not expected from a worker")


def _load(data: bytes) -> tuple[str, Any]:
    kind, answer = _Unpickler(BytesIO(data)).load()
    return str(kind), answer


def _rebuilt(answer: tuple[str, str, dict[str, object]]) -> CodedError:
    """The coded error a worker reported, by its class's name in ``document_errors``."""
    name, detail, facts = answer
    kind = getattr(document_errors, str(name), None)
    if isinstance(kind, type) and issubclass(kind, CodedError):
        return kind(str(detail), **{str(key): value for key, value in facts.items()})
    return DocumentError("the document cannot be processed")


def _limit_report(data: bytes, *, policy: str, trust: TrustAnchors, at: datetime, language: str) -> ValidationReport:
    unread = validation_facts.unreadable(data, Finding("PARSER_LIMIT", "the worker was stopped"))
    return judge(unread, policy=policy, trust=trust, evidence=Evidence(), at=at, language=language)


@contextlib.contextmanager
def pdf_workers(count: int = 2, *, limits: WorkerLimits | None = None) -> Iterator[PdfWorkers]:
    """A pool for the length of a block."""
    workers = PdfWorkers(count, limits=limits)
    try:
        yield workers
    finally:
        workers.close()
