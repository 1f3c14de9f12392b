"""Foreign claims while a VIP is held: reported, defended, told to the election, or of no concern."""

import asyncio

import pytest

from kvip import metrics
from kvip.core.model import Vip
from tests.unit.daemon.conflict_bench import ETH1, OTHER, PEER, VIP, Bench, conflict, many


@pytest.fixture
def bench():
    return Bench()


def test_f2_a_strangers_claims_are_reported_once_and_defended_once_in_10_s(bench):
    bench.held = {VIP}
    times = []

    async def story(watch):
        for _ in range(200):
            before = len(bench.told)
            bench.claim(count=50)
            times.extend(bench.since_start() for word in bench.told[before:] if word == ("defend", VIP))
            await asyncio.sleep(0.1)
        assert watch.may_bind(VIP)

    before = metrics.foreign_claims_total.labels("stranger")._value.get()
    bench.play(story)
    assert [word for word in bench.told if word[0] != "defend"] == [conflict()]
    assert [round(at) for at in times] == [0, 10]
    assert metrics.foreign_claims_total.labels("stranger")._value.get() - before == 10_000


def test_f1_f2_a_peers_claims_go_to_the_election_once_a_second_and_are_never_defended(bench):
    bench.held = {VIP}
    bench.peers = {PEER}

    async def story(watch):
        for _ in range(50):
            bench.claim(mac=PEER, count=3)
            await asyncio.sleep(0.1)
        assert watch.conflicting(VIP) is None

    bench.play(story)
    assert set(bench.told) == {("peer", VIP, PEER)}
    assert 4 <= len(bench.told) <= 6


def test_f1_two_holders_by_mistake_that_hear_each_other_do_not_answer_for_ever(bench):
    """Each announcement of ours is answered by a claim of the stranger's, and the other way round."""
    bench.held = {VIP}

    async def story(watch):
        for _ in range(1000):
            if bench.told and bench.told[-1] == ("defend", VIP):
                bench.claim()
            await asyncio.sleep(0.01)
            bench.claim()

    bench.play(story)
    assert bench.told.count(("defend", VIP)) <= 2


def test_what_is_not_held_here_concerns_nobody(bench):
    bench.held = {OTHER}

    async def story(watch):
        bench.claim(VIP)
        bench.claim(OTHER, probing=True)
        bench.claim(OTHER, ETH1.mac)
        await asyncio.sleep(2)

    bench.play(story)
    assert bench.told == []


def test_a_frame_that_concerns_no_vip_costs_no_walk_over_the_vips(bench):
    looked_up = []

    class Held(set):
        def __contains__(self, vip):
            looked_up.append(vip)
            return super().__contains__(vip)

        def __iter__(self):
            raise AssertionError("walked over the VIPs")

    bench.held = Held(many(10_000))

    async def story(watch):
        bench.claim(Vip("192.0.2.99"), count=1000)

    bench.play(story)
    assert len(looked_up) == 1000
    assert bench.told == []
