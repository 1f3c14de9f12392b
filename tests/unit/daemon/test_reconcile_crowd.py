"""The reconcile loop with a crowd of VIPs: turns have an end, withdrawals come first, and a tick looks only at what is due."""

import asyncio

import pytest

from kvip.daemon.reconcile_loop import UNHURRIED_PER_TURN, VIPS_PER_TURN
from tests.unit.daemon.fake_ports import LIFETIME_S, VIP, many_services, service
from tests.unit.daemon.house import House


@pytest.fixture
def house():
    return House()


def test_i2_a_withdrawal_does_not_wait_for_a_crowd_that_is_to_be_bound(house):
    """What is read while 640 VIPs wait for their turn is let go of before the last of them is bound."""
    crowd = many_services(10 * VIPS_PER_TURN)

    async def story():
        house.apply(service(VIP, uid="uid-web"))
        await asyncio.sleep(1)
        house.elector.permits = {VIP}
        house.apply(*crowd)
        await asyncio.sleep(1)
        house.log.clear()
        house.elector.permits = True
        house.wires.won(None)
        while "add" not in [call for call, _ in house.log]:
            await asyncio.sleep(0)
        house.delete()
        await asyncio.sleep(1)
        calls = [call for call in house.log if call[0] in ("add", "delete")]
        assert len(calls) == len(crowd) + 1
        assert calls.index(("delete", VIP)) <= 3 * VIPS_PER_TURN

    house.play(story)


def test_others_get_their_turn_between_slices_of_a_crowd(house):
    turns = 0

    async def count():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1
            longest.append(sum(1 for call, _ in house.log if call == "add"))
            house.log.clear()

    longest = []

    async def story():
        house.apply(*many_services(1000))
        counting = asyncio.create_task(count())
        await asyncio.sleep(0)
        while len(house.kernel.ours()) < 1000:
            await asyncio.sleep(0)
        counting.cancel()

    house.play(story)
    assert max(longest) <= VIPS_PER_TURN
    assert turns >= 1000 / VIPS_PER_TURN


def test_what_takes_several_steps_of_the_event_loop_waits_for_one_turn_not_for_several(house):
    """As a renewal: timer, task, connection, request."""
    steps = 8

    async def story():
        house.apply(*many_services(20 * VIPS_PER_TURN))
        while not house.kernel.ours():
            await asyncio.sleep(0)
        house.log.clear()
        for _ in range(steps):
            await asyncio.sleep(0)
        assert len([call for call, _ in house.log if call == "add"]) <= VIPS_PER_TURN
        assert len(house.kernel.ours()) < 20 * VIPS_PER_TURN

    house.play(story)


def plans_in_ten_seconds(count):
    """How many VIPs are planned while nothing happens but time, with so many bound and no lifetime due."""
    house, planned = House(), []
    house.apply(*many_services(count))

    async def story():
        await asyncio.sleep(1)
        house.facts.bound, bound = lambda vip: planned.append(vip) or bound(vip), house.facts.bound
        await asyncio.sleep(10)

    house.play(story)
    return len(planned)


def test_a_tick_looks_at_no_vip_whose_lifetime_is_not_due():
    assert (plans_in_ten_seconds(20), plans_in_ten_seconds(200)) == (0, 0)


@pytest.mark.parametrize("why", ["audit", "lifetimes"])
def test_a_change_does_not_wait_for_what_is_only_looked_at_again(house, why):
    planned, rushes = [], []
    marks, turn = house.reconcile._marks, house.turn
    way = "add_unhurried" if why == "audit" else "add_renewals"
    add, plan = getattr(marks, way), turn._plan

    def adding(vips, *, now):
        """Here the others begin to wait; a Service is created right after."""
        add(vips, now=now)
        if marks.waiting and not planned:
            turn._plan = lambda vip, **now: planned.append(vip) or plan(vip, **now)
            house.apply(service(VIP, uid="uid-web"))

    async def story():
        house.apply(*many_services(10 * VIPS_PER_TURN))
        await asyncio.sleep(1)
        setattr(marks, way, adding)
        house.reconcile._rush = rushes.append
        if why == "audit":
            house.upkeep.doubt("audit")
        await asyncio.sleep(0.1 if why == "audit" else LIFETIME_S / 2)
        assert len(planned) >= 64
        assert planned.index(VIP) <= 2 * UNHURRIED_PER_TURN
        assert max(rushes) <= 1, "nothing that tells of VIPs is held back for it"

    house.play(story)


def test_an_audit_looks_at_every_vip_in_the_end(house):
    planned = set()

    async def story():
        house.apply(*many_services(500))
        await asyncio.sleep(1)
        house.facts.bound, bound = lambda vip: planned.add(vip) or bound(vip), house.facts.bound
        house.upkeep.doubt("audit")
        await asyncio.sleep(0.1)
        assert planned >= set(house.kernel.ours())

    house.play(story)


def test_the_election_does_not_hear_of_lifetimes_that_are_renewed(house):
    """It would weigh each of those VIPs anew, several times a minute."""
    heard, renewed = [], []

    async def story():
        house.apply(*many_services(100))
        await asyncio.sleep(1)
        house.reconcile._news._demand_changed = heard.extend
        house.log.clear()
        await asyncio.sleep(LIFETIME_S / 2)
        renewed.extend(call for call, _ in house.log if call == "replace")

    house.play(story)
    assert len(renewed) == 100
    assert heard == []


def test_what_there_is_to_say_of_a_crowd_holds_up_neither_a_beat_nor_what_is_due(house):
    """A slow log would, until the node counts as stuck and is fenced (PROTOCOL R5)."""
    said, beats = [], []
    tell, beat = house.outcome.tell, house.heartbeats.beat

    def slow(**how):
        house.clock.advance(0.01)
        said.append(len(house.outcome._untold))
        return tell(**how)

    async def story():
        house.apply(*many_services(10 * VIPS_PER_TURN))
        house.outcome.tell = slow
        house.heartbeats.beat = lambda name: beats.append(name) or beat(name)
        while max(said, default=0) < 10 * VIPS_PER_TURN:
            await asyncio.sleep(0)
        planned, plan = [], house.turn._plan
        house.turn._plan = lambda vip, **now: planned.extend([len(house.outcome._untold)] * (vip == VIP)) or plan(vip, **now)
        beats.clear()
        house.reconcile.at(VIP, house.clock.now() + 0.02)
        await asyncio.sleep(1)
        assert planned
        assert planned[0] > 0, "before the last of them was said"
        assert beats.count("reconcile") >= 5

    house.play(story)


def test_the_election_hears_of_a_renewal_that_came_to_letting_go(house):
    heard = []

    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(1)
        house.reconcile._news._demand_changed = heard.extend
        house.firewall.exposed = lambda vip: True
        await asyncio.sleep(LIFETIME_S / 2)
        assert house.kernel.ours() == set()

    house.play(story)
    assert VIP in heard
