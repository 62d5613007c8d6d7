"""Brakes on guessing: after a few failures each further try must wait, longer each time, and never for good.

Names nobody has are braked exactly like names somebody has, so a brake tells nothing about who exists.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.clock import Clock
from core.one_time import OneTimeStore
from sso.opaque import digest

# NIST SP 800-63B 3.2.2: at most 100 consecutive failures for one account; counts are forgotten after this long.
WINDOW_SECONDS = 24 * 3600
LONGEST_PAUSE_SECONDS = 900


@dataclass(frozen=True)
class Brake:
    """How many failures are free, the longest pause after them, and when they are forgotten, in seconds."""

    kind: str
    free: int
    longest: int = LONGEST_PAUSE_SECONDS
    window: int = WINDOW_SECONDS

    def pause_after(self, failures: int) -> int:
        """Seconds to wait after so many failures: 2, 4, 8 … up to the longest."""
        over = failures - self.free
        return 0 if over < 0 else min(2 ** min(over + 1, 16), self.longest)


ACCOUNT = Brake("login-account", free=5)
# Many people share one address behind a carrier's gateway: more tries, shorter pauses, forgotten sooner.
SOURCE = Brake("login-source", free=30, longest=60, window=600)
ONE_TIME_CODE = Brake("login-otp", free=5)


class Attempts:
    """Counts failures in the one-time store, which all processes share."""

    def __init__(self, one_time: OneTimeStore, clock: Clock) -> None:
        self._one_time = one_time
        self._clock = clock

    def wait(self, brake: Brake, who: str) -> int:
        """Seconds until ``who`` may try again; 0 means now."""
        pause = self._one_time.peek(f"{brake.kind}-pause", digest(who))
        if pause is None:
            return 0
        return max(0, round(float(pause["until"]) - self._clock().timestamp()))

    def failed(self, brake: Brake, who: str) -> None:
        """Count a failure of ``who`` and begin the pause it earns."""
        failures = self._one_time.count(f"{brake.kind}-failures", digest(who), ttl=brake.window)
        pause = brake.pause_after(failures)
        if pause:
            until = self._clock().timestamp() + pause
            self._one_time.put(f"{brake.kind}-pause", digest(who), {"until": until}, ttl=pause)

    def succeeded(self, brake: Brake, who: str) -> None:
        """Forget the failures of ``who``."""
        self._one_time.discard(f"{brake.kind}-failures", digest(who))
        self._one_time.discard(f"{brake.kind}-pause", digest(who))
