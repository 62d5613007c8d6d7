"""The process behind ``signing.isolation``: takes a document from standard input, answers on standard output.

``python -m signing.isolation_worker MEMORY CPU_SECONDS``. Limits are set before the first octet of a document is read.
"""

from __future__ import annotations

import os
import pickle
import resource
import struct
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from core.errors import CodedError

_HEADER = struct.Struct(">Q")


def main() -> None:
    """Serve until standard input ends. Exceeding a limit ends the process; the parent takes that for an answer."""
    memory, cpu_seconds = int(sys.argv[1]), int(sys.argv[2])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing a library prints may reach the answers
    work = _work()
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    while (request := _receive(sys.stdin.buffer)) is not None:
        _allow_cpu(cpu_seconds)
        _send(answers, _answer(work, request))


def _work() -> dict[str, Callable[..., Any]]:
    """What can be asked for. PDF libraries are loaded here, once."""
    from signing import documents, pades, pdf_structure, rendering, validation  # noqa: F401 - pyHanko's half second

    def facts(data: bytes, trust: validation.TrustAnchors, *, limit: int) -> Any:
        gathered = validation.gather(data, limit=limit)
        return gathered, validation.wanted_evidence(gathered, trust)

    return {
        "open_document": documents.open_document,
        "page_png": rendering.page_png,
        "preflight": pades.preflight,
        "prepare": pades.prepare,
        "facts": facts,
        "judge": validation.judge,
    }


def _answer(
    work: dict[str, Callable[..., Any]], request: tuple[str, tuple[Any, ...], dict[str, Any]]
) -> tuple[str, Any]:
    name, args, kwargs = request
    try:
        return "ok", work[name](*args, **kwargs)
    except CodedError as error:
        return "error", (type(error).__name__, error.detail, error.facts)
    except MemoryError:
        os._exit(1)


def _allow_cpu(seconds: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    allowed = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (allowed, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _receive(stream: BinaryIO) -> Any:
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    (length,) = _HEADER.unpack(header)
    return pickle.loads(stream.read(length))  # noqa: S301 - from the parent, which this process trusts


def _send(stream: BinaryIO, answer: tuple[str, Any]) -> None:
    message = pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_HEADER.pack(len(message)))
    stream.write(message)
    stream.flush()


if __name__ == "__main__":
    main()
