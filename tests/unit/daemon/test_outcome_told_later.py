"""What was bound is said when the crowd that it came with is over: in order, once, and only while it is so."""

import logging

import pytest

from kvip.core.diff import LetGo
from kvip.daemon.rush import LONGEST_S
from tests.unit.daemon.fake_ports import API, OTHER, VIP, WEB, marked, service
from tests.unit.daemon.house import House
from tests.unit.daemon.test_outcome import gone, let_go, taken


@pytest.fixture
def house():
    return House()


def said(caplog, what, field="vip"):
    return [getattr(record, field) for record in caplog.records if record.getMessage() == what]


def test_what_was_bound_is_said_when_there_is_time_in_the_order_in_which_it_was(house, caplog):
    caplog.set_level(logging.INFO)
    house.read(service(VIP), service(OTHER, key=API, uid="uid-api"))
    for vip in (VIP, OTHER):
        taken(house, vip)
    assert said(caplog, "vip bound") == []
    assert house.outcome.bound_since(VIP) == house.clock.now()
    assert house.outcome.tell(most=1, idle=True), "there is more"
    assert said(caplog, "vip bound") == [VIP]
    assert not house.outcome.tell(most=9, idle=True)
    assert said(caplog, "vip bound") == [VIP, OTHER]


def test_a_crowd_holds_it_back_for_so_long_and_no_longer(house, caplog):
    caplog.set_level(logging.INFO)
    taken(house)
    assert not house.outcome.tell(most=9, idle=False)
    house.clock.advance(LONGEST_S - 0.1)
    taken(house, OTHER)
    assert not house.outcome.tell(most=9, idle=False)
    assert said(caplog, "vip bound") == []
    house.clock.advance(0.2)
    assert not house.outcome.tell(most=9, idle=False)
    assert said(caplog, "vip bound") == [VIP]


def test_what_is_let_go_of_was_bound_before_in_the_log_too(house, caplog):
    caplog.set_level(logging.INFO)
    house.read(service(VIP))
    taken(house)
    gone(house)
    assert let_go(house)
    house.outcome.tell(most=9, idle=True)
    messages = [record.getMessage() for record in caplog.records if getattr(record, "vip", "") == VIP]
    assert messages == ["vip bound", "vip released"]


@pytest.mark.parametrize("how", ["fenced", "withdrawn", "removed by someone else"])
def test_i7_what_is_gone_before_there_was_time_to_say_so_is_not_said_to_be_bound(house, caplog, how):
    caplog.set_level(logging.INFO)
    taken(house)
    house.facts.note_gone(marked())
    if how == "fenced":
        house.outcome.withdrawn()
    elif how == "withdrawn":
        house.outcome.hushed(VIP)
    assert not house.outcome.tell(most=9, idle=True)
    assert said(caplog, "vip bound") == []
    assert said(caplog, "withdrawn before it was said that they were bound", "vips") == ([1] if how == "fenced" else [])


def test_what_is_said_late_says_so_and_names_who_asked_when_it_was_bound(house, caplog):
    caplog.set_level(logging.INFO)
    house.read(service(VIP))
    taken(house)
    house.read(service(VIP, key=API, uid="uid-api"))
    house.clock.advance(3.0)
    house.outcome.tell(most=9, idle=True)
    (record,) = [record for record in caplog.records if record.getMessage() == "vip bound"]
    assert (record.services, record.bound_s_ago) == ([WEB], 3.0)


def test_what_cannot_be_removed_is_still_said_to_have_been_bound(house, caplog):
    caplog.set_level(logging.INFO)
    taken(house)
    house.outcome.leaving([LetGo(vip=VIP, address=marked(), reason="no claimant")])
    assert not house.outcome.tell(most=9, idle=True)
    assert said(caplog, "vip bound") == [VIP]
