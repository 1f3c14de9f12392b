"""Doubt about the facts, and how it ends: by a complete dump, or not at all.

Over 300 lines: each test is about the one class.
"""

import errno

import msgspec
import pytest

from kvip import metrics
from kvip.core.diff import DADFAILED
from kvip.core.model import IfIndex
from tests.unit.daemon.fake_ports import ETH0, ETH1, INTERRUPTED, IPVS0, OTHER, VIP, VIP6, marked, unmarked
from tests.unit.daemon.house import House

DOWN = ETH0.__class__(index=ETH0.index, name="eth0", mac=ETH0.mac, up=True, carrier=False)
OTHER_MAC = ETH0.__class__(index=ETH0.index, name="eth0", mac=b"\2\0\0\0\0\7", up=True, carrier=True)
NOTHING = (set(), set())


@pytest.fixture
def house():
    return House()


def restarts(house):
    return [word for word, _ in house.log].count("restart")


# -- addresses ---------------------------------------------------------------------------------------------------------


async def test_without_a_doubt_the_kernel_is_not_asked(house):
    assert await house.upkeep.refresh() == NOTHING
    assert house.kernel.dumps == 0


async def test_a_doubt_ends_by_one_dump_that_says_what_changed(house):
    house.know(marked(VIP), marked(OTHER))
    house.kernel.drop(VIP)
    house.upkeep.doubt("event")
    assert await house.upkeep.refresh() == ({VIP}, {VIP})
    assert house.facts.marked() == (OTHER,)
    assert await house.upkeep.refresh() == NOTHING
    assert house.kernel.dumps == 1


async def test_an_address_message_that_agrees_with_the_facts_asks_for_nothing(house):
    house.know(marked())
    house.upkeep.on_address(marked(), True)
    house.upkeep.on_address(marked(OTHER), False)
    assert not house.facts.doubted
    assert await house.upkeep.refresh() == NOTHING
    assert house.kernel.dumps == 0


@pytest.mark.parametrize("present", [True, False])
async def test_a_duplicate_that_the_kernel_found_is_passed_on_also_when_the_address_went_with_it(house, present):
    house.upkeep.on_address(msgspec.structs.replace(marked(VIP6), flags=DADFAILED), present)
    house.upkeep.on_address(msgspec.structs.replace(unmarked(vip=VIP6), flags=DADFAILED), present)
    assert house.log == [("duplicate", VIP6)]


@pytest.mark.parametrize("message", [(marked(), False), (unmarked(prefix=32), True), (marked(OTHER), True)])
async def test_an_address_message_that_contradicts_the_facts_puts_them_in_doubt_until_a_dump(house, message):
    house.know(marked())
    house.upkeep.on_address(*message)
    assert house.facts.doubted
    await house.upkeep.refresh()
    assert not house.facts.doubted
    assert house.kernel.dumps == 1


@pytest.mark.parametrize("problem", [INTERRUPTED, OSError(errno.ENOBUFS, "no buffer space")])
@pytest.mark.parametrize("cause", ["event", "overrun", "audit"])
async def test_i5_an_interrupted_dump_withdraws_nothing_and_is_tried_again_after_a_second(house, cause, problem):
    house.know(marked())
    house.kernel.table.clear()
    house.kernel.dump_broken = problem
    house.upkeep.doubt(cause)
    for _ in range(3):
        assert await house.upkeep.refresh() == NOTHING
    assert house.kernel.dumps == 1
    assert house.facts.marked() == (VIP,)
    house.kernel.dump_broken = None
    house.clock.advance(1.0)
    assert VIP in (await house.upkeep.refresh())[1]


async def test_messages_that_were_lost_are_not_forgotten_for_a_lesser_cause(house):
    house.upkeep.doubt("overrun")
    house.upkeep.doubt("event")
    house.links = [ETH0, ETH1]
    await house.upkeep.refresh()
    assert house.facts.links[ETH1.index] == ETH1


async def test_messages_that_were_lost_during_a_dump_that_fails_are_not_forgotten(house):
    def dump():
        house.upkeep.doubt("overrun")
        raise INTERRUPTED

    house.kernel.dump, whole = dump, house.kernel.dump
    house.upkeep.doubt("event")
    await house.upkeep.refresh()
    house.kernel.dump = whole
    house.links = [ETH0, ETH1]
    house.clock.advance(1.0)
    await house.upkeep.refresh()
    assert house.facts.links[ETH1.index] == ETH1


async def test_the_cause_of_each_dump_is_counted(house):
    counter = metrics.netlink_resyncs_total.labels("failure")
    before = counter._value.get()
    house.upkeep.doubt("failure")
    await house.upkeep.refresh()
    assert counter._value.get() - before == 1


async def test_a_message_that_is_newer_than_the_dump_under_way_has_it_made_again(house):
    """Somebody adds a VIP's address and removes it again while it is read; when that was heard the facts did not know of it yet."""
    house.kernel.put(unmarked(prefix=32))

    def dump():
        found = whole()
        house.kernel.table.clear()
        house.upkeep.on_address(unmarked(prefix=32), False)
        return found

    house.kernel.dump, whole = dump, house.kernel.dump
    house.upkeep.doubt("event")
    await house.upkeep.refresh()
    assert house.facts.doubted
    house.kernel.dump = whole
    assert await house.upkeep.refresh() == ({VIP}, set())
    assert house.facts.bound(VIP) == ()
    assert not house.facts.doubted


async def test_what_a_fence_removes_while_the_kernel_is_read_was_removed_by_nobody_else(house):
    house.know(marked())

    def dump():
        found = whole()
        house.kernel.dump = whole
        house.executor.fence()
        return found

    house.kernel.dump, whole = dump, house.kernel.dump
    house.upkeep.doubt("event")
    assert await house.upkeep.refresh() == NOTHING
    assert house.facts.marked() == ()


# -- the audit ---------------------------------------------------------------------------------------------------------


async def test_an_audit_reads_everything_each_interval_and_looks_at_every_vip(house):
    house.know(marked())
    checked, looked_at = [], []
    house.strays.check = lambda: checked.append(house.clock.now())
    house.reconcile.look_over = looked_at.append
    for _ in range(130):
        house.clock.advance(1.0)
        assert await house.upkeep.refresh() == NOTHING
    assert checked == [1060.0, 1120.0]
    assert looked_at == [{VIP}, {VIP}]
    assert house.kernel.dumps == 2


async def test_an_audit_that_failed_is_made_up_for(house):
    house.kernel.dump_broken = INTERRUPTED
    house.clock.advance(60)
    await house.upkeep.refresh()
    checked = []
    house.strays.check = lambda: checked.append(house.clock.now())
    house.kernel.dump_broken = None
    house.clock.advance(1)
    await house.upkeep.refresh()
    assert checked == [1061.0]


async def test_an_audit_looks_at_the_rules_too(house):
    house.switch.flush()
    house.clock.advance(60)
    await house.upkeep.refresh()
    assert house.switch.there


async def test_k7_rules_that_someone_may_have_changed_are_looked_at_once(house):
    house.switch.flush()
    await house.upkeep.refresh()
    assert not house.switch.there
    house.upkeep.doubt_rules()
    await house.upkeep.refresh()
    assert house.switch.installs == 2
    house.switch.flush()
    await house.upkeep.refresh()
    assert house.switch.installs == 2


async def test_k7_rules_are_looked_at_though_the_addresses_cannot_be_read(house):
    house.kernel.dump_broken = INTERRUPTED
    house.upkeep.doubt("event")
    await house.upkeep.refresh()
    house.switch.flush()
    house.upkeep.doubt_rules()
    await house.upkeep.refresh()
    assert house.switch.there


# -- NICs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", ["start", "overrun", "audit"])
async def test_nics_are_read_where_messages_about_them_may_be_missing(house, cause):
    house.links = [OTHER_MAC, IPVS0]
    house.upkeep.doubt(cause)
    await house.upkeep.refresh()
    assert house.facts.links == {ETH0.index: OTHER_MAC, IPVS0.index: IPVS0}
    assert restarts(house) == 1


async def test_a_nic_that_the_dump_does_not_show_is_gone(house):
    house.links = []
    house.upkeep.doubt("overrun")
    await house.upkeep.refresh()
    assert house.facts.links == {}
    assert len(house.nic_changes) == 1


async def test_a_link_dump_that_is_older_than_a_message_is_dropped_and_made_again(house):
    def message():
        house.upkeep.on_link(DOWN, ETH0.index, True)
        house.on_read_links = lambda: None

    house.on_read_links = message
    house.upkeep.doubt("audit")
    await house.upkeep.refresh()
    assert house.facts.link("eth0") == DOWN
    house.links = [DOWN, ETH1]
    await house.upkeep.refresh()
    assert house.facts.link("eth0") == DOWN
    assert house.facts.link("eth1") == ETH1
    for _ in range(3):
        await house.upkeep.refresh()
    assert house.kernel.dumps == 2


@pytest.mark.parametrize("problem", [INTERRUPTED, TimeoutError()])
async def test_i5_nics_that_cannot_be_read_are_kept_and_so_are_the_addresses(house, problem):
    house.know(marked())
    house.kernel.table.clear()
    house.links_broken = problem
    house.upkeep.doubt("overrun")
    assert await house.upkeep.refresh() == NOTHING
    assert house.facts.links == {ETH0.index: ETH0}
    assert house.facts.marked() == (VIP,)
    house.links_broken = None
    house.clock.advance(1.0)
    assert await house.upkeep.refresh() == ({VIP}, {VIP})


def test_carrier_that_comes_back_or_another_mac_is_announced_again(house):
    house.upkeep.on_link(DOWN, ETH0.index, True)
    assert restarts(house) == 0
    house.upkeep.on_link(ETH0, ETH0.index, True)
    assert restarts(house) == 1
    house.upkeep.on_link(OTHER_MAC, ETH0.index, True)
    assert restarts(house) == 2
    house.upkeep.on_link(OTHER_MAC, ETH0.index, True)
    assert restarts(house) == 2


def test_a_message_that_says_nothing_new_of_the_vips_nic_changes_nothing(house):
    house.upkeep.on_link(ETH0, ETH0.index, True)
    assert house.nic_changes == []


@pytest.mark.parametrize(("link", "present"), [(DOWN, True), (None, False), (OTHER_MAC, True)])
async def test_a_change_of_the_vips_nic_has_addresses_and_rules_read_anew(house, link, present):
    house.switch.flush()
    house.upkeep.on_link(link, ETH0.index, present)
    assert len(house.nic_changes) == 1
    await house.upkeep.refresh()
    assert house.kernel.dumps == 1
    assert house.switch.there


def test_a_nic_that_takes_or_loses_the_vips_nics_name_is_a_change(house):
    renamed = ETH0.__class__(index=ETH0.index, name="lan0", mac=ETH0.mac, up=True, carrier=True)
    house.upkeep.on_link(renamed, ETH0.index, True)
    successor = ETH0.__class__(index=IfIndex(5), name="eth0", mac=ETH0.mac, up=True, carrier=True)
    house.upkeep.on_link(successor, IfIndex(5), True)
    assert len(house.nic_changes) == 2
    assert house.facts.link("eth0") == successor


async def test_other_nics_come_and_go_without_a_dump(house):
    house.upkeep.on_link(ETH1, ETH1.index, True)
    house.upkeep.on_link(None, ETH1.index, False)
    await house.upkeep.refresh()
    assert (house.nic_changes, house.kernel.dumps) == ([], 0)
