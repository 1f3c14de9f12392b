"""What takes the kernel its time, beside the event loop, each kind on a thread that does nothing else.

Input: a socket that only dumps; a name. Output: dumps, one at a time; a thread. What blocks the threads that all share (a crowd that reads
/metrics, a disk that hangs) must not hold up what the reconcile loop waits for: it would count as stuck, and the node would give up its
VIPs (PROTOCOL R5).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from kvip.core.model import Address

log = logging.getLogger(__name__)


class DumpsBeside:
    """Called, it gives a dump as soon as there is one."""

    def __init__(self, dump: Callable[[], list[Address]]) -> None:
        """`dump` runs on the thread; two never run at once, also when nobody waits for the first one any more."""
        self._dump = dump
        self._thread = a_thread("dump")

    async def __call__(self) -> list[Address]:
        """Raises what `dump` raises."""
        if self._thread is None:
            return self._dump()
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._dump)


def a_thread(name: str) -> ThreadPoolExecutor | None:
    """A thread that runs already; None where none can be started (limits of the container). One that is started with its first work may do
    that work long after it failed to start: `submit` queues it before."""
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
    try:
        thread.submit(int).result()
    except RuntimeError as error:
        log.warning("no thread can be started; its work is done on the event loop", extra={"of": name, "reason": str(error)})
        return None
    return thread
