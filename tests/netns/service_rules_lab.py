"""A node with service security on a LAN, and questions that others ask it."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from kvip.core.model import ServiceKey, Uid, Vip
from kvip.core.service_rules import Opening, Owner, Restriction, compile_rules
from kvip.kernel.service_rules import ServiceRules
from lab.lan import CLIENT, Lan
from lab.netns import NetNamespace
from tests.netns.switch_lab import VIP4, VIP6

OWNER = Owner(Uid("5b0cbd02-54a8-4b1c-8d77-1a2b3c4d5e6f"), ServiceKey("default/web"))
DROPPED_S = 0.3
"""A packet that is dropped goes unanswered for so long; one that arrives is answered within a millisecond."""


def let(*ports: tuple[str, int]) -> Restriction:
    """Only these ports."""
    return Restriction(owners=(OWNER,), openings=tuple(Opening(protocol, port, OWNER) for protocol, port in ports))


class Guarded:
    """n1 of a LAN holds both VIPs; `restrict` says what reaches them. It has a pod, and the client stands on the LAN."""

    def __init__(self, lan: Lan, stack: ExitStack) -> None:
        self.lan, self.space, self.client = lan, lan.ns("n1"), lan.ns(CLIENT)
        self.space.ip_batch([f"addr add {VIP4}/32 dev eth0", f"addr add {VIP6}/128 dev eth0 nodad"])
        self.rules = stack.enter_context(closing(self.space.call(ServiceRules)))
        self.pod = stack.enter_context(NetNamespace.create("pod"))
        self.space.sysctl({"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"})
        self.space.ip_batch(
            [
                f"link add cni0 type veth peer name eth0 netns {self.pod.path}",
                "addr add 10.20.0.1/24 dev cni0",
                "addr add fd00:20::1/64 dev cni0 nodad",
                "link set cni0 up",
            ]
        )
        self.pod.ip_batch(
            [
                "link set lo up",
                "addr add 10.20.0.2/24 dev eth0",
                "addr add fd00:20::2/64 dev eth0 nodad",
                "link set eth0 up",
                "route add default via 10.20.0.1",
                "route add ::/0 via fd00:20::1",
            ]
        )

    def restrict(self, restrictions: dict[Vip, Restriction], nics: tuple[str, ...] = ("eth0",)) -> None:
        rules = compile_rules(restrictions, nics=nics)
        self.space.call(lambda: asyncio.run(self.rules.apply(rules)))

    def intact(self) -> bool:
        return self.space.call(self.rules.intact)

    def listing(self) -> str:
        return self.space.run("nft", "list", "ruleset").stdout

    def nft(self, script: str) -> None:
        self.space.run("nft", "-f", "-", input_text=script)


def tcp(space: NetNamespace, target: str, port: int, *, source: str = "") -> bool:
    """Does a connection come to the machine with that address: accepted, or refused by it?"""
    with space.socket(_family(target), socket.SOCK_STREAM) as connection:
        connection.settimeout(DROPPED_S)
        if source:
            connection.bind((source, 0))
        try:
            connection.connect((target, port))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return True


@contextmanager
def served(space: NetNamespace, address: str, port: int) -> Iterator[None]:
    """Something accepts connections there."""
    with space.socket(_family(address), socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, port))
        listening.listen()
        yield


def udp(sender: NetNamespace, receiver: NetNamespace, target: str, port: int, *, size: int = 5) -> bool:
    """Does a datagram of that size arrive whole?"""
    with receiver.socket(_family(target), socket.SOCK_DGRAM) as there, sender.socket(_family(target), socket.SOCK_DGRAM) as here:
        there.bind((target, port))
        there.settimeout(DROPPED_S)
        here.sendto(bytes(size), (target, port))
        try:
            return len(there.recv(65_535)) == size
        except TimeoutError:
            return False


def icmp(sender: NetNamespace, receiver: NetNamespace, target: str, kind: int, code: int = 0) -> bool:
    """Does an ICMP message of that type come to the receiver's kernel?"""
    protocol = socket.IPPROTO_ICMPV6 if ":" in target else socket.IPPROTO_ICMP
    token = struct.pack("!d", time.monotonic())
    # An ICMP error quotes the packet that it is about; its checksum is the kernel's work for ICMPv6 only.
    body = struct.pack("!BBHHH", kind, code, 0, 0, 1280) + _quoted(target) + token
    if ":" not in target:
        body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    with (
        receiver.socket(_family(target), socket.SOCK_RAW, protocol) as there,
        sender.socket(_family(target), socket.SOCK_RAW, protocol) as here,
    ):
        here.sendto(body, (target, 0))
        deadline = time.monotonic() + DROPPED_S
        while (left := deadline - time.monotonic()) > 0:
            there.settimeout(left)
            try:
                if there.recv(2048).endswith(token):
                    return True
            except TimeoutError:
                break
    return False


def solicited(client: NetNamespace, vip: str) -> bool:
    """Is a unicast neighbour solicitation, as the kernel sends it to confirm a neighbour (RFC 4861, 7.3.3), answered?"""
    with client.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
        sock.sendto(struct.pack("!BBHI", 135, 0, 0, 0) + socket.inet_pton(socket.AF_INET6, vip), (vip, 0))
        deadline = time.monotonic() + DROPPED_S
        while (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                data = sock.recv(2048)
            except TimeoutError:
                break
            if data[0] == 136 and data[8:24] == socket.inet_pton(socket.AF_INET6, vip) and data[4] & 0x40:
                return True
    return False


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _quoted(target: str) -> bytes:
    if ":" in target:
        return struct.pack("!IHBB", 6 << 28, 20, socket.IPPROTO_TCP, 64) + socket.inet_pton(socket.AF_INET6, target) * 2 + bytes(20)
    address = socket.inet_aton(target)
    return struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, socket.IPPROTO_TCP, 0) + address * 2 + bytes(20)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
