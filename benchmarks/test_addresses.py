"""What adding, replacing and deleting addresses costs by kvip's codec, beside the kernel's own cost, `ip -batch` and pyroute2.

Each way adds, replaces and deletes the same addresses on the same NIC, which has none before and after; the ways take turns.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import binding, routes
from benchmarks.binding import KINDS, Binder
from benchmarks.figures import Figure, Suite, compare, exponent, take_turns
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
        f"before do not, except in the figures that say so. pyroute2 up to {SLOWEST_PYROUTE2:,} addresses. "
        "An exponent k means that adding so many costs ~ number^k: 1 = each costs the same, 2 = each costs as much as there are already."
    )
    return found


CASES = [
    pytest.param(4, 100, 9, id="ipv4-100"),
    pytest.param(6, 100, 9, id="ipv6-100"),
    pytest.param(4, 1_000, 5, id="ipv4-1000"),
    pytest.param(6, 1_000, 3, id="ipv6-1000"),
    pytest.param(4, 10_000, 3, id="ipv4-10000", marks=pytest.mark.long),
    pytest.param(6, 3_000, 3, id="ipv6-3000", marks=pytest.mark.long),
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


CURVE = [pytest.param(4, (100, 1_000, 3_000, 10_000), id="ipv4"), pytest.param(6, (100, 300, 1_000, 3_000), id="ipv6")]


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("family", "sizes"), CURVE)
def test_how_the_kernels_cost_grows(
    benchmark: BenchmarkFixture, suite: Suite, changes: Path, veth: Link, family: int, sizes: tuple[int, ...]
) -> None:
    """Addresses of a device beside `local` routes, which would make as many VIPs the machine's own."""
    found: dict[str, list[float]] = {"addresses": [], "local routes": []}

    def measure() -> None:
        for size in sizes:
            names = binding.vips(family, size)
            addresses = binding.Loop(changes, veth, names, readback=False)
            found["addresses"].append(addresses.change("add"))
            addresses.change("delete")
            found["local routes"].append(binding.send_encoded(changes, routes.requests(veth, names)))
            binding.send_encoded(changes, routes.requests(veth, names, delete=True))

    benchmark.pedantic(measure, rounds=1)  # type: ignore[no-untyped-call]
    for what, costs in found.items():
        k = exponent(sizes, costs)
        name = f"kernel, adding IPv{family} {what}, exponent"
        suite.add(Figure(name=name, value=k, unit="", reference="proportional", reference_value=1.0, ratio=k))
        benchmark.extra_info[name] = round(k, 3)
        for size, cost, other in zip(sizes, costs, found["addresses"], strict=True):
            each, beside = cost / size * 1e6, other / size * 1e6
            if what != "addresses":
                suite.add(
                    Figure(
                        name=f"kernel, adding {size:,} IPv{family} {what}",
                        value=each,
                        unit="us/route",
                        reference="as many addresses",
                        reference_value=beside,
                        ratio=each / beside,
                    )
                )
