"""From a mark to the kernel: what is marked is read, planned and done, as far as a permit goes."""

import asyncio
import logging

import pytest

from kvip.core.model import ServiceKey, Vip
from kvip.daemon.reconcile_loop import SERVICES_PER_TURN
from tests.unit.daemon.fake_ports import (
    API,
    OTHER,
    VIP,
    WEB,
    many_services,
    marked,
    node,
    service,
    unmarked,
)
from tests.unit.daemon.house import House


@pytest.fixture
def house():
    return House()


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
    house.apply(*many_services(3 * SERVICES_PER_TURN))

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


def test_i5_nothing_that_is_permitted_goes_before_every_service_was_read(house):
    """More Services than one turn reads; the address of the last of them is there before they are read."""
    services = many_services(3 * SERVICES_PER_TURN)
    there = [each.metadata.annotations["kube-vip.io/loadbalancerIPs"] for each in services]
    house.kernel.put(*(marked(Vip(vip)) for vip in there))
    house.desire.read_through(False)
    house.services.synced = house.services.current = False

    async def story():
        await asyncio.sleep(1)
        house.apply(*services)
        house.services.synced = house.services.current = True
        house.reconcile.on_permit_changed()
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(house.kernel.ours()) == len(there)
        await asyncio.sleep(1)
        assert len(house.kernel.ours()) == len(there)
        assert "delete" not in [what for what, _ in house.log]

    house.play(story)


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


def test_a_vip_that_moves_to_a_service_which_is_read_in_a_later_turn_stays_on_the_wire(house):
    first, *others = many_services(SERVICES_PER_TURN + 2)
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
