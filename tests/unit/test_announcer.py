"""The announcer over a fake packet socket, on an event loop whose time is the hand-driven clock."""

import asyncio
import errno
import itertools
import logging

import pytest

from kvip import metrics
from kvip.clock import ManualClock
from kvip.core.model import IfIndex, Link, Vip, packed
from kvip.daemon.announcer import BATCH_FRAMES, Announcer
from kvip.daemon.supervision import Heartbeats
from kvip.errors import AnnounceError

LINK = Link(index=IfIndex(2), name="eth0", mac=b"\2\0\0\0\0\1", up=True, carrier=True)
OTHER = Link(index=IfIndex(3), name="eth1", mac=b"\2\0\0\0\0\2", up=True, carrier=True)
VIP, VIP6 = Vip("192.0.2.7"), Vip("2001:db8::7")


def many(count):
    return [Vip(f"10.0.{n >> 8}.{n & 255}") for n in range(count)]


class ClockLoop(asyncio.SelectorEventLoop):
    """An event loop that does not wait: its pauses move the clock."""

    def __init__(self, clock):
        super().__init__()
        self._clock = clock
        self.turns = 0
        poll = self._selector.select

        def select(timeout):
            assert timeout is not None, "everything waits, and no timer runs"
            self.turns += 1
            clock.advance(max(0.0, timeout))
            return poll(0)

        self._selector.select = select

    def time(self):
        return self._clock.now()


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


@pytest.fixture
def bench(monkeypatch):
    return Bench(monkeypatch)


def test_a_burst_is_four_rounds_of_request_and_reply(bench):
    async def story(announcer):
        announcer.start(VIP, LINK)
        await asyncio.sleep(30)

    bench.play(story)
    assert bench.times(VIP) == pytest.approx([0.0, 0.0, 1.1, 1.1, 2.2, 2.2, 4.4, 4.4], abs=0.002)
    operations = [frame[21] for _, _, frame in bench.frames]
    assert sorted(operations) == [1, 1, 1, 1, 2, 2, 2, 2]
    assert all(len(frame) == 60 and frame[6:12] == LINK.mac for _, _, frame in bench.frames)
    assert bench.closed == bench.opened == [LINK]


def test_how_long_the_longest_waiting_one_of_a_batch_was_due_is_measured(bench):
    def measured():
        return metrics.frame_delay_seconds._sum.get(), sum(bucket.get() for bucket in metrics.frame_delay_seconds._buckets)

    async def story(announcer):
        for vip in many(100):
            announcer.start(vip, LINK)
        await asyncio.sleep(0.9)

    total, count = measured()
    bench.play(story, rate_pps=200.0, burst=64)
    assert len(bench.frames) == 200
    # 32 VIPs leave at once; the last one is paid for (200 - 64) / 200 s later.
    last = max(at for at, _, _ in bench.frames)
    assert last == pytest.approx(0.68, abs=0.02)
    after_total, after_count = measured()
    assert after_count - count == bench.calls
    assert after_total - total == pytest.approx(sum({at for at, _, _ in bench.frames}), abs=0.05)


def test_a_blocked_nic_is_no_measure_of_delay(bench):
    async def story(announcer):
        bench.capacity = 1
        announcer.start(VIP, LINK)
        await asyncio.sleep(0.5)

    before = metrics.frame_delay_seconds._sum.get()
    bench.play(story)
    assert metrics.frame_delay_seconds._sum.get() == before


def test_ipv6_is_one_frame_per_round(bench):
    async def story(announcer):
        announcer.start(VIP6, LINK)
        announcer.start(VIP, LINK)
        await asyncio.sleep(10)

    bench.play(story)
    assert bench.times(VIP6) == pytest.approx([0.0, 1.1, 2.2, 4.4], abs=0.002)
    assert len(bench.times(VIP)) == 8


@pytest.mark.parametrize("router", [False, True])
def test_an_advertisement_says_whether_its_nic_forwards(bench, router):
    bench.forwards = {LINK.name} if router else {OTHER.name}

    async def story(announcer):
        announcer.start(VIP6, LINK)
        await asyncio.sleep(1)

    bench.play(story)
    assert [bool(frame[58] & 0x80) for _, _, frame in bench.frames] == [router]


def test_refreshes_go_on_after_the_burst(bench):
    async def story(announcer):
        announcer.start(VIP6, LINK)
        await asyncio.sleep(250)

    bench.play(story, refresh_s=60.0)
    late = bench.times(VIP6)[4:]
    assert len(late) in (3, 4)
    assert 34.4 <= late[0] <= 64.5
    assert all(later - earlier == pytest.approx(60.0, abs=0.01) for earlier, later in itertools.pairwise(late))


def test_without_a_permit_no_frame_leaves_and_the_announcement_ends(bench):
    bench.denied.add(VIP)

    async def story(announcer):
        announcer.start(VIP, LINK)
        announcer.start(Vip("192.0.2.8"), LINK)
        await asyncio.sleep(10)
        assert not announcer.announces(VIP)
        assert announcer.announces(Vip("192.0.2.8"))

    bench.play(story)
    assert bench.times(VIP) == []
    assert len(bench.times(Vip("192.0.2.8"))) == 8
    assert [vip for vip, _ in bench.announced] == ["192.0.2.8"]


def test_the_permit_is_asked_before_each_batch(bench):
    async def story(announcer):
        announcer.start(VIP, LINK)
        await asyncio.sleep(2.0)
        bench.denied.add(VIP)
        await asyncio.sleep(10)

    bench.play(story)
    assert max(bench.times(VIP)) < 2.0


@pytest.mark.parametrize("nics", [1, 2])
def test_a_fence_that_begins_in_the_question_for_a_permit_is_no_failure(bench, nics):
    async def story(announcer):
        announcer.start(VIP, LINK)
        if nics == 2:
            announcer.start(VIP6, OTHER)

        def fence(vip):
            bench.denied.update((VIP, VIP6))
            announcer.stop_all()

        bench.permit_hook = fence
        await asyncio.sleep(5)
        assert not announcer.announces(VIP)

    bench.play(story)
    assert bench.frames == []


def test_a_stopped_vip_sends_nothing_more(bench):
    async def story(announcer):
        announcer.start(VIP, LINK)
        announcer.start(VIP6, LINK)
        await asyncio.sleep(1.5)
        announcer.stop(VIP)
        assert not announcer.announces(VIP)
        await asyncio.sleep(10)

    bench.play(story)
    assert max(bench.times(VIP)) < 1.5
    assert len(bench.times(VIP6)) == 4


def test_stop_all_stops_what_waits_in_the_queues_too(bench):
    async def story(announcer):
        for vip in many(500):
            announcer.start(vip, LINK)
        await asyncio.sleep(0.1)
        announcer.stop_all()
        left = len(bench.frames)
        await asyncio.sleep(10)
        assert len(bench.frames) == left
        assert 0 < left < 1000

    bench.play(story, rate_pps=1000.0, burst=64)


def test_starting_again_replaces_the_running_burst(bench):
    async def story(announcer):
        announcer.start(VIP6, LINK)
        await asyncio.sleep(2.0)
        announcer.start(VIP6, LINK)
        await asyncio.sleep(10)

    bench.play(story)
    assert bench.times(VIP6) == pytest.approx([0.0, 1.1, 2.0, 3.1, 4.2, 6.4], abs=0.002)
    assert [at for _, at in bench.announced] == pytest.approx([0.0, 2.0], abs=0.002)


def test_the_first_frame_is_reported_once_per_burst(bench):
    async def story(announcer):
        announcer.start(VIP, LINK)
        await asyncio.sleep(100)

    bench.play(story, refresh_s=10.0)
    assert [vip for vip, _ in bench.announced] == [VIP]


def test_a_short_count_keeps_the_rest_and_reports_only_what_left(bench):
    bench.capacity = 3
    reported = []

    async def story(announcer):
        for vip in many(4):
            announcer.start(vip, LINK)
        await asyncio.sleep(0.001)
        reported.extend(vip for vip, _ in bench.announced)
        bench.capacity = None
        await asyncio.sleep(0.5)

    bench.play(story)
    assert reported == many(1)
    assert [vip for vip, _ in bench.announced] == many(4)
    assert [len(bench.times(vip)) for vip in many(4)] == [2, 3, 2, 2]


@pytest.mark.parametrize("capacity", [0, 1])
def test_a_blocked_nic_does_not_spin(bench, capacity):
    bench.capacity = capacity

    async def story(announcer):
        for vip in many(10):
            announcer.start(vip, LINK)
        await asyncio.sleep(1.0)
        assert bench.announced == []
        bench.capacity = None
        await asyncio.sleep(0.1)
        assert len(bench.announced) == 10

    bench.play(story)
    assert bench.calls < 150
    assert bench.loop.turns < 500


@pytest.mark.parametrize("where", ["send_error", "open_error"])
def test_a_nic_that_fails_is_tried_each_second_with_one_warning(bench, caplog, where):
    caplog.set_level(logging.INFO)
    setattr(bench, where, OSError(errno.ENETDOWN, "down") if where == "send_error" else AnnounceError("eth0", "gone"))

    async def story(announcer):
        announcer.start(VIP6, LINK)
        await asyncio.sleep(10)
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        setattr(bench, where, None)
        await asyncio.sleep(2)

    bench.play(story)
    assert bench.loop.turns < 100
    assert bench.calls < 20
    assert bench.times(VIP6)
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.INFO]


def test_a_failing_nic_does_not_hold_up_another(bench):
    bench.open_error = AnnounceError("eth0", "gone")

    async def story(announcer):
        announcer.start(VIP6, LINK)
        await asyncio.sleep(0.1)
        bench.open_error = None
        announcer.start(VIP, OTHER)
        await asyncio.sleep(0.05)
        assert bench.times(VIP)

    bench.play(story)


def test_take_overs_go_before_repeats(bench):
    old, new = many(200)[:100], many(200)[100:]

    async def story(announcer):
        for vip in old:
            announcer.start(vip, LINK)
        await asyncio.sleep(1.09)
        announcer.stop(old[0])
        for vip in new:
            announcer.start(vip, LINK)
        await asyncio.sleep(0.9)

    bench.play(story, rate_pps=400.0, burst=200)
    first_new = [bench.times(vip)[0] for vip in new]
    repeats = [at for vip in old[1:] for at in bench.times(vip) if at >= 1.1]
    assert repeats
    assert max(first_new) <= min(repeats)


def test_the_pace_is_burst_then_rate(bench):
    async def story(announcer):
        for vip in many(500):
            announcer.start(vip, LINK)
        await asyncio.sleep(0.9)

    bench.play(story, rate_pps=500.0, burst=100)
    at = [time for time, _, _ in bench.frames]
    assert sum(time < 0.001 for time in at) == 100
    for window in (0.1, 0.3, 0.5, 0.8):
        sent = sum(time <= window for time in at)
        assert 0.9 * (100 + 500 * window) - 4 <= sent <= 100 + 500 * window + 1e-6
    assert bench.loop.turns < 2000


def test_a_nic_that_comes_back_is_announced_on_anew_with_its_new_mac(bench):
    anew = Link(index=LINK.index, name="eth0", mac=b"\2\0\0\0\0\x09", up=True, carrier=True)

    async def story(announcer):
        announcer.start(VIP6, LINK)
        announcer.start(VIP, OTHER)
        await asyncio.sleep(20)
        bench.links[anew.index] = anew
        announcer.restart_on(anew)
        await asyncio.sleep(20)

    bench.play(story)
    assert bench.times(VIP6) == pytest.approx([0.0, 1.1, 2.2, 4.4, 20.0, 21.1, 22.2, 24.4], abs=0.002)
    assert len(bench.times(VIP)) == 8
    assert bench.frames[-1][2][6:12] == anew.mac
    assert bench.opened == [LINK, OTHER, anew]


def test_it_is_known_how_often_and_when_a_vip_was_announced_last(bench):
    async def story(announcer):
        assert announcer.sent(VIP) == (0, None)
        announcer.start(VIP, LINK)
        await asyncio.sleep(3)
        rounds, last_at = announcer.sent(VIP)
        assert (rounds, last_at - 1000.0) == (3, pytest.approx(2.2, abs=0.002))
        announcer.stop(VIP)
        assert announcer.sent(VIP) == (0, None)

    bench.play(story)
