"""One turn: what is planned is done, in order, and what is right already is left alone."""

import msgspec
import pytest

from kvip import metrics
from kvip.core.diff import DADFAILED, TENTATIVE
from kvip.kernel.codec import IFA_F_NODAD
from tests.unit.daemon.fake_ports import API, ETH1, IPVS0, OTHER, VIP, VIP6, WEB, marked, service, unmarked
from tests.unit.daemon.turn_bench import TurnHouse


@pytest.fixture
def house():
    return TurnHouse()


# -- doing -------------------------------------------------------------------------------------------------------------


async def test_a_vip_asked_for_and_permitted_is_taken_and_then_left_alone(house):
    house.read(service(VIP))
    assert await house.act() == [("admit", ""), ("add", VIP), ("start", VIP)]
    assert await house.act() == []
    assert (house.again.later, house.again.doubts) == ({}, 0)


async def test_what_the_segment_said_is_forgotten_once_it_is_known_that_nobody_asks(house):
    house.desire.read_through(False)
    await house.act()
    assert house.asking.forgotten == []
    house.desire.read_through(True)
    await house.act()
    assert house.asking.forgotten == [VIP]


async def test_with_dad_a_first_ipv6_bind_is_tentative_and_announced_only_when_the_kernel_uses_it():
    house = TurnHouse(dad=True)
    house.read(service(VIP6), service(VIP, key=API, uid="uid-2"))
    assert await house.act(VIP6, VIP) == [("admit", ""), ("add", VIP6), ("add", VIP), ("start", VIP6), ("start", VIP)]
    bound = {address.ip: address for address in house.kernel.table.values()}
    assert not bound[VIP6].flags & IFA_F_NODAD
    house = TurnHouse(dad=True)
    house.kernel.extra_flags = TENTATIVE
    house.read(service(VIP6))
    assert await house.act(VIP6) == [("admit", ""), ("add", VIP6)]
    assert await house.act(VIP6) == []
    house.know(marked(VIP6))
    assert await house.act(VIP6) == [("start", VIP6)]


async def test_a_take_over_never_waits_for_duplicate_address_detection():
    house = TurnHouse(dad=True)
    house.asking.known.add(VIP6)
    house.read(service(VIP6))
    assert await house.act(VIP6) == [("admit", ""), ("add", VIP6), ("start", VIP6)]
    (bound,) = house.kernel.table.values()
    assert bound.flags & IFA_F_NODAD


async def test_a_duplicate_is_removed_asked_for_and_bound_again_when_nobody_answers(house):
    house.read(service(VIP6))
    await house.act(VIP6)
    house.know(msgspec.structs.replace(marked(VIP6), flags=DADFAILED))
    assert await house.act(VIP6) == [("duplicate", VIP6), ("stop", VIP6), ("delete", VIP6), ("remove", "")]
    assert await house.act(VIP6) == []
    assert house.asking.asked == [[VIP6]]
    house.asking.unasked.clear()
    assert await house.act(VIP6) == [("admit", ""), ("add", VIP6), ("start", VIP6)]


async def test_a_vip_nobody_asks_for_is_let_go_of_before_another_is_taken(house):
    house.read(service(VIP))
    await house.act()
    house.delete(WEB)
    house.look(WEB)
    house.read(service(OTHER, key=API, uid="uid-2"))
    did = await house.act(OTHER, VIP)
    assert did == [("stop", VIP), ("delete", VIP), ("remove", ""), ("admit", ""), ("add", OTHER), ("start", OTHER)]
    assert house.events.told() == [("VIPReleased", "uid-1")]


async def test_letting_go_is_timed_from_the_mark_and_only_when_it_ended(house):
    def count():
        return sum(bucket.get() for bucket in metrics.let_go_seconds._buckets)

    house.read(service(VIP))
    await house.act()
    before = count()
    await house.act()
    assert count() == before
    house.delete(WEB)
    house.look(WEB)
    await house.act()
    assert count() == before + 1


async def test_without_a_permit_nothing_is_bound_and_what_is_bound_goes(house):
    house.read(service(VIP), service(OTHER, key=API, uid="uid-2"))
    await house.act(VIP, OTHER)
    house.elector.permits = {OTHER}
    await house.act(VIP, OTHER)
    assert house.kernel.ours() == {OTHER}
    assert await house.act(VIP, OTHER) == []


async def test_i7_who_asks_for_a_vip_that_is_being_let_go_of_is_not_told_that_it_is_bound(house):
    house.read(service(VIP))
    await house.act(VIP)
    house.publisher.announced(VIP, "eth0")
    removed = house.executor.let_go

    async def let_go(actions, *, epoch):
        done = await removed(actions, epoch=epoch)
        house.read(service(VIP, key=API, uid="uid-2"))
        return done

    house.executor.let_go = let_go
    house.elector.permits = {OTHER}
    await house.act(VIP)
    assert house.kernel.table == {}
    assert house.events.told() == [("VIPBound", "uid-1")]


async def test_i5_while_the_caches_are_not_current_nothing_is_withdrawn_nor_taken(house):
    house.read(service(VIP))
    await house.act()
    house.delete(WEB)
    house.look(WEB)
    house.read(service(OTHER, key=API, uid="uid-2"))
    house.services.current = False
    assert await house.act(VIP, OTHER) == []
    assert house.kernel.ours() == {VIP}


async def test_k5_what_is_bound_and_silent_is_let_through_and_announced_without_being_bound_anew(house):
    """`kvip sweep --adopt` gave it the mark beside this daemon."""
    house.read(service(VIP))
    house.guard.silence({VIP: "eth0"})
    house.know(marked())
    assert await house.act() == [("admit", ""), ("start", VIP)]


async def test_k5_what_is_bound_and_silent_goes_without_a_permit(house):
    house.read(service(VIP))
    house.guard.silence({VIP: "eth0"})
    house.know(marked())
    house.elector.permits = False
    assert await house.act() == [("delete", VIP), ("remove", "")]


async def test_an_announced_vip_that_is_bound_no_more_is_hushed_and_bound_again(house):
    house.read(service(VIP))
    await house.act()
    house.facts.note_gone(marked())
    house.kernel.drop(VIP)
    assert await house.act() == [("stop", VIP), ("remove", ""), ("admit", ""), ("add", VIP), ("start", VIP)]


async def test_i6_an_address_without_the_mark_is_reported_once_and_never_touched(house):
    house.read(service(VIP))
    house.know(unmarked(prefix=32))
    for _ in range(3):
        assert await house.act() == []
    assert house.events.told() == [("VIPConflict", "uid-1")]
    assert list(house.kernel.table.values()) == [unmarked(prefix=32)]


async def test_k6_an_address_of_kube_proxy_is_no_conflict_and_the_vip_is_bound_beside_it(house):
    house.facts.links[IPVS0.index] = IPVS0
    proxys = unmarked(VIP, index=IPVS0.index, prefix=32)
    house.know(proxys)
    house.read(service(VIP))
    await house.act()
    assert set(house.kernel.table.values()) == {proxys, marked()}
    house.delete(WEB)
    house.look(WEB)
    await house.act()
    assert list(house.kernel.table.values()) == [proxys]
    assert "VIPConflict" not in house.events.warnings


async def test_a_lifetime_is_renewed_after_a_third_and_nothing_is_announced(house):
    house.read(service(VIP))
    await house.act()
    house.clock.advance(19)
    assert await house.act() == []
    house.clock.advance(2)
    assert await house.act() == [("replace", VIP)]
    assert await house.act() == []


async def test_a_stray_place_goes_and_the_right_one_stays_announced(house):
    house.read(service(VIP))
    await house.act()
    house.know(marked(index=ETH1.index))
    house.facts.links[ETH1.index] = ETH1
    await house.act()
    assert list(house.kernel.table.values()) == [marked()]
    assert VIP in house.announcer.active


# -- asking the segment ------------------------------------------------------------------------------------------------


async def test_vips_that_nobody_held_before_are_asked_for_together_and_not_bound_yet(house):
    house.read(service(VIP, OTHER))
    house.asking.unasked = {VIP, OTHER}
    assert await house.act(VIP, OTHER) == []
    assert house.asking.asked == [[VIP, OTHER]]
    house.asking.unasked = set()
    house.asking.taken = {OTHER}
    await house.act(VIP, OTHER)
    assert house.kernel.ours() == {VIP}


async def test_a_probe_found_free_after_the_service_went_binds_nothing(house):
    house.read(service(VIP))
    house.asking.unasked = {VIP}
    await house.act()
    house.delete(WEB)
    house.look(WEB)
    house.asking.unasked = set()
    assert await house.act() == []


async def test_what_is_known_of_the_segment_hears_when_a_vip_leaves_and_not_when_only_a_stray_place_of_it_goes(house):
    house.read(service(VIP))
    house.know(marked(index=ETH1.index))
    house.facts.links[ETH1.index] = ETH1
    house.know(marked())
    await house.act()
    assert house.asking.gone == []
    house.elector.permits = False
    await house.act()
    assert house.asking.gone == [VIP]


async def test_what_is_known_of_the_segment_is_forgotten_with_the_last_claim(house):
    house.read(service(VIP))
    await house.act()
    assert house.asking.forgotten == []
    house.delete(WEB)
    house.look(WEB)
    await house.act()
    assert house.asking.forgotten == [VIP]
