"""For how long it counts that nobody answered: for the bind that follows, and as long as the VIP stays bound here."""

import asyncio

import pytest

from kvip.daemon.probing import RECREATED_S, SILENCE_S
from tests.unit.daemon.fake_ports import ETH0, ETH1, OTHER, VIP
from tests.unit.daemon.probing_bench import PROBE_S, Bench, bound_for_an_hour


@pytest.fixture
def bench():
    return Bench()


def test_silence_counts_for_the_bind_that_follows_and_not_for_one_of_later(bench):
    """Its firewall rules cannot be had for an hour, say: another host may have come."""

    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(PROBE_S + SILENCE_S - 0.1)
        assert not bench.asks(VIP, ETH0)
        await asyncio.sleep(0.2)
        assert bench.asks(VIP, ETH0)

    bench.play(story)


def test_what_was_removed_by_somebody_else_is_put_back_without_asking(bench):
    """Nothing tells of it by then in modes in which nothing is written: asked for briefly."""

    async def story(probing):
        await bound_for_an_hour(bench)(probing)
        bench.homes = {}
        assert not bench.asks(VIP, ETH0)
        bench.had = set()
        assert bench.asks(VIP, ETH0)
        probing.ask([VIP], ETH0)
        await asyncio.sleep(0.001)
        assert bench.watch.brief[-1:] == [True]

    bench.play(story)


@pytest.mark.parametrize("how", ["let go of", "fenced"])
def test_once_it_left_the_claim_tells_whether_it_is_asked_for(bench, how):
    async def story(probing):
        await bound_for_an_hour(bench)(probing)
        if how == "let go of":
            probing.left(VIP)
            bench.homes = {}
        else:
            bench.homes = {}
            probing.look(VIP, ETH0)
        await asyncio.sleep(RECREATED_S + 0.1)
        assert not bench.asks(VIP, ETH0), "a take-over from a kvip that had it bound"
        bench.had = set()
        assert bench.asks(VIP, ETH0), "since then nobody of kvip is known to have had it bound"

    bench.play(story)


def test_a_doubt_is_over_once_nobody_answered_and_it_was_bound_again(bench):
    async def story(probing):
        bench.had, bench.homes = {VIP}, {VIP: ETH0}
        probing.doubt(VIP)
        assert bench.asks(VIP, ETH0), "still bound, by an address that the kernel does not use"
        bench.homes = {}
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        bench.homes = {VIP: ETH0}
        assert not bench.asks(VIP, ETH0)
        probing.left(VIP)
        bench.homes = {}
        await asyncio.sleep(3600)
        assert not bench.asks(VIP, ETH0), "a take-over from a kvip that had it bound"

    bench.play(story)


def test_what_was_bound_here_unasked_after_a_holder_that_was_no_kvip_counts_for_nothing(bench):
    """A former daemon's address, say."""

    async def story(probing):
        bench.had, bench.homes, bench.before = {VIP}, {VIP: ETH0}, {VIP: "kube/1"}
        assert bench.asks(VIP, ETH0)
        bench.homes = {}
        assert bench.asks(VIP, ETH0)

    bench.play(story)


def test_a_question_changes_nothing(bench):
    async def story(probing):
        bench.had, bench.homes = {VIP}, {VIP: ETH0}
        probing.look(VIP, ETH0)
        for link in (ETH1, ETH0, ETH1):
            probing.unprobed(VIP, link)
            probing.in_doubt(VIP, link)
        assert not probing.in_doubt(VIP, ETH1)
        assert probing.first(OTHER)
        bench.claimed, bench.homes = set(), {VIP: ETH0}
        probing.forget(VIP)
        bench.claimed, bench.homes, bench.had = {VIP}, {}, set()
        await asyncio.sleep(RECREATED_S + 0.1)
        probing.unprobed(VIP, ETH0)
        assert vars(probing)["_over"], "forgotten by a look, not by a question"

    bench.play(story)


def test_what_is_doubted_while_it_is_being_bound_stays_in_doubt(bench):
    """The kernel finds a duplicate between the bind and its report."""

    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        assert not bench.asks(VIP, ETH0)
        probing.doubt(VIP)
        probing.bound(VIP, ETH0)
        bench.homes = {}
        assert bench.asks(VIP, ETH0)

    bench.play(story)
