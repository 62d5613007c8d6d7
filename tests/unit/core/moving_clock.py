"""A clock that stands until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class MovingClock:
    """Aware UTC, as core.clock.Clock wants it; starts at a moment with microseconds."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 8, 30, 0, 123456, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
