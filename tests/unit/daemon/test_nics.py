"""Which NIC each VIP goes to as NICs, addresses and Services change, and which node is a candidate."""

import logging

import msgspec
import pytest

from kvip.core.model import IfIndex
from kvip.daemon.nics import SUBNET_GRACE_S
from tests.unit.daemon.fake_ports import API, ETH0, ETH1, OTHER, VIP, marked, service
from tests.unit.daemon.house import House
from tests.unit.daemon.nic_house import FAR, link_comes, link_goes, own, two_nics, wants


@pytest.fixture
def house():
    return two_nics(House())


def test_each_vip_goes_where_its_service_wants_it(house):
    house.read(service(VIP), wants("eth1", OTHER, key=API, uid="uid-2"))
    assert house.nics.link(VIP) == ETH0
    assert house.nics.link(OTHER) == ETH1
    assert house.nics.used() == house.nics.announcing() == {"eth0", "eth1"}


def test_the_nic_of_the_settings_is_announced_on_even_without_vips(house):
    assert house.nics.used() == frozenset()
    assert house.nics.announcing() == {"eth0"}
    link_goes(house, ETH0)
    assert house.nics.announcing() == {"eth0"}, "it is missed, and waited for"


def test_a_nic_that_no_vip_goes_to_any_more_is_not_announced_on(house):
    house.read(wants("eth1", VIP), wants("eth1", OTHER, key=API, uid="uid-2"))
    house.delete(API)
    house.look(API)
    assert house.nics.announcing() == {"eth0", "eth1"}
    house.read(service(VIP, version="2"))
    assert house.nics.announcing() == {"eth0"}


def test_what_matters_of_a_nic_is_taken_in_and_what_does_not_is_no_change(house):
    house.read(wants("eth1", VIP))
    house.nics.settle()
    link_comes(house, msgspec.structs.replace(ETH1, carrier=False, mac=b"\2\0\0\0\0\x99"))
    link_comes(house, msgspec.structs.replace(ETH1, index=IfIndex(40), name="veth40"))
    assert not house.nics.settle()
    link_goes(house, ETH1)
    assert house.nics.settle()
    assert house.nics.link(VIP) is None
    link_comes(house, msgspec.structs.replace(ETH1, index=IfIndex(50)))
    assert house.nics.settle()
    assert house.nics.link(VIP).index == 50


def test_a_nic_that_becomes_a_port_gives_way_to_its_master(house):
    bond = msgspec.structs.replace(ETH1, index=IfIndex(60), name="bond0", kind="bond")
    house.read(service(VIP))
    assert house.nics.used() == {"eth0"}
    link_comes(house, bond)
    link_comes(house, msgspec.structs.replace(ETH0, master=bond.index))
    assert house.nics.link(VIP) == bond
    assert house.nics.used() == house.nics.announcing() == {"bond0"}


def test_by_subnet_an_address_that_is_away_for_a_moment_moves_nothing(house):
    house.know(own("198.51.100.5", ETH1))
    house.nics.doubt()
    house.read(wants("auto", FAR))
    house.nics.settle()
    house.clock.advance(3600)
    house.facts.note_gone(own("198.51.100.5", ETH1))
    house.nics.doubt()
    assert not house.nics.settle()
    house.clock.advance(SUBNET_GRACE_S - 0.1)
    assert not house.nics.settle()
    assert house.nics.link(FAR) == ETH1
    house.clock.advance(0.2)
    assert house.nics.settle()
    assert house.nics.link(FAR) is None


def test_by_subnet_an_address_that_went_with_its_nic_is_gone_at_once(house):
    house.know(own("198.51.100.5", ETH1))
    house.nics.doubt()
    house.read(wants("auto", FAR))
    house.nics.settle()
    house.facts.note_gone(own("198.51.100.5", ETH1))
    link_goes(house, ETH1)
    assert house.nics.settle()


def test_what_nobody_asks_for_any_more_or_cannot_be_read_stays_where_it_is(house):
    house.know(marked(VIP, ETH1.index))
    assert house.nics.link(VIP) == ETH1
    house.read(wants("a/b", VIP))
    assert not house.nics.placed(VIP).known
    assert house.nics.link(VIP) == ETH1


def test_a_node_without_the_nic_or_the_subnet_is_no_candidate_and_what_is_not_known_is_left_open(house):
    house.read(wants("eth7", VIP), wants("auto", FAR, key=API, uid="uid-2"), wants("a/b", OTHER, key="default/odd", uid="uid-3"))
    assert (house.demand.able(VIP), house.demand.able(FAR), house.demand.able(OTHER)) == (False, False, None)
    house.know(own("198.51.100.5", ETH1))
    house.nics.doubt()
    assert house.demand.able(FAR) is True
    link_comes(house, msgspec.structs.replace(ETH1, index=IfIndex(70), name="eth7"))
    assert house.demand.able(VIP) is True


def test_each_nic_has_a_carrier_of_its_own(house, caplog):
    caplog.set_level(logging.INFO)
    house.read(service(VIP), wants("eth1", OTHER, key=API, uid="uid-2"))
    house.demand.tick()
    link_comes(house, msgspec.structs.replace(ETH1, carrier=False))
    for _ in range(4):
        house.clock.advance(0.25)
        house.demand.tick()
    assert (house.demand.able(VIP), house.demand.able(OTHER)) == (True, False)
    assert house.demand.node_able()
    assert house.demand.holder_able()
    assert house.elector.heard_of[-1] == {VIP, OTHER}
    assert [(record.nic, record.reason) for record in caplog.records if hasattr(record, "nic")][-1:] == [("eth1", "no carrier")]
    link_comes(house, msgspec.structs.replace(ETH0, carrier=False))
    for _ in range(4):
        house.clock.advance(0.25)
        house.demand.tick()
    assert not house.demand.node_able()
    link_comes(house, ETH1)
    house.demand.tick()
    assert (house.demand.able(VIP), house.demand.able(OTHER)) == (False, True)
    assert house.demand.node_able(), "one NIC that works will do"
    assert not house.demand.holder_able(), "who holds all VIPs needs the NIC of the settings"


def test_the_holder_of_all_needs_no_nic_that_no_vip_goes_to(house):
    house.read(wants("eth1", VIP))
    link_comes(house, msgspec.structs.replace(ETH0, carrier=False))
    for _ in range(4):
        house.clock.advance(0.25)
        house.demand.tick()
    assert house.demand.holder_able()


def test_a_nic_that_never_had_a_carrier_takes_nothing_not_even_for_a_moment(house):
    link_comes(house, msgspec.structs.replace(ETH1, carrier=False))
    house.read(wants("eth1", VIP))
    house.demand.tick()
    assert house.demand.able(VIP) is False


def test_by_subnet_alone_a_node_without_vips_is_able():
    house = House(nic="auto")
    assert house.demand.node_able()
    assert house.demand.holder_able()
    assert house.nics.announcing() == frozenset()
