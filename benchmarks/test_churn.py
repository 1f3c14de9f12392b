"""From the create of a Service to its VIP's first frame on the wire, while others come and go at 50 changes a second, probe off.

The reference is a bare watch of the API server: what the same create takes to be shown to anybody. Frames are timed by the kernel of the
client that receives them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.crowd import Crowd, Hand, WatchTap, cpu_s, crowds, vip
from benchmarks.figures import Figure, Suite, paired_ratio, percentile
from lab.cluster import SERVICES, now

CHANGES_PER_S = 50
CREATES = 500
"""In a crowd of 1,000 or more; else fewer, for a short run."""
FEWER_CREATES = 150
KEPT = 100
"""So many of them are there at a time."""
LIVES_S = KEPT / (CHANGES_PER_S / 2)
"""How long each is there: within this its VIP has to be announced."""
SETTLED_S = 2.0
GOALS_MS = {1_000: 20.0, 10_000: 50.0}


@pytest.fixture(scope="module")
def suite(suites: Callable[[str, str], Suite]) -> Suite:
    found = suites("churn", f"create -> first frame of a VIP under {CHANGES_PER_S} changes/s, beside a bare watch of the same API server")
    found.note("The API server shares the CPUs with the daemon; the probe of a new address is off.")
    return found


@pytest.mark.timeout(900)
@crowds(100, long=(1_000, 10_000))
def test_create_to_first_frame(benchmark: BenchmarkFixture, suite: Suite, crowd: Crowd) -> None:
    cluster, first = crowd.cluster, crowd.count + 1
    creates = CREATES if crowd.count >= min(GOALS_MS) else FEWER_CREATES
    names = {f"churn{number}": vip(first + number) for number in range(KEPT + creates)}
    timed = list(names)[KEPT:]
    sent: dict[str, float] = {}

    def create(number: int) -> None:
        name = f"churn{number}"
        sent[name] = now()
        hand.create(name, names[name])

    def story() -> None:
        """Create and delete in turn; a change that comes late is followed by the next at once."""
        began = time.monotonic()
        for step in range(2 * creates):
            time.sleep(max(0.0, began + step / CHANGES_PER_S - time.monotonic()))
            if step % 2 == 0:
                create(KEPT + step // 2)
            else:
                hand.delete(f"churn{step // 2}")

    crowd.wait_quiet(limit_s=240)
    with Hand(crowd.api) as hand, cluster.sniffing(*names.values()) as sniffer, WatchTap(crowd.api, SERVICES) as watch:
        for number in range(KEPT):
            create(number)
        time.sleep(SETTLED_S)
        used_s = cpu_s(crowd.holder.pid)
        took_s = benchmark.pedantic(lambda: _timed(story), rounds=1)  # type: ignore[no-untyped-call]
        used_s = cpu_s(crowd.holder.pid) - used_s
        time.sleep(SETTLED_S)
        for number in range(creates, creates + KEPT):
            hand.delete(f"churn{number}")
        frames: dict[str, float] = {}
        for frame in sniffer.frames:
            if frame.announcement:
                frames.setdefault(frame.claimed, frame.at_s)
        shown = watch.created()
    missing = [name for name in timed if names[name] not in frames]
    assert len(missing) <= creates // 10, f"{len(missing)} of {creates} VIPs were never announced: {missing[:5]}"
    if missing:
        suite.note(
            f"With {crowd.count:,} VIPs {len(missing)} of {creates} Services were deleted before their VIPs were announced: "
            f"each counts as {LIVES_S:g} s, which is less than it would have been."
        )
    framed_ms = [(frames.get(names[name], sent[name] + LIVES_S) - sent[name]) * 1e3 for name in timed]
    shown_ms = [(shown[name] - sent[name]) * 1e3 for name in timed]
    rate = 2 * creates / took_s
    for label, share in (("p50", 0.50), ("p99", 0.99)):
        value, reference = percentile(framed_ms, share), percentile(shown_ms, share)
        suite.add(
            Figure(
                name=f"create -> first frame, {crowd.count:,} VIPs, {label}",
                value=value,
                unit="ms",
                reference=f"create -> shown by a watch, {label}",
                reference_value=reference,
                ratio=value / reference,
                goal=GOALS_MS.get(crowd.count) if label == "p99" else None,
                goal_of="value",
            )
        )
        benchmark.extra_info[label] = round(value, 2)
    suite.add(
        Figure(
            name=f"CPU of the daemon, {crowd.count:,} VIPs",
            value=used_s / took_s * 100,
            unit="% of a core",
            reference="one core",
            reference_value=100.0,
            ratio=used_s / took_s,
        )
    )
    benchmark.extra_info["median ratio"] = round(paired_ratio(framed_ms, shown_ms), 3)
    suite.note(f"With {crowd.count:,} VIPs {rate:.0f} changes/s were made.")


def _timed(story: Callable[[], None]) -> float:
    began = time.monotonic()
    story()
    return time.monotonic() - began
