"""Dumps beside the event loop, on a thread that does nothing else.

Input: a socket that only dumps. Output: its dumps, one at a time. What blocks the threads that all share (a crowd that reads /metrics,
a disk that hangs) must not hold up what the reconcile loop waits for: it would count as stuck, and the node would give up its VIPs
(PROTOCOL R5).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from kvip.core.model import Address


class DumpsBeside:
    """Called, it gives a dump as soon as there is one."""

    def __init__(self, dump: Callable[[], list[Address]]) -> None:
        """`dump` runs on the thread; two never run at once, also when nobody waits for the first one any more."""
        self._dump = dump
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dump")

    async def __call__(self) -> list[Address]:
        """Raises what `dump` raises."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._dump)
