"""When to announce: the burst after a take-over, the refresh after it, and the pace of frames.

Pure: times come in, times go out.
"""

from __future__ import annotations

import math
from enum import IntEnum

BURST_OFFSETS_S = (0.0, 1.1, 2.2, 4.4)
"""Linux ignores a neighbour update within 1 s of the last one (locktime, net/core/neighbour.c), so rounds are > 1 s apart."""
ROUND_GAP_S = 1.1
"""Between the rounds of a burst that somebody asked for, and before the next round of one that is late."""
REFRESH_GRID_S = 0.5
REFRESHES_AT_LEAST = 100
"""Refreshes are due together at instants this far apart, so that many VIPs wake nobody for each; at least so many in an interval."""


class Priority(IntEnum):
    """What goes first when frames wait for the pacer."""

    TAKE_OVER = 0
    REPEAT = 1
    REFRESH = 2


def even_offsets_s(rounds: int) -> tuple[float, ...]:
    """When each of so many rounds is due, from the start of their burst."""
    return tuple(number * ROUND_GAP_S for number in range(rounds))


def round_due(
    started_at: float, number: int, *, refresh_s: float, jitter: float, offsets_s: tuple[float, ...] = BURST_OFFSETS_S
) -> float | None:
    """When round `number` (0-based) of an announcement started at `started_at` is due; None = no further round.

    `jitter` in [0, 1) spreads the refreshes of many VIPs over the interval: the first one falls between half and
    the whole of `refresh_s` after the burst, and each at the next instant of a grid that all VIPs share. `refresh_s` 0 = no refresh.
    `offsets_s`: of the rounds of the burst.
    """
    if number < len(offsets_s):
        return started_at + offsets_s[number]
    if refresh_s <= 0:
        return None
    grid_s = min(REFRESH_GRID_S, refresh_s / REFRESHES_AT_LEAST)
    return math.ceil((started_at + offsets_s[-1] + (number - len(offsets_s) + 0.5 + jitter / 2) * refresh_s) / grid_s) * grid_s


def priority_of(number: int, *, rounds: int = len(BURST_OFFSETS_S), fresh: bool = True) -> Priority:
    """The priority of a round by its number. `rounds`: of its burst. `fresh`: nothing of the VIP left before that burst."""
    if number == 0 and fresh:
        return Priority.TAKE_OVER
    return Priority.REPEAT if number < rounds else Priority.REFRESH


class TokenBucket:
    """The pace of one NIC: at most `burst` frames at once and `rate_pps` on average."""

    def __init__(self, *, rate_pps: float, burst: int, now: float) -> None:
        self.rate_pps = rate_pps
        self.burst = burst
        self._tokens = float(burst)
        self._at = now

    def available(self, now: float) -> int:
        """Frames that may leave now."""
        self._tokens = min(float(self.burst), self._tokens + max(0.0, now - self._at) * self.rate_pps)
        self._at = now
        return int(self._tokens)

    def spend(self, frames: int) -> None:
        """Frames left."""
        self._tokens -= frames

    def wait_s(self, frames: int) -> float:
        """Seconds until that many tokens are there."""
        return max(0.0, (frames - self._tokens) / self.rate_pps)
