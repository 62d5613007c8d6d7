"""Measuring beside something else: ours and a peer take turns in the same run, so that a busy machine slows both.

A benchmark is a context manager that prepares two operations and tears everything down afterwards:

    @contextmanager
    def answers() -> Iterator[Contest]:
        ...
        yield Contest(ours=lambda: service.answer(request), peer=lambda: builder.sign(key, SHA256()))

    BENCHES = (Bench("ocsp-signed", answers, peer_name="OCSPResponseBuilder", unit="answers/s"),)

An operation does its work once and may return how many units that were (None counts as one).
"""

from __future__ import annotations

import importlib
import pkgutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

Operation = Callable[[], object]


@dataclass(frozen=True)
class Contest:
    """Two operations to compare. ``peer`` is a rival doing the same, or a floor: the part nobody can do without."""

    ours: Operation
    peer: Operation


@dataclass(frozen=True)
class Bench:
    """One benchmark. ``threads`` callers run each operation at once; ``note`` says what else to know when reading."""

    name: str
    prepare: Callable[[], AbstractContextManager[Contest]]
    peer_name: str
    unit: str = "1/s"
    note: str = ""
    threads: int = 1
    rounds: int = 9
    seconds: float = 0.4


@dataclass(frozen=True)
class Result:
    """Medians over the rounds, in units a second (more is better); latencies are those of our operation alone.

    ``ratio`` is ours divided by the peer; ``spread`` the distance between the best and the worst round's ratio,
    divided by the ratio: a ratio whose spread is large says little.
    """

    name: str
    ours: float
    peer: float
    peer_name: str
    unit: str
    ratio: float
    p50_ms: float
    p99_ms: float
    rounds: int
    spread: float
    note: str


@dataclass(frozen=True)
class _Turn:
    rate: float
    latencies: tuple[float, ...]


def run(bench: Bench, rounds: int | None = None, seconds: float | None = None) -> Result:
    """Warm both up, then let them take turns; who begins changes with every round."""
    count, duration = rounds or bench.rounds, seconds or bench.seconds
    ours: list[_Turn] = []
    peer: list[_Turn] = []
    with bench.prepare() as contest:
        for operation in (contest.ours, contest.peer):
            _turn(operation, bench.threads, duration / 4)
        for number in range(count):
            turns = [(contest.ours, ours), (contest.peer, peer)]
            for operation, taken in turns if number % 2 == 0 else reversed(turns):
                taken.append(_turn(operation, bench.threads, duration))
    return _result(bench, ours, peer)


def discover() -> tuple[Bench, ...]:
    """Every benchmark of every ``bench_*.py`` beside this file, in the order of the files' names."""
    package = importlib.import_module("tests.bench")
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    modules = [importlib.import_module(f"tests.bench.{name}") for name in names if name.startswith("bench_")]
    return tuple(bench for module in modules for bench in module.BENCHES)


def _turn(operation: Operation, threads: int, seconds: float) -> _Turn:
    if threads == 1:
        units, elapsed, latencies = _repeat(operation, seconds)
        return _Turn(units / elapsed, tuple(latencies))
    done: list[tuple[int, float, list[float]]] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            done.append(_repeat(operation, seconds))
        except BaseException as error:
            failed.append(error)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failed:
        raise failed[0]
    rate = sum(units / elapsed for units, elapsed, _ in done)
    return _Turn(rate, tuple(latency for _, _, latencies in done for latency in latencies))


def _repeat(operation: Operation, seconds: float) -> tuple[int, float, list[float]]:
    units, latencies = 0, []
    begin = before = time.perf_counter()
    end = begin + seconds
    while before < end:
        made = operation()
        after = time.perf_counter()
        units += made if isinstance(made, int) and not isinstance(made, bool) else 1
        latencies.append(after - before)
        before = after
    return units, before - begin, latencies


def _result(bench: Bench, ours: Sequence[_Turn], peer: Sequence[_Turn]) -> Result:
    ratios = [one.rate / other.rate for one, other in zip(ours, peer, strict=True)]
    ratio = statistics.median(ratios)
    latencies = sorted(latency for turn in ours for latency in turn.latencies)
    return Result(
        name=bench.name,
        ours=round(statistics.median(turn.rate for turn in ours), 2),
        peer=round(statistics.median(turn.rate for turn in peer), 2),
        peer_name=bench.peer_name,
        unit=bench.unit,
        ratio=round(ratio, 3),
        p50_ms=round(_percentile(latencies, 0.50) * 1000, 4),
        p99_ms=round(_percentile(latencies, 0.99) * 1000, 4),
        rounds=len(ratios),
        spread=round((max(ratios) - min(ratios)) / ratio, 3),
        note=bench.note,
    )


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(results: Sequence[Result]) -> Iterator[str]:
    """The results as lines of text."""
    width = max([len(result.name) for result in results] + [4])
    yield f"{'name':{width}} {'ours':>12} {'peer':>12} {'ratio':>7} {'p50 ms':>9} {'p99 ms':>9} {'spread':>7}  against"
    for result in results:
        yield (
            f"{result.name:{width}} {result.ours:>12,.1f} {result.peer:>12,.1f} {result.ratio:>7.2f} "
            f"{result.p50_ms:>9.3f} {result.p99_ms:>9.3f} {result.spread:>7.0%}  {result.peer_name} ({result.unit})"
        )
