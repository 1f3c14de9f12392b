"""A lifetime is renewed without planning the VIP anew only as long as it is where it is wanted, by all that can be asked at no cost."""

import asyncio

import pytest

from tests.unit.daemon.fake_ports import ETH0, LIFETIME_S, VIP, many_services, marked, service
from tests.unit.daemon.house import House


@pytest.fixture
def house():
    return House()


def settled(house, change=lambda house: None):
    """What would renew the VIP once it is bound and looked at, after `change`."""
    found = []

    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(1)
        house.reconcile.look_over([VIP])
        await asyncio.sleep(1)
        change(house)
        found.append(house.turn._settled.renewal(VIP))

    house.play(story)
    return found[0]


def test_what_an_audit_found_as_it_is_wanted_is_renewed_where_it_is(house):
    renewal = settled(house)
    assert (renewal.vip, renewal.link) == (VIP, ETH0)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda house: setattr(house.elector, "permits", False), id="the permit ended"),
        pytest.param(lambda house: house.guard._admitted.pop(VIP), id="the switch does not let it through"),
        pytest.param(lambda house: house.ledger.drop("default/web"), id="nobody asks for it"),
        pytest.param(lambda house: setattr(house.services, "current", False), id="what is asked for is not known"),
        pytest.param(lambda house: setattr(house.firewall, "exposed", lambda vip: True), id="its firewall rules are missing"),
        pytest.param(lambda house: house.facts.note_gone(marked()), id="it is gone"),
        pytest.param(lambda house: house.facts.note_bound(marked(index=9), now=0.0), id="it is elsewhere as well"),
        pytest.param(lambda house: house.facts.links.clear(), id="its NIC is gone"),
        pytest.param(lambda house: house.announcer.stop(VIP) or house.turn._plan(VIP, now=0.0, lifetime_s=60), id="to be announced"),
    ],
)
def test_it_is_planned_where_any_of_that_changed_though_nobody_said_so(house, change):
    assert settled(house, change) is None


@pytest.mark.parametrize("looked_at", [True, False])
def test_i2_what_is_not_known_to_be_asked_for_is_not_renewed(house, looked_at):
    """Another Lease was lost, the Services cannot be read anew, and one of them was deleted meanwhile (mode per-service)."""

    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(1)
        house.reconcile.look_over([VIP] if looked_at else [])
        await asyncio.sleep(1)
        house.services.current = False
        await asyncio.sleep(1)
        del house.services.store["default/web"]
        house.log.clear()
        await asyncio.sleep(5 * LIFETIME_S)
        assert not house.desire.known
        assert ("replace", VIP) not in house.log

    house.play(story)


def test_renewals_of_what_is_settled_plan_nothing(house):
    planned = []

    async def story():
        house.apply(*many_services(100))
        await asyncio.sleep(1)
        house.reconcile.look_over(house.facts.marked())
        await asyncio.sleep(1)
        plan = house.turn._plan
        house.turn._plan = lambda vip, **now: planned.append(vip) or plan(vip, **now)
        house.log.clear()
        await asyncio.sleep(LIFETIME_S / 2)
        assert sum(call == "replace" for call, _ in house.log) == 100

    house.play(story)
    assert planned == []
