"""The document for readers (`kvip status`, the page): what making it costs, and for how long at a time it holds the event loop.

The rooms are the daemon's own, over the fake ports of the unit tests, with every VIP bound and announced here.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import objects
from benchmarks.figures import Suite, compare, take_turns
from kvip.daemon.viewing import Views
from tests.unit.daemon.fake_ports import marked
from tests.unit.daemon.house import House
from tests.unit.daemon.viewed import parts_of

SIZES = (1_000, 10_000)
HOLD_GOAL_MS = 20.0
ROUNDS = 5


class Watched:
    """A house with so many VIPs, and how its event loop fares while the document is made."""

    def __init__(self, size: int) -> None:
        self.house = House()  # type: ignore[no-untyped-call]
        self.house.services.store.update(objects.services(size))
        numbers = list(range(1, size + 1))
        random.Random(1).shuffle(numbers)
        self.house.desire.read([objects.key(number) for number in numbers])
        self.house.know(*(marked(objects.vip(number)) for number in range(1, size + 1)))  # type: ignore[no-untyped-call]
        for number in range(1, size + 1):
            self.house.outcome.announced(objects.vip(number), self.house.clock.now())
        self.parts = parts_of(self.house)  # type: ignore[no-untyped-call]

    def make(self) -> tuple[float, float, float]:
        """CPU milliseconds: of the longest stretch without a turn for others, of all; and the document's size in bytes."""
        gc.collect()
        return asyncio.run(self._make())

    async def _make(self) -> tuple[float, float, float]:
        longest_s, last = 0.0, time.thread_time()

        async def others() -> None:
            nonlocal longest_s, last
            while True:
                now = time.thread_time()
                longest_s, last = max(longest_s, now - last), now
                await asyncio.sleep(0)

        beside = asyncio.create_task(others())
        await asyncio.sleep(0)
        began = time.thread_time()
        document = await Views(self.parts).state()
        await asyncio.sleep(0)
        all_s = time.thread_time() - began
        beside.cancel()
        return longest_s * 1e3, all_s * 1e3, float(len(document))


@pytest.fixture(scope="module")
def suite(suites: Callable[[str, str], Suite]) -> Suite:
    return suites("view", "the document for readers: what it costs, and how long at a time it holds the event loop")


@pytest.mark.timeout(300)
def test_making_the_document(benchmark: BenchmarkFixture, suite: Suite) -> None:
    small, large = (Watched(size) for size in SIZES)
    samples = take_turns(
        {"small": small.make, "large": large.make},
        ROUNDS,
        run=lambda work, count: benchmark.pedantic(work, rounds=count),  # type: ignore[no-untyped-call]
    )
    reference = f"with {SIZES[0]:,}"
    for place, (name, unit, goal) in enumerate(
        (
            (f"longest hold with {SIZES[1]:,} VIPs", "ms", HOLD_GOAL_MS),
            (f"document of {SIZES[1]:,} VIPs", "ms", None),
            ("its size", "bytes", None),
        )
    ):
        values, others = ([sample[place] for sample in samples[which]] for which in ("large", "small"))
        suite.add(compare(name, values, reference=reference, reference_values=others, unit=unit, goal=goal, goal_of="value"))
