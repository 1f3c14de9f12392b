"""What adding, replacing and deleting addresses costs by kvip's codec, beside the kernel's own cost, `ip -batch` and pyroute2.

Each way adds, replaces and deletes the same addresses on the same NIC, which has none before and after; the ways take turns.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import binding
from benchmarks.binding import KINDS, Binder
from benchmarks.figures import Suite, compare, take_turns
from kvip.core.model import Link
from kvip.kernel.batches import AddressSocket

KERNEL = "C loop, requests encoded before"
CODEC = "kvip's codec"
GOAL = 1.3
SLOWEST_PYROUTE2 = 1_000
"""More of it takes minutes and says nothing new."""


@pytest.fixture(scope="module")
def suite(suites: Callable[[str, str], Suite]) -> Suite:
    title = "adding, replacing and deleting addresses, beside a C loop that sends them encoded before: the kernel's own cost"
    found = suites("addresses", title)
    found.note(
        "kvip's codec also sees what the kernel made of each change (IPv4 by an echo, IPv6 by asking for it); the requests encoded "
        f"before do not, except in the figures that say so. pyroute2 up to {SLOWEST_PYROUTE2:,} addresses."
    )
    return found


CASES = [
    pytest.param(4, 100, 9, id="ipv4-100"),
    pytest.param(6, 100, 9, id="ipv6-100"),
    pytest.param(4, 1_000, 5, id="ipv4-1000"),
    pytest.param(6, 1_000, 3, id="ipv6-1000"),
    pytest.param(4, 10_000, 2, id="ipv4-10000", marks=pytest.mark.long),
    pytest.param(6, 3_000, 2, id="ipv6-3000", marks=pytest.mark.long),
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("family", "count", "rounds"), CASES)
def test_addresses(benchmark: BenchmarkFixture, suite: Suite, changes: Path, veth: Link, family: int, count: int, rounds: int) -> None:
    names = binding.vips(family, count)
    readback = f"{KERNEL}, with read-back"
    ways: dict[str, Binder] = {
        KERNEL: binding.Loop(changes, veth, names, readback=False),
        readback: binding.Loop(changes, veth, names, readback=True),
        CODEC: binding.Codec(veth, names),
        "ip -batch": binding.IpBatch(veth, names),
    }
    if count <= SLOWEST_PYROUTE2:
        ways["pyroute2"] = binding.Pyroute2(veth, names)

    def turn(name: str) -> Callable[[], list[float]]:
        return lambda: [ways[name].change(kind) for kind in KINDS]

    def measure(work: Callable[[], None], times: int) -> None:
        benchmark.pedantic(work, rounds=times)  # type: ignore[no-untyped-call]

    try:
        samples = take_turns({name: turn(name) for name in ways}, rounds, run=measure)
    finally:
        for way in ways.values():
            way.close()
    with AddressSocket() as socket:
        assert not [address for address in socket.dump() if address.index == veth.index]
    for number, kind in enumerate(KINDS):
        for name in ways:
            if name == KERNEL:
                continue
            figure = compare(
                f"{name}, {kind} {count:,} IPv{family}",
                [sample[number] / count * 1e6 for sample in samples[name]],
                reference=KERNEL,
                reference_values=[sample[number] / count * 1e6 for sample in samples[KERNEL]],
                unit="us/address",
                goal=GOAL if name == CODEC else None,
            )
            suite.add(figure)
            benchmark.extra_info[figure.name] = round(figure.ratio, 3)
