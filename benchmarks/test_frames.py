"""How fast announcement frames are built and sent, next to a C sendmmsg loop on the same NIC in the same run.

The ways take turns, round by round; ratios are medians over rounds of a way's rate next to the C loop's of the same round. A VIP is two
frames, an ARP request and a reply.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import keepalived, sending
from benchmarks.figures import Suite, compare, take_turns
from benchmarks.nics import NIC, PEER, run
from benchmarks.programs import why_skipped
from benchmarks.sending import Sample, Way
from kvip import _arp_py
from kvip.core.model import Link, packed
from kvip.kernel.packet import IMPLEMENTATION, PacketSocket

COUNTS = (1, 64, 1_000, 10_000)
MAIN = 1_000
ROUNDS = 15
FRAMES = 20_000
"""Of one way in one round."""
ARPING_FRAMES = 2
"""It takes a second for each."""
GOAL = 0.9
KEEPALIVED_GOAL = 2.0
KEEPALIVED_ROUNDS = 7
"""Its burst takes milliseconds; it takes seconds to come to it."""
LIMIT = "C sendmmsg loop"
SINGLY = "a socket per frame, as kube-vip"
WIRE = "C sendmmsg loop, 2 frames each"
WHOLE = f"PacketSocket ({IMPLEMENTATION}), permit before each batch"
ARPING = "arping, a process per frame"
ANNOUNCER = "announcer, pacing off"


@pytest.fixture(scope="module")
def extension() -> ModuleType:
    try:
        return importlib.import_module("kvip._arp")
    except ImportError as problem:
        pytest.fail(f"kvip._arp cannot be imported ({problem}); build it: python setup.py build_ext --inplace")


@pytest.fixture(scope="module")
def suite(suites: Callable[[str, str], Suite]) -> Suite:
    found = suites("frames", "announcement frames per second and CPU time per frame, beside a C sendmmsg loop on the same NIC")
    found.note(
        f"All but the slow ways send at most {sending.BATCH} frames at a time, the most that may leave between two looks at the permit."
    )
    return found


def received() -> int:
    """Frames that the kernel counted on the peer."""
    with open("/proc/thread-self/net/dev") as table:
        line = next(line for line in table if line.strip().startswith("kvbench1:"))
    return int(line.split(":")[1].split()[1])


def take_rates(
    benchmark: BenchmarkFixture,
    suite: Suite,
    ways: dict[str, Way],
    *,
    label: str,
    rounds: int = ROUNDS,
    goals: dict[str, float] | None = None,
) -> dict[str, list[Sample]]:
    """Let the ways take turns, and add a figure for the rate and one for the CPU time of each."""
    samples = take_turns(ways, rounds, run=lambda work, count: benchmark.pedantic(work, rounds=count))  # type: ignore[no-untyped-call]
    limit = samples[LIMIT]
    for name, values in samples.items():
        if name == LIMIT:
            continue
        rate = compare(
            f"{name}, {label}",
            [sample.rate for sample in values],
            reference=LIMIT,
            reference_values=[sample.rate for sample in limit],
            unit="frames/s",
            better="higher",
            goal=(goals or {}).get(name),
        )
        cpu = compare(
            f"{name}, {label}, CPU",
            [sample.cpu_us for sample in values],
            reference=LIMIT,
            reference_values=[sample.cpu_us for sample in limit],
            unit="us/frame",
        )
        suite.add(rate, cpu)
        benchmark.extra_info[rate.name] = round(rate.ratio, 4)
    return samples


@pytest.mark.timeout(180)
@pytest.mark.parametrize("count", [pytest.param(count, marks=[] if count == MAIN else [pytest.mark.long]) for count in COUNTS])
def test_frame_rates_next_to_the_c_limit(
    benchmark: BenchmarkFixture, suite: Suite, extension: ModuleType, limit: Path, veth: Link, count: int
) -> None:
    names, port = sending.vips(count), PacketSocket(veth)
    frames = max(FRAMES, 2 * count) // (2 * count) * 2 * count
    ways: dict[str, Way] = {
        LIMIT: sending.c_loop(limit, veth, count=count, frames=frames),
        "_arp, frames built before": sending.low_level(extension, port, names, frames=frames, prebuilt=True),
        "_arp, build + send": sending.low_level(extension, port, names, frames=frames, prebuilt=False),
        WHOLE: sending.through_packet_socket(port, names, frames=frames),
        "_arp_py (twin), build + send": sending.low_level(_arp_py, port, names, frames=frames, prebuilt=False),
        ANNOUNCER: sending.announcer(veth, names),
    }
    before = received()
    goals = dict.fromkeys((WHOLE, "_arp, frames built before", "_arp, build + send"), GOAL) if count == MAIN else None
    take_rates(benchmark, suite, ways, label=f"{count:,} VIPs", goals=goals)
    port.close()
    assert received() - before >= ROUNDS * (5 * frames + 2 * count)


@pytest.mark.timeout(120)
def test_frame_rates_of_others(benchmark: BenchmarkFixture, suite: Suite, limit: Path, veth: Link) -> None:
    port = PacketSocket(veth)
    ways: dict[str, Way] = {
        LIMIT: sending.c_loop(limit, veth, count=MAIN, frames=FRAMES),
        SINGLY: sending.socket_per_frame(veth),
        WHOLE: sending.through_packet_socket(port, sending.vips(MAIN), frames=FRAMES),
        "scapy, one socket": sending.scapy(veth, frames=200),
    }
    program = shutil.which("arping")
    if program is None:
        suite.skip("arping", why_skipped("arping"))
    else:
        for nic in (NIC, PEER):  # arping refuses a NIC without ARP
            run("ip", "link", "set", nic, "arp", "on")
        for vip in sending.vips(ARPING_FRAMES):
            run("ip", "address", "add", f"{vip}/32", "dev", veth.name)
        ways[ARPING] = sending.arping(program, veth, frames=ARPING_FRAMES)
        before = received()
        ways[ARPING]()
        assert received() - before >= ARPING_FRAMES, "arping sent nothing"
    with closing(port):
        samples = take_rates(benchmark, suite, ways, label="beside single frames", rounds=3)
    suite.add(
        compare(
            f"{WHOLE}, {MAIN:,} VIPs, beside a socket per frame",
            [sample.rate for sample in samples[WHOLE]],
            reference=SINGLY,
            reference_values=[sample.rate for sample in samples[SINGLY]],
            unit="frames/s",
            better="higher",
        )
    )


@pytest.mark.timeout(120)
def test_the_burst_of_keepalived(benchmark: BenchmarkFixture, suite: Suite, limit: Path, veth: Link, tmp_path: Path) -> None:
    name, program = f"keepalived, becoming master, {MAIN:,} VIPs", shutil.which("keepalived")
    if program is None:
        pytest.skip(why_skipped("keepalived"))
    names, port = sending.vips(MAIN), PacketSocket(veth)
    ways: dict[str, Callable[[], float]] = {
        LIMIT: lambda: sending.c_loop(limit, veth, count=MAIN, frames=FRAMES)().rate,
        name: lambda: keepalived.burst_rate(program, names, tmp_path),
        WHOLE: lambda: keepalived.kvip_rate(sending.through_packet_socket(port, names, frames=2 * MAIN), names),
        ANNOUNCER: lambda: keepalived.kvip_rate(sending.announcer(veth, names), names),
        WIRE: lambda: keepalived.kvip_rate(sending.c_loop(limit, veth, count=MAIN, frames=2 * MAIN), names),
    }
    keepalived.ready_wire()
    with closing(port):
        samples = take_turns(ways, KEEPALIVED_ROUNDS, run=lambda work, count: benchmark.pedantic(work, rounds=count))  # type: ignore[no-untyped-call]
    suite.add(compare(name, samples[name], reference=LIMIT, reference_values=samples[LIMIT], unit="frames/s", better="higher"))
    suite.add(
        *(
            compare(
                f"{way}, {MAIN:,} VIPs, on the wire beside keepalived",
                samples[way],
                reference="keepalived, becoming master",
                reference_values=samples[name],
                unit="frames/s",
                better="higher",
                goal=None if way == WIRE else KEEPALIVED_GOAL,
            )
            for way in (WHOLE, ANNOUNCER, WIRE)
        )
    )


@pytest.mark.parametrize("name", ["kvip._arp", "kvip._arp_py"])
def test_building_the_frames_of_a_thousand_vips(benchmark: BenchmarkFixture, extension: ModuleType, name: str) -> None:
    arp = extension if name == "kvip._arp" else _arp_py
    addresses = b"".join(map(packed, sending.vips(MAIN)))
    mac = bytes.fromhex("02005e102030")
    frames = benchmark.pedantic(arp.build_arp, args=(mac, addresses), rounds=30, warmup_rounds=2)  # type: ignore[no-untyped-call]
    assert len(frames) == 2 * MAIN * sending.FRAME_LEN
