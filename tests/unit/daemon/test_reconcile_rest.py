"""The reconcile loop comes to rest: no wake-up sets itself, whatever state the node is in."""

import asyncio
import errno

import pytest

from kvip.daemon.reconcile_loop import TICK_S
from kvip.daemon.turn import DOUBT_RETRY_S
from tests.unit.daemon.fake_ports import INTERRUPTED, LIFETIME_S, OTHER, VIP, marked, service, unmarked
from tests.unit.daemon.house import House


@pytest.fixture
def house():
    return House()


async def turns_in(house, seconds):
    """How often the loop turns while this time passes."""
    before = house.turns
    await asyncio.sleep(seconds)
    return house.turns - before


RESTFUL = 10 / TICK_S + 2
"""Turns in 10 s with nothing to do: the ticks."""


def rest(house):
    """Nothing special."""


def held(house):
    house.apply(service(VIP))


def failing(house):
    held(house)
    house.kernel.refuse[VIP] = errno.EINVAL


def in_conflict(house):
    held(house)
    house.kernel.put(unmarked())


def contested(house):
    held(house)
    house.asking.taken = {VIP}


def unsynced(house):
    held(house)
    house.services.current = False


def without_permit(house):
    held(house)
    house.elector.permits = False


def without_nic(house):
    held(house)
    house.links = []


def refused_by_the_switch(house):
    held(house)
    house.switch.fails = {"admit"}


def unremovable(house):
    house.kernel.put(marked())
    house.kernel.refuse[VIP] = errno.EPERM


def unreadable_kernel(house):
    held(house)
    house.kernel.dump_broken = INTERRUPTED


def unreadable_nics(house):
    held(house)
    house.links_broken = TimeoutError()


def impossible_address(house):
    house.apply(service("127.0.0.1"))


@pytest.mark.parametrize(
    "state",
    [
        rest,
        held,
        failing,
        in_conflict,
        contested,
        unsynced,
        without_permit,
        without_nic,
        refused_by_the_switch,
        unremovable,
        unreadable_kernel,
        unreadable_nics,
        impossible_address,
    ],
)
def test_no_wake_up_sets_itself(house, state):
    state(house)

    async def story():
        await asyncio.sleep(5)
        assert await turns_in(house, 10) <= RESTFUL + 2 * 10  # At most two more for each retry of one second.

    house.play(story)


@pytest.mark.parametrize("state", [rest, held, in_conflict, contested, unsynced, without_permit, without_nic, impossible_address])
def test_with_nothing_to_do_the_loop_only_ticks_and_asks_the_kernel_nothing(house, state):
    state(house)

    async def story():
        await asyncio.sleep(5)
        dumps = house.kernel.dumps
        assert await turns_in(house, 10) <= RESTFUL
        assert house.kernel.dumps == dumps

    house.play(story)


def test_k7_a_switch_that_cannot_be_put_back_is_tried_again_at_each_tick_and_not_without_end(house):
    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(1)
        house.switch.flush()
        house.switch.fails = {"install"}
        house.upkeep.doubt_rules()
        assert await turns_in(house, 10) <= RESTFUL + 5

    house.play(story)


@pytest.mark.parametrize("action", ["let_go", "refresh"])
def test_what_is_in_doubt_while_no_dump_succeeds_is_not_tried_without_end(house, action):
    async def story():
        house.apply(service(VIP))
        await asyncio.sleep(1)
        house.kernel.dump_broken = INTERRUPTED
        house.upkeep.on_address(marked(OTHER), True)
        await asyncio.sleep(0.1)
        if action == "let_go":
            house.delete()
        else:
            await asyncio.sleep(LIFETIME_S / 2)
        assert await turns_in(house, 10) <= RESTFUL + 10 / DOUBT_RETRY_S

    house.play(story)
