"""A conflict lasts, is looked into again, and ends."""

import asyncio
import logging

import pytest

from kvip import metrics
from kvip.errors import AnnounceError
from tests.unit.daemon.conflict_bench import ETH0, ETH1, OTHER, PEER, STRANGER, VIP, VIP6, Bench, changed, conflict, many


@pytest.fixture
def bench():
    return Bench()


def test_a_conflict_is_looked_into_every_30_s_and_ends_when_nobody_answers(bench):
    bench.hosts = {VIP: STRANGER}

    async def story(watch):
        await watch.probe([VIP], ETH0)
        await asyncio.sleep(130)
        asked = len(bench.sent) - 1
        assert 3 <= asked <= 5
        assert bench.told == [conflict()]
        bench.hosts = {}
        await asyncio.sleep(40)
        assert bench.told == [conflict(), ("ended", VIP)]
        assert watch.may_bind(VIP)
        assert watch.conflicting(VIP) is None
        sent = len(bench.sent)
        await asyncio.sleep(200)
        assert len(bench.sent) == sent

    bench.play(story)


def test_a_peer_that_answered_is_asked_again_after_2_s(bench):
    bench.hosts = {VIP: PEER}
    bench.peers = {PEER}

    async def story(watch):
        assert await watch.probe([VIP], ETH0) == {VIP: PEER}
        bench.hosts = {}
        await asyncio.sleep(4)
        assert bench.told == [conflict(mac=PEER), ("ended", VIP)]

    bench.play(story)


def test_conflicts_of_one_nic_are_looked_into_together(bench):
    vips = many(100)
    bench.hosts = dict.fromkeys(vips, STRANGER)

    async def story(watch):
        await watch.probe(vips, ETH0)
        bench.hosts = {}
        sent = len(bench.sent)
        await asyncio.sleep(45)
        assert len(bench.told) == 200
        assert len(bench.sent) - sent <= 3 * 15

    bench.play(story)


def test_without_carrier_a_conflict_neither_ends_nor_is_forgotten(bench):
    bench.hosts = {VIP: STRANGER}

    async def story(watch):
        await watch.probe([VIP], ETH0)
        bench.hosts = {}
        bench.links[ETH0.index] = changed(carrier=False)
        await asyncio.sleep(100)
        assert bench.told == [conflict()]
        assert not watch.may_bind(VIP)
        bench.links[ETH0.index] = ETH0
        await asyncio.sleep(40)
        assert bench.told == [conflict(), ("ended", VIP)]

    bench.play(story)


def test_a_conflict_on_a_nic_that_is_gone_is_over(bench):
    bench.hosts = {VIP: STRANGER}

    async def story(watch):
        await watch.probe([VIP], ETH0)
        del bench.links[ETH0.index]
        await asyncio.sleep(40)
        assert bench.told == [conflict(), ("ended", VIP)]

    bench.play(story)


def test_a_conflict_of_a_vip_that_nobody_asks_for_any_more_is_forgotten_in_silence(bench):
    bench.hosts = {VIP: STRANGER}

    async def story(watch):
        await watch.probe([VIP], ETH0)
        bench.unwanted = {VIP}
        await asyncio.sleep(1.5)
        assert watch.conflicting(VIP) is None
        sent = len(bench.sent)
        await asyncio.sleep(100)
        assert len(bench.sent) == sent
        bench.unwanted = set()
        await watch.probe([VIP], ETH0)

    bench.play(story)
    assert bench.told == [conflict(), conflict()]


def test_a_conflict_is_forgotten_at_once_with_the_last_claim(bench):
    bench.hosts = {VIP: STRANGER}

    async def story(watch):
        await watch.probe([VIP, OTHER], ETH0)
        assert not watch.may_bind(VIP)
        watch.forget(VIP)
        watch.forget(OTHER)
        assert watch.may_bind(VIP)
        assert watch.conflicting(VIP) is None

    bench.play(story)
    assert bench.told == [conflict()]


def test_a_held_ipv4_vip_in_conflict_is_asked_for_and_the_conflict_ends(bench):
    bench.held = {VIP}

    async def story(watch):
        bench.claim()
        bench.hosts = {VIP: STRANGER}
        await asyncio.sleep(100)
        assert watch.conflicting(VIP) == STRANGER
        assert watch.may_bind(VIP)
        bench.hosts = {}
        await asyncio.sleep(40)
        assert watch.conflicting(VIP) is None

    bench.play(story)
    assert [word for word in bench.told if word[0] != "defend"] == [conflict(), ("ended", VIP)]


def test_a_held_ipv6_vip_in_conflict_is_listened_for_and_never_asked_for(bench):
    bench.held = {VIP6}

    async def story(watch):
        for _ in range(10):
            bench.claim(VIP6)
            await asyncio.sleep(10)
        assert watch.conflicting(VIP6) == STRANGER
        await asyncio.sleep(80)
        assert watch.conflicting(VIP6) is None

    bench.play(story)
    assert bench.sent == []
    assert [word for word in bench.told if word[0] != "defend"] == [conflict(VIP6), ("ended", VIP6)]


# -- listeners ---------------------------------------------------------------------------------------------------------


def test_the_nics_in_use_are_listened_on_and_no_others(bench):
    async def story(watch):
        assert [listener.link.name for listener in bench.listeners] == ["eth0"]
        bench.nics = {"eth1"}
        await asyncio.sleep(2)
        assert [(listener.link.name, listener.closed) for listener in bench.listeners] == [("eth0", True), ("eth1", False)]
        del bench.links[ETH1.index]
        await asyncio.sleep(2)
        assert bench.listeners[1].closed

    bench.play(story)


def test_a_broken_listener_is_opened_anew(bench):
    bench.held = {VIP}

    async def story(watch):
        bench.listeners[0].failed = True
        await asyncio.sleep(2)
        assert bench.listeners[0].closed
        bench.claim()
        assert bench.told == [conflict(), ("defend", VIP)]

    bench.play(story)


def test_a_nic_that_cannot_be_listened_on_is_told_once_and_tried_again(bench, caplog):
    bench.open_error = AnnounceError("eth0", "no")

    async def story(watch):
        await asyncio.sleep(5)
        with pytest.raises(AnnounceError):
            await watch.probe([VIP], ETH0)
        bench.open_error = None
        await asyncio.sleep(2)
        assert len(bench.listeners) == 1

    with caplog.at_level(logging.WARNING):
        bench.play(story)
    assert [record.message for record in caplog.records] == ["claims of addresses cannot be heard; trying again"]


def test_asking_on_another_nic_keeps_its_listener_until_answered(bench):
    async def story(watch):
        await asyncio.sleep(0.95)
        assert await watch.probe([VIP], ETH1) == {}
        assert [listener.link.name for listener in bench.listeners] == ["eth0", "eth1"]
        await asyncio.sleep(2)
        assert bench.listeners[1].closed

    bench.play(story)


def test_the_loop_shows_that_it_turns_and_how_many_vips_are_in_conflict(bench):
    bench.hosts = {VIP: STRANGER, VIP6: STRANGER}

    async def story(watch):
        await watch.probe([VIP, VIP6], ETH0)
        await asyncio.sleep(20)
        assert bench.heartbeats.age_s("conflicts") <= 1.0
        assert metrics.vips_in_conflict._value.get() == 2

    bench.play(story)


def test_what_is_claimed_on_another_segment_is_no_claim_of_the_vip(bench):
    bench.held = {VIP, OTHER}
    bench.homes = {VIP: ETH1.index}

    async def story(watch):
        bench.claim(VIP)
        bench.claim(OTHER)
        await asyncio.sleep(2)

    bench.play(story)
    assert {vip for _, vip, *_ in bench.told} == {OTHER}
