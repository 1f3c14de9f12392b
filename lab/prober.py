"""Who answers for a VIP right now: asks over and over, and keeps what was answered.

In: a namespace, a NIC and addresses. Out: `Prober`, which sends an ARP request (broadcast) or a neighbour solicitation (to the
solicited-node group) per VIP and round, and the `ProbeReport` of each VIP. Times are seconds on CLOCK_BOOTTIME. An answer is an
ARP reply or an NA sent to the prober's own MAC; announcements are not answers. Answers belong to the round whose
request was the last one before them, by the kernel's receive time.

Must not: ask from an address that is probed, or conclude silence from rounds that were not sent. Note that the answers also
refresh the neighbour table of the namespace that it runs in.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
import time
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple

import msgspec

from lab.lan import CLIENT_IP, CLIENT_IP6
from lab.netns import LabError, NetNamespace
from lab.sniffer import ARP_REQUEST, ETH_P_ARP, ETH_P_IPV6, ND_SOLICIT, Frame, PacketTap, Worker, decode

_MAX_ANSWERS = 500_000
"""Answers kept over all VIPs; reports are running totals and do not depend on it."""


class Answer(NamedTuple):
    """One answer: when it was received (CLOCK_BOOTTIME) and the MAC that it named."""

    at_s: float
    mac: str


class ProbeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was observed for one VIP since start or `clear`."""

    vip: str
    observed_s: float
    """Length of the interval, up to the end of the last complete round."""
    rounds: int
    """Complete rounds: requests sent."""
    two_answers_s: float
    """Total length of rounds in which two or more MACs answered the same request."""
    longest_silence_s: float
    """Longest time without an answer; the edges of the interval count as answers, so an outage at either end is seen."""
    first_answer: Answer | None
    last_answer: Answer | None
    switches: int
    """How often an answer came from another MAC than the one before."""
    macs: frozenset[str]
    """Everyone who answered."""


class _Round:
    """One request and who answered it."""

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s
        self.macs: set[str] = set()
        self.duration_s: float | None = None
        """None until the next request is sent."""


class _Track:
    """The running totals of one VIP."""

    def __init__(self, vip: str, request: bytes, *, at_s: float, keep: int) -> None:
        self.vip = vip
        self.request = request
        self.answers: deque[Answer] = deque(maxlen=keep)
        self.since_s = self.seen_until_s = at_s
        self.rounds = self.switches = 0
        self.two_answers_s = self.longest_silence_s = 0.0
        self.first: Answer | None = None
        self.last: Answer | None = None
        self.macs: set[str] = set()
        self._open: _Round | None = None
        self._closed: _Round | None = None

    def begin(self, at_s: float) -> None:
        """A request is about to leave; the round before is over."""
        self.end(at_s)
        self._open = _Round(at_s)

    def end(self, at_s: float) -> None:
        """Close the current round, if one is open."""
        if self._open is not None:
            self._open.duration_s = at_s - self._open.at_s
            self.rounds += 1
            self.seen_until_s = at_s
            if len(self._open.macs) > 1:
                self.two_answers_s += self._open.duration_s
            self._closed, self._open = self._open, None

    def void(self) -> None:
        """The request did not leave: its round never was."""
        self._open = None

    def note(self, answer: Answer) -> None:
        """An answer was received."""
        if answer.at_s < self.since_s:
            return
        self.longest_silence_s = max(self.longest_silence_s, answer.at_s - (self.last.at_s if self.last else self.since_s))
        self.switches += self.last is not None and self.last.mac != answer.mac
        self.first = self.first or answer
        self.last = answer
        self.macs.add(answer.mac)
        self.answers.append(answer)
        asked = self._open if self._open is not None and answer.at_s >= self._open.at_s else self._closed
        if asked is not None:
            before = len(asked.macs)
            asked.macs.add(answer.mac)
            # Received before the next request left, read after: the round is closed already, its total is made good here.
            if asked.duration_s is not None and before == 1 and len(asked.macs) == 2:
                self.two_answers_s += asked.duration_s

    def silent_s(self) -> float:
        """Time without an answer at the end of the last complete round."""
        return max(self.seen_until_s - (self.last.at_s if self.last else self.since_s), 0.0)

    def report(self) -> ProbeReport:
        return ProbeReport(
            vip=self.vip,
            observed_s=self.seen_until_s - self.since_s,
            rounds=self.rounds,
            two_answers_s=self.two_answers_s,
            longest_silence_s=max(self.longest_silence_s, self.silent_s()),
            first_answer=self.first,
            last_answer=self.last,
            switches=self.switches,
            macs=frozenset(self.macs),
        )


class Prober(Worker):
    """Asks for each VIP every `interval_s`; a context manager with a thread of its own.

    Keep `len(vips) / interval_s` below about 5,000 requests/s; beyond that rounds take longer than the interval, which
    coarsens the report but does not falsify it.
    """

    def __init__(
        self, ns: NetNamespace, nic: str, vips: Iterable[str], *,
        interval_s: float = 0.02, source_ip: str = CLIENT_IP, source_ip6: str = CLIENT_IP6,
    ) -> None:  # fmt: skip
        super().__init__(f"prober {ns.name} {nic}")
        self._interval_s = interval_s
        self.unsent = 0
        """Requests that the NIC did not take; their rounds are void."""
        self._vips = tuple(dict.fromkeys(str(ipaddress.ip_address(vip)) for vip in vips))
        if {source_ip, source_ip6} & set(self._vips):
            raise LabError("the prober cannot ask for the address that it asks from")
        self._sources = frozenset((source_ip, source_ip6))
        self._tap = PacketTap(ns, nic, replies_only=True)
        self._mac = self._tap.mac.hex(":")
        self._requests = {
            vip: probe_request(vip, mac=self._tap.mac, source_ip=source_ip6 if ":" in vip else source_ip) for vip in self._vips
        }
        self._tracks: dict[str, _Track] = {}
        self.clear()

    def __enter__(self) -> Prober:
        self.clear()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop asking; what was seen stays readable. Idempotent."""
        self._end()
        self._tap.socket.close()

    def clear(self) -> None:
        """Start the observed interval anew, for every VIP."""
        at_s, keep = time.clock_gettime(time.CLOCK_BOOTTIME), max(_MAX_ANSWERS // max(len(self._vips), 1), 100)
        with self.changed:
            self._tracks = {vip: _Track(vip, request, at_s=at_s, keep=keep) for vip, request in self._requests.items()}

    def _body(self) -> None:
        due_s = time.monotonic()
        while not self._stopping:
            self._poll(self._tap.socket.fileno(), due_s - time.monotonic())
            answers = self._read()
            with self.changed:
                self._note(answers)
                if time.monotonic() >= due_s:
                    self._note(self._read())  # what came for the round that ends here
                    for track in self._tracks.values():
                        self._ask(track)
                    due_s = max(due_s + self._interval_s, time.monotonic())
                self.changed.notify_all()

    def _ask(self, track: _Track) -> None:
        track.begin(time.clock_gettime(time.CLOCK_BOOTTIME))
        try:
            self._tap.socket.send(track.request)
        except OSError as error:
            if error.errno not in (errno.ENETDOWN, errno.ENOBUFS, errno.EAGAIN):
                raise
            track.void()
            self.unsent += 1

    def _read(self) -> list[Frame]:
        return [frame for at_s, raw, _ in self._tap.receive() if (frame := decode(raw, at_s=at_s)) is not None]

    def _note(self, frames: list[Frame]) -> None:
        for frame in frames:
            track = self._tracks.get(frame.claimed)
            to_us = frame.target_ip in self._sources if frame.kind == "arp" else frame.solicited
            if track is not None and to_us and frame.eth_dst == self._mac:
                track.note(Answer(frame.at_s, frame.sender_mac or frame.eth_src))

    def _track(self, vip: str) -> _Track:
        self.check()
        return self._tracks[vip]

    def answers(self, vip: str) -> list[Answer]:
        """The answers since start or `clear`, oldest first (the newest 500,000 over all VIPs)."""
        with self.changed:
            return list(self._track(vip).answers)

    def holders_now(self, vip: str, *, window_s: float = 0.1) -> set[str]:
        """The MACs that answered in the last `window_s` before the end of the last complete round."""
        with self.changed:
            track = self._track(vip)
            return _since(track.answers, track.seen_until_s - window_s)

    def report(self, vip: str) -> ProbeReport:
        """What was observed since start or `clear`."""
        with self.changed:
            return self._track(vip).report()

    def wait_answer(self, vip: str, mac: str | None = None, *, timeout_s: float = 5.0) -> Answer | None:
        """The first answer received after this call, from `mac` if given; None after `timeout_s`."""
        asked_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        deadline = time.monotonic() + timeout_s
        with self.changed:
            while True:
                fresh: Answer | None = None
                for answer in reversed(self._track(vip).answers):
                    if answer.at_s < asked_s:
                        break
                    fresh = answer if mac in (None, answer.mac) else fresh
                if fresh is not None:
                    return fresh
                if not self.changed.wait(max(deadline - time.monotonic(), 0.0)) and time.monotonic() >= deadline:
                    return None

    def wait_silent(self, vip: str, *, for_s: float = 0.3, timeout_s: float = 5.0) -> bool:
        """True once complete rounds over `for_s` went unanswered, counting those before this call; False after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        with self.changed:
            while self._track(vip).silent_s() < for_s:
                if not self.changed.wait(max(deadline - time.monotonic(), 0.0)) and time.monotonic() >= deadline:
                    return False
            return True


def _since(answers: deque[Answer], at_s: float) -> set[str]:
    macs: set[str] = set()
    for answer in reversed(answers):
        if answer.at_s < at_s:
            break
        macs.add(answer.mac)
    return macs


def probe_request(vip: str, *, mac: bytes, source_ip: str) -> bytes:
    """The frame that asks for `vip`: a broadcast ARP request, or an NS to the solicited-node group (RFC 4861 section 4.3)."""
    if ":" not in vip:
        arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, ARP_REQUEST) + mac + socket.inet_aton(source_ip) + bytes(6) + socket.inet_aton(vip)
        return b"\xff" * 6 + mac + struct.pack("!H", ETH_P_ARP) + arp + bytes(18)
    target, source = socket.inet_pton(socket.AF_INET6, vip), socket.inet_pton(socket.AF_INET6, source_ip)
    group = socket.inet_pton(socket.AF_INET6, "ff02::1:ff00:0")[:13] + target[13:]
    body = struct.pack("!BBHI", ND_SOLICIT, 0, 0, 0) + target + b"\x01\x01" + mac
    checksum = _checksum(source + group + struct.pack("!II", len(body), socket.IPPROTO_ICMPV6) + body)
    body = body[:2] + struct.pack("!H", checksum) + body[4:]
    header = struct.pack("!IHBB", 0x60000000, len(body), socket.IPPROTO_ICMPV6, 255) + source + group
    return b"\x33\x33" + group[12:] + mac + struct.pack("!H", ETH_P_IPV6) + header + body


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
