"""The clocks: CLOCK_BOOTTIME for validity, CLOCK_MONOTONIC beside it to notice a suspend, wall time for the edges.

Validity is counted on CLOCK_BOOTTIME because it goes on through a suspend, during which another node may have
taken over (clock_gettime(2)). Timers of the event loop run on CLOCK_MONOTONIC, which stops: a growing
difference of the two is how a suspend is seen.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What kvip asks of time; tests give a hand-driven one."""

    def now(self) -> float:
        """Seconds on CLOCK_BOOTTIME: counts through a suspend, never jumps with the wall clock."""

    def suspended_s(self) -> float:
        """Seconds that this machine has spent suspended since boot (CLOCK_BOOTTIME - CLOCK_MONOTONIC)."""

    def wall(self) -> datetime:
        """The wall clock, UTC-aware: for logs and Lease timestamps only."""


class SystemClock:
    """The kernel's clocks."""

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def suspended_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)

    def wall(self) -> datetime:
        return datetime.now(UTC)


class SuspendWatch:
    """Notices that the machine was suspended since the last question."""

    TOLERANCE_S = 0.05
    """Two clocks read one after the other differ by microseconds; a suspend is far longer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen_s = clock.suspended_s()

    def happened(self) -> bool:
        """True once after each suspend."""
        suspended_s = self._clock.suspended_s()
        if suspended_s - self._seen_s <= self.TOLERANCE_S:
            return False
        self._seen_s = suspended_s
        return True


class ManualClock:
    """A clock that moves only when told to; the hand-driven side of `Clock`."""

    def __init__(self, start_s: float = 1000.0) -> None:
        self._now = start_s
        self._suspended = 0.0
        self._wall = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> float:
        return self._now

    def suspended_s(self) -> float:
        return self._suspended

    def wall(self) -> datetime:
        return self._wall

    def advance(self, seconds: float) -> None:
        """Let time pass while the machine runs."""
        self._now += seconds

    def suspend(self, seconds: float) -> None:
        """Let time pass while the machine is suspended."""
        self._now += seconds
        self._suspended += seconds
