"""Values that expire and are taken once: interactions, nonces, replay caches, rate counters.

Two implementations with one contract: a process-local one for the embedded default, Redis for everything larger.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from core.clock import Clock, utc_now
from core.errors import CodedError, Unavailable

# How long one answer of the store may take before the caller is told that it cannot be reached.
STORE_TIMEOUT_SECONDS = 2.0


class NotThere(CodedError):
    """The value was never put, has expired or was taken already; which of them is not told."""

    code = "not_there"
    status = 404
    exit_code = 4


class OneTimeStore(Protocol):
    """Values under (kind, key). Times to live are in whole seconds, at least one; values are JSON objects."""

    def put(self, kind: str, key: str, value: Mapping[str, Any], *, ttl: int) -> None:
        """Keep ``value`` for ``ttl`` seconds, in place of what was there."""

    def peek(self, kind: str, key: str) -> dict[str, Any] | None:
        """The value, left where it is, or None."""

    def take(self, kind: str, key: str) -> dict[str, Any]:
        """The value, removed in the same step, so that exactly one taker gets it. Raises NotThere."""

    def claim(self, kind: str, key: str, *, ttl: int) -> bool:
        """True for the first caller within ``ttl`` seconds, False for every later one."""

    def count(self, kind: str, key: str, *, ttl: int) -> int:
        """Add one and return the sum; the count starts anew ``ttl`` seconds after its first addition."""

    def discard(self, kind: str, key: str) -> None:
        """Remove the value if it is there."""


class ProcessLocalStore:
    """The store inside one process, under one lock; gone with the process."""

    SWEEP_EVERY = 1024  # operations between two clean-ups of what has expired

    def __init__(self, clock: Clock = utc_now) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str], tuple[float, str]] = {}
        self._operations = 0

    def put(self, kind: str, key: str, value: Mapping[str, Any], *, ttl: int) -> None:
        encoded = json.dumps(dict(value))
        with self._lock:
            self._sweep()
            self._entries[kind, key] = (self._until(ttl), encoded)

    def peek(self, kind: str, key: str) -> dict[str, Any] | None:
        with self._lock:
            entry = self._live(kind, key)
        return None if entry is None else dict(json.loads(entry[1]))

    def take(self, kind: str, key: str) -> dict[str, Any]:
        with self._lock:
            entry = self._live(kind, key)
            self._entries.pop((kind, key), None)
        if entry is None:
            raise NotThere
        return dict(json.loads(entry[1]))

    def claim(self, kind: str, key: str, *, ttl: int) -> bool:
        with self._lock:
            if self._live(kind, key) is not None:
                return False
            self._entries[kind, key] = (self._until(ttl), "{}")
            return True

    def count(self, kind: str, key: str, *, ttl: int) -> int:
        with self._lock:
            until, held = self._live(kind, key) or (self._until(ttl), "0")
            total = int(held) + 1
            self._entries[kind, key] = (until, str(total))
            return total

    def discard(self, kind: str, key: str) -> None:
        with self._lock:
            self._entries.pop((kind, key), None)

    def _now(self) -> float:
        return self._clock().timestamp()

    def _until(self, ttl: int) -> float:
        return self._now() + max(ttl, 1)

    def _live(self, kind: str, key: str) -> tuple[float, str] | None:
        self._sweep()
        entry = self._entries.get((kind, key))
        return entry if entry is not None and entry[0] > self._now() else None

    def _sweep(self) -> None:
        # Values are put by strangers and often never asked for again.
        self._operations += 1
        if self._operations % self.SWEEP_EVERY == 0:
            now = self._now()
            self._entries = {name: entry for name, entry in self._entries.items() if entry[0] > now}


class RedisStore:
    """The same contract on Redis or Valkey; each operation is one atomic command or script."""

    # INCR and EXPIRE in one step: a counter can never be left without an end.
    _COUNT = "local n = redis.call('INCR', KEYS[1]) if n == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end return n"

    def __init__(self, url: str, *, prefix: str = "tamga") -> None:
        self._prefix = prefix
        # One repetition on a fresh connection, for those that Redis closed meanwhile. A command whose answer was lost
        # may then run twice, which errs on the safe side: taken is taken, claimed is claimed, a failure counts double.
        self._redis: Any = redis.Redis.from_url(
            url,
            socket_timeout=STORE_TIMEOUT_SECONDS,
            socket_connect_timeout=STORE_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 1),
        )
        self._count = self._redis.register_script(self._COUNT)

    def put(self, kind: str, key: str, value: Mapping[str, Any], *, ttl: int) -> None:
        self._run(lambda: self._redis.set(self._name(kind, key), json.dumps(dict(value)), ex=max(ttl, 1)))

    def peek(self, kind: str, key: str) -> dict[str, Any] | None:
        held = self._run(lambda: self._redis.get(self._name(kind, key)))
        return None if held is None else dict(json.loads(held))

    def take(self, kind: str, key: str) -> dict[str, Any]:
        held = self._run(lambda: self._redis.getdel(self._name(kind, key)))
        if held is None:
            raise NotThere
        return dict(json.loads(held))

    def claim(self, kind: str, key: str, *, ttl: int) -> bool:
        return bool(self._run(lambda: self._redis.set(self._name(kind, key), "{}", nx=True, ex=max(ttl, 1))))

    def count(self, kind: str, key: str, *, ttl: int) -> int:
        return int(self._run(lambda: self._count(keys=[self._name(kind, key)], args=[max(ttl, 1)])))

    def discard(self, kind: str, key: str) -> None:
        self._run(lambda: self._redis.delete(self._name(kind, key)))

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _name(self, kind: str, key: str) -> str:
        # The kind is quoted, so that ("a", "b:c") and ("a:b", "c") stay two names.
        return f"{self._prefix}:{quote(kind, safe='')}:{key}"

    def _run(self, operation: Any) -> Any:
        try:
            return operation()
        except (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError, redis.OutOfMemoryError) as error:
            raise Unavailable("the store for one-time values cannot be reached") from error
