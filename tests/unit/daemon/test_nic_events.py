"""What the Services hear of the NIC that their VIP is on, or is not."""

import msgspec
import pytest

from kvip.core.model import IfIndex
from kvip.daemon.rounds import MOST, PERIOD_S
from kvip.daemon.unplaced import SETTLE_S
from tests.unit.daemon.fake_ports import API, ETH0, ETH1, THIRD, VIP, marked, service
from tests.unit.daemon.house import House
from tests.unit.daemon.nic_house import NIC, link_comes, settle, told, two_nics, wants


@pytest.fixture
def house():
    return two_nics(House())


def test_a_service_hears_once_why_its_vip_is_bound_nowhere(house):
    house.read(wants("eth7", VIP))
    house.wires.demand_changed([VIP])
    house.unplaced.tick()
    assert told(house, "NoNic") == [], "another node may have the NIC"
    settle(house, VIP)
    settle(house, VIP)
    (message,) = told(house, "NoNic")
    assert NIC in message
    assert "'eth7' names a NIC that is not there; 192.0.2.7 is not bound on n1" in message
    house.read(wants("lo", VIP, version="2"))
    settle(house, VIP)
    assert len(told(house, "NoNic")) == 2


def test_nothing_is_said_while_another_node_holds_the_vip_or_speaks(house):
    house.read(wants("eth7", VIP))
    house.elector.held_elsewhere = {VIP}
    settle(house, VIP)
    house.elector.held_elsewhere, house.elector.mute = set(), {"uid-1"}
    settle(house, VIP)
    assert told(house, "NoNic") == []
    house.elector.mute = set()
    house.clock.advance(PERIOD_S)
    house.unplaced.tick()
    assert len(told(house, "NoNic")) == 1


@pytest.mark.parametrize("how", ["mended", "deleted"])
def test_what_was_mended_in_time_is_not_told(house, how):
    house.read(wants("eth7", VIP))
    house.wires.demand_changed([VIP])
    if how == "mended":
        house.read(wants("eth1", VIP, version="2"))
    else:
        house.delete()
        house.look()
    settle(house, VIP)
    assert told(house, "NoNic") == []


def test_the_younger_of_two_hears_that_the_older_chose_another_nic(house):
    house.read(wants("eth0", VIP, uid="uid-2", key=API), wants("eth1", VIP))
    assert house.nics.link(VIP) == ETH1
    (message,) = told(house, "OtherNic")
    assert "'eth0'" in message
    assert "default/web" in message
    house.read(wants("eth1", VIP, uid="uid-2", key=API, version="2"))
    assert len(told(house, "OtherNic")) == 1
    house.read(wants("eth0", VIP, uid="uid-2", key=API, version="3"))
    house.delete()
    house.look()
    assert house.nics.link(VIP) == ETH0


def test_who_names_a_port_hears_where_its_vip_goes(house):
    bond = msgspec.structs.replace(ETH1, index=IfIndex(60), name="bond0", kind="bond")
    link_comes(house, bond)
    link_comes(house, msgspec.structs.replace(ETH1, master=bond.index))
    house.read(wants("eth1", VIP), service(THIRD, key=API, uid="uid-2"))
    (message,) = told(house, "NicIsPort")
    assert "'eth1' is a port of 'bond0' on n1" in message
    assert house.nics.link(VIP) == bond


def test_the_event_names_the_nic_that_the_vip_is_on(house):
    house.read(wants("eth1", VIP))
    house.know(marked(VIP, ETH1.index))
    house.outcome.announced(VIP, house.clock.now())
    assert told(house, "VIPBound") == ["192.0.2.7 is bound and announced on n1 (eth1)"]


def test_a_tick_asks_about_some_of_many_unplaced_vips_and_in_the_end_about_all(house):
    crowd = [wants("eth7", f"10.0.{n >> 8}.{n & 255}", key=f"default/s{n}", uid=f"uid-{n}") for n in range(2 * MOST)]
    house.read(*crowd)
    house.wires.demand_changed(house.ledger.vips())
    asked = []
    house.unplaced._elsewhere = lambda vip: asked.append(vip) or True
    house.clock.advance(SETTLE_S)
    house.unplaced.tick()
    house.unplaced.tick()
    assert len(asked) == MOST
    house.clock.advance(PERIOD_S)
    house.unplaced.tick()
    assert len(set(asked)) == len(crowd)


def test_who_has_been_told_is_not_asked_about_again_until_something_changes(house):
    house.read(wants("eth7", VIP))
    settle(house, VIP)
    asked = []
    house.unplaced._elsewhere = lambda vip: asked.append(vip) or False
    house.clock.advance(PERIOD_S)
    house.unplaced.tick()
    assert asked == []
    house.read(wants("eth7", VIP), wants("eth7", VIP, key=API, uid="uid-2"))
    settle(house, VIP)
    assert asked == [VIP]
    assert len(told(house, "NoNic")) == 2
