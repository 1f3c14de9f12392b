"""The Leases that one node takes part in, each with a loop of its own that can come and go while the others run.

Input: names of Leases. Output: their loops, running. It must not decide which are needed, nor what hangs on them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping

from kvip.core.election.lease import held_elsewhere
from kvip.core.election.services import LeaseKey, Standing
from kvip.core.objects import Lease
from kvip.daemon.lease_loop import LeaseLoop
from kvip.daemon.supervision import supervise

log = logging.getLogger(__name__)

RELEASES_AT_ONCE = 32


class LeasePool:
    """Owns the loops and their tasks. `make` builds the loop of a Lease."""

    def __init__(self, make: Callable[[LeaseKey], LeaseLoop], seen: Callable[[], Mapping[str, Lease]]) -> None:
        """`seen`: the Leases that the watch delivered, by namespace/name."""
        self._make = make
        self._seen = seen
        self._loops: dict[LeaseKey, LeaseLoop] = {}
        self._tasks: dict[LeaseKey, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    def __iter__(self) -> Iterator[LeaseKey]:
        return iter(tuple(self._loops))

    def get(self, lease: str) -> LeaseLoop | None:
        """The loop of a Lease that is taken part in."""
        return self._loops.get(LeaseKey(lease))

    def held(self) -> int:
        """How many Leases this node holds."""
        return sum(loop.election.holding for loop in self._loops.values())

    def valid_until(self, lease: LeaseKey) -> float | None:
        """Until when this node holds the Lease; None = it does not."""
        loop = self._loops.get(lease)
        return loop.valid_until if loop is not None else None

    def standing(self, lease: LeaseKey) -> Standing:
        """Who has the Lease, as far as is known."""
        loop = self._loops.get(lease)
        if loop is None:
            return Standing.FREE
        if loop.valid_until is not None:
            return Standing.OURS
        return Standing.OTHERS if held_elsewhere(loop.election) else Standing.FREE

    def begin(self, lease: LeaseKey) -> None:
        """Take part in the election for this Lease from now on."""
        if lease in self._loops:
            return
        loop = self._loops[lease] = self._make(lease)
        known = self._seen().get(lease)
        if known is not None:
            loop.changed(known)
        self._start(lease)

    def look(self) -> None:
        """For every Lease that it is not held by this node: it may have become able to."""
        for loop in self._loops.values():
            if not loop.election.holding:
                loop.look()

    def end(self, lease: LeaseKey) -> None:
        """Nothing hangs on this Lease any more: give it back, and take no further part."""
        loop, task = self._loops.pop(lease), self._tasks.pop(lease, None)
        if self._group is not None:
            self._group.create_task(self._give_back(loop, task), name=f"give back {lease}")

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Start every loop in this group of tasks, and those that begin later."""
        self._group = group
        self._tasks.clear()
        for lease in self._loops:
            self._start(lease)

    async def release(self) -> None:
        """Give all back. Call only after the tasks ended and every address was let go of."""
        turns = asyncio.Semaphore(RELEASES_AT_ONCE)

        async def give_back(loop: LeaseLoop) -> None:
            async with turns:
                await loop.release()

        await asyncio.gather(*(give_back(loop) for loop in self._loops.values()))

    def _start(self, lease: LeaseKey) -> None:
        if self._group is not None:
            run = self._loops[lease].run
            self._tasks[lease] = self._group.create_task(supervise("lease", run), name=f"lease {lease}")

    @staticmethod
    async def _give_back(loop: LeaseLoop, task: asyncio.Task[None] | None) -> None:
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        await loop.release()
