"""Ways of adding, replacing and deleting many addresses on one NIC.

In: a NIC and VIPs. Out: for each way a function per change that makes all of it and returns the seconds it took. The kernel's own cost is
what a C loop pays that sends requests encoded before and makes nothing of the answers but the end.
"""

from __future__ import annotations

import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from pyroute2.iproute.linux import IPRoute

from kvip.core.model import Address, Link, Vip, host_prefix
from kvip.kernel import codec
from kvip.kernel.answers import encode_operation
from kvip.kernel.batches import AddressOp, AddressSocket, vip_address

KINDS: tuple[codec.Kind, ...] = ("add", "replace", "delete")
SLICE = 100
"""Addresses to a request, as in `AddressSocket`."""
LIFETIME_S = 600
SLICE_HEAD = struct.Struct("=II")
"""Bytes of a slice, and the sequence number of its last acknowledgement: see benchmarks/changes.c."""


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


def send_encoded(program: Path, requests: bytes, *, refused: int = 0) -> float:
    """Run benchmarks/changes.c; seconds. Raises RuntimeError where another number of requests was refused than should be."""
    done = subprocess.run([program], input=requests, capture_output=True, check=True, timeout=300)
    took_s, found = done.stdout.split()
    if int(found) != refused:
        raise RuntimeError(f"{int(found)} requests refused, {refused} expected")
    return float(took_s)


class Loop:
    """benchmarks/changes.c, with requests encoded before: the kernel's own cost. Acknowledged one by one, or (`readback`) as kvip asks."""

    def __init__(self, program: Path, link: Link, names: Sequence[Vip], *, readback: bool) -> None:
        self._program = program
        targets = addresses(link, names)
        self._requests = {kind: b"".join(_as_kvip(kind, targets) if readback else _acknowledged(kind, targets)) for kind in KINDS}
        self._gone = len(names) if readback and ":" in names[0] else 0
        """Questions for a deleted IPv6 address, each answered by an error."""

    def change(self, kind: codec.Kind) -> float:
        return send_encoded(self._program, self._requests[kind], refused=self._gone if kind == "delete" else 0)

    def close(self) -> None:
        pass


def _acknowledged(kind: codec.Kind, targets: Sequence[Address]) -> Iterator[bytes]:
    for start in range(0, len(targets), SLICE):
        part = targets[start : start + SLICE]
        request = b"".join(codec.encode_change(kind, target, sequence=number + 1) for number, target in enumerate(part))
        yield SLICE_HEAD.pack(len(request), len(part)) + request


def _as_kvip(kind: codec.Kind, targets: Sequence[Address]) -> Iterator[bytes]:
    for start in range(0, len(targets), SLICE):
        part = [AddressOp(kind=kind, address=target) for target in targets[start : start + SLICE]]
        last = 2 * len(part) + 1
        request = b"".join(encode_operation(one, 2 * number + 1) for number, one in enumerate(part)) + codec.encode_end(sequence=last)
        yield SLICE_HEAD.pack(len(request), last) + request


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
