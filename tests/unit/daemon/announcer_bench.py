"""The announcer over a fake packet socket, on an event loop whose time is the hand-driven clock."""

import asyncio

from kvip.clock import ManualClock
from kvip.core.model import IfIndex, Link, Vip, packed
from kvip.daemon.announcer import BATCH_FRAMES, Announcer
from kvip.daemon.supervision import Heartbeats
from tests.unit.clock_loop import ClockLoop

LINK = Link(index=IfIndex(2), name="eth0", mac=b"\2\0\0\0\0\1", up=True, carrier=True)
OTHER = Link(index=IfIndex(3), name="eth1", mac=b"\2\0\0\0\0\2", up=True, carrier=True)
VIP, VIP6 = Vip("192.0.2.7"), Vip("2001:db8::7")


def many(count):
    return [Vip(f"10.0.{n >> 8}.{n & 255}") for n in range(count)]


class Bench:
    def __init__(self, monkeypatch):
        self.links = {LINK.index: LINK, OTHER.index: OTHER}
        self.clock = ManualClock()
        self.frames = []  # (seconds since start, NIC, frame)
        self.calls = 0
        self.opened = []
        self.closed = []
        self.announced = []
        self.denied = set()
        self.permit_hook = None
        self.capacity = None  # frames that each call takes; None = all
        self.send_error = None
        self.open_error = None
        bench = self
        self.forwards = set()

        class FakeSocket:
            def __init__(self, link):
                if bench.open_error:
                    raise bench.open_error
                self.link = link
                bench.opened.append(link)

            def send(self, frames, frame_len):
                bench.calls += 1
                if bench.send_error:
                    raise bench.send_error
                count, rest = divmod(len(frames), frame_len)
                assert rest == 0
                assert count <= BATCH_FRAMES
                sent = count if bench.capacity is None else min(count, bench.capacity)
                for n in range(sent):
                    frame = bytes(frames[n * frame_len : (n + 1) * frame_len])
                    bench.frames.append((bench.clock.now() - 1000.0, self.link.name, frame))
                return sent

            def close(self):
                bench.closed.append(self.link)

        monkeypatch.setattr("kvip.daemon.announcer.PacketSocket", FakeSocket)

    def permit(self, vip):
        if self.permit_hook:
            self.permit_hook(vip)
        return None if vip in self.denied else self.clock.now() + 1.0

    def play(self, story, *, refresh_s=0.0, rate_pps=100_000.0, burst=100_000):
        async def scene():
            announcer = Announcer(
                clock=self.clock,
                heartbeats=Heartbeats(self.clock),
                permit=self.permit,
                on_announced=lambda vip, at: self.announced.append((vip, at - 1000.0)),
                refresh_s=refresh_s,
                rate_pps=rate_pps,
                burst=burst,
                links=self.links,
                forwards=self.forwards.__contains__,
            )
            task = asyncio.create_task(announcer.run())
            try:
                await story(announcer)
            finally:
                task.cancel()
                (result,) = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(result, asyncio.CancelledError), result

        self.loop = ClockLoop(self.clock)
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(scene())

    def times(self, vip):
        return [at for at, _, frame in self.frames if packed(vip) in frame]
