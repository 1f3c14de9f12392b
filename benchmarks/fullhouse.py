"""The daemon's rooms over the fake ports of the unit tests, with so many Services known, bound and announced, and what each event costs.

In: a size, and what to count as cost. Out: costs by what was done. It must not judge them.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Callable

from benchmarks import objects
from kvip.core.objects import Service
from tests.unit.daemon.house import House

EVENTS = 30
"""Of each kind; the median counts."""


class Full(House):
    """A house in which so many Services are known, bound and announced."""

    def __init__(self, size: int, *, meter: Callable[[], float] = time.thread_time) -> None:
        """`meter`: what is used up between two readings; CPU seconds, unless a test counts something else."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.size = size
        self.meter = meter
        self.costs: dict[str, float] = {}

    def measure(self) -> dict[str, float]:
        """Thousandths of what the meter counts (CPU seconds: ms) by what was done."""
        store, slices = objects.services(self.size), objects.slices(self.size)
        began = self.meter()
        self.slices.store.update(slices)
        for key in slices:
            self.desire.whereabouts.slice_changed(key)
        self.costs["index all EndpointSlices"] = (self.meter() - began) * 1e3
        self.services.store.update(store)
        began = self.meter()
        self.desire.read([objects.key(number) for number in range(1, self.size + 1)])
        self.costs["index all Services"] = (self.meter() - began) * 1e3
        self.play(self._events)  # type: ignore[no-untyped-call]
        return self.costs

    async def _events(self) -> None:
        await self._rest()
        assert len(self.announcer.active) == self.size
        self.log.clear()
        changes, ends, begins, endpoints = [], [], [], []
        for number in range(1, EVENTS + 1):
            store, key = self.services.store, objects.key(number)
            changed = objects.one_service(number, version=2)

            def change(key: str = key, changed: Service = changed) -> None:
                self.services.store[key] = changed
                self.reconcile.on_service(key)

            changes.append(await self._cost(change))
            endpoints.append(await self._cost(lambda key=key: self._slice_changed(f"{key}-abcde")))  # type: ignore[misc]
            ends.append(await self._cost(lambda key=key: self.delete(key)))  # type: ignore[misc]
            assert objects.vip(number) not in self.announcer.active
            assert key not in store
            begins.append(await self._cost(change))
            assert objects.vip(number) in self.announcer.active
        self.costs["one Service changed"] = statistics.median(changes)
        self.costs["one EndpointSlice changed"] = statistics.median(endpoints)
        self.costs["one Service deleted"] = statistics.median(ends)
        self.costs["one Service created"] = statistics.median(begins)
        self.costs["resync of everything"] = await self._cost(self._resync)

    def _slice_changed(self, key: str) -> None:
        """As the watch does it."""
        for service in self.desire.whereabouts.slice_changed(key):
            self.reconcile.on_service(service)

    def _resync(self) -> None:
        self.upkeep.doubt("audit")
        self.reconcile.on_all_services()
        self.reconcile.on_permit_changed()

    async def _cost(self, event: Callable[[], None]) -> float:
        """What the loop uses up until it rests again, in thousandths."""
        self.turns = self.news_read = self.kernel.dumps = 0
        self.log.clear()
        gc.collect(0)
        began = self.meter()
        event()
        await self._rest()
        return (self.meter() - began) * 1e3

    async def _rest(self) -> None:
        """Until the loop waits, with nothing left to read or to plan."""
        for _ in range(5):
            await asyncio.sleep(0)
        while self.reconcile._services or self.reconcile._marks.waiting:  # noqa: ASYNC110 the loop under measurement tells nobody when it rests
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
