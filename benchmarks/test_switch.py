"""What the dead-man's switch costs: re-arming, which comes with every renewal, and letting VIPs through.

Re-arming must not depend on the number of VIPs. The three switches take turns, round by round, in one namespace, and the
table shows medians of the ratio to the smallest of the same round, because a shared machine drifts by more than they differ.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

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
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], switch: Switch, veth: Link
) -> None:
    clock = SystemClock()
    seconds: dict[int, list[float]] = {count: [] for count in COUNTS}
    order = list(COUNTS)

    def one_round() -> None:
        for count in order:
            switch.install(nics=[veth.name], vips=dict.fromkeys(vips(count), veth.name))
            switch.admit(dict.fromkeys(vips(count), veth.name))
            switch.arm_first("main", until=clock.now() + 60)
            start = time.monotonic()
            for _ in range(REARMS):
                switch.rearm("main", until=clock.now() + 60)
            seconds[count].append((time.monotonic() - start) / REARMS)
        order.append(order.pop(0))  # none always follows the same one

    benchmark.pedantic(one_round, rounds=ROUNDS)  # type: ignore[no-untyped-call]

    ratios: dict[int, float] = {}
    lines = [f"{'VIPs':>8}{'us per re-arming':>20}{'ratio to ' + str(COUNTS[0]):>16}   goal {GOAL_RATIO}"]
    for count, values in seconds.items():
        ratios[count] = statistics.median(value / least for value, least in zip(values, seconds[COUNTS[0]], strict=True))
        verdict = "met" if ratios[count] <= GOAL_RATIO else f"missed by {ratios[count] - GOAL_RATIO:.2f}"
        lines.append(f"{count:>8,}{statistics.median(values) * 1e6:>20.1f}{ratios[count]:>16.2f}   {verdict}")
        benchmark.extra_info[f"rearm of {count}, us"] = round(statistics.median(values) * 1e6, 1)
        benchmark.extra_info[f"rearm of {count}, ratio"] = round(ratios[count], 2)
    with capsys.disabled():
        print("\n" + "\n".join(lines))
    assert ratios[COUNTS[-1]] < 10, "re-arming grows with the number of VIPs"


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
