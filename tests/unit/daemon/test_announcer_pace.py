"""The pace of announcements: delay, NICs that block or fail, priorities, burst and rate."""

import asyncio
import errno
import logging

import pytest

from kvip import metrics
from kvip.errors import AnnounceError
from tests.unit.daemon.announcer_bench import LINK, OTHER, VIP, VIP6, Bench, many


@pytest.fixture
def bench(monkeypatch):
    return Bench(monkeypatch)


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
