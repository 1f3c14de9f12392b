"""How fast announcement frames are built and sent, next to a C sendmmsg loop on the same NIC in the same run.

All ways send the same 2,000 frames (request and reply of 1,000 VIPs), 64 to a batch, the most that may leave
between two looks at the permit. The ways take turns, round by round, and the table shows medians, because
a shared machine drifts by more than they differ.
"""

from __future__ import annotations

import functools
import importlib
import socket
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from kvip import _arp_py
from kvip.core.model import Link, Vip, packed
from kvip.kernel.packet import IMPLEMENTATION, PacketSocket, build_round

VIP_COUNT = 1_000
BATCH = 64
ROUNDS = 15
FRAMES = 10_000
"""Frames of one way in one round: 15 rounds send 150,000."""
SINGLE_FRAMES = 20
GOAL = 0.9
MAC = bytes.fromhex("02005e102030")
VIPS = [Vip(f"10.0.{number >> 8}.{number & 255}") for number in range(1, VIP_COUNT + 1)]
PACKED = b"".join(packed(vip) for vip in VIPS)
Way = Callable[[], float]
"""Sends its frames once; returns frames/s."""


@pytest.fixture(scope="module")
def extension() -> ModuleType:
    try:
        return importlib.import_module("kvip._arp")
    except ImportError as problem:
        pytest.fail(f"kvip._arp cannot be imported ({problem}); build it: python setup.py build_ext --inplace")


def received() -> int:
    """Frames that the kernel counted on the peer."""
    with open("/proc/thread-self/net/dev") as table:
        line = next(line for line in table if line.strip().startswith("kvbench1:"))
    return int(line.split(":")[1].split()[1])


def timed(frames: int, work: Callable[[], None]) -> Way:
    def way() -> float:
        start = time.monotonic()
        work()
        return frames / (time.monotonic() - start)

    return way


def send_all(send: Callable[[memoryview], int], frames: bytes) -> None:
    view = memoryview(frames)
    start = 0
    while start < len(view):
        start += 60 * send(view[start : start + 60 * BATCH])


def sending(arp: ModuleType, port: PacketSocket, *, prebuilt: bool) -> Way:
    fd = port.fileno()
    ready = arp.build_arp(MAC, PACKED)

    def work() -> None:
        for _ in range(FRAMES // (2 * VIP_COUNT)):
            send_all(lambda batch: arp.send_batch(fd, batch, 60), ready if prebuilt else arp.build_arp(MAC, PACKED))

    return timed(FRAMES, work)


def as_kvip_does(port: PacketSocket) -> Way:
    def work() -> None:
        for _ in range(FRAMES // (2 * VIP_COUNT)):
            ((frames, frame_len),) = build_round(MAC, VIPS)
            send_all(functools.partial(port.send, frame_len=frame_len), frames)

    return timed(FRAMES, work)


def socket_per_frame(link: Link) -> Way:
    frame = _arp_py.build_arp(MAC, PACKED[:4])[:60]

    def work() -> None:
        for _ in range(SINGLE_FRAMES):
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as single:
                single.bind((link.name, 0))
                single.send(frame)

    return timed(SINGLE_FRAMES, work)


def c_loop(program: Path, link: Link) -> Way:
    command = [str(program), link.name, link.mac.hex(":"), str(VIP_COUNT), str(FRAMES), str(BATCH)]
    return lambda: float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout)


@pytest.mark.timeout(120)
def test_frame_rates_next_to_the_c_limit(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], extension: ModuleType, limit: Path, veth: Link
) -> None:
    port = PacketSocket(veth)
    ways: dict[str, Way] = {
        "C sendmmsg loop (the limit)": c_loop(limit, veth),
        "_arp, frames built before": sending(extension, port, prebuilt=True),
        "_arp, build + send": sending(extension, port, prebuilt=False),
        f"build_round + PacketSocket ({IMPLEMENTATION})": as_kvip_does(port),
        "_arp_py (twin), build + send": sending(_arp_py, port, prebuilt=False),
        "a socket per frame": socket_per_frame(veth),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)

    def one_round() -> None:
        for name in names:
            rates[name].append(ways[name]())
        names.append(names.pop(0))  # no way always follows the same one

    before = received()
    benchmark.pedantic(one_round, rounds=ROUNDS)  # type: ignore[no-untyped-call]
    port.close()
    rounds = len(rates["a socket per frame"])
    assert received() - before >= rounds * (5 * FRAMES + SINGLE_FRAMES)

    lines = report(rates, benchmark.extra_info)
    with capsys.disabled():
        print("\n" + "\n".join(lines))


def report(rates: dict[str, list[float]], extra_info: dict[str, float]) -> list[str]:
    """One line per way; ratios are medians over rounds of the rate next to C's of the same round."""
    reference = next(iter(rates.values()))
    lines = [f"{'figure':38}{'frames/s':>12}{'ratio to C':>12}   goal {GOAL}"]
    for name, values in rates.items():
        ratio = statistics.median(value / limit for value, limit in zip(values, reference, strict=True))
        rate = statistics.median(values)
        verdict = ""
        if name.startswith(("_arp,", "build_round")):
            verdict = "met" if ratio >= GOAL else f"missed by {GOAL - ratio:.4f}"
        lines.append(f"{name:38}{rate:>12,.0f}{ratio:>12.4f}   {verdict}".rstrip())
        extra_info[name] = round(rate)
        extra_info[f"{name}, ratio"] = round(ratio, 3)
    return lines


@pytest.mark.parametrize("name", ["kvip._arp", "kvip._arp_py"])
def test_building_the_frames_of_a_thousand_vips(benchmark: BenchmarkFixture, extension: ModuleType, name: str) -> None:
    arp = extension if name == "kvip._arp" else _arp_py
    frames = benchmark.pedantic(arp.build_arp, args=(MAC, PACKED), rounds=30, warmup_rounds=2)  # type: ignore[no-untyped-call]
    assert len(frames) == 2 * VIP_COUNT * 60
