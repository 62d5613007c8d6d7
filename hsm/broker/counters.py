"""What the broker counts about itself, for ``tamga hsm status`` and whoever watches."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Any

# Upper bounds in seconds; the last bucket has none.
LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class Counters:
    """Numbers that only grow, and the highest queue seen."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._latencies = [0] * (len(LATENCY_BUCKETS) + 1)
        self._seconds = 0.0
        self._restarts: Counter[str] = Counter()
        self.breaker_openings = 0
        self.queue_peak = 0

    def request(self, room: str, operation: str, outcome: str, seconds: float | None) -> None:
        """One request ended; ``seconds`` only when a worker carried it out."""
        self._requests[room, operation, outcome] += 1
        if seconds is not None:
            self._latencies[bisect_left(LATENCY_BUCKETS, seconds)] += 1
            self._seconds += seconds

    def restart(self, reason: str) -> None:
        """One worker was replaced."""
        self._restarts[reason] += 1

    def told(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "requests": [
                {"room": room, "operation": operation, "outcome": outcome, "count": count}
                for (room, operation, outcome), count in sorted(self._requests.items())
            ],
            "latency": {
                "bounds_seconds": list(LATENCY_BUCKETS),
                "counts": list(self._latencies),
                "sum_seconds": round(self._seconds, 6),
            },
            "restarts": dict(sorted(self._restarts.items())),
            "breaker_openings": self.breaker_openings,
            "queue_peak": self.queue_peak,
        }
