"""The annotation that names the holder: written by one node, removed when nobody holds, never believed."""

import msgspec
import pytest

from kvip.daemon.hosts import SETTLE_S
from tests.unit.daemon.fake_ports import OTHER, VIP, service
from tests.unit.daemon.house import House

VIP6 = "2001:db8::7"


@pytest.fixture
def house():
    return House()


def named(each, node):
    notes = {**(each.metadata.annotations or {}), "kube-vip.io/vipHost": node}
    return msgspec.structs.replace(each, metadata=msgspec.structs.replace(each.metadata, annotations=notes))


def pass_time(house, seconds):
    for _ in range(round(seconds / 0.5)):
        house.clock.advance(0.5)
        house.wires.tick()


def test_the_holder_writes_its_name_once_the_first_frame_left(house):
    house.read(service(VIP))
    assert house.hosts.written == []
    house.publisher.announced(VIP, "eth0")
    assert house.hosts.written == [("uid-1", "n1")]
    house.read(named(service(VIP), "n1"))
    assert len(house.hosts.written) == 1


def test_a_former_holders_name_is_replaced(house):
    house.read(named(service(VIP), "n2"))
    house.publisher.announced(VIP, "eth0")
    assert house.hosts.written == [("uid-1", "n1")]


@pytest.mark.parametrize(("first_elsewhere", "written"), [(True, []), (False, [("uid-1", "n1")])])
def test_of_several_holders_only_that_of_the_first_vip_writes(house, first_elsewhere, written):
    house.elector.held_elsewhere = {VIP} if first_elsewhere else set()
    house.read(service(VIP6, VIP))
    house.publisher.announced(VIP6, "eth0")
    assert house.hosts.written == written


def test_it_is_not_removed_at_a_hand_over_a_fence_or_a_stop(house):
    house.read(service(VIP))
    house.publisher.announced(VIP, "eth0")
    house.read(named(service(VIP), "n1"))
    house.hosts.written.clear()
    house.publisher.stopped(VIP)
    pass_time(house, SETTLE_S / 2)
    house.elector.held_elsewhere = {VIP}
    pass_time(house, 5)
    assert house.hosts.written == []
    house.publisher.stopped_all()
    assert house.hosts.written == []


@pytest.mark.parametrize("left", ["n1", "n2"])
def test_it_is_removed_when_nobody_holds_any_more(house, left):
    house.read(named(service(VIP), left))
    pass_time(house, SETTLE_S + 1)
    assert house.hosts.written[0] == ("uid-1", None)
    house.read(service(VIP))
    house.hosts.written.clear()
    pass_time(house, 5)
    assert house.hosts.written == []


def test_it_is_removed_when_the_service_asks_for_nothing_any_more(house):
    house.read(named(service(VIP), "n1"))
    house.publisher.announced(VIP, "eth0")
    house.read(named(service(VIP, kind="ClusterIP"), "n1"))
    house.publisher.stopped(VIP)
    pass_time(house, SETTLE_S + 1)
    assert house.hosts.written[0] == ("uid-1", None)


def test_another_nodes_name_is_left_to_who_speaks_for_the_service(house):
    house.elector.mute = {"uid-1"}
    house.read(named(service(VIP), "n2"))
    pass_time(house, 5)
    assert house.hosts.written == []


def test_a_service_that_is_gone_is_not_written(house):
    house.read(named(service(VIP), "n1"))
    house.delete()
    house.look()
    pass_time(house, 5)
    assert house.hosts.written == []


def test_it_is_never_read_as_state(house):
    house.read(named(service(VIP), "n2"))
    assert not house.desire.shown(VIP)
    assert house.demand.able(VIP) is True


def test_by_option_neither_status_nor_annotations_are_written_but_events_are():
    house = House(updates=False)
    house.read(service(VIP, OTHER, shows=[VIP, OTHER]))
    house.read(service(VIP, shows=[VIP, OTHER]))
    house.publisher.announced(VIP, "eth0")
    pass_time(house, 5)
    assert (house.status.written, house.hosts.written) == ([], [])
    assert house.events.told() == [("VIPBound", "uid-1")]
