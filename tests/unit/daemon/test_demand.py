"""What this node could hold, and when the node as a whole goes and comes."""

import logging

import msgspec
import pytest

from kvip.daemon.demand import CARRIER_DEBOUNCE_S
from tests.unit.daemon.fake_ports import API, ETH0, IPVS0, OTHER, VIP, WEB, marked, service, unmarked
from tests.unit.daemon.house import House


@pytest.fixture
def house():
    house = House()
    house.read(service(VIP))
    return house


def carrier(house, on, up=True):
    house.facts.links[ETH0.index] = msgspec.structs.replace(ETH0, carrier=on, up=up)


def pass_time(house, seconds, step=0.25):
    """Let time pass with the ticks that the loop makes."""
    for _ in range(round(seconds / step)):
        house.clock.advance(step)
        house.demand.tick()


# -- one VIP -----------------------------------------------------------------------------------------------------------


def test_a_vip_that_is_asked_for_can_be_held(house):
    assert house.demand.able(VIP) is True
    assert set(house.demand.vips()) == {VIP}


def test_a_vip_nobody_asks_for_cannot_be_held(house):
    assert house.demand.able(OTHER) is False


def test_eligibility_by_endpoints_is_passed_on_unknown_included(house):
    house.read(service(OTHER, key=API, uid="uid-2", local=True))
    assert house.demand.able(OTHER) is False
    house.slices.synced = False
    assert house.demand.able(OTHER) is None


def test_i6_a_vip_that_is_here_without_the_mark_cannot_be_held(house):
    house.know(unmarked())
    assert house.demand.able(VIP) is False
    house.facts.note_gone(unmarked())
    house.know(marked())
    assert house.demand.able(VIP) is True


def test_k6_kube_proxys_address_does_not_keep_a_vip_away(house):
    house.facts.links[IPVS0.index] = IPVS0
    house.know(unmarked(index=IPVS0.index, prefix=32))
    assert house.demand.able(VIP) is True
    assert not house.demand.held(VIP)


def test_held_is_what_is_bound_or_announced(house):
    assert not house.demand.held(VIP)
    house.know(marked())
    assert house.demand.held(VIP)
    house.facts.note_gone(marked())
    house.announcer.start(VIP, ETH0)
    assert house.demand.held(VIP)
    house.announcer.stop(VIP)
    house.know(unmarked())
    assert not house.demand.held(VIP)


def test_a_status_that_shows_the_vip_is_passed_on(house):
    assert not house.demand.shown(VIP)
    house.read(service(VIP, shows=[VIP]))
    assert house.demand.shown(VIP)
    house.delete(WEB)
    house.look(WEB)
    assert not house.demand.shown(VIP)


# -- the node ----------------------------------------------------------------------------------------------------------


def test_carrier_lost_for_less_than_half_a_second_moves_nothing(house):
    house.demand.tick()
    carrier(house, on=False)
    house.clock.advance(CARRIER_DEBOUNCE_S - 0.01)
    house.demand.tick()
    assert house.demand.able(VIP) is True
    carrier(house, on=True)
    pass_time(house, 5)
    assert house.demand.able(VIP) is True
    carrier(house, on=False)
    pass_time(house, CARRIER_DEBOUNCE_S - 0.1, step=0.1)
    assert house.demand.able(VIP) is True
    assert house.elector.heard_of == []


@pytest.mark.parametrize("how", [{"on": False}, {"on": True, "up": False}])
def test_carrier_lost_for_longer_hands_over_once_and_back_at_once_when_it_returns(house, how, caplog):
    caplog.set_level(logging.INFO)
    house.demand.tick()
    carrier(house, **how)
    pass_time(house, 2)
    assert house.demand.able(VIP) is False
    assert house.elector.heard_of == [{VIP}]
    carrier(house, on=True)
    pass_time(house, 2)
    assert house.demand.able(VIP) is True
    assert house.elector.heard_of == [{VIP}, {VIP}]
    assert [(record.levelname, record.reason) for record in caplog.records] == [("WARNING", "no carrier"), ("INFO", "")]


def test_a_nic_that_is_gone_hands_over(house):
    del house.facts.links[ETH0.index]
    pass_time(house, 1)
    assert not house.demand.node_able()


def test_a_switch_that_is_broken_hands_over_at_once(house, caplog):
    house.switch.flush()
    house.switch.fails = {"install"}
    house.guard.check()
    assert house.demand.able(VIP) is False
    house.demand.tick()
    assert house.elector.heard_of == [{VIP}]
    assert caplog.records[-1].reason == "install refused"
    house.switch.fails = set()
    house.guard.check()
    house.demand.tick()
    assert house.demand.able(VIP) is True
    assert len(house.elector.heard_of) == 2


@pytest.mark.parametrize(("since_tick_s", "lost_for_s"), [(0.45, 0.06), (0.1, 0.41)])
def test_carrier_lost_for_less_than_half_a_second_moves_nothing_whenever_the_last_tick_was(house, since_tick_s, lost_for_s):
    """A link message makes the loop turn at once; the election, or the next event, asks again before half a second is over."""
    house.demand.tick()
    house.clock.advance(since_tick_s)
    carrier(house, on=False)
    house.demand.tick()
    house.clock.advance(lost_for_s)
    assert house.demand.node_able()
