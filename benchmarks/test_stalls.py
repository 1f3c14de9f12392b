"""How long the event loop is held at a time by what concerns all VIPs: an audit, a take-over, a withdrawal, over fake ports.

What the kernel itself takes is not in it: a request of 64 addresses is at most 64 times what benchmarks/test_addresses.py finds for one.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.figures import Figure, Suite
from benchmarks.fullhouse import Full

SMALL = 100
GOAL_MS = 20.0
SETTLED = 200
"""Turns of the event loop with nothing left to plan: what comes in parts takes fewer."""


class Stalls(Full):
    """A full house in which turns of the event loop are timed."""

    async def _events(self) -> None:
        await self._rest()
        assert len(self.announcer.active) == self.size
        self.costs = {
            "audit": await self._longest(lambda: self.upkeep.doubt("audit")),
            "all withdrawn": await self._longest(lambda: self._permit(False)),
            "all taken over": await self._longest(lambda: self._permit(True)),
            "another NIC": await self._longest(self.wires.nic_changed),
        }
        assert len(self.announcer.active) == self.size

    def _permit(self, permits: bool) -> None:
        self.elector.permits = permits
        self.wires.won(None)

    async def _longest(self, event: Callable[[], None]) -> float:
        """CPU milliseconds of the longest turn of the event loop, from the event on until nothing is left to plan."""
        self.turns = self.news_read = self.kernel.dumps = 0
        self.log.clear()
        gc.collect()
        longest, quiet = 0.0, 0
        last = self.meter()
        event()
        while quiet < SETTLED:
            await asyncio.sleep(0)
            now = self.meter()
            longest, last = max(longest, now - last), now
            quiet = 0 if self.reconcile._services or self.reconcile._marks.waiting else quiet + 1
        return longest * 1e3


@pytest.fixture(scope="module")
def suite(suites: Callable[[str, str], Suite]) -> Suite:
    found = suites("stalls", "CPU time of the longest turn of the event loop, by what happens to all VIPs at once, over fake ports")
    found.note("What the kernel takes for addresses, rules and frames comes on top, in requests of at most 64 addresses.")
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", [1_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_longest_turn(benchmark: BenchmarkFixture, suite: Suite, size: int) -> None:
    few = Stalls(SMALL).measure()
    many = benchmark.pedantic(Stalls(size).measure, rounds=1)  # type: ignore[no-untyped-call]
    for what, value in many.items():
        if what not in few or what.startswith("index"):
            continue
        suite.add(
            Figure(
                name=f"{what}, {size:,} VIPs",
                value=value,
                unit="ms",
                reference=f"with {SMALL} VIPs",
                reference_value=few[what],
                ratio=value / few[what],
                goal=GOAL_MS,
                goal_of="value",
            )
        )
        benchmark.extra_info[what] = round(value, 1)
