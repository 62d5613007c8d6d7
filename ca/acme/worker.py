"""A serving process's threads that look at challenges: they begin when there is work and end when there is none."""

from __future__ import annotations

import threading
from datetime import UTC

from ca.acme.challenges import Challenges
from core.clock import Clock
from core.logs import get_logger

log = get_logger("ca.acme.worker")

# How long an idle thread sleeps at most before it asks the database again what is due.
LONGEST_SLEEP_SECONDS = 5.0


class Worker:
    """Looks at what is due in this process. Nothing is lost with it: what is open stands in the database."""

    def __init__(self, challenges: Challenges, *, threads: int, clock: Clock) -> None:
        self._challenges = challenges
        self._threads = threads
        self._clock = clock
        self._lock = threading.Lock()
        self._running = 0
        self._calls = 0
        self._bell = threading.Event()

    def wake(self) -> None:
        """There may be something to look at: a challenge was answered, or a client waits for one."""
        with self._lock:
            self._calls += 1
            if self._running < self._threads:
                self._running += 1
                threading.Thread(target=self._run, name="acme-validation", daemon=True).start()
        self._bell.set()

    def _run(self) -> None:
        try:
            while self._look_or_wait():
                pass
        except Exception:
            # The database is away, say. The next question of a client wakes us again.
            log.exception("acme_worker_stopped")
            with self._lock:
                self._running -= 1

    def _look_or_wait(self) -> bool:
        """One look at one challenge, or a pause until the next is due; False when this thread is done."""
        with self._lock:
            calls = self._calls
        self._bell.clear()
        due = self._challenges.take_due()
        if due is not None:
            self._challenges.look(due)
            return True
        moment = self._challenges.next_due_at()
        if moment is None:
            with self._lock:
                if calls != self._calls:
                    return True  # somebody woke us while we looked
                self._running -= 1
                return False
        seconds = (moment - self._clock().astimezone(UTC)).total_seconds()
        self._bell.wait(min(max(seconds, 0.05), LONGEST_SLEEP_SECONDS))
        return True
