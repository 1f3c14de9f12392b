"""How late the event loop's timers are: the one figure that tells whether the daemon gets the processor when it needs it.

Input: the loop's clock. Output: the longest delay of the last seconds. It must not judge; the fences do (PROTOCOL R5).
"""

from __future__ import annotations

import asyncio
from collections import deque

PERIOD_S = 0.25
REMEMBERED_S = 10.0


class LoopLag:
    """`run` measures, four times a second."""

    def __init__(self) -> None:
        self._late_s: deque[float] = deque(maxlen=int(REMEMBERED_S / PERIOD_S))

    @property
    def longest_s(self) -> float:
        """The longest that a timer was late in the last 10 s."""
        return max(self._late_s, default=0.0)

    async def run(self) -> None:
        """Measure for ever."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + PERIOD_S
            await asyncio.sleep(PERIOD_S)
            self._late_s.append(max(0.0, loop.time() - due))
