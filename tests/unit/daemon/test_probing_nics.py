"""Another NIC may be another segment: what is asked for where a VIP goes to one."""

import asyncio

import msgspec
import pytest

from kvip.core.model import IfIndex
from kvip.daemon.probing import RECREATED_S
from tests.unit.daemon.fake_ports import ETH0, ETH1, VIP
from tests.unit.daemon.probing_bench import PROBE_S, STRANGER, Bench


@pytest.fixture
def bench():
    return Bench()


def test_a_vip_that_goes_to_another_nic_is_asked_for_there_though_it_was_held(bench):
    bench.had = {VIP}

    async def story(probing):
        for here, there in ((ETH0, ETH1), (ETH1, ETH0), (ETH0, ETH1)):
            bench.homes = {VIP: here}
            assert not bench.asks(VIP, here)
            assert bench.asks(VIP, there)
            bench.homes = {}
            assert bench.asks(VIP, there), "let go of, and not asked for yet"
            probing.ask([VIP], there)
            await asyncio.sleep(1)
            assert not bench.asks(VIP, there)

    bench.play(story)
    assert bench.watch.asked == [[VIP]] * 3


def test_only_what_a_kvip_held_elsewhere_is_in_doubt_and_only_until_nobody_answers(bench):
    async def story(probing):
        assert not probing.in_doubt(VIP, ETH0), "a first assignment is none"
        bench.had, bench.homes = {VIP}, {VIP: ETH0}
        assert not bench.asks(VIP, ETH0)
        assert bench.asks(VIP, ETH1)
        bench.homes = {}
        assert probing.in_doubt(VIP, ETH1)
        probing.ask([VIP], ETH1)
        await asyncio.sleep(1)
        assert not probing.in_doubt(VIP, ETH1)

    bench.play(story)


def test_silence_on_one_nic_says_nothing_of_another(bench):
    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(PROBE_S / 2)
        assert bench.asks(VIP, ETH1)
        await asyncio.sleep(1)
        assert not bench.asks(VIP, ETH0)
        assert bench.asks(VIP, ETH1)

    bench.play(story)


def test_back_on_the_nic_that_it_left_it_is_asked_for_again(bench):
    bench.had = {VIP}
    bench.homes = {VIP: ETH0}

    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        assert not bench.asks(VIP, ETH0)
        bench.watch.hosts = {VIP: STRANGER}
        assert bench.asks(VIP, ETH1)
        bench.homes = {}
        probing.ask([VIP], ETH1)
        await asyncio.sleep(1)
        assert bench.asks(VIP, ETH1)
        assert bench.asks(VIP, ETH0), "meanwhile nobody had it there"

    bench.play(story)


def test_a_vip_that_goes_to_another_nic_than_a_former_daemon_had_it_on_is_asked_for(bench):
    bench.had = {VIP}
    bench.probing.remember({VIP: ETH0.name})
    assert not bench.asks(VIP, ETH0)
    bench.probing.tidy()
    assert bench.asks(VIP, ETH1)


def test_the_same_nic_that_comes_back_is_the_same_segment(bench):
    bench.had = {VIP}
    bench.homes = {VIP: ETH0}
    assert not bench.asks(VIP, ETH0)
    bench.homes = {}
    assert not bench.asks(VIP, msgspec.structs.replace(ETH0, index=IfIndex(9)))


def test_where_it_was_is_forgotten_with_the_last_claim(bench):
    bench.had = {VIP}
    bench.homes = {VIP: ETH0}
    assert not bench.asks(VIP, ETH0)
    bench.homes, bench.claimed = {}, set()
    bench.probing.tidy()
    bench.clock.advance(RECREATED_S + 0.1)
    bench.probing.tidy()
    bench.claimed = {VIP}
    assert not bench.asks(VIP, ETH1), "a take-over from another node"
