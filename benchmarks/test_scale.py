"""How mode `claims` scales with nodes: the daemon's own decisions in simulated time (benchmarks/simcluster.py), 100,000 VIPs.

Rates and delays are in simulated time, and the same on every machine; the CPU time of the decisions is this machine's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.figures import Figure, Suite, short
from benchmarks.simcluster import RECORDS, Crowd, shared_answers, with_all_vips
from kvip.core.election import claims
from kvip.core.election.state import State
from tests.unit.core.election.simnode import TIMERS

VIPS = 100_000
STEADY_S = 3.0
MEASURED_NODES = 50
"""In a larger crowd what all nodes compute alike is computed once, and CPU time is not measured."""
LATE_S = 0.5
"""How long after the lease a VIP may be without a holder (docs: a take-over is complete within the lease duration + 0.5 s)."""


@pytest.fixture(scope="module")
def suite(suites: Callable[[str, str], Suite]) -> Suite:
    found = suites("scale", f"mode claims with {VIPS:,} VIPs on 5, 50 and 500 nodes, in simulated time")
    found.note(f"Lease 5/3/1, {RECORDS} claim records: VIPs that are alike move by records, so at most {RECORDS} nodes hold them.")
    return found


def add(suite: Suite, name: str, value: float, unit: str, reference: str, reference_value: float, goal: float | None = None) -> Figure:
    ratio = value / reference_value
    figure = Figure(name=name, value=value, unit=unit, reference=reference, reference_value=reference_value, ratio=ratio, goal=goal)
    suite.add(figure)
    return figure


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("nodes", [5, pytest.param(50, marks=pytest.mark.long), pytest.param(500, marks=pytest.mark.long)])
def test_scale(benchmark: BenchmarkFixture, suite: Suite, nodes: int) -> None:
    with shared_answers() if nodes > MEASURED_NODES else nullcontext():
        measure(benchmark, suite, nodes)


def measure(benchmark: BenchmarkFixture, suite: Suite, nodes: int) -> None:
    """One cluster, from its start to the loss of its fullest node."""
    world = Crowd(nodes)
    period_s, lease_s = TIMERS.retry_period_s, TIMERS.lease_duration_s

    def story() -> tuple[float, float, float, list[int], float, float]:
        world.run(4.0)
        world.ask()
        world.until_held(limit_s=30)
        world.run(1.0)
        writes, events, cpu_s = world.server.writes, world.server.events, sum(node.cpu_s for node in world.nodes)
        world.run(STEADY_S)
        rates = (world.server.writes - writes) / STEADY_S, (world.server.events - events) / STEADY_S
        cpu_share = (sum(node.cpu_s for node in world.nodes) - cpu_s) / STEADY_S / nodes
        loads = world.loads(VIPS)
        victim = max(world.nodes, key=lambda node: len(node.acts()))
        last_beat_at = world.server.last_write[f"kvip-node-{victim.name}"]
        watcher = min(world.nodes, key=lambda node: len(node.acts()))
        deciding_ms = _deciding_ms(watcher.state, watcher.now()) if nodes <= MEASURED_NODES else 0.0
        victim.kill()
        world.until_held(limit_s=30)
        return *rates, world.now - last_beat_at, loads, cpu_share, deciding_ms

    writes, events, took_s, loads, cpu_share, deciding_ms = benchmark.pedantic(story, rounds=1)  # type: ignore[no-untyped-call]
    label = f"{nodes} nodes"
    add(suite, f"API writes, {label}", writes, "1/s", "a heartbeat per node and period", nodes / period_s, goal=1.1)
    add(suite, f"watch events, all nodes, {label}", events, "1/s", "nodes^2 / period", nodes**2 / period_s, goal=1.1)
    add(suite, f"last heartbeat -> all held again, {label}", took_s, "s", "lease duration", lease_s, goal=(lease_s + LATE_S) / lease_s)
    add(suite, f"VIPs on the fullest node, {label}", max(loads), "VIPs", "mean", statistics.mean(loads))
    if nodes <= MEASURED_NODES:
        add(suite, f"CPU of a node's election, steady, {label}", cpu_share * 100, "% of a core", "one core", 100.0)
        add(suite, f"deciding about all VIPs once, {label}", deciding_ms, "ms", "lease duration, in which it happens once", lease_s * 1e3)
    holding = sum(load > 0 for load in loads)
    benchmark.extra_info["holding"] = holding
    if holding < nodes:
        suite.note(f"With {nodes} nodes, {holding} hold VIPs; the mean over those is {short(sum(loads) / holding)}.")


def _deciding_ms(state: State, now: float) -> float:
    """What a node spends on one look at every record, when all VIPs are there and held by others."""
    full = with_all_vips(state, VIPS)
    began = time.perf_counter()
    step = claims.step(full, now)
    ops = step.ops
    while step.wake_at <= now:
        step = claims.step(step.state, now)
        ops += step.ops
    took_s = time.perf_counter() - began
    assert not step.fence
    assert all(op.purpose != "claim" for op in ops)
    return took_s * 1e3
