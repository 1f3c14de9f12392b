"""What nobody asks for any more is forgotten, and asked for again: briefly where it left here a moment ago."""

import asyncio

import pytest

from kvip.daemon.conflicts import BRIEF_S
from kvip.daemon.probing import RECREATED_S
from tests.unit.daemon.fake_ports import ETH0, OTHER, VIP
from tests.unit.daemon.probing_bench import Bench, bound_for_an_hour


@pytest.fixture
def bench():
    return Bench()


@pytest.mark.parametrize("at_once", [True, False])
def test_what_nobody_claims_any_more_is_forgotten(bench, at_once):
    async def story(probing):
        probing.ask([VIP, OTHER], ETH0)
        await asyncio.sleep(1)
        bench.claimed = {OTHER}
        if at_once:
            probing.forget(VIP)
            await asyncio.sleep(RECREATED_S + 0.1)
        else:
            probing.tidy()
            await asyncio.sleep(RECREATED_S + 0.1)
            probing.tidy()
        bench.claimed = {VIP, OTHER}
        assert bench.asks(VIP, ETH0)
        assert not bench.asks(OTHER, ETH0)

    bench.play(story)


@pytest.mark.parametrize("how", ["found free", "taken over"])
def test_what_left_a_moment_ago_is_asked_for_briefly(bench, how):
    """Another host may have been given the address as its Service went."""

    async def story(probing):
        if how == "found free":
            probing.ask([VIP], ETH0)
            await asyncio.sleep(1)
        else:
            bench.had = {VIP}
        bench.watch.brief.clear()
        for _ in range(3):
            bench.homes = {VIP: ETH0}
            assert not bench.asks(VIP, ETH0)
            bench.claimed, bench.had = set(), set()
            for _ in range(4):
                probing.forget(VIP)
                bench.homes = {}
                await asyncio.sleep(RECREATED_S / 5)
            bench.claimed = {VIP}
            assert bench.asks(VIP, ETH0)
            probing.ask([VIP], ETH0)
            await asyncio.sleep(BRIEF_S + 0.01)
            assert not bench.asks(VIP, ETH0)
        bench.homes = {VIP: ETH0}
        probing.look(VIP, ETH0)
        bench.homes = {}
        probing.left(VIP)
        probing.ask([VIP, OTHER], ETH0)
        await asyncio.sleep(BRIEF_S + 0.01)

    bench.play(story)
    assert bench.watch.brief == [True] * 4 + [False]
    assert bench.watch.asked[-2:] == [[VIP], [OTHER]]


def test_what_nobody_asks_for_and_is_bound_still_when_it_is_claimed_again_is_not_asked_for(bench):
    async def story(probing):
        await bound_for_an_hour(bench)(probing)
        bench.claimed, bench.had = set(), set()
        probing.forget(VIP)
        bench.claimed = {VIP}
        assert not bench.asks(VIP, ETH0)

    bench.play(story)


def test_what_was_not_bound_here_when_its_last_claim_went_is_asked_for_however_soon_it_comes_again(bench):
    """Another node may have held it since, and found another host with it."""

    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        bench.homes = {VIP: ETH0}
        assert not bench.asks(VIP, ETH0)
        bench.homes, bench.claimed = {}, set()
        probing.forget(VIP)
        bench.claimed = {VIP}
        assert bench.asks(VIP, ETH0)

    bench.play(story)


def test_what_was_in_doubt_when_its_last_claim_went_is_asked_for_however_soon_it_comes_again(bench):
    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        probing.doubt(VIP)
        bench.claimed = set()
        probing.forget(VIP)
        bench.claimed = {VIP}
        assert bench.asks(VIP, ETH0)

    bench.play(story)
