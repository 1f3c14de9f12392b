"""The list of allowed addresses, as a daemon lives by it: edits, a start with another list, and nodes whose lists differ."""

import asyncio

import pytest

from kvip.core.addresses import parse_networks
from kvip.daemon.publisher import LATE_WRITE_S, SPEAKER_S
from kvip.daemon.rounds import PERIOD_S
from tests.unit.daemon.fake_ports import OTHER, VIP, WEB, service, unmarked
from tests.unit.daemon.house import House

NARROW = {"allowed": parse_networks(["192.0.2.8/32"])}
"""OTHER lies inside, VIP does not."""


@pytest.fixture
def house():
    return House(**NARROW)


def test_an_edit_into_the_list_is_claimed_and_one_out_of_it_claimed_no_more(house):
    house.read(service(VIP))
    assert list(house.ledger.vips()) == []
    house.read(service(OTHER, version="2"))
    assert list(house.ledger.vips()) == [OTHER]
    assert house.read(service(VIP, version="3", shows=[OTHER])) == {OTHER}
    assert list(house.ledger.vips()) == []
    assert house.status.written == [("uid-1", [])]


def test_an_address_outside_is_told_once_by_the_node_that_speaks(house):
    for version in "123":
        house.read(service(VIP, version=version))
    assert house.events.told() == [("InvalidAddress", "uid-1")]
    ((_, _, message),) = house.events.posted
    assert repr(VIP) in message
    assert "outside allow-cidr (192.0.2.8/32)" in message


def test_what_a_former_daemon_held_outside_the_list_is_let_go_of_and_leaves_the_status():
    """A restart with another list: the address is in the kernel, in the journal and in the status."""
    before = House()
    before.read(service(VIP))
    claims = {VIP: tuple(before.ledger.claimants(VIP).values())}
    house = House(**NARROW)
    house.outcome.found_at_start(claims)
    house.desire.remember(claims)

    house.apply(service(VIP, shows=[VIP]))
    house.play(lambda: asyncio.sleep(1))
    assert house.facts.bound(VIP) == ()
    assert ("VIPSwept", "uid-1") in house.events.told()
    assert house.status.written
    assert all(wrote == ("uid-1", []) for wrote in house.status.written)


# -- nodes whose lists differ ------------------------------------------------------------------------------------------


def remembering(house):
    """A start of this node with another list than before; another node holds the VIP."""
    before = House()
    before.read(service(VIP))
    house.desire.remember({VIP: tuple(before.ledger.claimants(VIP).values())})
    house.read(service(VIP, shows=[VIP]))
    house.clock.advance(SPEAKER_S + 0.1)
    house.wires.tick()


@pytest.mark.parametrize("mute", [set(), {"uid-1"}], ids=["speaks", "does not speak"])
def test_a_node_that_refuses_a_vip_leaves_the_entry_of_the_node_that_holds_it(house, mute):
    house.elector.mute = mute
    house.elector.held_elsewhere = {VIP}
    remembering(house)
    assert house.status.written == []


def test_the_entry_goes_when_nobody_holds_the_vip_any_more(house):
    house.elector.held_elsewhere = {VIP}
    remembering(house)
    house.elector.held_elsewhere = set()
    house.clock.advance(PERIOD_S)
    house.wires.tick()
    assert house.status.written == [("uid-1", [])]


def test_an_entry_that_comes_again_is_not_removed_again_where_it_cannot_be_known_who_holds(house):
    """Election by a Lease for each Service: a node that wants nothing of a Service does not take part in its Lease."""
    remembering(house)
    wrote = []
    for number in range(50):
        wrote.append(bool(house.status.written))
        house.status.written.clear()
        house.read(service(VIP, version=f"{2 * number}"))
        house.read(service(VIP, version=f"{2 * number + 1}", shows=[VIP]))
        house.wires.tick()
        house.clock.advance(0.1)
    assert wrote[0]
    assert not any(wrote[1:])


def test_the_same_for_an_address_that_only_this_node_has_without_the_mark():
    house = House()
    house.read(service(VIP, shows=[VIP]))
    house.elector.held_elsewhere = {VIP}
    house.know(unmarked(VIP))
    assert house.desire.surroundings_changed()
    house.look(WEB)
    house.clock.advance(LATE_WRITE_S - 1)
    house.wires.tick()
    assert list(house.ledger.vips()) == []
    assert house.status.written == []
