"""What a turn could not do is tried again at growing distance, and a VIP that fails too often is refused."""

import errno

import pytest

from kvip.core.model import Vip
from tests.unit.daemon.fake_ports import OTHER, VIP, WEB, marked, service, unmarked
from tests.unit.daemon.turn_bench import TurnHouse


@pytest.fixture
def house():
    return TurnHouse()


async def test_a_failing_bind_is_tried_again_after_1_2_4_up_to_60_s(house):
    house.read(service(VIP))
    house.kernel.refuse[VIP] = errno.EINVAL
    await house.act()
    assert [await house.act_again() for _ in range(9)] == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60])


async def test_a_bind_that_succeeds_starts_the_count_anew(house):
    house.read(service(VIP))
    house.kernel.refuse[VIP] = errno.EINVAL
    await house.act()
    await house.act_again()
    house.kernel.refuse.clear()
    await house.act_again()
    assert house.again.later == {}
    house.know(marked())
    house.kernel.drop(VIP)
    house.facts.note_gone(marked())
    house.kernel.refuse[VIP] = errno.EINVAL
    await house.act()
    assert house.again.later[VIP] - house.clock.now() == 1


async def test_t5_three_failures_to_bind_are_a_refusal_and_so_is_each_further_one(house):
    house.read(service(VIP))
    house.kernel.refuse[VIP] = errno.EINVAL
    assert await refusals(house, 5) == [False, False, True, True, True]


async def refusals(house, times):
    """Of so many turns, which ended with a refusal."""
    refused = []
    for _ in range(times):
        refused.append(("refused", VIP) in await house.act())
        house.clock.advance(60)
    return refused


async def test_t5_a_refusal_ends_with_the_last_claim(house):
    house.read(service(VIP))
    house.kernel.refuse[VIP] = errno.EINVAL
    for _ in range(3):
        await house.act()
    house.delete(WEB)
    house.look(WEB)
    await house.act()
    house.read(service(VIP))
    assert await refusals(house, 2) == [False, False]


async def test_a_failure_of_one_vip_is_not_anothers(house):
    house.read(service(VIP, OTHER))
    house.kernel.refuse[VIP] = errno.EINVAL
    await house.act(VIP, OTHER)
    assert house.kernel.ours() == {OTHER}
    assert set(house.again.later) == {VIP}


async def test_a_failure_casts_doubt_on_the_facts(house):
    house.read(service(VIP))
    house.kernel.refuse[VIP] = errno.EINVAL
    await house.act()
    assert house.again.doubts == 1


async def test_a_switch_that_does_not_let_the_vip_through_is_a_failure_to_bind(house):
    house.read(service(VIP))
    house.switch.fails = {"admit"}
    assert await refusals(house, 3) == [False, False, True]
    assert house.kernel.ours() == set()
    assert house.announcer.active == {}


async def test_what_cannot_be_removed_is_tried_again_and_is_no_refusal(house):
    house.read(service(VIP))
    await house.act()
    house.delete(WEB)
    house.look(WEB)
    house.kernel.refuse[VIP] = errno.EPERM
    for _ in range(5):
        assert ("refused", VIP) not in await house.act()
        assert house.again.later[VIP] - house.clock.now() == 1
    assert house.events.told() == []
    assert not house.switch.answers(VIP)


async def test_what_is_in_doubt_is_looked_at_again_soon_and_is_no_failure(house):
    house.read(service(VIP))
    await house.act()
    house.elector.permits = False
    house.news = lambda: setattr(house.facts, "doubted", True)
    for _ in range(3):
        await house.act()
        assert 0 < house.again.later[VIP] - house.clock.now() < 0.1
    assert house.again.doubts == 0
    assert house.kernel.ours() == {VIP}


async def test_t5_a_permit_that_ended_meanwhile_is_no_failure_to_bind(house):
    vips = [Vip(f"10.0.0.{n}") for n in range(1, 4)]
    house.read(service(*vips))
    for _ in range(3):
        asked = []

        def permit(vip, asked=asked):
            asked.append(vip)
            return 1e9 if len(asked) <= len(vips) else None

        house.elector.permit = permit
        await house.act(*vips)
    assert house.again.later == {}
    assert ("refused", vips[0]) not in house.log
    assert house.kernel.ours() == set()


async def test_a_fence_while_acting_voids_the_rest_of_the_turn(house):
    house.read(service(VIP, OTHER))
    await house.act(VIP)
    house.clock.advance(30)
    admit = house.guard.admit

    def fence(places, group):
        house.elector.fence("renew deadline")
        return admit(places, group)

    house.guard.admit = fence
    await house.act(VIP, OTHER)
    assert house.kernel.ours() == set()
    assert house.announcer.active == {}
    assert house.events.posted == []


async def test_i6_an_address_that_may_have_lost_the_mark_in_a_lost_message_is_not_deleted(house):
    house.read(service(VIP))
    await house.act()
    theirs = unmarked(VIP, prefix=32)
    house.kernel.put(theirs)  # `ip addr replace` takes the mark away
    house.news = lambda: house.upkeep.doubt("overrun")
    house.elector.permits = False
    await house.act()
    assert theirs in house.kernel.table.values()
    house.news = lambda: None
    await house.upkeep.refresh()
    await house.act()
    assert theirs in house.kernel.table.values()
