"""Keeps the components of the daemon running, and tells which of them still turns.

A component that fails is logged, counted and started again after a pause; only cancellation ends it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

from kvip import metrics
from kvip.clock import Clock

log = logging.getLogger(__name__)

RESTART_DELAY_S = 1.0
LOCK_NAME = "\0kvip"


class Heartbeats:
    """When each loop last turned, by name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at: dict[str, float] = {}
        self._limits_s: dict[str, float] = {}

    def expect(self, name: str, *, within_s: float) -> None:
        """This loop has begun, and must turn at least this often from now on."""
        self._limits_s[name] = within_s
        self.beat(name)

    def late(self) -> dict[str, float]:
        """Seconds since the last turn, of each loop that should have turned since."""
        ages = self.ages_s()
        return {name: ages[name] for name, limit_s in self._limits_s.items() if ages[name] > limit_s}

    def beat(self, name: str) -> None:
        """The loop of this name has just made progress."""
        self._at[name] = self._clock.now()

    def age_s(self, name: str) -> float:
        """Seconds since the loop last turned; infinite when it never did."""
        at = self._at.get(name)
        return float("inf") if at is None else self._clock.now() - at

    def ages_s(self) -> dict[str, float]:
        """Seconds since each loop last turned."""
        now = self._clock.now()
        return {name: now - at for name, at in self._at.items()}


async def supervise(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run a component for ever; never returns except by cancellation."""
    while True:
        try:
            await run()
            log.error("component ended; starting it again", extra={"component": name})
        except Exception:
            log.exception("component failed; starting it again", extra={"component": name})
        metrics.component_failures_total.labels(name).inc()
        await asyncio.sleep(RESTART_DELAY_S)


async def lock_namespace(*, poll_s: float = 0.2) -> socket.socket:
    """Wait until this is the only daemon in the network namespace; the returned socket is the lock.

    An abstract unix socket belongs to the network namespace and is freed by the kernel when its owner dies (unix(7)).
    """
    waiting = False
    while True:
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            lock.bind(LOCK_NAME)
        except OSError:
            lock.close()
            if not waiting:
                log.warning("another kvip runs in this network namespace; waiting for it to end, nothing is touched")
                waiting = True
            await asyncio.sleep(poll_s)
        else:
            return lock
