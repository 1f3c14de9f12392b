"""A VIP that is announced already is announced anew at an administrator's word, and only such a one."""

import asyncio

import pytest

from kvip.core.schedule import Priority
from tests.unit.daemon.announcer_bench import LINK, VIP, VIP6, Bench, many


@pytest.fixture
def bench(monkeypatch):
    return Bench(monkeypatch)


def test_so_many_rounds_leave_and_the_refreshes_follow(bench):
    async def story(announcer):
        announcer.start(VIP6, LINK)
        await asyncio.sleep(10)
        item = announcer.again(VIP6, rounds=3)
        await asyncio.sleep(3)
        assert (item.number, announcer.under_way(item)) == (3, True)
        await asyncio.sleep(60)

    bench.play(story, refresh_s=60.0)
    assert bench.times(VIP6)[4:7] == pytest.approx([10.0, 11.1, 12.2], abs=0.002)
    assert all(12.2 + 30 <= at <= 12.2 + 61 for at in bench.times(VIP6)[7:])
    assert [vip for vip, _ in bench.announced] == [VIP6], "it was reported when it was taken"


def test_what_is_not_announced_is_not_begun(bench):
    async def story(announcer):
        assert announcer.again(VIP, rounds=4) is None
        announcer.start(VIP, LINK)
        announcer.stop(VIP)
        assert announcer.again(VIP, rounds=4) is None
        await asyncio.sleep(10)

    bench.play(story)
    assert bench.frames == []


def test_without_a_permit_nothing_leaves_and_it_is_over(bench):
    async def story(announcer):
        announcer.start(VIP, LINK)
        await asyncio.sleep(10)
        item = announcer.again(VIP, rounds=10)
        await asyncio.sleep(1.5)
        bench.denied.add(VIP)
        await asyncio.sleep(10)
        assert (item.number, announcer.under_way(item)) == (2, False)

    bench.play(story)
    assert max(bench.times(VIP)) < 11.5


def test_a_burst_under_way_loses_no_round(bench):
    async def story(announcer):
        announcer.start(VIP6, LINK)
        await asyncio.sleep(0.5)
        item = announcer.again(VIP6, rounds=1)
        await asyncio.sleep(10)
        assert item.number == 3

    bench.play(story)
    assert bench.times(VIP6) == pytest.approx([0.0, 0.5, 1.6, 2.7], abs=0.002)


def test_one_whose_first_frame_waits_is_still_urgent_and_reported(bench):
    async def story(announcer):
        announcer.start(VIP, LINK)
        item = announcer.again(VIP, rounds=1)
        assert item.fresh
        await asyncio.sleep(1)

    bench.play(story)
    assert [vip for vip, _ in bench.announced] == [VIP]


def test_a_take_over_goes_before_what_is_announced_anew(bench):
    old, new = many(400), [VIP]

    async def story(announcer):
        for vip in old:
            announcer.start(vip, LINK)
        await asyncio.sleep(30)
        bench.frames.clear()
        for vip in old:
            announcer.again(vip, rounds=1)
        await asyncio.sleep(0.1)
        for vip in new:
            announcer.start(vip, LINK)
        await asyncio.sleep(10)

    bench.play(story, rate_pps=1000.0, burst=64)
    began = bench.frames[0][0]
    assert bench.times(VIP)[0] < began + 0.3
    assert max(at for vip in old for at in bench.times(vip)) > began + 0.6
    assert Priority.TAKE_OVER < Priority.REPEAT
