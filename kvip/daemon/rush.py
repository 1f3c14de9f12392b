"""Holds back what only tells of VIPs (status, annotations, Events) while a crowd of them is on its way to the wire.

Input: how many VIPs wait to be planned or announced. Output: a wait. It must not hold back a frame, an address or a Lease, nor anything
for longer than `LONGEST_S`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from kvip.clock import Clock
from kvip.core.model import ServiceKey

CROWD = 8
"""Fewer at a time hold back nothing: what comes and goes by itself is told at once."""
CALM_S = 0.1
"""The claim records of a dead node's VIPs are written one after the other, some milliseconds apart."""
LONGEST_S = 5.0
"""About what a take-over of 10,000 VIPs takes; a crowd that lasts longer is told of while it lasts."""
SERVICES_PER_TURN = 16


class Rush:
    """Knows of the last crowd. Whoever is to wait awaits `over`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = self._seen = float("-inf")

    def note(self, waiting: int) -> None:
        """So many VIPs wait now."""
        if waiting <= CROWD:
            return
        now = self._clock.now()
        if now - self._seen >= CALM_S:
            self._began = now
        self._seen = now

    async def over(self) -> None:
        """Wait until no crowd was seen for a moment, or it has lasted for so long that nothing is held back any more."""
        while True:
            left_s = min(self._seen + CALM_S, self._began + LONGEST_S) - self._clock.now()
            if left_s <= 0:
                return
            await asyncio.sleep(left_s)


class Telling:
    """Services whose status is to be looked at, each once, when the rush is over. `run` is its loop."""

    def __init__(self, rush: Rush, look: Callable[[ServiceKey], None]) -> None:
        """`look` brings the status of one Service up to date."""
        self._rush = rush
        self._look = look
        self._keys: OrderedDict[ServiceKey, None] = OrderedDict()
        self._filled = asyncio.Event()

    def later(self, key: ServiceKey) -> None:
        """Look at this Service soon."""
        self._keys[key] = None
        self._filled.set()

    async def run(self) -> None:
        """Look at what is queued, some at a time, for ever; also at what a run that failed left."""
        while True:
            while not self._keys:
                self._filled.clear()
                await self._filled.wait()
            await self._rush.over()
            for _ in range(min(SERVICES_PER_TURN, len(self._keys))):
                self._look(self._keys.popitem(last=False)[0])
            await asyncio.sleep(0)
