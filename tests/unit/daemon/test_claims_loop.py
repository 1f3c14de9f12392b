"""The loop of mode `claims` on a fake clock: validity ends when it ends, and what must be a fence is one in the same instant."""

import asyncio
import itertools

import pytest

from tests.unit.daemon.claims_bench import ANSWER_S, SHARED, TIMERS, Bench, holding

VIP, OTHER = "192.0.2.7", "192.0.2.8"
HEARTBEAT = "kvip-node-n1"


@pytest.fixture
def bench():
    return Bench()


def test_a_vip_that_is_asked_for_is_permitted_and_the_heartbeat_renewed_each_period(bench):
    async def story():
        node = await holding(bench, VIP)
        del bench.store.log[:]
        await asyncio.sleep(10)
        assert node.loop.permit(VIP) == node.loop.valid_until
        assert node.loop.permit(OTHER) is None
        assert node.loop.valid_until > bench.clock.now() + 1.9
        assert not node.hands.fences

    bench.play(story)
    puts = [at for at, verb, name in bench.store.log if (verb, name) == ("PUT", HEARTBEAT)]
    assert 9 <= len(puts) <= 11
    assert all(1.0 <= later - earlier < 1.1 for earlier, later in itertools.pairwise(puts))
    assert [line for line in bench.store.log if line[2] not in (HEARTBEAT, SHARED)] == []


def test_a_vip_was_had_once_it_was_bound_here_or_by_a_former_holder(bench):
    async def story():
        bench.store.write("kvip-cluster", annotations={"kvip.io/records": "1"})
        n1 = bench.start("n1", VIP, OTHER)
        bind = n1.hands.won
        n1.hands.won = lambda vips: (bind(vips), n1.hands.bound.discard(OTHER), n1.loop.demand_changed({VIP, OTHER}))
        n2 = bench.start("n2", VIP, OTHER)
        n2.hands.unable = {VIP, OTHER}
        assert n1.loop.had(VIP) is False, "nothing is known yet"
        await asyncio.sleep(0.3)
        assert n1.loop.permit(OTHER) is not None
        assert n1.hands.bound == {VIP}
        for node in (n1, n2):
            assert (node.loop.had(VIP), node.loop.had(OTHER)) == (True, False)
            assert node.loop.had("192.0.2.99") is False

    bench.play(story)


@pytest.mark.parametrize("fault", ["hangs", "refused", 30.0])
def test_r2_validity_ends_at_its_end_whatever_requests_do(bench, fault):
    async def story():
        node = await holding(bench, VIP)
        bench.store.fault = lambda verb, name: fault if verb != "GET" or fault != 30.0 else None
        bench.store.watchers.clear()
        before = node.loop.incarnation
        await asyncio.sleep(1.0)
        until = node.loop.valid_until
        await asyncio.sleep(until - bench.clock.now() + 0.01)
        ((at, reason),) = node.hands.fences
        assert at == pytest.approx(until, abs=0.002)
        assert reason in ("renew deadline", "the Leases cannot be seen")
        assert node.loop.permit(VIP) is None
        assert node.loop.incarnation != before
        await asyncio.sleep(5)
        assert len(node.hands.fences) == 1

    bench.play(story)


def test_r2_the_fence_has_a_timer_of_its_own_and_needs_no_turn_of_the_loop(bench):
    async def story():
        node = await holding(bench, VIP)
        bench.store.watchers.clear()
        until = node.loop.valid_until
        await bench.stop(node.task)
        await asyncio.sleep(until - bench.clock.now() + 0.01)
        assert [reason for _, reason in node.hands.fences] == ["renew deadline"]
        assert node.hands.fences[0][0] == pytest.approx(until, abs=0.002)

    bench.play(story)


def test_r1_a_permit_is_checked_against_the_clock_at_every_call(bench):
    async def story():
        node = await holding(bench, VIP)
        until = node.loop.permit(VIP)
        bench.clock.advance(until - bench.clock.now() - 0.001)
        assert node.loop.permit(VIP) == until
        bench.clock.advance(0.001)
        assert node.loop.permit(VIP) is None
        assert node.loop.valid_until is None
        assert not node.hands.fences, "no timer ran yet"

    bench.play(story)


def test_r4_a_suspend_is_a_fence_before_anything_is_permitted(bench):
    async def story():
        node = await holding(bench, VIP)
        before = node.loop.incarnation
        bench.clock.suspend(0.2)
        assert node.loop.permit(VIP) is None
        assert [reason for _, reason in node.hands.fences] == ["suspend"]
        assert node.loop.incarnation != before
        await asyncio.sleep(1.0)
        assert node.hands.bound == {VIP}, "a new life holds again what the old one of this very daemon held"

    bench.play(story)


def test_r5_a_node_that_cannot_act_does_not_renew(bench):
    async def story():
        node = await holding(bench, VIP)
        node.turning = False
        await asyncio.sleep(TIMERS.renew_deadline_s + 0.3)
        del bench.store.log[:]
        await asyncio.sleep(TIMERS.renew_deadline_s)
        assert [line for line in bench.store.log if line[1:] == ("PUT", HEARTBEAT)] == []
        assert [reason for _, reason in node.hands.fences] == ["renew deadline"]
        node.turning = True
        await asyncio.sleep(1.0)
        assert node.hands.bound == {VIP}

    bench.play(story)


def test_r3_a_foreign_heartbeat_in_the_watch_is_a_fence_before_the_call_returns(bench):
    async def story():
        node = await holding(bench, VIP)
        bench.store.watchers.clear()
        lease = bench.edit(HEARTBEAT, holder_identity="n1_" + "f" * 32)
        node.loop.lease_changed(HEARTBEAT, lease)
        assert [reason for _, reason in node.hands.fences] == ["heartbeat taken by another"]
        assert node.loop.permit(VIP) is None

    bench.play(story)


def test_r3_a_record_that_takes_a_vip_away_is_a_fence_before_the_call_returns(bench):
    async def story():
        node = await holding(bench, VIP)
        (name,) = [name for name in bench.store.leases if name.startswith("kvip-claims-")]
        bench.store.watchers.clear()
        node.loop.lease_changed(name, bench.store.write(name, annotations={"kvip.io/claims": "{}"}))
        assert [reason for _, reason in node.hands.fences] == ["claims changed by another"]

    bench.play(story)


def test_r3_a_heartbeat_that_was_deleted_is_read_again_and_then_a_fence(bench):
    async def story():
        node = await holding(bench, VIP)
        bench.store.delete(HEARTBEAT)
        await asyncio.sleep(0.02)
        assert [reason for _, reason in node.hands.fences] == ["heartbeat deleted"]

    bench.play(story)


def test_a_switch_that_cannot_be_armed_is_a_fence_with_its_reason(bench):
    async def story():
        node = await holding(bench, VIP)
        node.hands.problem = "the switch ran out"
        await asyncio.sleep(1.1)
        assert node.hands.fences[0][1] == "the switch ran out"
        assert node.loop.permit(VIP) is None

    bench.play(story)


@pytest.mark.parametrize("slow", [HEARTBEAT, "kvip-claims-"])
def test_f2_in_doubt_the_switch_is_not_armed_before_record_and_heartbeat_were_read(bench, slow):
    async def story():
        node = await holding(bench, VIP)
        bench.store.fault = lambda verb, name: "hangs" if verb == "GET" and name.startswith(slow) else None
        until, armed = node.loop.valid_until, len(node.hands.armed)
        node.loop.doubt(VIP)
        await asyncio.sleep(until - bench.clock.now() - 0.1)
        assert len(node.hands.armed) == armed, "not by a renewal that went well meanwhile"
        bench.store.fault = lambda verb, name: None
        await asyncio.sleep(1.5)
        assert [at for at, _ in node.hands.armed[armed:]], "read: armed again, by this life or by the next"

    bench.play(story)


def test_f2_a_doubt_that_both_reads_dispel_arms_at_once_and_fences_nothing(bench):
    async def story():
        node = await holding(bench, VIP)
        armed = len(node.hands.armed)
        doubted = bench.clock.now()
        node.loop.doubt(VIP)
        assert len(node.hands.armed) == armed
        await asyncio.sleep(0.1)
        again, until = node.hands.armed[armed]
        assert 0.9 * ANSWER_S < again - doubted < 0.05
        assert until == node.loop.valid_until
        assert not node.hands.fences

    bench.play(story)


def test_one_living_node_speaks_for_each_service(bench):
    async def story():
        nodes = [bench.start(name, VIP) for name in ("n1", "n2")]
        await asyncio.sleep(1.0)
        uids = [f"uid-{number}" for number in range(40)]
        spoken = [[node.loop.speaks(uid) for node in nodes] for uid in uids]
        assert all(sum(who) == 1 for who in spoken)
        assert 0 < sum(who[0] for who in spoken) < len(uids)
        assert nodes[0].loop.peer_macs() == {bytes.fromhex("020000000002")}
        bench.clock.advance(TIMERS.renew_deadline_s + 0.1)
        assert not any(node.loop.speaks(uid) for node in nodes for uid in uids), "nobody who may not act"

    bench.play(story)


@pytest.mark.parametrize("gives_back", [True, False])
def test_a_holder_that_is_over_counts_as_elsewhere_no_more_though_nobody_can_take_its_vips(bench, gives_back):
    async def story():
        one, two = bench.start("n1", VIP), bench.start("n2", VIP)
        two.hands.unable = {VIP}
        await asyncio.sleep(1.0)
        assert one.hands.bound == {VIP}
        assert two.loop.elsewhere(VIP)
        await bench.stop(one.task)
        if gives_back:
            await one.loop.release()
        else:
            await asyncio.sleep(TIMERS.lease_duration_s - 1.0)
            assert two.loop.elsewhere(VIP), "it may live"
            await asyncio.sleep(1.5)
        await asyncio.sleep(0.2)
        assert not two.loop.elsewhere(VIP)

    bench.play(story)
