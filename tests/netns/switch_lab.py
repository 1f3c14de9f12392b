"""A node with the dead-man's switch on a LAN, for tests of the switch on the wire."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kvip.clock import Clock, SystemClock
from kvip.core.model import IfIndex, Link, Vip
from kvip.kernel.packet import PacketSocket, build_round
from kvip.kernel.switch import Switch
from lab.lan import CLIENT, CLIENT_IP, CLIENT_IP6, Lan
from lab.netns import LabError, NetNamespace
from lab.prober import Prober
from lab.sniffer import Sniffer

VIP4, VIP6 = Vip("10.10.0.200"), Vip("fd00:10::200")
BOTH = (VIP4, VIP6)
SILENCE_S = 0.2


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Inside:
    """An object whose methods run in a namespace; `NetNamespace.call` passes results and exceptions on."""

    def __init__(self, target: Any, space: NetNamespace) -> None:
        self._target = target
        self._space = space

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value):
            return value
        return lambda *args, **kwargs: self._space.call(lambda: value(*args, **kwargs))


class Node:
    """n1 of a LAN: binds VIPs as kvip does, and has the switch. The client asks, and pings."""

    def __init__(self, lan: Lan, *, clock: Clock | None = None) -> None:
        self.lan = lan
        self.space = lan.ns("n1")
        self.client = lan.ns(CLIENT)
        self.clock = clock or SystemClock()
        self.plain: Switch = self.space.call(lambda: Switch(clock=self.clock))
        self.switch: Any = Inside(self.plain, self.space)
        self.mac = lan.mac("n1")

    def ip(self, *lines: str) -> None:
        self.space.ip_batch(lines)

    def bind(self, vip: Vip, nic: str = "eth0") -> None:
        # preferred_lft 0, as kvip binds: the kernel does not choose the address as a source by itself.
        prefix, dad = ("128", " nodad") if ":" in vip else ("32", "")
        self.ip(f"addr add {vip}/{prefix} dev {nic} valid_lft 600 preferred_lft 0{dad}")

    def arm(self, seconds: float = 30.0, group: str = "main") -> None:
        self.switch.arm_first(group, until=now() + seconds)

    def ready(self, *vips: Vip, nic: str = "eth0", nics: tuple[str, ...] = ("eth0",)) -> None:
        """Bound, admitted, and nothing alive."""
        self.switch.install(nics=nics, vips=dict.fromkeys(vips, nic))
        for vip in vips:
            self.bind(vip, nic)
        self.switch.admit(dict.fromkeys(vips, nic))

    @contextmanager
    def asked(self, *vips: str) -> Iterator[Prober]:
        with Prober(self.client, "eth0", vips, interval_s=0.01) as prober:
            yield prober

    @contextmanager
    def heard(self, *vips: str) -> Iterator[Sniffer]:
        with Sniffer(self.client, "eth0", vips=vips) as sniffer:
            yield sniffer

    def knows(self, vip: Vip, mac: str = "") -> None:
        """The client has `vip` in its neighbour table for good: its packets reach the node without a question."""
        self.client.ip_batch([f"neigh replace {vip} lladdr {mac or self.mac} dev eth0 nud permanent"])

    def link(self, nic: str = "eth0") -> Link:
        index = self.space.call(lambda: socket.if_nametoindex(nic))
        return Link(index=IfIndex(index), name=nic, mac=bytes.fromhex(self.mac.replace(":", "")), up=True, carrier=True)

    def announce(self, vip: Vip) -> int:
        """One announcement round of kvip's own; how many frames left."""

        def send() -> int:
            port = PacketSocket(self.link())
            ((frames, size),) = build_round(port.link.mac, [vip])
            try:
                return port.send(frames, size)
            finally:
                port.close()

        return self.space.call(send)

    def speak(self, source: str, to: str, nic: str = "eth0") -> str:
        """One UDP packet from `source`; "" or what the kernel said."""

        def send() -> str:
            with socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, nic.encode())
                sock.bind((source, 0))
                try:
                    sock.sendto(b"x", (to, 9))
                except OSError as error:
                    return error.strerror or str(error)
            return ""

        return self.space.call(send)

    def close(self) -> None:
        self.plain.close()


def pings(space: NetNamespace, target: str, *, source: str = "") -> bool:
    """Does one echo request come back within 0.4 s?"""
    six = ":" in target

    def ask() -> bool:
        family = socket.AF_INET6 if six else socket.AF_INET
        protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
        with socket.socket(family, socket.SOCK_RAW, protocol) as sock:
            if source:
                sock.bind((source, 0))
            token = struct.pack("!d", time.monotonic())
            body = struct.pack("!BBHHH", 128 if six else 8, 0, 0, 77, 1) + token
            if not six:
                body = body[:2] + struct.pack("!H", _checksum(body)) + body[4:]
            try:
                sock.sendto(body, (target, 0))
            except OSError:
                return False
            deadline = time.monotonic() + 0.4
            while (left := deadline - time.monotonic()) > 0:
                sock.settimeout(left)
                try:
                    data = sock.recv(2048)
                except TimeoutError:
                    return False
                payload = data if six else data[20:]
                if payload[0] == (129 if six else 0) and payload.endswith(token):
                    return True
        return False

    return space.call(ask)


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def eventually(check: Callable[[], bool], what: str, *, within_s: float = 2.0) -> float:
    """Poll until true; the seconds it took."""
    began = now()
    while not check():
        if now() - began > within_s:
            raise LabError(f"did not happen within {within_s} s: {what}")
        time.sleep(0.005)
    return now() - began


CLIENT_OF = {VIP4: CLIENT_IP, VIP6: CLIENT_IP6}
OWN_OF = {VIP4: "10.10.0.11", VIP6: "fd00:10::11"}


class StoppingClock(SystemClock):
    """The kernel's clock; the process is as if stopped for a while just before chosen looks at it (1 = the next one)."""

    def __init__(self) -> None:
        self.stops: dict[int, float] = {}

    def now(self) -> float:
        self.stops = {look - 1: length_s for look, length_s in self.stops.items()}
        time.sleep(self.stops.pop(0, 0.0))
        return super().now()


def nft(*command: str) -> str:
    return subprocess.run(["nft", *command], check=True, capture_output=True, text=True, timeout=10).stdout


def expires_s(family: str, group: str = "main") -> float | None:
    """Seconds for which the group is alive in one table, as nft(8) shows it."""
    listing = nft("list", "set", family, "kvip", f"alive_{group}")
    found = re.search(r"expires (?:(\d+)s)?(?:(\d+)ms)?", listing)
    return None if found is None else int(found[1] or 0) + int(found[2] or 0) / 1000


def alive() -> bool:
    return any(expires_s(family) is not None for family in ("arp", "inet", "netdev"))
