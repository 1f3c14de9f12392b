"""Asking before the first bind: who has an address, and when silence proves nothing."""

import asyncio

import pytest

from kvip import metrics
from kvip.errors import AnnounceError
from tests.unit.daemon.conflict_bench import ETH0, ETH1, OTHER, STRANGER, VIP, VIP6, Bench, changed, conflict, many


@pytest.fixture
def bench():
    return Bench()


def test_three_rounds_50_ms_apart_for_all_vips_together(bench):
    async def story(watch):
        assert await watch.probe([VIP, OTHER, VIP6], ETH0) == {}
        assert bench.since_start() == pytest.approx(0.15, abs=0.001)

    bench.play(story)
    assert [(round(at, 2), count) for at, _, count in bench.sent] == [(0.0, 2), (0.0, 1), (0.05, 2), (0.05, 1), (0.1, 2), (0.1, 1)]
    assert bench.told == []


def test_an_answer_is_a_conflict_reported_once_and_not_to_be_bound(bench):
    bench.hosts = {VIP: STRANGER}

    async def story(watch):
        assert await watch.probe([VIP], ETH0) == {VIP: STRANGER}
        assert bench.since_start() < 0.05
        assert await watch.probe([VIP], ETH0) == {VIP: STRANGER}
        assert watch.conflicting(VIP) == STRANGER
        assert not watch.may_bind(VIP)
        assert watch.may_bind(OTHER)
        assert watch.conflicting(OTHER) is None

    bench.play(story)
    assert bench.told == [conflict()]


def test_those_who_answered_are_not_asked_again(bench):
    bench.hosts = {VIP: STRANGER}

    async def story(watch):
        assert await watch.probe([VIP, OTHER], ETH0) == {VIP: STRANGER}

    bench.play(story)
    assert [count for _, _, count in bench.sent] == [2, 1, 1]


def test_another_host_that_asks_at_the_same_time_has_it(bench):
    async def story(watch):
        asyncio.get_running_loop().call_later(0.07, bench.claim, VIP, STRANGER)
        bench.on_sent = lambda: bench.claim(OTHER, STRANGER, probing=True)
        assert await watch.probe([VIP, OTHER], ETH0) == {VIP: STRANGER, OTHER: STRANGER}

    bench.play(story)


def test_a_reflected_probe_of_our_own_is_no_answer(bench):
    async def story(watch):
        bench.on_sent = lambda: bench.claim(VIP, ETH0.mac, probing=True)
        assert await watch.probe([VIP], ETH0) == {}

    bench.play(story)


def test_two_questions_at_once_each_get_their_answers(bench):
    bench.hosts = {VIP: STRANGER}

    async def story(watch):
        answers = await asyncio.gather(watch.probe([VIP, OTHER], ETH0), watch.probe([VIP], ETH0))
        assert answers == [{VIP: STRANGER}, {VIP: STRANGER}]

    bench.play(story)
    assert bench.told == [conflict()]


def test_asking_for_nothing_sends_nothing(bench):
    async def story(watch):
        assert await watch.probe([], ETH0) == {}

    bench.play(story)
    assert bench.sent == []


def test_1000_take_no_longer_than_one_and_10000_keep_the_pace_of_the_nic(bench):
    async def story(watch):
        assert await watch.probe(many(1000), ETH0) == {}
        assert bench.since_start() < 0.2
        before = bench.since_start()
        await watch.probe(many(10_000), ETH0)
        assert 2.5 < bench.since_start() - before < 3.5

    bench.play(story)
    assert bench.frames() == 33_000


def test_probes_that_a_full_queue_refused_are_sent_later_not_left_out(bench):
    bench.capacity = 7

    async def story(watch):
        assert await watch.probe(many(100), ETH0) == {}

    bench.play(story)
    assert bench.frames() == 300


def test_a_nic_that_takes_no_probe_proves_nothing(bench):
    bench.capacity = 0

    async def story(watch):
        with pytest.raises(AnnounceError, match="took no probe for 1 s"):
            await watch.probe([VIP], ETH0)
        assert 1.0 <= bench.since_start() < 1.2

    bench.play(story)


def test_a_nic_that_refuses_frames_proves_nothing(bench):
    bench.send_error = OSError(100, "Network is down")

    async def story(watch):
        with pytest.raises(AnnounceError, match="Network is down"):
            await watch.probe([VIP], ETH0)

    bench.play(story)


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        (changed(carrier=False), "no carrier"),
        (changed(up=False), "no carrier"),
        (changed(mac=b"\2\0\0\0\0\7"), "MAC changed"),
        (None, "gone"),
    ],
)
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_silence_on_a_nic_that_cannot_hear_is_no_answer(bench, link, problem, when):
    def change():
        if link is None:
            bench.links.pop(ETH0.index, None)
        else:
            bench.links[ETH0.index] = link

    async def story(watch):
        if when == "before":
            change()
        else:
            bench.on_sent = change
        with pytest.raises(AnnounceError, match=problem):
            await watch.probe([VIP], ETH0)
        assert watch.may_bind(VIP)

    bench.play(story)


def test_lost_frames_make_silence_worthless_but_not_an_answer(bench):
    bench.hosts = {OTHER: STRANGER}

    def lose():
        bench.listeners[-1].lost = 5

    async def story(watch):
        bench.on_sent = lose
        with pytest.raises(AnnounceError, match="may have been lost"):
            await watch.probe([VIP], ETH0)
        assert await watch.probe([OTHER], ETH0) == {OTHER: STRANGER}

    before = metrics.claim_frames_lost_total._value.get()
    bench.play(story)
    assert metrics.claim_frames_lost_total._value.get() - before == 10


def test_a_listener_that_broke_meanwhile_makes_silence_worthless(bench):
    async def story(watch):
        def fail():
            bench.listeners[-1].failed = True

        bench.on_sent = fail
        with pytest.raises(AnnounceError, match="may have been lost"):
            await watch.probe([VIP], ETH0)
        bench.on_sent = lambda: None
        assert await watch.probe([VIP], ETH0) == {}

    bench.play(story)


def test_a_question_that_is_cancelled_leaves_nothing_behind(bench):
    bench.hosts = {OTHER: STRANGER}

    async def story(watch):
        task = asyncio.create_task(watch.probe([VIP, OTHER], ETH0))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        bench.claim(VIP)
        assert watch.may_bind(VIP)
        assert watch.may_bind(OTHER)

    bench.play(story)
    assert bench.told == []


def test_a_host_on_the_nic_that_a_vip_left_is_no_conflict_any_more(bench):
    bench.hosts, bench.homes = {VIP: STRANGER}, {VIP: ETH0.index}

    async def story(watch):
        await watch.probe([VIP], ETH0)
        assert not watch.may_bind(VIP)
        bench.homes = {VIP: ETH1.index}
        assert watch.may_bind(VIP)
        await asyncio.sleep(1.1)
        assert watch.conflicting(VIP) is None

    bench.play(story)
    assert bench.told == [conflict()]
