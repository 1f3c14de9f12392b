"""Sends announcements: bursts after a take-over, repeats, refreshes, at the pace of each NIC.

Input: which VIPs to announce on which NIC, and `permit`. Output: frames, and a callback when a VIP's first frame of
a burst left. It must not decide who holds a VIP: it asks right before each batch and sends nothing without a permit.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
from collections.abc import Callable, Mapping

from kvip import metrics
from kvip.clock import Clock
from kvip.core.model import IfIndex, Link, Vip, is_ipv6
from kvip.core.schedule import BURST_OFFSETS_S, ROUND_GAP_S, Priority, TokenBucket, even_offsets_s, priority_of, round_due
from kvip.daemon.supervision import Heartbeats
from kvip.daemon.waking import woken
from kvip.errors import AnnounceError
from kvip.kernel.packet import PacketSocket, build_round

log = logging.getLogger(__name__)

BATCH_FRAMES = 64
RETRY_DELAY_S = 0.01
IDLE_BEAT_S = 1.0


class Announcement:
    """One VIP's announcement: where, since when, and which round comes next; `number` rounds have left since it was started."""

    __slots__ = ("due", "fresh", "index", "jitter", "last_at", "number", "offsets_s", "reported", "started_at", "vip")

    def __init__(self, vip: Vip, index: IfIndex, *, started_at: float, offsets_s: tuple[float, ...] = BURST_OFFSETS_S) -> None:
        self.vip = vip
        self.index = index
        self.started_at = started_at
        self.offsets_s = offsets_s
        self.number = 0
        self.last_at: float | None = None
        self.due = started_at
        self.jitter = random.random()
        self.fresh = True
        """Nothing of the VIP has left before, so that its first round goes before all others."""
        self.reported = False


class Announcer:
    """The only sender of frames. `run` is its loop; the other methods are called from the event loop and never wait."""

    def __init__(
        self,
        *,
        clock: Clock,
        heartbeats: Heartbeats,
        permit: Callable[[Vip], float | None],
        on_announced: Callable[[Vip, float], None],
        refresh_s: float,
        rate_pps: float,
        burst: int,
        links: Mapping[IfIndex, Link],
        forwards: Callable[[str], bool],
        rush: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`links`: the NICs as they are now; a MAC is looked up when a frame is built, never kept. `forwards`: is the node an IPv6 router
        on the NIC of this name? Its advertisements must say so, as the kernel's do (RFC 4861 7.2.6, 7.2.4). `rush` hears how many
        VIPs wait for their first frame."""
        self._links = links
        self._forwards = forwards
        self._rush = rush
        self._clock = clock
        self._heartbeats = heartbeats
        self._permit = permit
        self._on_announced = on_announced
        self._refresh_s = refresh_s
        self._rate_pps = rate_pps
        self._burst = burst
        self._active: dict[Vip, Announcement] = {}
        self._due: list[tuple[float, int, Announcement]] = []
        self._ready: dict[IfIndex, tuple[dict[Vip, Announcement], ...]] = {}
        self._sockets: dict[IfIndex, PacketSocket] = {}
        self._buckets: dict[IfIndex, TokenBucket] = {}
        self._count = 0
        self._wake = asyncio.Event()
        self._broken: set[IfIndex] = set()

    def start(self, vip: Vip, link: Link) -> None:
        """Begin a burst for a VIP that was bound just now; the first round is due at once."""
        item = Announcement(vip, link.index, started_at=self._clock.now())
        self._active[vip] = item
        self._queue(item)
        self._wake.set()

    def again(self, vip: Vip, *, rounds: int) -> Announcement | None:
        """Announce anew, in a burst of this many rounds, a VIP that is announced already; None = it is not, from here.

        What is more urgent goes first, and a burst that is under way loses no round by it."""
        before = self._active.get(vip)
        if before is None:
            return None
        left = len(before.offsets_s) - before.number
        item = Announcement(vip, before.index, started_at=self._clock.now(), offsets_s=even_offsets_s(max(rounds, left)))
        item.fresh = before.fresh and before.number == 0
        item.reported, item.last_at = before.reported, before.last_at
        self._active[vip] = item
        self._queue(item)
        self._wake.set()
        return item

    def under_way(self, item: Announcement) -> bool:
        """Is this still the VIP's announcement? Not when it was stopped, or began anew."""
        return self._active.get(item.vip) is item

    def stop(self, vip: Vip) -> None:
        """No further frame for this VIP."""
        self._active.pop(vip, None)

    def stop_all(self) -> None:
        """No further frame for any VIP."""
        self._active.clear()
        self._due.clear()
        self._ready.clear()

    def announces(self, vip: Vip) -> bool:
        """True between `start` and `stop`."""
        return vip in self._active

    def sent(self, vip: Vip) -> tuple[int, float | None]:
        """How many rounds left since the last burst began, and when the last one did; None = none yet."""
        item = self._active.get(vip)
        return (item.number, item.last_at) if item is not None else (0, None)

    def restart_on(self, link: Link) -> None:
        """The NIC came up, or its MAC changed: announce everything on it again."""
        self._close(link.index)
        for vip, item in tuple(self._active.items()):
            if item.index == link.index:
                self.start(vip, link)

    async def run(self) -> None:
        """Send what is due, for ever."""
        try:
            while True:
                self._heartbeats.beat("announcer")
                self._wake.clear()
                pause_s = self._turn()
                if pause_s <= 0:
                    await asyncio.sleep(0)
                    continue
                await woken(self._wake, within_s=min(pause_s, IDLE_BEAT_S))
        finally:
            for index in tuple(self._sockets):
                self._close(index)

    # -- one turn ----------------------------------------------------------------------------------------------------

    def _push(self, item: Announcement, due: float) -> None:
        self._count += 1
        item.due = due
        heapq.heappush(self._due, (due, self._count, item))

    def _queue(self, item: Announcement) -> None:
        """Its next round is due."""
        queues = self._ready.get(item.index)
        if queues is None:
            queues = self._ready[item.index] = tuple({} for _ in Priority)
        queues[priority_of(item.number, rounds=len(item.offsets_s), fresh=item.fresh)][item.vip] = item

    def _turn(self) -> float:
        """Move what is due to the queues, send at most one batch per NIC; returns seconds until the next turn."""
        now = self._clock.now()
        while self._due and self._due[0][0] <= now:
            item = heapq.heappop(self._due)[2]
            if self._active.get(item.vip) is item:
                self._queue(item)
        pause_s = self._due[0][0] - now if self._due else IDLE_BEAT_S
        waiting = 0
        self._rush(sum(len(queues[Priority.TAKE_OVER]) for queues in self._ready.values()))
        for index, queues in tuple(self._ready.items()):
            pause_s = min(pause_s, self._send_some(index, queues, now))
            waiting += sum(len(queue) for queue in queues)
        metrics.frames_waiting.set(waiting)
        return pause_s

    def _send_some(self, index: IfIndex, queues: tuple[dict[Vip, Announcement], ...], now: float) -> float:
        priority = next((p for p in Priority if queues[p]), None)
        if priority is None:
            return IDLE_BEAT_S
        queue = queues[priority]
        bucket = self._buckets.get(index)
        if bucket is None:
            bucket = self._buckets[index] = TokenBucket(rate_pps=self._rate_pps, burst=self._burst, now=now)
        tokens = min(bucket.available(now), BATCH_FRAMES)
        chosen: list[Announcement] = []
        frames = 0
        stopped: list[Vip] = []
        for vip, item in queue.items():
            if self._active.get(vip) is not item:
                stopped.append(vip)
                continue
            cost = 1 if is_ipv6(vip) else 2
            if frames + cost > tokens:
                break
            chosen.append(item)
            frames += cost
        for vip in stopped:
            del queue[vip]
        if not chosen:
            return bucket.wait_s(2) + 0.0001 if queue else 0.0
        return self._send(index, queue, chosen, bucket, priority)

    def _send(
        self, index: IfIndex, queue: dict[Vip, Announcement], chosen: list[Announcement], bucket: TokenBucket, priority: Priority
    ) -> float:
        link = self._links.get(index)
        if link is None:
            self._close(index)
            return IDLE_BEAT_S
        packet_socket = self._socket(link)
        if packet_socket is None:
            return IDLE_BEAT_S
        router = any(is_ipv6(item.vip) for item in chosen) and self._forwards(link.name)
        batches = build_round(link.mac, [item.vip for item in chosen], router=router)
        ordered = [[i for i in chosen if not is_ipv6(i.vip)], [i for i in chosen if is_ipv6(i.vip)]]
        for (frames, frame_len), items in zip(batches, [group for group in ordered if group], strict=True):
            permitted = [item for item in items if self._permit(item.vip) is not None]
            if len(permitted) != len(items):
                for item in items:
                    if item not in permitted:
                        self.stop(item.vip)
                        queue.pop(item.vip, None)
                return 0.0
            try:
                sent = packet_socket.send(frames, frame_len)
            except OSError as error:
                metrics.frame_errors_total.inc()
                if index not in self._broken:
                    self._broken.add(index)
                    log.warning("the NIC refuses frames; trying again", extra={"nic": link.name, "reason": str(error)})
                self._close(index)
                return IDLE_BEAT_S
            if sent and index in self._broken:
                self._broken.discard(index)
                log.info("the NIC takes frames again", extra={"nic": link.name})
            self._account(queue, items, sent, len(frames) // frame_len // len(items), bucket, priority)
            if sent < len(frames) // frame_len:
                return RETRY_DELAY_S
        return 0.0

    def _account(
        self, queue: dict[Vip, Announcement], items: list[Announcement], sent: int, per_vip: int, bucket: TokenBucket, priority: Priority
    ) -> None:
        bucket.spend(sent)
        now = self._clock.now()
        if sent >= per_vip:
            metrics.frame_delay_seconds.observe(now - min(item.due for item in items[: sent // per_vip]))
        for item in items[: sent // per_vip]:
            queue.pop(item.vip, None)
            item.number += 1
            item.last_at = now
            due = round_due(item.started_at, item.number, refresh_s=self._refresh_s, jitter=item.jitter, offsets_s=item.offsets_s)
            if due is not None:
                late = due < now and item.number < len(item.offsets_s)
                self._push(item, now + ROUND_GAP_S if late else max(due, now))
            if not item.reported:
                item.reported = True
                self._on_announced(item.vip, now)
        if sent:
            metrics.frames_total.labels("ipv4" if per_vip == 2 else "ipv6", priority.name.lower()).inc(sent)

    def _socket(self, link: Link) -> PacketSocket | None:
        packet_socket = self._sockets.get(link.index)
        if packet_socket is None:
            try:
                packet_socket = self._sockets[link.index] = PacketSocket(link)
            except AnnounceError as error:
                metrics.frame_errors_total.inc()
                if link.index not in self._broken:
                    self._broken.add(link.index)
                    log.warning("no packet socket; trying again", extra={"nic": link.name, "reason": str(error)})
                return None
        return packet_socket

    def _close(self, index: IfIndex) -> None:
        packet_socket = self._sockets.pop(index, None)
        if packet_socket is not None:
            packet_socket.close()
