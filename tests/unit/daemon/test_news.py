"""The election hears of what was merely bound once the crowd it came with is through, and of all else at once."""

import asyncio

import pytest

from kvip.clock import ManualClock
from kvip.core.model import Vip
from kvip.daemon.news import News
from kvip.daemon.reconcile_loop import VIPS_PER_TURN
from kvip.daemon.rush import LONGEST_S
from tests.unit.daemon.fake_ports import VIP, many_services, service
from tests.unit.daemon.house import House

OTHER = Vip("192.0.2.99")


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def heard():
    return []


@pytest.fixture
def news(clock, heard):
    return News(clock, heard.extend)


def test_only_what_was_merely_bound_waits(news, heard):
    assert news.note([VIP, OTHER], bound={VIP}) == [OTHER]
    assert heard == [OTHER]
    assert not news.tell(most=10, idle=True)
    assert heard == [OTHER, VIP]


def test_what_changed_again_meanwhile_is_told_at_once_and_not_twice(news, heard):
    news.note([VIP], bound={VIP})
    news.note([VIP], bound=())
    assert heard == [VIP]
    news.tell(most=10, idle=True)
    assert heard == [VIP]


def test_nothing_waits_for_longer_than_that(news, heard, clock):
    news.note([VIP], bound={VIP})
    clock.advance(LONGEST_S - 0.01)
    news.note([OTHER], bound={OTHER})
    news.tell(most=10, idle=False)
    assert heard == []
    clock.advance(0.02)
    news.tell(most=10, idle=False)
    assert heard == [VIP]


def test_a_portion_at_a_time(news, heard):
    vips = [Vip(f"192.0.2.{number}") for number in range(25)]
    news.note(vips, bound=set(vips))
    assert [news.tell(most=10, idle=True) for _ in range(3)] == [True, True, False]
    assert heard == vips


def test_the_election_hears_of_no_bound_vip_while_others_are_still_to_be_bound():
    house, heard = House(), []

    async def story():
        house.elector.permits = False
        house.apply(*many_services(5 * VIPS_PER_TURN))
        await asyncio.sleep(1)
        house.reconcile._news._demand_changed = lambda vips: heard.append((len(house.reconcile._marks), list(vips)))
        house.elector.permits = True
        house.wires.won(None)
        await asyncio.sleep(1)

    house.play(story)
    assert len({vip for _, vips in heard for vip in vips}) == 5 * VIPS_PER_TURN
    assert {waiting for waiting, _ in heard} == {0}


def test_of_one_vip_it_hears_before_the_loop_waits_again():
    house, calls = House(), []

    async def story():
        tell = house.reconcile._news._demand_changed
        house.reconcile._news._demand_changed = lambda vips: calls.append(house.turns) or tell(vips)
        house.apply(service(VIP))
        while ("add", VIP) not in house.log:
            await asyncio.sleep(0)
        bound_in = house.turns
        await asyncio.sleep(0.01)
        assert calls
        assert calls[-1] - bound_in <= 1

    house.play(story)
