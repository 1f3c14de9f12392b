"""Ways of adding, replacing and deleting many addresses on one NIC.

In: a NIC and VIPs. Out: for each way a function per change that makes all of it and returns the seconds it took. The kernel's own cost is
what a loop pays that sends requests encoded before and reads nothing of the answers but the acknowledgements' arrival.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from pyroute2.iproute.linux import IPRoute

from kvip.core.model import Address, Link, Vip, host_prefix
from kvip.kernel import codec
from kvip.kernel.batches import AddressOp, AddressSocket, vip_address

KINDS: tuple[codec.Kind, ...] = ("add", "replace", "delete")
SLICE = 100
"""Messages to a request, as in `AddressSocket`."""
LIFETIME_S = 600
_ANSWER = struct.Struct("=IHHIIi")
"""nlmsghdr, then of an NLMSG_ERROR the errno, negative."""


class Binder(Protocol):
    """One way."""

    def change(self, kind: codec.Kind) -> float:
        """Do it to all addresses; seconds. Raises where one was refused."""

    def close(self) -> None:
        """Give back what it uses."""


def vips(family: int, count: int) -> list[Vip]:
    """Different addresses of a family (4 or 6)."""
    if family == 4:
        return [Vip(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}") for number in range(1, count + 1)]
    return [Vip(f"2001:db8::{number:x}") for number in range(1, count + 1)]


def addresses(link: Link, names: Sequence[Vip]) -> list[Address]:
    """As kvip binds them."""
    return [vip_address(vip, link.index, valid_s=LIFETIME_S) for vip in names]


class Prebuilt:
    """Requests encoded before: the kernel's own cost. `readback`: with what kvip asks for to see what came of each change."""

    def __init__(self, link: Link, names: Sequence[Vip], *, readback: bool) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._socket.setsockopt(270, 10, 1)  # SOL_NETLINK, NETLINK_CAP_ACK: an acknowledgement does not quote the request
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        self._socket.settimeout(10)
        self._buffer = bytearray(65_536)
        self._asks = readback and ":" in names[0]
        self._requests = {kind: self._encode(kind, addresses(link, names), readback) for kind in KINDS}

    @staticmethod
    def _encode(kind: codec.Kind, targets: Sequence[Address], readback: bool) -> list[tuple[bytes, int]]:
        """(request, sequence number that its last answer carries), in slices."""
        parts: list[tuple[bytes, int]] = []
        sequence = 0
        each = 2 if readback and ":" in targets[0].ip else 1
        for start in range(0, len(targets), SLICE // each):
            request = b""
            for target in targets[start : start + SLICE // each]:
                sequence += 1
                request += codec.encode_change(kind, target, sequence=sequence, echo=readback and each == 1)
                if each == 2:
                    sequence += 1
                    request += codec.encode_get(target, sequence=sequence)
            parts.append((request, sequence))
        return parts

    def change(self, kind: codec.Kind) -> float:
        start = time.monotonic()
        for request, last in self._requests[kind]:
            self._socket.send(request)
            while not self._answered(last):
                pass
        return time.monotonic() - start

    def _answered(self, last: int) -> bool:
        """Read one datagram, which here is one answer; was it the last? A refusal raises."""
        self._socket.recv_into(self._buffer)
        _, kind, _, sequence, _, code = _ANSWER.unpack_from(self._buffer)
        if kind != codec.NLMSG_ERROR:
            # What an IPv6 request for an address is answered with; of IPv4 it is an echo, and the acknowledgement follows.
            return self._asks and sequence == last
        gone = self._asks and code == -errno.EADDRNOTAVAIL and sequence % 2 == 0
        if code and not gone:
            raise OSError(-code, f"request {sequence} of {last}: {os.strerror(-code)}")
        return bool(sequence == last)

    def close(self) -> None:
        self._socket.close()


class Codec:
    """`AddressSocket.apply`: encode, send, decode, match and read back."""

    def __init__(self, link: Link, names: Sequence[Vip]) -> None:
        self._socket = AddressSocket()
        self._targets = addresses(link, names)

    def change(self, kind: codec.Kind) -> float:
        start = time.monotonic()
        results = self._socket.apply([AddressOp(kind=kind, address=target) for target in self._targets])
        took_s = time.monotonic() - start
        wrong = [result for result in results if result.errno or (result.seen is None) != (kind == "delete")]
        if wrong:
            raise RuntimeError(f"{len(wrong)} of {len(results)}: {wrong[0]}")
        return took_s

    def close(self) -> None:
        self._socket.close()


class IpBatch:
    """`ip -batch`, the process included."""

    def __init__(self, link: Link, names: Sequence[Vip]) -> None:
        options = f"dev {link.name} valid_lft {LIFETIME_S} preferred_lft 0 noprefixroute"
        places = [f"{vip}/{host_prefix(vip)} {options}{' nodad' if ':' in vip else ''}" for vip in names]
        short = [f"{vip}/{host_prefix(vip)} dev {link.name}" for vip in names]
        self._input = {kind: "".join(f"address {kind} {place}\n" for place in (short if kind == "delete" else places)) for kind in KINDS}

    def change(self, kind: codec.Kind) -> float:
        start = time.monotonic()
        subprocess.run(["ip", "-batch", "-"], input=self._input[kind], text=True, check=True, capture_output=True, timeout=300)
        return time.monotonic() - start

    def close(self) -> None:
        pass


class Pyroute2:
    """`IPRoute.addr`, one by one."""

    def __init__(self, link: Link, names: Sequence[Vip]) -> None:
        self._route = IPRoute()
        self._targets = addresses(link, names)
        self._calls: dict[codec.Kind, Callable[[Address], object]] = {"add": self._add, "replace": self._replace, "delete": self._delete}

    def _add(self, target: Address) -> object:
        return self._route.addr("add", **self._words(target))

    def _replace(self, target: Address) -> object:
        return self._route.addr("replace", **self._words(target))

    def _delete(self, target: Address) -> object:
        return self._route.addr("del", index=target.index, address=target.ip, prefixlen=target.prefix_len)

    @staticmethod
    def _words(target: Address) -> dict[str, object]:
        return {
            "index": target.index,
            "address": target.ip,
            "prefixlen": target.prefix_len,
            "flags": target.flags,
            "proto": target.proto,
            "preferred_lft": 0,
            "valid_lft": LIFETIME_S,
        }

    def change(self, kind: codec.Kind) -> float:
        start = time.monotonic()
        for target in self._targets:
            self._calls[kind](target)
        return time.monotonic() - start

    def close(self) -> None:
        self._route.close()
