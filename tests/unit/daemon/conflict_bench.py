"""A segment with foreign hosts for tests of the conflict watch: a fake listener, and an event loop whose time is the hand-driven clock."""

import asyncio

from kvip.clock import ManualClock
from kvip.core.conflict import Claim
from kvip.core.model import IfIndex, Link, Vip, packed
from kvip.daemon.conflicts import ConflictWatch
from kvip.daemon.supervision import Heartbeats
from tests.unit.clock_loop import ClockLoop

ETH0 = Link(index=IfIndex(2), name="eth0", mac=b"\2\0\0\0\0\1", up=True, carrier=True)
ETH1 = Link(index=IfIndex(3), name="eth1", mac=b"\2\0\0\0\0\2", up=True, carrier=True)
VIP, OTHER, VIP6 = Vip("192.0.2.7"), Vip("192.0.2.8"), Vip("2001:db8::7")
STRANGER, PEER = b"\2\0\0\0\0\x99", b"\2\0\0\0\0\x0b"


def many(count):
    return [Vip(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}") for n in range(1, count + 1)]


def conflict(vip=VIP, mac=STRANGER, nic="eth0"):
    return ("conflict", vip, mac, nic)


def changed(**fields):
    return Link(**{"index": ETH0.index, "name": "eth0", "mac": ETH0.mac, "up": True, "carrier": True, **fields})


class Bench:
    """A segment with foreign hosts: `hosts` maps an address to the MAC that answers a probe of it."""

    def __init__(self):
        self.clock = ManualClock()
        self.links = {ETH0.index: ETH0, ETH1.index: ETH1}
        self.nics = {"eth0"}
        self.homes = {}  # VIP -> the index of its NIC, where it matters
        self.held = set()
        self.unwanted = set()
        self.peers = set()
        self.hosts = {}
        self.told = []
        self.listeners = []
        self.sent = []  # (seconds since start, NIC, frames)
        self.capacity = None  # frames that each call takes; None = all
        self.send_error = None
        self.open_error = None
        self.on_sent = lambda: None
        bench = self

        class FakeListener:
            def __init__(self, link):
                if bench.open_error:
                    raise bench.open_error
                self.link = link
                self.failed = False
                self.closed = False
                self.lost = 0
                self.joined = []
                bench.listeners.append(self)

            def start(self, on_claims):
                self.hear = on_claims

            def send(self, frames, frame_len):
                if bench.send_error:
                    raise bench.send_error
                data = bytes(frames)
                count = len(data) // frame_len if bench.capacity is None else min(len(data) // frame_len, bench.capacity)
                bench.sent.append((round(bench.clock.now() - 1000.0, 4), self.link.name, count))
                asked = [data[n * frame_len : (n + 1) * frame_len] for n in range(count)]
                answers = [Claim(vip=vip, mac=mac) for frame in asked for vip, mac in bench.hosts.items() if packed(vip) in frame]
                if answers:
                    asyncio.get_running_loop().call_soon(self.hear, answers)
                bench.on_sent()
                return count

            def join(self, vips):
                entry = list(vips)
                self.joined.append(entry)
                return lambda: self.joined.remove(entry)

            def take_lost(self):
                assert not self.closed
                lost, self.lost = self.lost, 0
                return lost

            def close(self):
                self.closed = True

        self.listen = FakeListener

    def claim(self, vip=VIP, mac=STRANGER, *, probing=False, count=1):
        self.listeners[-1].hear([Claim(vip=vip, mac=mac, probing=probing)] * count)

    def play(self, story, **options):
        async def scene():
            self.heartbeats = Heartbeats(self.clock)
            watch = ConflictWatch(
                clock=self.clock,
                heartbeats=self.heartbeats,
                links=self.links,
                nics=lambda: self.nics,
                own_macs=lambda: {ETH0.mac, ETH1.mac},
                peer_macs=lambda: self.peers,
                belongs=lambda vip, index: index == self.homes.get(vip, index),
                held=lambda vip: vip in self.held,
                wanted=lambda vip: vip not in self.unwanted,
                on_conflict=lambda vip, mac, nic: self.told.append(("conflict", vip, mac, nic)),
                on_ended=lambda vip: self.told.append(("ended", vip)),
                on_peer_claim=lambda vip, mac: self.told.append(("peer", vip, mac)),
                defend=lambda vip: self.told.append(("defend", vip)),
                listen=self.listen,
                **options,
            )
            task = asyncio.create_task(watch.run())
            await asyncio.sleep(0)
            try:
                await story(watch)
            finally:
                task.cancel()
                (result,) = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(result, asyncio.CancelledError), result
            assert all(listener.closed for listener in self.listeners)
            assert not any(listener.joined for listener in self.listeners)

        with asyncio.Runner(loop_factory=lambda: ClockLoop(self.clock)) as runner:
            runner.run(scene())

    def since_start(self):
        return self.clock.now() - 1000.0

    def frames(self):
        return sum(count for _, _, count in self.sent)
