"""What goes over a wire: ARP frames and IPv6 neighbour discovery, decoded, with the kernel's receive time.

In: a namespace and a NIC. Out: `Sniffer`, which records `Frame`s in a thread of its own; `PacketTap`, the filtered packet
socket below it, which the prober shares; `decode`, the pure decoder. Times are seconds on CLOCK_BOOTTIME, as in `kvip.clock`.
`announcement` is what moves other hosts' caches unasked: gratuitous ARP (sender = target, RFC 5227 section 3) and
unsolicited neighbour advertisements (RFC 4861 section 7.2.6).

Must not: send anything, share code with kvip's frame builder (it is what the builder is checked against).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Literal

import msgspec

from lab.netns import LabError, NetNamespace

ETH_P_ALL, ETH_P_ARP, ETH_P_IPV6 = 0x0003, 0x0806, 0x86DD
ARP_REQUEST, ARP_REPLY = 1, 2
ND_SOLICIT, ND_ADVERT = 135, 136

# linux/if_packet.h, asm-generic/socket.h; not in the socket module of 3.11
_SOL_PACKET, _PACKET_STATISTICS, _PACKET_IGNORE_OUTGOING, _PACKET_OUTGOING = 263, 6, 23, 4
_SO_ATTACH_FILTER, _SO_TIMESTAMPNS, _SO_RCVBUFFORCE = 26, 35, 33
_MAX_FRAMES = 200_000


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One ARP or neighbour discovery frame. MACs as "02:00:00:00:00:01", addresses in canonical text."""

    at_s: float
    """CLOCK_BOOTTIME at which the kernel received it."""
    kind: Literal["arp", "na", "ns"]
    op: int
    """ARP: 1 request, 2 reply. Neighbour discovery: the ICMPv6 type, 135 or 136."""
    eth_src: str
    eth_dst: str
    sender_mac: str
    """ARP sender hardware address; the link-layer address option of ND, "" without one."""
    sender_ip: str
    """ARP sender address; the IPv6 source of ND."""
    target_ip: str
    target_mac: str = ""
    """ARP only."""
    solicited: bool = False
    override: bool = False
    """The S and O flags of an NA."""
    hop_limit: int = 255
    announcement: bool = False
    outgoing: bool = False
    """Sent by the machine that the sniffer is on."""
    raw: bytes = b""

    @property
    def claimed(self) -> str:
        """The address that the frame says `sender_mac` has; "" when it claims none (a probe or a question)."""
        if self.kind == "arp":
            return "" if self.sender_ip == "0.0.0.0" else self.sender_ip
        return self.target_ip if self.kind == "na" else ""


def decode(raw: bytes, *, at_s: float = 0.0, outgoing: bool = False) -> Frame | None:
    """The frame as ARP, NS or NA; None for anything else and for what is too short to be one."""
    if len(raw) < 42:
        return None
    ether_type = int.from_bytes(raw[12:14], "big")
    eth_dst, eth_src = raw[0:6].hex(":"), raw[6:12].hex(":")
    if ether_type == ETH_P_ARP and raw[14:20] == b"\x00\x01\x08\x00\x06\x04":
        sender_ip, target_ip = socket.inet_ntop(socket.AF_INET, raw[28:32]), socket.inet_ntop(socket.AF_INET, raw[38:42])
        return Frame(
            at_s=at_s, kind="arp", op=int.from_bytes(raw[20:22], "big"), eth_src=eth_src, eth_dst=eth_dst,
            sender_mac=raw[22:28].hex(":"), sender_ip=sender_ip, target_mac=raw[32:38].hex(":"), target_ip=target_ip,
            announcement=sender_ip == target_ip, outgoing=outgoing, raw=raw,
        )  # fmt: skip
    if ether_type != ETH_P_IPV6 or len(raw) < 78 or raw[20] != socket.IPPROTO_ICMPV6 or raw[54] not in (ND_SOLICIT, ND_ADVERT):
        return None
    advert = raw[54] == ND_ADVERT
    flags = raw[58] if advert else 0
    return Frame(
        at_s=at_s, kind="na" if advert else "ns", op=raw[54], eth_src=eth_src, eth_dst=eth_dst,
        sender_mac=_link_layer_option(raw[78:], 2 if advert else 1), sender_ip=socket.inet_ntop(socket.AF_INET6, raw[22:38]),
        target_ip=socket.inet_ntop(socket.AF_INET6, raw[62:78]), solicited=bool(flags & 0x40), override=bool(flags & 0x20),
        hop_limit=raw[21], announcement=advert and not flags & 0x40, outgoing=outgoing, raw=raw,
    )  # fmt: skip


def _link_layer_option(options: bytes, wanted: int) -> str:
    """The Ethernet address in ND option `wanted` (1 source, 2 target; RFC 4861 section 4.6.1), "" without one."""
    while len(options) >= 8 and options[1]:
        if options[0] == wanted:
            return options[2:8].hex(":")
        options = options[8 * options[1] :]
    return ""


def _filter_program(*, replies_only: bool) -> list[tuple[int, int, int, int]]:
    """Classic BPF (linux/filter.h: code, jt, jf, k): ARP and NS/NA, or ARP replies and NA; else drop."""
    load_half, load_byte, equal, ret = 0x28, 0x30, 0x15, 0x06
    return [
        (load_half, 0, 0, 12),
        (equal, 0, 2, ETH_P_ARP),
        (load_half, 0, 0, 20),
        (equal, 6, 7 if replies_only else 6, ARP_REPLY),
        (equal, 0, 6, ETH_P_IPV6),
        (load_byte, 0, 0, 20),
        (equal, 0, 4, socket.IPPROTO_ICMPV6),
        (load_byte, 0, 0, 54),
        (equal, 1, 0, ND_ADVERT),
        (equal, 0, 1, ND_ADVERT if replies_only else ND_SOLICIT),
        (ret, 0, 0, 0x40000),
        (ret, 0, 0, 0),
    ]


class PacketTap:
    """A packet socket on a NIC of a namespace that receives ARP and ND frames only."""

    def __init__(self, space: NetNamespace, nic: str, *, replies_only: bool = False) -> None:
        self.socket = space.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            program = b"".join(struct.pack("=HBBI", *line) for line in _filter_program(replies_only=replies_only))
            buffer = ctypes.create_string_buffer(program)
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program) // 8, ctypes.addressof(buffer)))
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            if replies_only:
                self.socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            for option in (_SO_RCVBUFFORCE, socket.SO_RCVBUF):
                with contextlib.suppress(PermissionError):
                    self.socket.setsockopt(socket.SOL_SOCKET, option, 8 << 20)
                    break
            self.socket.bind((nic, ETH_P_ALL))  # bound last: protocol 0 receives nothing, so no frame comes unfiltered
        except OSError as error:
            self.socket.close()
            raise LabError(f"packet socket on {nic} of {space.name}: {error}") from error
        self.socket.setblocking(False)
        self.mac: bytes = self.socket.getsockname()[4]
        self.nic_errors = 0
        """Receive errors because the NIC went down (ENETDOWN); frames come again when it is up."""

    def receive(self, limit: int = 512) -> list[tuple[float, bytes, bool]]:
        """Frames that are there now: (CLOCK_BOOTTIME of receipt, bytes, sent by this machine)."""
        frames: list[tuple[float, bytes, bool]] = []
        wall_to_boot_s = time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_REALTIME)
        while len(frames) < limit:
            try:
                raw, ancillary, _, address = self.socket.recvmsg(2048, 64)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENETDOWN:
                    raise
                self.nic_errors += 1
                continue
            at_s = time.clock_gettime(time.CLOCK_BOOTTIME)
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
                    seconds, nanoseconds = struct.unpack("qq", data)
                    at_s = seconds + nanoseconds * 1e-9 + wall_to_boot_s
            frames.append((at_s, raw, address[2] == _PACKET_OUTGOING))
        return frames

    def drops(self) -> int:
        """Frames lost since the last call because the socket's buffer was full."""
        return int(struct.unpack("II", self.socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1])


class Worker:
    """A thread that serves one file descriptor until stopped, and keeps the exception that ended it."""

    def __init__(self, name: str) -> None:
        self.changed = threading.Condition()
        self._failure: BaseException | None = None
        self._stopping = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def _body(self) -> None:
        raise NotImplementedError

    def _main(self) -> None:
        try:
            self._body()
        except BaseException as failure:  # raised again in whoever waits or reads
            self._failure = failure
        with self.changed:
            self.changed.notify_all()

    def _poll(self, fd: int, timeout_s: float | None) -> None:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        poll.poll(None if timeout_s is None else max(timeout_s, 0.0) * 1000)

    def _end(self) -> None:
        if not self._stopping:
            self._stopping = True
            os.eventfd_write(self._wake, 1)
            if self._thread.is_alive():
                self._thread.join(5.0)
            os.close(self._wake)

    def check(self) -> None:
        """`LabError` when the thread ended by itself."""
        if self._failure is not None:
            raise LabError(f"{self._thread.name} ended: {self._failure!r}") from self._failure


class Sniffer(Worker):
    """Records ARP and ND frames on a NIC; a context manager. With `vips`, only frames about these addresses.

    Keeps the last 200,000 frames; `lost` counts what the socket dropped.
    """

    def __init__(self, ns: NetNamespace, nic: str, *, vips: Iterable[str] | None = None) -> None:
        super().__init__(f"sniffer {ns.name} {nic}")
        self._vips = None if vips is None else frozenset(vips)
        self._tap = PacketTap(ns, nic)
        self._frames: list[Frame] = []
        self.lost = 0

    def __enter__(self) -> Sniffer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop recording; what was recorded stays readable. Idempotent."""
        self._end()
        if self._tap.socket.fileno() >= 0:
            self.lost += self._tap.drops()
            self._tap.socket.close()

    def _body(self) -> None:
        while not self._stopping:
            self._poll(self._tap.socket.fileno(), None)
            found = [frame for at_s, raw, outgoing in self._tap.receive() if (frame := decode(raw, at_s=at_s, outgoing=outgoing))]
            if self._vips is not None:
                found = [frame for frame in found if frame.claimed in self._vips or frame.target_ip in self._vips]
            with self.changed:
                self._frames += found
                if len(self._frames) > _MAX_FRAMES:
                    del self._frames[: -_MAX_FRAMES // 2]
                self.changed.notify_all()

    @property
    def frames(self) -> list[Frame]:
        """A copy of what was recorded, in order."""
        self.check()
        with self.changed:
            return list(self._frames)

    def clear(self) -> None:
        """Forget what was recorded."""
        with self.changed:
            self._frames.clear()

    def wait_for(self, predicate: Callable[[Frame], bool], timeout_s: float) -> Frame | None:
        """The first recorded frame that satisfies `predicate`, already there or still to come; None after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        seen: Frame | None = None  # the newest frame looked at already
        with self.changed:
            while True:
                start = 0
                if seen is not None:
                    start = next((i + 1 for i in range(len(self._frames) - 1, -1, -1) if self._frames[i] is seen), 0)
                for frame in self._frames[start:]:
                    if predicate(frame):
                        return frame
                    seen = frame
                self.check()
                if not self.changed.wait(max(deadline - time.monotonic(), 0.0)) and time.monotonic() >= deadline:
                    return None

    def first_after(self, at_s: float, vip: str) -> Frame | None:
        """The first recorded announcement of `vip` received at or after `at_s` (CLOCK_BOOTTIME)."""
        return next((frame for frame in self.frames if frame.announcement and frame.claimed == vip and frame.at_s >= at_s), None)
