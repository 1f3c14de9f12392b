"""What a daemon costs that has nothing to do but to hold its VIPs: CPU, memory, and requests to the API server by verb.

Measured from outside the process (proc(5), the API server's own count), on the node that holds everything, once it has written all status.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.crowd import Crowd, cpu_s, crowds, rss_mib
from benchmarks.figures import Figure, Suite
from lab.embeddedapi import EmbeddedApi

WINDOW_S = 60.0
"""One audit, and at least two renewals of each lifetime of a minute: a shorter window holds more or less of them by chance."""
CPU_GOAL = {1_000: 1.0, 10_000: 5.0}
RSS_GOAL_MIB = {0: 80.0, 1_000: 120.0, 10_000: 200.0}
REQUESTS_GOAL = 1.1
"""Times those at the smallest number of VIPs: independent of it."""
_rates: dict[int, dict[str, float]] = {}
_CODE = "import sys, time, kvip.daemon.app; print('ready', flush=True); time.sleep(600)"


@pytest.fixture(scope="module")
def suite(suites: Callable[[str, str], Suite]) -> Suite:
    found = suites(
        "cost", f"CPU, memory and API requests of a daemon that holds its VIPs and has nothing else to do, over {WINDOW_S:.0f} s"
    )
    found.note("The window begins when the Events of the new VIPs, paced at 20/s, are posted. CPU is of one core.")
    return found


@pytest.fixture(scope="module")
def bare_mib() -> float:
    """The memory of an interpreter that imported the daemon and does nothing."""
    child = subprocess.Popen([sys.executable, "-c", _CODE], stdout=subprocess.PIPE, env=os.environ)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        return rss_mib(child.pid)
    finally:
        child.kill()
        child.communicate()


@pytest.mark.timeout(900)
@crowds(long=(0, 10, 1_000, 10_000))
def test_cost(benchmark: BenchmarkFixture, suite: Suite, crowd: Crowd, bare_mib: float) -> None:
    if not isinstance(crowd.api, EmbeddedApi):
        pytest.skip("counts requests by client, which only the embedded API server does")
    node, count = crowd.holder, crowd.count
    crowd.wait_quiet(limit_s=240)

    def window() -> tuple[float, dict[tuple[str, str], float]]:
        before, used_s, began = crowd.requests(node), cpu_s(node.pid), time.monotonic()
        time.sleep(WINDOW_S)
        took_s = time.monotonic() - began
        made = {key: (number - before.get(key, 0)) / took_s for key, number in crowd.requests(node).items()}
        return (cpu_s(node.pid) - used_s) / took_s * 100, {key: rate for key, rate in made.items() if rate}

    cpu, made = benchmark.pedantic(window, rounds=1)  # type: ignore[no-untyped-call]
    label = f"{count:,} VIPs"
    mib = rss_mib(node.pid)
    suite.add(
        _figure(f"CPU, {label}", cpu, "% of a core", "one core", 100.0, goal=CPU_GOAL.get(count), goal_of="value"),
        _figure(f"memory, {label}", mib, "MiB", "imported, idle", bare_mib, goal=RSS_GOAL_MIB.get(count), goal_of="value"),
    )
    rates = {f"{verb} {resource}": rate for (verb, resource), rate in made.items()}
    if count:
        _rates[count] = rates | {"in all": sum(rates.values())}
        _compare_rates(suite)
    suite.note(f"Start of the daemon -> all of {label} bound: {crowd.fill_s:.1f} s.")
    benchmark.extra_info.update({"cpu": round(cpu, 2), "rss": round(mib, 1)})


def _compare_rates(suite: Suite) -> None:
    """The rates known by now beside those of the smallest crowd, whichever came first."""
    least, *_ = sizes = sorted(_rates)
    for count in sizes:
        for name, rate in _rates[count].items():
            goal = REQUESTS_GOAL if name == "in all" and count > least else None
            other = _rates[least].get(name, 0.0) or rate
            suite.add(_figure(f"API requests {name}, {count:,} VIPs", rate, "1/s", f"at {least:,} VIPs", other, goal=goal))


def _figure(
    name: str, value: float, unit: str, reference: str, other: float, *, goal: float | None = None, goal_of: str = "ratio"
) -> Figure:
    ratio = value / other
    return Figure(
        name=name,
        value=value,
        unit=unit,
        reference=reference,
        reference_value=other,
        ratio=ratio,
        goal=goal,
        goal_of=goal_of,  # type: ignore[arg-type]
    )
