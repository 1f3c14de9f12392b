"""The rounds of an announcement: frames, refreshes, permits, and what ends them."""

import asyncio
import itertools

import pytest

from kvip.core.model import Link, Vip
from tests.unit.daemon.announcer_bench import LINK, OTHER, VIP, VIP6, Bench, many


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
