"""What the rooms remember after Services, addresses and fences without end: no more than what there is now."""

import asyncio

import pytest

from kvip.core.model import Vip
from kvip.daemon import nics
from tests.unit.daemon.fake_ports import API, OTHER, VIP, many_services, marked, service
from tests.unit.daemon.house import House
from tests.unit.daemon.nic_house import FAR, own, settle, two_nics, wants
from tests.unit.daemon.secured_house import Secured, with_ports
from tests.unit.daemon.turn_bench import TurnHouse

ROUNDS = 200


def address(number):
    return Vip(f"198.51.{number >> 8}.{number & 255}")


def kept(room, name):
    return vars(room)[name]


async def test_services_that_share_an_announced_vip_one_after_the_other():
    house = House()
    house.read(service(VIP))
    house.publisher.announced(VIP, "eth0")
    for number in range(ROUNDS):
        house.read(service(VIP, key=API, uid=f"fresh-{number}"))
        house.delete(API)
        house.look(API)
    assert house.events.told().count(("VIPBound", f"fresh-{ROUNDS - 1}")) == 1
    assert len(kept(house.publisher, "_told")[VIP]) <= 2


async def test_services_one_after_the_other_on_a_vip_without_a_nic():
    house = two_nics(House())
    house.read(wants("eth7", VIP))
    for number in range(ROUNDS):
        house.read(wants("eth7", VIP, key=API, uid=f"uid-{number + 2}"))
        settle(house, VIP)
        house.delete(API)
        house.look(API)
    assert ("NoNic", f"uid-{ROUNDS + 1}") in house.events.told()
    assert set(kept(house.unplaced, "_told")[VIP]) <= {"uid-1", f"uid-{ROUNDS + 1}"}


async def test_vips_that_were_fenced_between_the_end_of_their_service_and_their_own():
    house = House()
    for number in range(ROUNDS):
        vip = address(number)
        house.read(service(vip, uid=f"fresh-{number}"))
        house.know(marked(vip))
        house.delete()
        house.look()
        house.facts.note_gone(marked(vip))
        house.wires.fenced("a test")
        house.desire.read_through(True)
    house.look()
    assert kept(house.desire.claiming, "_former") == {}


@pytest.mark.parametrize("end", ["deleted", "lost to another node"])
async def test_vips_that_were_asked_for_and_never_bound(end):
    """Asked for again much later, the time to the first frame would count from then."""
    house = TurnHouse()
    for number in range(ROUNDS):
        vip = address(number)
        house.asking.unasked = {vip}
        house.read(service(vip, uid=f"fresh-{number}"))
        await house.act(vip)
        assert vip in kept(house.outcome, "_asked_at")
        if end == "deleted":
            house.delete()
            house.look()
        else:
            house.elector.permits = False
        await house.act(vip)
        house.elector.permits = True
    assert kept(house.outcome, "_asked_at") == {}


def test_places_of_addresses_and_choices_that_nobody_asks_for_any_more():
    house = two_nics(House())
    house.know(own("198.51.100.5", house.links[0]))
    house.read(wants("auto", FAR, key=API, uid="uid-0"))
    for number in range(ROUNDS):
        house.read(wants("auto", address(number), uid=f"fresh-{number}"))
        house.read(wants(f"eth{number}", OTHER, version=str(number)))
        house.nics.doubt()
        house.nics.settle()
    assert len(kept(house.nics, "_placed")) <= 2 * len(house.ledger) + nics.SPARE + 8
    assert house.nics.placed(FAR).nic == "eth0"


def test_places_that_are_asked_for_are_kept_however_many_are_forgotten(monkeypatch):
    """A change of NICs must be noticed for each of them."""
    monkeypatch.setattr(nics, "SPARE", 0)
    house = two_nics(House())
    house.know(own("198.51.100.5", house.links[0]))
    house.read(wants("auto", FAR, key=API, uid="uid-0"), wants("eth1", VIP))
    for number in range(10):
        house.read(wants("auto", address(number), key="default/third", uid=f"fresh-{number}"))
        house.nics.doubt()
        house.nics.settle()
    asked = {choice.nic for choice, _ in kept(house.nics, "_placed")}
    assert {"eth0", "eth1", "auto"} <= asked


def test_elements_of_rules_go_with_their_services():
    house = Secured()

    async def story():
        for number in range(20):
            house.apply(with_ports(service(VIP, uid=f"fresh-{number}"), 80 + number))
            await asyncio.sleep(0.2)
        assert house.table.ports() == {99}

    house.play(story)
    assert list(kept(house.firewall, "_compiled").pieces) == [VIP]


def test_what_became_known_is_told_of_every_vip_that_was_not_known_of():
    """The election keeps a VIP of which it was told that nobody knows; a Service that went meanwhile is in no list any more."""
    house = House()
    house.elector.permits = False
    services = many_services(200)
    told = set()
    house.elector.demand_changed = lambda vips: told.update(vips) if house.desire.known else None

    async def story():
        house.apply(*services)
        await asyncio.sleep(0.5)
        told.clear()
        house.desire.read_through(False)
        for each in services[:100]:
            del house.services.store[f"{each.metadata.namespace}/{each.metadata.name}"]
        house.reconcile.wake()
        await asyncio.sleep(0.5)
        assert house.desire.known

    house.play(story)
    gone = {Vip(each.metadata.annotations["kube-vip.io/loadbalancerIPs"]) for each in services[:100]}
    assert gone <= told
    assert kept(house.reconcile, "_told_unknown") == set()
