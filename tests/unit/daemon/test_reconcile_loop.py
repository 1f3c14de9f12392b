"""The reconcile loop: what is marked is read, planned and done, and what failed comes back in time."""

import asyncio
import errno
import logging

import pytest

from kvip import metrics
from kvip.core.model import ServiceKey, Vip
from kvip.daemon.reconcile_loop import SERVICES_PER_TURN, TICK_S
from kvip.errors import NetlinkError
from tests.unit.daemon.fake_ports import API, ETH0, ETH1, LIFETIME_S, OTHER, VIP, WEB, marked, node, service, unmarked
from tests.unit.daemon.house import House

INTERRUPTED = NetlinkError(errno.EINTR, "dump", "all addresses")


@pytest.fixture
def house():
    return House()


def many(count):
    return [service(Vip(f"10.0.{n >> 8}.{n & 255}"), key=ServiceKey(f"default/s{n}"), uid=f"uid-{n}") for n in range(1, count + 1)]


# -- from a mark to the kernel -----------------------------------------------------------------------------------------


def test_a_service_is_bound_in_the_turn_after_it_was_read_and_let_go_of_when_it_goes(house):
    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(0.001)
        assert house.kernel.ours() == {VIP}
        house.delete()
        await asyncio.sleep(0.001)
        assert house.kernel.ours() == set()

    house.play(story)


def test_a_vip_whose_service_is_recreated_at_once_stays_on_the_wire(house):
    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(1)
        house.log.clear()
        house.delete()
        house.apply(service(VIP, uid="uid-2"))
        await asyncio.sleep(1)
        assert house.log == []
        assert set(house.ledger.claimants(VIP)) == {"uid-2"}

    house.play(story)


def test_i3_a_marked_address_without_an_owner_goes_once_the_services_are_known(house):
    house.kernel.put(marked(), unmarked(OTHER))
    house.services.current = False

    async def story():
        await asyncio.sleep(5)
        assert house.kernel.ours() == {VIP}
        house.services.current = True
        house.reconcile.wake()
        await asyncio.sleep(0.001)
        assert list(house.kernel.table.values()) == [unmarked(OTHER)]

    house.play(story)


def test_i5_what_changed_while_the_caches_were_not_current_is_read_once_they_are(house):
    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(1)
        house.services.current = False
        house.delete()
        house.apply(service(OTHER, key=API, uid="uid-2"))
        await asyncio.sleep(5)
        assert house.kernel.ours() == {VIP}
        assert set(house.ledger.vips()) == {VIP}
        house.services.current = True
        house.reconcile.wake()
        await asyncio.sleep(0.001)
        assert house.kernel.ours() == {OTHER}

    house.play(story)


def test_more_services_than_one_turn_reads_are_all_read(house):
    house.apply(*many(3 * SERVICES_PER_TURN))

    async def story():
        await asyncio.sleep(0.01)
        assert len(house.kernel.ours()) == 3 * SERVICES_PER_TURN

    house.play(story)


def test_a_service_that_cannot_be_read_does_not_hold_up_the_others_nor_lose_its_vip(house, caplog):
    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(1)
        broken = service(VIP)
        broken.metadata.annotations["kube-vip.io/loadbalancerIPs"] = None
        house.apply(broken, service(OTHER, key=API, uid="uid-2"))
        await asyncio.sleep(1)
        assert house.kernel.ours() == {VIP, OTHER}

    house.play(story)
    assert [record.service for record in caplog.records if record.levelno >= logging.ERROR] == [WEB]


def test_a_node_that_takes_a_vips_address_withdraws_it(house):
    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(1)
        house.nodes.store["n2"] = node("n2", VIP)
        house.wires.node_changed("n2")
        await asyncio.sleep(0.001)
        assert house.kernel.ours() == set()
        assert ("InvalidAddress", "uid-1") in house.events.told()

    house.play(story)


def test_a_network_that_this_node_joins_makes_its_broadcast_address_no_vip(house):
    broadcast = Vip("192.0.2.255")

    async def story():
        house.apply(service(broadcast))
        await asyncio.sleep(1)
        assert house.kernel.ours() == {broadcast}
        own = unmarked(Vip("192.0.2.2"))
        house.kernel.put(own)
        house.upkeep.on_address(own, True)
        await asyncio.sleep(0.001)
        assert list(house.kernel.table.values()) == [own]
        assert ("InvalidAddress", "uid-1") in house.events.told()

    house.play(story)


def test_the_election_hears_what_a_turn_dealt_with(house):
    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(1)
        house.elector.permits = {OTHER}
        house.elector.heard_of.clear()
        house.elector.demand_changed = lambda vips: house.elector.heard_of.append((set(vips), house.demand.held(VIP)))
        house.wires.won([VIP])
        await asyncio.sleep(0.001)
        assert house.elector.heard_of == [({VIP}, False)]

    house.play(story)


def test_the_election_hears_which_vips_are_asked_for_no_more(house):
    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(1)
        house.elector.heard_of.clear()
        house.delete()
        await asyncio.sleep(0.001)
        assert {VIP} in house.elector.heard_of
        house.elector.heard_of.clear()
        await asyncio.sleep(10)
        assert house.elector.heard_of == []

    house.play(story)


def test_i5_nothing_that_a_former_daemon_left_goes_before_every_service_was_read(house):
    """More Services than one turn reads; the address of the last of them is there from before."""
    services = many(3 * SERVICES_PER_TURN)
    left = [each.metadata.annotations["kube-vip.io/loadbalancerIPs"] for each in services]
    house.kernel.put(*(marked(Vip(vip)) for vip in left))
    house.elector.permits = False
    house.desire.read_through(False)
    house.services.synced = house.services.current = False
    house.started_at = house.clock.now()

    async def story():
        await asyncio.sleep(1)
        house.apply(*services)
        house.services.synced = house.services.current = True
        house.reconcile.on_permit_changed()
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(house.kernel.ours()) == len(left)
        house.elector.permits = True
        house.wires.won(None)
        await asyncio.sleep(1)
        assert len(house.kernel.ours()) == len(left)
        assert "delete" not in [what for what, _ in house.log]

    house.play(story)


def test_what_a_former_daemon_left_goes_soon_after_another_node_turns_out_to_have_it(house):
    """The Leases may be read after the Services, and nothing marks the VIP then."""
    house.kernel.put(marked())
    house.elector.permits = False
    house.started_at = house.clock.now()
    house.apply(service(VIP))

    async def story():
        await asyncio.sleep(1)
        assert house.kernel.ours() == {VIP}
        house.elector.held_elsewhere = {VIP}
        await asyncio.sleep(0.5)
        assert house.kernel.ours() == set()

    house.play(story)


# -- permits -----------------------------------------------------------------------------------------------------------


def test_a_permit_that_was_won_binds_and_one_that_ended_lets_go(house):
    house.elector.permits = False
    house.apply(service(VIP))

    async def story():
        await asyncio.sleep(1)
        assert house.kernel.ours() == set()
        house.elector.permits = True
        house.wires.won(None)
        await asyncio.sleep(0.001)
        assert house.kernel.ours() == {VIP}
        house.elector.permits = {OTHER}
        house.wires.won([VIP])
        await asyncio.sleep(0.001)
        assert house.kernel.ours() == set()

    house.play(story)


def test_r2_a_fence_withdraws_before_it_returns_and_what_was_lost_comes_back_only_by_permit(house):
    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(1)
        house.elector.fence("renew deadline")
        assert house.kernel.ours() == set()
        assert house.announcer.active == {}
        assert house.renewals
        await asyncio.sleep(5)
        assert house.kernel.ours() == set()
        house.elector.permits = True
        house.wires.won(None)
        await asyncio.sleep(0.001)
        assert house.kernel.ours() == {VIP}

    house.play(story)


# -- what others do to the kernel --------------------------------------------------------------------------------------


def test_a_vip_that_someone_removed_is_put_back_and_announced_again_and_counted(house):
    before = metrics.put_back_total._value.get()

    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(1)
        house.log.clear()
        house.kernel.drop(VIP)
        house.upkeep.on_address(marked(), False)
        await asyncio.sleep(0.001)
        assert house.kernel.ours() == {VIP}
        assert house.log[-1] == ("start", VIP)

    house.play(story)
    assert metrics.put_back_total._value.get() - before == 1


def test_what_nobody_reported_is_found_by_the_audit(house):
    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(1)
        house.kernel.drop(VIP)
        house.kernel.put(marked(OTHER))
        await asyncio.sleep(60)
        assert house.kernel.ours() == {VIP}

    house.play(story)


def test_a_thousand_vips_flushed_by_someone_come_back_in_one_turn(house):
    house.apply(*many(1000))

    async def story():
        await asyncio.sleep(1)
        before = house.turns
        house.kernel.table.clear()
        house.upkeep.doubt("overrun")
        await asyncio.sleep(0.01)
        assert len(house.kernel.ours()) == 1000
        assert house.turns - before <= 2

    house.play(story)


def test_k7_rules_that_someone_flushed_are_put_back_and_the_vip_stays_bound(house):
    async def story():
        house.apply(service(VIP))
        house.wires.renewed(house.clock.now() + 30)
        await asyncio.sleep(1)
        house.switch.flush()
        house.upkeep.doubt_rules()
        await asyncio.sleep(0.001)
        assert house.switch.answers(VIP)
        assert house.elector.fences == []

    house.play(story)


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_failing_bind_comes_back_in_its_time_and_succeeds(house):
    house.apply(service(VIP))
    house.kernel.refuse[VIP] = errno.EINVAL
    tries = []

    async def story():
        for _ in range(170):
            house.log.clear()
            await asyncio.sleep(0.1)
            tries.extend([round(house.clock.now() - 1000)] * house.log.count(("add", VIP)))
        house.kernel.refuse.clear()
        await asyncio.sleep(20)
        assert house.kernel.ours() == {VIP}

    house.play(story)
    assert tries == [1, 3, 7, 15]


def test_k9_lifetimes_are_renewed_before_two_thirds_are_gone_a_share_per_tick(house):
    house.apply(*many(1200))
    renewed = []

    async def story():
        await asyncio.sleep(1)
        for _ in range(300):
            house.log.clear()
            await asyncio.sleep(0.1)
            renewed.append(sum(1 for call, _ in house.log if call == "replace"))
        assert sum(renewed) == 1200
        assert max(renewed) <= 512
        assert all(
            bound.expires_at - house.clock.now() > LIFETIME_S / 3 for vip in house.facts.marked() for bound in house.facts.bound(vip)
        )

    house.play(story)


def test_each_turn_is_a_beat_of_the_heart(house):
    async def story():
        for _ in range(20):
            await asyncio.sleep(0.3)
            assert house.heartbeats.age_s("reconcile") <= TICK_S

    house.play(story)


def test_a_loop_that_starts_again_looks_at_everything_again(house):
    async def story():
        await asyncio.sleep(1)
        house.services.store[WEB] = service(VIP)
        house.links = [ETH0, ETH1]
        await house.start_again()
        await asyncio.sleep(0.001)
        assert house.facts.link("eth1") == ETH1
        assert house.kernel.ours() == {VIP}

    house.play(story)


def test_k7_a_loop_that_starts_again_looks_at_the_rules(house):
    async def story():
        await asyncio.sleep(1)
        house.switch.flush()
        await house.start_again()
        await asyncio.sleep(0.001)
        assert house.switch.there

    house.play(story)


def test_what_a_former_daemon_left_is_reported_only_after_every_service_was_read(house):
    house.outcome.found_at_start({Vip("10.0.2.1"): (), VIP: ()}, removed=True)
    swept = metrics.swept_total._value.get()
    house.desire.read_through(False)
    house.apply(*many(600))

    async def story():
        await asyncio.sleep(1)

    house.play(story)
    assert metrics.swept_total._value.get() - swept == 1


def test_i2_a_place_in_the_switch_that_could_not_be_given_up_goes_at_the_next_audit(house):
    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(1)
        house.switch.fails = {"remove"}
        house.delete()
        await asyncio.sleep(1)
        assert (house.kernel.ours(), house.switch.places) == (set(), {VIP: "main"})
        house.switch.fails = set()
        await asyncio.sleep(61)
        assert house.switch.places == {}

    house.play(story)


def test_a_vip_that_moves_to_a_service_which_is_read_in_a_later_turn_stays_on_the_wire(house):
    first, *others = many(SERVICES_PER_TURN + 2)
    last = others.pop()
    vip = Vip("10.0.0.1")
    asked = []

    async def story():
        house.apply(first)
        await asyncio.sleep(1)
        house.log.clear()
        house.elector.demand_changed = lambda vips: asked.extend(house.demand.asked(each) for each in vips if each == vip)
        taker = service(vip, key=ServiceKey(f"default/{last.metadata.name}"), uid=last.metadata.uid)
        house.apply(service(VIP, key=ServiceKey(f"default/{first.metadata.name}"), uid=first.metadata.uid, version="2"), *others, taker)
        await asyncio.sleep(1)
        assert vip in house.kernel.ours()
        assert ("delete", vip) not in house.log
        assert all(asked)

    house.play(story)
