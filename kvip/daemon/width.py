"""How many requests of one kind may be under way at once: as many as the API server answers without delay.

A server that waits for its disk answers many writes in the time of one; one that lacks the processor answers each of many later, and then
whatever else is asked of it waits as long. So the number grows while answers come soon and hardly later than the quickest did, and shrinks
while they come late.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kvip.clock import Clock

FEWEST, MOST = 8, 32
SOON_S, LATE_S = 0.05, 0.1
NEARLY = 2.0
FADES = 1.001
"""How much the quickest answer counts for less with each that follows: what was quick once may not be any more."""


class Width:
    """`async with width.place():` around each request; those that find no place wait in their order."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._places = asyncio.Semaphore(FEWEST)
        self.now = FEWEST
        self._quickest_s = float("inf")

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place among those under way, kept until the request is answered."""
        await self._places.acquire()
        began = self._clock.now()
        try:
            yield
        finally:
            self._answered(self._clock.now() - began)

    def _answered(self, took_s: float) -> None:
        if took_s > LATE_S and self.now > FEWEST:
            self.now -= 1
            return
        self._quickest_s = min(took_s, self._quickest_s * FADES)
        self._places.release()
        if took_s < min(SOON_S, NEARLY * self._quickest_s) and self.now < MOST:
            self.now += 1
            self._places.release()
