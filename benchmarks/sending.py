"""Ways of getting announcements onto a NIC: kvip's parts, its announcer, its twin, and what others do.

In: a NIC and VIPs. Out: `Way`s: each sends its frames once and tells the rate and the CPU time. All that send batches send at most 64
frames at a time, the most that may leave between two looks at the permit (PROTOCOL F1).
"""

from __future__ import annotations

import asyncio
import resource
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from kvip import _arp_py
from kvip.clock import SystemClock
from kvip.core.model import IfIndex, Link, Vip, packed
from kvip.daemon.announcer import Announcer
from kvip.daemon.supervision import Heartbeats
from kvip.kernel.packet import PacketSocket, build_round

BATCH = 64
SINGLE_FRAMES = 20
FRAME_LEN = _arp_py.ARP_FRAME_LEN


class Sample(NamedTuple):
    """One turn of one way."""

    rate: float
    """frames/s"""
    cpu_us: float
    """CPU time per frame."""


Way = Callable[[], Sample]


def vips(count: int) -> list[Vip]:
    """Different IPv4 addresses."""
    return [Vip(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}") for number in range(1, count + 1)]


def timed(frames: int, work: Callable[[], None], *, who: int = resource.RUSAGE_SELF) -> Way:
    """`work` sends that many frames; `who` does the sending: this process, or its children (RUSAGE_CHILDREN)."""

    def way() -> Sample:
        before, start = _cpu_s(who), time.monotonic()
        work()
        took_s = time.monotonic() - start
        return Sample(frames / took_s, (_cpu_s(who) - before) / frames * 1e6)

    return way


def _cpu_s(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def c_loop(program: Path, link: Link, *, count: int, frames: int) -> Way:
    """benchmarks/limit.c"""
    command = [str(program), link.name, link.mac.hex(":"), str(count), str(frames), str(BATCH)]

    def way() -> Sample:
        rate, cpu_us = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.split()
        return Sample(float(rate), float(cpu_us))

    return way


def send_all(send: Callable[[memoryview], int], frames: bytes) -> None:
    """In batches, again from where a short one ended."""
    view = memoryview(frames)
    start = 0
    while start < len(view):
        start += FRAME_LEN * send(view[start : start + FRAME_LEN * BATCH])


def low_level(arp: ModuleType, port: PacketSocket, names: Sequence[Vip], *, frames: int, prebuilt: bool) -> Way:
    """`build_arp` and `send_batch` of the extension or its twin, without anything around them."""
    fd, mac = port.fileno(), port.link.mac
    addresses = b"".join(map(packed, names))
    ready = arp.build_arp(mac, addresses)

    def work() -> None:
        for _ in range(frames // (2 * len(names))):
            send_all(lambda batch: arp.send_batch(fd, batch, FRAME_LEN), ready if prebuilt else arp.build_arp(mac, addresses))

    return timed(frames, work)


def through_packet_socket(port: PacketSocket, names: Sequence[Vip], *, frames: int) -> Way:
    """`build_round` and `PacketSocket.send` batch by batch, as the announcer does it: permits and the clock are read before each batch."""
    clock, mac = SystemClock(), port.link.mac
    parts = [list(names[start : start + BATCH // 2]) for start in range(0, len(names), BATCH // 2)]
    permitted = set(names)

    def work() -> None:
        until = clock.now() + 60
        for _ in range(frames // (2 * len(names))):
            for part in parts:
                ((batch, frame_len),) = build_round(mac, part)
                assert clock.now() < until
                assert permitted.issuperset(part)
                if port.send(batch, frame_len) * frame_len != len(batch):
                    raise RuntimeError("the NIC's queue is full: these ways are not comparable")

    return timed(frames, work)


def announcer(link: Link, names: Sequence[Vip]) -> Way:
    """The daemon's announcer with its pacing off: the first round of each VIP, from `start` to the last frame."""

    async def burst() -> Sample:
        left, clock, done = set(names), SystemClock(), asyncio.Event()

        def announced(vip: Vip, _: float) -> None:
            left.discard(vip)
            if not left:
                done.set()

        one = Announcer(
            clock=clock,
            heartbeats=Heartbeats(clock),
            permit=lambda _: clock.now() + 1,
            on_announced=announced,
            refresh_s=60.0,
            rate_pps=1e9,
            burst=1_000_000,
            links={IfIndex(link.index): link},
            forwards=lambda _: False,
        )
        before, start = _cpu_s(resource.RUSAGE_SELF), time.monotonic()
        for vip in names:
            one.start(vip, link)
        running = asyncio.create_task(one.run())
        async with asyncio.timeout(30):
            await done.wait()
        took_s, used_s = time.monotonic() - start, _cpu_s(resource.RUSAGE_SELF) - before
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return Sample(2 * len(names) / took_s, used_s / (2 * len(names)) * 1e6)

    return lambda: asyncio.run(burst())


def socket_per_frame(link: Link) -> Way:
    """What kube-vip does for each frame (pkg/arp: a packet socket opened, bound, used once and closed)."""
    frame = _arp_py.build_arp(link.mac, packed(Vip("10.0.0.1")))[:FRAME_LEN]

    def work() -> None:
        for _ in range(SINGLE_FRAMES):
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as single:
                single.bind((link.name, 0))
                single.send(frame)

    return timed(SINGLE_FRAMES, work)


def scapy(link: Link, *, frames: int) -> Way:
    """scapy with one socket: a packet is built and sent, one by one."""
    from scapy.config import conf
    from scapy.layers.l2 import ARP, Ether

    mac = link.mac.hex(":")
    port = conf.L2socket(iface=link.name)

    def work() -> None:
        for vip in vips(frames):
            port.send(Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=mac, psrc=vip, pdst=vip) / bytes(18))

    return timed(frames, work)


def arping(program: str, link: Link, *, frames: int) -> Way:
    """A process per frame, as scripts do it; the address has to be bound. Debian's two programs of this name know these options."""
    names = vips(frames)

    def work() -> None:
        for vip in names:
            command = [program, "-q", "-U", "-c", "1", "-I", link.name, vip]
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)
            if done.returncode not in (0, 1):  # 1: nobody answered, as nobody has to
                raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}, {done.stderr.strip()}")

    return timed(frames, work, who=resource.RUSAGE_CHILDREN)
