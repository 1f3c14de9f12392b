"""The executor's hand on the switch: silence at start, refusals, arming, groups, and life without a switch."""

import asyncio
import errno

import pytest

from kvip.core.diff import Adopt
from kvip.core.model import Vip
from kvip.daemon.binding import TAKE_SLICE
from kvip.daemon.executor import IN_DOUBT, SHUT_OUT
from kvip.errors import NetlinkError, SwitchError
from tests.unit.daemon.executor_bench import LINK, SECOND, VIP, Bench, held, let_go, many, marked, take, unmarked


@pytest.fixture
def bench():
    return Bench()


@pytest.mark.parametrize("weak", [False, True])
def test_k5_at_start_what_is_marked_is_silenced_and_then_removed(weak):
    bench = Bench(weak=weak)
    theirs = unmarked(Vip("192.0.2.9"))
    bench.facts.links[LINK.index] = LINK
    bench.kernel.put(marked(), theirs)
    assert bench.executor.clear(nics=["eth0"]) == [marked()]
    done = [entry for entry in bench.log if entry[0] != "dump"]
    assert done == ([("delete", VIP)] if weak else [("install", VIP), ("delete", VIP), ("out", VIP)])
    assert list(bench.kernel.table.values()) == [theirs]


def test_k5_what_the_kernel_keeps_at_start_stays_silent(bench, caplog):
    bench.facts.links[LINK.index] = LINK
    bench.kernel.put(marked())
    bench.kernel.refuse[VIP] = errno.EPERM
    assert bench.executor.clear(nics=["eth0"]) == [marked()]
    assert ("install", VIP) in bench.log
    assert ("out", VIP) not in bench.log
    (record,) = [record for record in caplog.records if "cannot be removed" in record.getMessage()]
    assert record.vips == [VIP]
    assert record.reason


def test_i6_what_lost_the_mark_while_the_rules_were_loaded_is_left_alone_and_answers(bench):
    bench.facts.links[LINK.index] = LINK
    bench.kernel.put(marked(), marked(SECOND))
    load = bench.switch.install

    def install(**what):
        load(**what)
        bench.kernel.put(unmarked())  # `ip addr replace` by another program

    bench.switch.install = install
    bench.executor.clear(nics=["eth0"])
    assert list(bench.kernel.table.values()) == [unmarked()]
    assert [vip for what, vip in bench.log if what == "delete"] == [SECOND]
    assert {vip for what, vip in bench.log if what == "out"} == {VIP, SECOND}


def test_what_cannot_be_silenced_at_start_does_not_stay_either(bench):
    bench.kernel.put(marked())
    bench.switch.whole = False
    bench.switch.install = lambda **_: (_ for _ in ()).throw(SwitchError("nft: no memory"))
    with pytest.raises(SwitchError, match="no memory"):
        bench.executor.clear(nics=["eth0"])
    assert not bench.kernel.table


def test_i7_at_start_only_what_is_gone_is_called_removed(bench, caplog):
    bench.kernel.put(marked(), marked(SECOND))
    bench.kernel.refuse[VIP] = errno.EPERM
    assert bench.executor.clear(nics=["eth0"]) == [marked(), marked(SECOND)]
    (record,) = [record for record in caplog.records if "removed at start" in record.getMessage()]
    assert record.vips == [SECOND]


async def test_a_switch_that_refuses_means_nothing_is_bound_or_announced(bench):
    bench.switch.refuses = True
    for done in (
        await bench.executor.take([take()], epoch=bench.executor.epoch),
        await bench.executor.adopt([Adopt(vip=VIP, link=LINK)], epoch=bench.executor.epoch),
    ):
        assert "the switch does not let it through" in done[0].problem
    assert bench.log == []


async def test_what_cannot_be_removed_is_silenced_in_the_switch(bench):
    bench.facts.links[LINK.index] = LINK
    bench.know(marked())
    bench.kernel.refuse[VIP] = errno.EPERM
    await bench.executor.let_go([let_go(marked())], epoch=bench.executor.epoch)
    assert ("silence", VIP) in bench.log
    bench.log.clear()
    assert not bench.executor.fence()
    assert ("silence", VIP) in bench.log


async def test_what_a_failed_request_bound_all_the_same_is_silenced_in_the_switch_and_known(bench):
    bench.facts.links[LINK.index] = LINK
    bench.kernel.broken_afterwards = NetlinkError(errno.ENOBUFS, "apply", "2 address changes")
    done = await bench.executor.take([take(), take(SECOND)], epoch=bench.executor.epoch)
    assert all(result.problem for result in done)
    assert {("silence", VIP), ("silence", SECOND)} <= set(bench.log)
    assert not {("out", VIP), ("out", SECOND)} & set(bench.log)
    assert set(bench.facts.marked()) == {VIP, SECOND}
    assert bench.announcer.active == {}


async def test_what_a_failed_request_may_have_bound_counts_as_bound_until_a_dump_tells(bench):
    bench.kernel.broken = bench.kernel.dump_broken = NetlinkError(errno.ENOBUFS, "apply", "1 address changes")
    (done,) = await bench.executor.take([take()], epoch=bench.executor.epoch)
    assert done.problem
    assert bench.facts.doubted
    assert bench.facts.marked() == (VIP,)
    assert bench.facts.unconfirmed(VIP)
    assert ("silence", VIP) in bench.log
    (adopted,) = await bench.executor.adopt([Adopt(vip=VIP, link=LINK)], epoch=bench.executor.epoch)
    assert adopted.problem == IN_DOUBT
    assert bench.announcer.active == {}
    bench.kernel.broken = bench.kernel.dump_broken = None
    await bench.executor.resync("failure")
    assert bench.facts.marked() == ()


def test_k4_arming_begins_with_a_first_arm_and_an_expired_switch_is_a_fence(bench):
    assert bench.executor.arm(1003.0) == ""
    assert bench.executor.arm(1004.0) == ""
    assert bench.log == [("arm", 1003.0), ("rearm", 1004.0)]
    bench.switch.expired = True
    assert bench.executor.arm(1005.0) == "switched off by the kernel"
    bench.executor.fence()
    bench.log.clear()
    bench.switch.expired = False
    assert bench.executor.arm(1006.0) == ""
    assert bench.log == [("arm", 1006.0)]


async def test_k7_rules_that_someone_removed_are_put_back_silent_first_then_armed(bench):
    await bench.executor.take([take()], epoch=bench.executor.epoch)
    bench.executor.arm(1003.0)
    bench.log.clear()
    bench.switch.whole = False
    assert bench.executor.arm(1004.0) == ""
    assert bench.log == [("install", VIP), ("admit", VIP), ("arm", 1004.0)]


def test_without_a_switch_start_fails_when_the_kernel_keeps_an_address_or_gives_no_dump():
    bench = Bench(weak=True)
    bench.kernel.put(marked())
    bench.kernel.refuse[VIP] = errno.EPERM
    with pytest.raises(NetlinkError, match=r"192\.0\.2\.7"):
        bench.executor.clear(nics=["eth0"])
    bench.kernel.dump_broken = NetlinkError(errno.EINTR, "dump", "addresses")
    with pytest.raises(NetlinkError):
        bench.executor.clear(nics=["eth0"])


async def test_a_vip_moves_to_another_group_without_a_frame_or_an_address_changed(bench):
    await held(bench, {VIP: "s0"})
    bench.groups[VIP] = "s1"
    assert bench.executor.regroup(VIP) == ""
    assert bench.log == [("admit", VIP)]
    assert bench.guard.members("s1") == {VIP}
    bench.switch.refuses = True
    assert "switch" in bench.executor.regroup(VIP)


async def test_what_was_bound_by_a_request_that_failed_as_a_whole_is_silent_until_a_dump_tells(bench):
    """The kernel carried it out, and its answers were lost."""
    bench.facts.links[LINK.index] = LINK
    applied = bench.kernel.apply

    def lose_the_answers(operations):
        applied(operations)
        raise NetlinkError(errno.ENOBUFS, "apply", "1 address changes")

    bench.kernel.apply = lose_the_answers
    (done,) = await bench.executor.take([take()], epoch=bench.executor.epoch)
    assert done.problem
    assert list(bench.kernel.table.values()) == [marked()]
    assert (bench.guard.guards(VIP), bench.guard.admitted(VIP)) == (True, False)
    assert bench.announcer.active == {}
    bench.kernel.apply = applied
    bench.executor.hush(VIP)
    (done,) = await bench.executor.take([take()], epoch=bench.executor.epoch)
    assert done.problem
    assert (bench.guard.guards(VIP), bench.guard.admitted(VIP)) == (True, False)
    await bench.executor.resync("a test")
    await bench.executor.adopt([Adopt(vip=VIP, link=LINK)], epoch=bench.executor.epoch)
    assert bench.guard.admitted(VIP)


def after_admission(bench, act):
    """Do that right after the switch let the next ones through, before they are bound."""
    admit = bench.switch.admit

    def admit_then_act(places, group="main"):
        admit(places, group)
        asyncio.get_running_loop().call_soon(act)

    bench.switch.admit = admit_then_act


async def test_k5_what_the_switch_lost_before_it_is_bound_is_not_bound_and_tried_again(bench):
    """Another lease group could not be armed, because the rules are gone: no fence comes for this one."""
    vips = many(TAKE_SLICE)
    after_admission(bench, bench.guard._admitted.clear)
    done = await bench.executor.take([take(vip) for vip in vips], epoch=bench.executor.epoch)
    assert not any(kind in ("add", "start") for kind, _ in bench.log)
    assert {result.problem for result in done} == {SHUT_OUT}


async def test_k5_what_hangs_on_another_lease_group_by_now_is_not_bound_under_the_former(bench):
    vips = many(TAKE_SLICE)
    after_admission(bench, lambda: bench.groups.update({vips[0]: "s1"}))
    done = await bench.executor.take([take(vip) for vip in vips], epoch=bench.executor.epoch)
    assert ("add", vips[0]) not in bench.log
    assert ("out", vips[0]) in bench.log
    assert {result.action.vip for result in done if result.problem} == {vips[0]}


async def test_what_a_fence_silenced_meanwhile_stays_silent(bench):
    vips = many(TAKE_SLICE)

    def fence_that_cannot_remove():
        bench.executor.fence()
        bench.guard.silence({vips[0]: "eth0"})

    after_admission(bench, fence_that_cannot_remove)
    await bench.executor.take([take(vip) for vip in vips], epoch=bench.executor.epoch)
    assert ("out", vips[0]) not in bench.log[bench.log.index(("silence", vips[0])) :]
