"""A Service that changes its address: the former one stays until the new one is announced, and no longer."""

import asyncio

import pytest

from kvip.daemon.lingering import LINGER_S
from tests.unit.daemon.fake_ports import API, OTHER, THIRD, VIP, WEB, marked, service
from tests.unit.daemon.house import House
from tests.unit.daemon.services import older, uids, with_ports, younger


@pytest.fixture
def house():
    return House()


def moved(house, *to, uid="uid-1", shows=()):
    house.read(service(VIP))
    house.know(marked())
    house.publisher.announced(VIP, "eth0")
    house.read(service(*to, uid=uid, shows=shows))
    return set(house.ledger.vips())


def test_the_former_address_stays_until_the_new_one_is_announced_here(house):
    assert moved(house, OTHER) == {VIP, OTHER}
    house.publisher.announced(OTHER, "eth0")
    assert house.look() == {VIP, OTHER}
    assert set(house.ledger.vips()) == {OTHER}
    assert [claimant.uid for claimant in house.desire.claiming.former_claimants(VIP)] == ["uid-1"]
    assert house.desire.claiming.lingers_until() == float("inf")


def test_the_former_address_stays_until_the_status_shows_the_new_one_elsewhere(house):
    moved(house, OTHER)
    house.read(service(OTHER, shows=[VIP, OTHER]))
    assert set(house.ledger.vips()) == {OTHER}
    assert house.status.written[-1] == ("uid-1", [OTHER])


def test_the_former_address_goes_in_time_though_the_new_one_never_comes(house):
    assert moved(house, OTHER) == {VIP, OTHER}
    assert house.desire.claiming.lingers_until() == house.clock.now() + LINGER_S
    house.clock.advance(LINGER_S / 2)
    house.look()
    assert house.desire.claiming.lingered() == []
    house.clock.advance(LINGER_S / 2)
    assert house.desire.claiming.lingered() == [WEB]
    house.look()
    assert set(house.ledger.vips()) == {OTHER}
    assert house.desire.claiming.lingered() == []
    assert LINGER_S < 1


def test_the_loop_itself_takes_the_former_address_down_in_time(house):
    house.asking.taken = {OTHER}
    house.know(marked())

    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(0.01)
        house.apply(service(OTHER))
        await asyncio.sleep(LINGER_S - 0.1)
        assert house.kernel.ours() == {VIP}
        await asyncio.sleep(0.15)
        assert house.kernel.ours() == set()

    house.play(story)


@pytest.mark.parametrize(
    "change",
    [
        lambda house: house.read(service(OTHER, kind="ClusterIP")),
        lambda house: house.read(service(OTHER, uid="uid-9")),
        lambda house: house.read(service()),
        lambda house: (house.delete(), house.look()),
    ],
    ids=["not ours", "another Service", "asks for nothing", "deleted"],
)
def test_nothing_stays_for_a_service_that_is_gone_or_asks_for_nothing(house, change):
    assert VIP in moved(house, OTHER)
    change(house)
    assert not house.ledger.claimants(VIP)


def test_a_service_that_only_drops_an_address_is_rid_of_it_at_once(house):
    house.read(service(VIP, OTHER))
    house.know(marked(), marked(OTHER))
    house.read(service(OTHER))
    assert set(house.ledger.vips()) == {OTHER}


def test_an_address_that_is_refused_does_not_stay(house):
    house.read(younger(80))
    house.know(marked())
    house.read(older(80), with_ports(service(VIP, OTHER, key=API, uid="uid-2"), 80, second=2))
    assert uids(house) == {"uid-1"}


def test_only_the_node_that_has_the_former_address_keeps_it(house):
    house.read(service(VIP))
    house.read(service(OTHER))
    assert set(house.ledger.vips()) == {OTHER}


def test_an_address_that_another_service_takes_over_is_not_waited_for(house):
    moved(house, OTHER)
    house.read(service(VIP, key=API, uid="uid-2"))
    house.look()
    assert uids(house) == {"uid-2"}


def test_a_change_of_mind_while_the_former_address_stays(house):
    moved(house, OTHER)
    house.clock.advance(LINGER_S / 2)
    house.read(service(THIRD))
    assert set(house.ledger.vips()) == {VIP, THIRD}
    house.clock.advance(LINGER_S / 2)
    house.look()
    assert set(house.ledger.vips()) == {THIRD}
    house.read(service(VIP))
    assert VIP in set(house.ledger.vips())
