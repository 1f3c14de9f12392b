"""Nodes of mode `claims` and of mode `global` on one store: who comes second takes nothing, and of two at once at most one acts (G5)."""

import asyncio

import pytest

from kvip.daemon.lease_writer import new_incarnation
from tests.unit.daemon.claims_bench import SHARED, TIMERS, Bench

VIP = "192.0.2.7"


@pytest.fixture
def bench():
    return Bench()


def test_g5_a_node_of_mode_global_takes_nothing_while_a_heartbeat_lives_and_at_once_when_it_was_given_back(bench):
    async def story():
        one = bench.start("n1", VIP)
        await asyncio.sleep(0.5)
        two = bench.start("n2", VIP, mode="global")
        await asyncio.sleep(3 * TIMERS.lease_duration_s)
        assert two.loop.valid_until is None
        assert one.loop.incarnation in two.loop.blocked
        await bench.stop(one.task)
        await one.loop.release()
        await asyncio.sleep(1.5 * TIMERS.retry_period_s)
        assert two.loop.permit(VIP) is not None
        assert two.loop.blocked == ""

    bench.play(story)


def test_g5_a_killed_node_of_mode_claims_is_waited_for_and_its_heartbeat_ended(bench):
    async def story():
        one = bench.start("n1", VIP)
        await asyncio.sleep(0.5)
        two = bench.start("n2", VIP, mode="global")
        await asyncio.sleep(2.0)
        last = max(at for at, verb, name in bench.store.log if (verb, name) == ("PUT", "kvip-node-n1"))
        await bench.stop(one.task)
        while two.loop.valid_until is None:
            await asyncio.sleep(0.01)
        assert last + TIMERS.lease_duration_s <= bench.clock.now() < last + TIMERS.lease_duration_s + 2.5
        await asyncio.sleep(0.5)
        assert bench.store.leases["kvip-node-n1"].spec.holder_identity == ""

    bench.play(story)


def test_g5_what_is_in_the_way_is_looked_at_while_a_missing_lease_is_waited_for(bench):
    """The two waits run beside each other: a killed node of mode `claims` is not waited for after a missing Lease was (T4)."""

    async def story():
        one = bench.start("n1", VIP)
        await asyncio.sleep(0.5)
        two = bench.start("n2", VIP, mode="global")
        two.hands.earlier = True
        await asyncio.sleep(0.5)
        assert one.loop.incarnation in two.loop.blocked
        await bench.stop(one.task)
        killed = bench.clock.now()
        while two.loop.valid_until is None:
            await asyncio.sleep(0.01)
        assert bench.clock.now() - killed < TIMERS.lease_duration_s + 1.5

    bench.play(story)


def test_g5_a_heartbeat_that_vanished_is_waited_for_like_a_living_one(bench):
    async def story():
        one = bench.start("n1", VIP)
        await asyncio.sleep(0.5)
        two = bench.start("n2", VIP, mode="global")
        await asyncio.sleep(2.0)
        await bench.stop(one.task)
        bench.store.delete("kvip-node-n1")
        deleted = bench.clock.now()
        while two.loop.valid_until is None:
            await asyncio.sleep(0.01)
        assert bench.clock.now() - deleted >= TIMERS.lease_duration_s

    bench.play(story)


def test_g5_a_node_of_mode_claims_takes_nothing_while_the_shared_lease_is_held(bench):
    async def story():
        one = bench.start("n1", VIP, mode="global")
        await asyncio.sleep(0.5)
        assert one.hands.bound == {VIP}
        two = bench.start("n2", VIP)
        await asyncio.sleep(3 * TIMERS.lease_duration_s)
        assert two.loop.valid_until is not None, "alive"
        assert two.loop.permit(VIP) is None
        assert SHARED in two.loop.blocked
        assert one.loop.incarnation in two.loop.blocked
        await bench.stop(one.task)
        await one.loop.release()
        await asyncio.sleep(1.5 * TIMERS.retry_period_s)
        assert two.loop.permit(VIP) is not None

    bench.play(story)


@pytest.mark.parametrize("slow", ["nothing", SHARED, "kvip-"])
@pytest.mark.parametrize("lead_ms", range(-40, 41, 4))
def test_g5_of_two_modes_that_come_at_the_same_time_at_most_one_acts(bench, lead_ms, slow):
    async def story():
        bench.store.fault = lambda verb, name: "slow" if verb in ("PUT", "POST") and name.startswith(slow) else None
        first, second = ("claims", "global") if lead_ms >= 0 else ("global", "claims")
        nodes = [bench.start("n1", VIP, mode=first)]
        await asyncio.sleep(abs(lead_ms) / 1000)
        nodes.append(bench.start("n2", VIP, mode=second))
        for _ in range(400):
            await asyncio.sleep(0.005)
            assert sum(node.loop.permit(VIP) is not None for node in nodes) <= 1
        await asyncio.sleep(2 * TIMERS.lease_duration_s)
        assert sum(node.loop.permit(VIP) is not None for node in nodes) == 1

    bench.play(story)


def test_g5_a_list_that_fails_counts_as_something_in_the_way(bench):
    async def story():
        bench.store.fault = lambda verb, name: "refused" if verb == "LIST" else None
        node = bench.start("n1", VIP, mode="global")
        await asyncio.sleep(3.0)
        assert node.loop.valid_until is None
        bench.store.fault = lambda verb, name: None
        await asyncio.sleep(2.5)
        assert node.loop.permit(VIP) is not None

    bench.play(story)


# -- what GlobalElection answers of its own -------------------------------------------------------------------------------------------


def test_the_shared_lease_permits_every_vip_to_its_holder_alone(bench):
    async def story():
        one, two = bench.start("n1", VIP, mode="global"), bench.start("n2", VIP, mode="global")
        await asyncio.sleep(2.0)
        holder, other = (one, two) if one.loop.valid_until is not None else (two, one)
        assert holder.loop.permit("192.0.2.99") == holder.loop.valid_until
        assert (other.loop.permit(VIP), other.loop.elsewhere(VIP), holder.loop.elsewhere(VIP)) == (None, True, False)
        assert (holder.loop.speaks("any"), other.loop.speaks("any"), holder.loop.peer_macs()) == (True, False, ())
        assert holder.loop.observed
        assert other.loop.observed

    bench.play(story)


def test_other_leases_than_the_shared_one_say_nothing(bench):
    async def story():
        node = bench.start("n1", VIP, mode="global")
        await asyncio.sleep(0.5)
        lease = bench.store.write("another", holder=new_incarnation("n2"))
        node.loop.lease_changed("another", lease)
        node.loop.lease_changed("another", None)
        await asyncio.sleep(0.5)
        assert not node.hands.fences

    bench.play(story)


def test_f2_a_doubt_in_mode_global_reads_the_lease_and_arms_again(bench):
    async def story():
        node = bench.start("n1", VIP, mode="global")
        await asyncio.sleep(0.5)
        armed = len(node.hands.armed)
        del bench.store.log[:]
        node.loop.doubt(VIP)
        await asyncio.sleep(0.05)
        assert [line[1:] for line in bench.store.log][:1] == [("GET", SHARED)]
        assert len(node.hands.armed) > armed
        bench.store.write(SHARED, holder=new_incarnation("n2"), labels={})
        node.loop.doubt(VIP)
        await asyncio.sleep(0.05)
        assert [reason for _, reason in node.hands.fences] == ["lease taken by another"]

    bench.play(story)


def test_g5_a_node_that_follows_another_holder_does_not_go_on_saying_what_was_in_the_way(bench):
    """It does not look again while it follows, so what it saw last is over without its knowing."""

    async def story():
        one = bench.start("n1", VIP)
        await asyncio.sleep(0.5)
        await bench.stop(one.task)
        two = bench.start("n2", VIP, mode="global")
        await asyncio.sleep(0.5)
        three = bench.start("n3", VIP, mode="global")
        await asyncio.sleep(1.0)
        assert one.loop.incarnation in three.loop.blocked
        while two.loop.valid_until is None:
            await asyncio.sleep(0.01)
        await asyncio.sleep(2 * TIMERS.lease_duration_s)
        assert three.loop.valid_until is None
        assert three.loop.blocked == ""

    bench.play(story)
