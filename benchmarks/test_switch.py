"""What the dead-man's switch costs: re-arming, which comes with every renewal, and letting VIPs through.

Re-arming must not depend on the number of VIPs. The three switches take turns, round by round, in one namespace, and the ratio is
the median of those to the smallest of the same round, because a shared machine drifts by more than they differ.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.figures import Suite, compare, take_turns
from kvip.clock import SystemClock
from kvip.core.model import Link, Vip
from kvip.kernel.switch import Switch

COUNTS = (10, 1_000, 10_000)
ROUNDS = 15
REARMS = 50
"""Of one size in one round."""
GOAL_RATIO = 1.5
SLICE = 64


def vips(count: int) -> list[Vip]:
    """Half of each family."""
    four = [Vip(f"10.{number >> 8}.{number & 255}.1") for number in range(count // 2)]
    return four + [Vip(f"2001:db8::1:{number:x}") for number in range(count - count // 2)]


@pytest.fixture
def switch(veth: Link) -> Iterator[Switch]:
    switch = Switch(clock=SystemClock())
    switch.install(nics=[veth.name], vips={})
    yield switch
    switch.close()


@pytest.mark.timeout(180)
def test_rearming_costs_the_same_for_any_number_of_vips(
    benchmark: BenchmarkFixture, suites: Callable[[str, str], Suite], switch: Switch, veth: Link
) -> None:
    suite, clock = suites("switch", "re-arming the dead-man's switch, which comes with every renewal, by the number of VIPs"), SystemClock()

    def rearming(count: int) -> Callable[[], float]:
        def way() -> float:
            switch.install(nics=[veth.name], vips=dict.fromkeys(vips(count), veth.name))
            switch.admit(dict.fromkeys(vips(count), veth.name))
            switch.arm_first("main", until=clock.now() + 60)
            start = time.monotonic()
            for _ in range(REARMS):
                switch.rearm("main", until=clock.now() + 60)
            return (time.monotonic() - start) / REARMS * 1e6

        return way

    ways = {f"{count:,} VIPs": rearming(count) for count in COUNTS}
    samples = take_turns(ways, ROUNDS, run=lambda work, times: benchmark.pedantic(work, rounds=times))  # type: ignore[no-untyped-call]
    least, *others = ways
    figures = [
        compare(f"re-arming, {name}", samples[name], reference=f"with {least}", reference_values=samples[least], unit="us", goal=GOAL_RATIO)
        for name in others
    ]
    suite.add(*figures)
    for figure in figures:
        benchmark.extra_info[figure.name] = round(figure.ratio, 2)
    assert figures[-1].ratio < 10, "re-arming grows with the number of VIPs"


@pytest.mark.parametrize("count", [SLICE, 1_000])
def test_letting_vips_through(benchmark: BenchmarkFixture, switch: Switch, veth: Link, count: int) -> None:
    places = dict.fromkeys(vips(count), veth.name)

    def before() -> None:
        switch.remove(places)

    benchmark.pedantic(switch.admit, args=(places,), setup=before, rounds=20)  # type: ignore[no-untyped-call]
    assert len(switch.contents()) == count


def test_letting_a_thousand_vips_through_in_slices(benchmark: BenchmarkFixture, switch: Switch, veth: Link) -> None:
    places = dict.fromkeys(vips(1_000), veth.name)
    names = list(places)

    def in_slices() -> None:
        for start in range(0, len(names), SLICE):
            switch.admit({vip: places[vip] for vip in names[start : start + SLICE]})

    benchmark.pedantic(in_slices, setup=lambda: switch.remove(places), rounds=10)  # type: ignore[no-untyped-call]
    assert len(switch.contents()) == 1_000


def test_installing_with_a_thousand_vips_silent(benchmark: BenchmarkFixture, switch: Switch, veth: Link) -> None:
    places = dict.fromkeys(vips(1_000), veth.name)
    benchmark.pedantic(lambda: switch.install(nics=[veth.name], vips=places), rounds=5)  # type: ignore[no-untyped-call]
    assert subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True, timeout=10).stdout.count("kvip") == 3
