"""VIPs pass from node to node in mode `claims`: refused, handed over, given back, and taken from the dead."""

import asyncio

import pytest

from tests.unit.daemon.claims_bench import TIMERS, Bench, holding

VIP = "192.0.2.7"
HEARTBEAT = "kvip-node-n1"


@pytest.fixture
def bench():
    return Bench()


def test_t5_a_vip_that_is_refused_is_held_by_the_other_node(bench):
    async def story():
        one, two = bench.start("n1", VIP), bench.start("n2", VIP)
        await asyncio.sleep(1.0)
        holder, other = (one, two) if one.hands.bound else (two, one)
        assert (holder.hands.bound, other.hands.bound) == ({VIP}, set())
        assert other.loop.elsewhere(VIP)
        assert not holder.loop.elsewhere(VIP)
        holder.loop.refuse(VIP)
        await asyncio.sleep(1.0)
        assert (holder.hands.bound, other.hands.bound) == (set(), {VIP})

    bench.play(story)


def test_t5_whether_a_vip_is_bound_is_asked_again_before_another_is_named(bench):
    """It was bound after the election was told last (`daemon.news`), and is slow to be let go of."""

    async def story():
        one, two = bench.start("n1", VIP), bench.start("n2", VIP)
        for node in (one, two):
            node.hands.won = lambda vips, hands=node.hands: hands.bound.update(vip for vip in vips if hands.loop.permit(vip) is not None)
        await asyncio.sleep(1.0)
        holder, other = (one, two) if one.hands.bound else (two, one)
        holder.loop.refuse(VIP)
        await asyncio.sleep(0.5)
        assert holder.loop.permit(VIP) is None
        assert (holder.hands.bound, other.hands.bound) == ({VIP}, set()), "written off while it is bound"
        holder.hands.bound.clear()
        holder.loop.demand_changed([VIP])
        await asyncio.sleep(0.5)
        assert other.hands.bound == {VIP}

    bench.play(story)


def test_what_was_given_back_is_free_at_once_for_the_other(bench):
    async def story():
        one = await holding(bench, VIP)
        two = bench.start("n2", VIP)
        await asyncio.sleep(1.0)
        await bench.stop(one.task)
        one.hands.bound.clear()
        await one.loop.release()
        assert bench.store.leases[HEARTBEAT].spec.holder_identity == ""
        released = bench.clock.now()
        while not two.hands.bound:
            await asyncio.sleep(0.01)
        assert bench.clock.now() - released < 0.4

    bench.play(story)


def test_a_dead_node_is_ended_before_its_vip_is_taken_and_that_not_before_a_lease(bench):
    async def story():
        one = await holding(bench, VIP)
        two = bench.start("n2", VIP)
        await asyncio.sleep(1.0)
        last = max(at for at, verb, name in bench.store.log if (verb, name) == ("PUT", HEARTBEAT))
        await bench.stop(one.task)
        del bench.store.log[:]
        while not two.hands.bound:
            await asyncio.sleep(0.01)
        assert TIMERS.lease_duration_s <= bench.clock.now() - last < TIMERS.lease_duration_s + 0.5
        writes = [name for _, verb, name in bench.store.log if verb in ("PUT", "POST") and name != "kvip-node-n2"]
        assert writes[0] == HEARTBEAT
        assert writes[1].startswith("kvip-claims-")

    bench.play(story)
