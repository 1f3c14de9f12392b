"""Asking the segment before a first bind: once for many, again after a failure, and again after a holder that was no kvip."""

import asyncio

import pytest

from kvip.clock import ManualClock
from kvip.daemon.probing import Probing
from kvip.errors import AnnounceError
from tests.unit.daemon.fake_ports import ETH0, ETH1, OTHER, THIRD, VIP
from tests.unit.daemon.probing_bench import PROBE_S, STRANGER, Bench


@pytest.fixture
def bench():
    return Bench()


def test_many_vips_are_asked_for_together_and_then_free(bench):
    async def story(probing):
        assert bench.asks(VIP, ETH0)
        probing.ask([VIP, OTHER], ETH0)
        await asyncio.sleep(1)
        assert not bench.asks(VIP, ETH0)
        assert not bench.asks(OTHER, ETH0)
        assert bench.asks(THIRD, ETH0)

    bench.play(story)
    assert bench.watch.asked == [[VIP, OTHER]]
    assert bench.answers == [(PROBE_S, [VIP, OTHER])]


def test_nobody_is_asked_twice_while_the_answer_is_awaited(bench):
    async def story(probing):
        probing.ask([VIP], ETH0)
        probing.ask([VIP], ETH0)
        await asyncio.sleep(0.01)
        probing.ask([VIP, OTHER], ETH0)
        await asyncio.sleep(1)

    bench.play(story)
    assert bench.watch.asked == [[VIP], [OTHER]]


def test_a_later_batch_does_not_wait_for_an_earlier_one(bench):
    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(0.1)
        probing.ask([OTHER], ETH0)
        await asyncio.sleep(1)

    bench.play(story)
    assert bench.answers == [(0.15, [VIP]), (0.25, [OTHER])]


def test_an_address_that_somebody_has_is_contested_and_to_be_asked_for_again_when_it_is_over(bench):
    bench.watch.hosts = {VIP: STRANGER}

    async def story(probing):
        probing.ask([VIP, OTHER], ETH0)
        await asyncio.sleep(1)
        assert probing.contested(VIP)
        assert not probing.contested(OTHER)
        bench.watch.hosts = {}
        assert not probing.contested(VIP)
        assert bench.asks(VIP, ETH0)
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        assert not bench.asks(VIP, ETH0)

    bench.play(story)


def test_the_next_service_that_asks_for_it_does_not_wait_for_a_host_that_had_it_once(bench):
    bench.watch.contested = {VIP}
    assert bench.probing.contested(VIP)
    bench.probing.forget(VIP)
    assert not bench.probing.contested(VIP)
    assert bench.probing.unprobed(VIP, ETH0)


def test_a_vip_that_had_a_holder_before_is_not_asked_for(bench):
    bench.had = {VIP}
    assert not bench.asks(VIP, ETH0)


def test_a_vip_with_a_duplicate_is_asked_for_again_though_it_had_a_holder_and_is_no_first_assignment(bench):
    async def story(probing):
        assert probing.first(VIP)
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        bench.had = {OTHER}
        assert not probing.first(OTHER)
        for vip in (VIP, OTHER):
            assert not bench.asks(vip, ETH0)
            probing.doubt(vip)
            assert bench.asks(vip, ETH0)
            assert not probing.first(vip)
        probing.ask([VIP, OTHER], ETH0)
        await asyncio.sleep(1)
        assert not bench.asks(VIP, ETH0)
        assert not bench.asks(OTHER, ETH0)
        assert not probing.first(VIP)
        bench.claimed = set()
        probing.tidy()
        assert probing.first(VIP)

    bench.play(story)


def test_silence_that_proves_nothing_is_no_answer_and_the_question_comes_again_after_a_second(bench):
    bench.watch.failures = [AnnounceError("eth0", "it has no carrier")]

    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(PROBE_S + 0.9)
        probing.ask([VIP], ETH0)  # Still waiting: nobody is asked.
        assert bench.answers == []
        await asyncio.sleep(0.2)
        assert bench.asks(VIP, ETH0)
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        assert not bench.asks(VIP, ETH0)

    bench.play(story)
    assert bench.watch.asked == [[VIP], [VIP]]
    assert [vips for _, vips in bench.answers] == [[VIP], [VIP]]


def test_a_failure_of_one_batch_is_not_anothers(bench):
    bench.watch.failures = [AnnounceError("eth0", "gone")]

    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(0.01)
        probing.ask([OTHER], ETH0)
        await asyncio.sleep(0.5)
        assert bench.asks(VIP, ETH0)
        assert not bench.asks(OTHER, ETH0)

    bench.play(story)


@pytest.mark.parametrize("after_s", [0, 0.05])
def test_a_question_that_was_cut_off_can_be_asked_again(bench, after_s):
    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(after_s)
        await bench.start_again()
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        assert not bench.asks(VIP, ETH0)

    bench.play(story)
    assert [vips for _, vips in bench.answers] == [[VIP]]


def test_switched_off_nothing_is_asked_and_nothing_is_contested():
    probing = Probing(
        None,
        had=lambda _: False,
        succeeds=lambda _: "kube/1",
        home=lambda _: ETH1,
        claimed=lambda _: True,
        clock=ManualClock(),
        on_answer=lambda _: None,
    )
    assert not probing.unprobed(VIP, ETH0)
    assert not probing.contested(VIP)


def test_g1_after_a_holder_that_was_no_kvip_a_vip_is_asked_for_though_it_was_held(bench):
    async def story(probing):
        bench.had = {VIP}
        assert not bench.asks(VIP, ETH0)
        bench.before = {VIP: "kube/1"}
        assert bench.asks(VIP, ETH0)
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        assert not bench.asks(VIP, ETH0)
        bench.before = {VIP: "kube/3"}
        assert bench.asks(VIP, ETH0), "another such holder came in between"

    bench.play(story)


def test_g1_an_answer_counts_for_the_holder_that_was_known_when_it_was_asked(bench):
    async def story(probing):
        bench.before = {VIP: "kube/1"}
        probing.ask([VIP], ETH0)
        await asyncio.sleep(PROBE_S / 2)
        bench.before = {VIP: "kube/3"}
        await asyncio.sleep(1)
        assert bench.asks(VIP, ETH0)

    bench.play(story)
