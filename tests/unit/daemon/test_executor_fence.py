"""A fence and a withdrawal: disarmed first, complete, and never short of what was not confirmed."""

import asyncio
import errno

import pytest

from kvip.core.model import Vip
from kvip.daemon.binding import TAKE_SLICE
from kvip.daemon.executor import PERMIT_ENDED
from kvip.errors import NetlinkError
from kvip.kernel.codec import DecodeError
from tests.unit.daemon.executor_bench import LINK, SECOND, VIP, Bench, held, many, marked, take, unmarked
from tests.unit.daemon.fake_ports import THIRD


@pytest.fixture
def bench():
    return Bench()


def test_r2_a_fence_disarms_first_then_stops_frames_and_removes_what_the_dump_shows(bench):
    unknown, known = marked(Vip("192.0.2.8")), marked()
    theirs = unmarked(Vip("192.0.2.9"))
    bench.know(known, theirs)
    bench.kernel.put(unknown)
    bench.announcer.active[VIP] = LINK
    bench.executor.fence()
    assert bench.log[:2] == [("disarm", ""), ("stop all", "")]
    assert {vip for kind, vip in bench.log if kind == "delete"} == {VIP, unknown.ip}
    assert list(bench.kernel.table.values()) == [theirs]
    assert bench.announcer.active == {}
    assert bench.facts.marked() == ()


def test_a_fence_without_a_dump_goes_by_the_facts(bench):
    bench.know(marked(), unmarked(Vip("192.0.2.9")))
    bench.kernel.dump_broken = NetlinkError(errno.EINTR, "dump", "addresses")
    bench.executor.fence()
    assert list(bench.kernel.table.values()) == [unmarked(Vip("192.0.2.9"))]


def test_a_fence_withdraws_a_thousand_in_slices(bench):
    bench.kernel.put(*(marked(vip) for vip in many(1000)))
    bench.executor.fence()
    assert bench.kernel.table == {}


async def test_a_fence_between_slices_ends_a_take(bench):
    vips = many(TAKE_SLICE * 3)
    fenced = []

    def fence_later(vip):
        if vip == vips[TAKE_SLICE - 1] and not fenced:
            fenced.append(vip)
            asyncio.get_running_loop().call_soon(bench.executor.fence)

    bench.kernel.after_add = fence_later
    await bench.executor.take([take(vip) for vip in vips], epoch=bench.executor.epoch)
    assert fenced
    assert bench.kernel.table == {}
    assert bench.announcer.active == {}


async def test_a_fence_right_after_a_crowd_was_let_through_binds_none_of_it_and_leaves_none_in_the_switch(bench):
    vips, admit = many(TAKE_SLICE), bench.switch.admit

    def admit_then_fence(places, group="main"):
        admit(places, group)
        asyncio.get_running_loop().call_soon(bench.executor.fence)

    bench.switch.admit = admit_then_fence
    done = await bench.executor.take([take(vip) for vip in vips], epoch=bench.executor.epoch)
    assert not any(kind == "add" for kind, _ in bench.log)
    assert {vip for kind, vip in bench.log if kind == "out"} == set(vips)
    assert {result.problem for result in done} == {PERMIT_ENDED}


async def test_a_permit_that_ends_right_after_a_crowd_was_let_through_is_the_end_of_that_vip_alone(bench):
    vips, admit = many(TAKE_SLICE), bench.switch.admit

    def admit_then_end(places, group="main"):
        admit(places, group)
        asyncio.get_running_loop().call_soon(bench.denied.add, vips[-1])

    bench.switch.admit = admit_then_end
    done = await bench.executor.take([take(vip) for vip in vips], epoch=bench.executor.epoch)
    assert ("add", vips[-1]) not in bench.log
    assert ("out", vips[-1]) in bench.log
    assert {result.action.vip for result in done if result.problem} == {vips[-1]}
    assert set(bench.announcer.active) == set(vips[:-1])


async def test_a_fence_that_begins_in_the_question_for_a_permit_leaves_nothing_behind(bench):
    vips = many(3)
    asked = []

    def permit(vip):
        asked.append(vip)
        if len(asked) == 5:
            bench.denied.add(None)
            bench.executor.fence()
        return None if None in bench.denied else 1003.0

    bench.executor._permit = permit
    done = await bench.executor.take([take(vip) for vip in vips], epoch=bench.executor.epoch)
    assert bench.kernel.table == {}
    assert bench.announcer.active == {}
    assert bench.facts.marked() == ()
    assert [bool(result.problem) for result in done][1:] == [True, True]


async def test_what_was_planned_before_a_fence_is_not_done_after_it(bench):
    epoch = bench.executor.epoch
    assert bench.executor.fence()
    assert await bench.executor.take([take()], epoch=epoch) == []
    assert not bench.kernel.table


async def test_a_fence_that_cannot_read_the_kernel_does_not_say_that_nothing_is_left(bench):
    bench.know(marked())
    bench.kernel.dump_broken = NetlinkError(errno.EINTR, "dump", "all addresses")
    assert not bench.executor.fence()
    assert not bench.kernel.table
    bench.kernel.dump_broken = None
    assert bench.executor.fence()


async def test_r2_a_fence_that_does_not_understand_the_kernels_answer_silences_what_may_be_left(bench):
    bench.know(marked())
    bench.kernel.broken = DecodeError("message cut short")
    assert not bench.executor.fence()
    assert ("silence", VIP) in bench.log


async def test_r2_a_withdrawal_disarms_first_and_is_as_complete_as_a_fence_for_its_own(bench):
    await held(bench, {VIP: "s0", SECOND: "s1", THIRD: "s0"})
    epoch = bench.executor.epoch
    assert bench.executor.withdraw([VIP], ["s0"])
    assert bench.log[0] == ("disarm", "s0")
    assert {vip for kind, vip in bench.log if kind == "delete"} == {VIP, THIRD}, "what hangs on the group goes, named or not"
    assert {vip for kind, vip in bench.log if kind == "out"} == {VIP, THIRD}
    assert [address.ip for address in bench.kernel.table.values()] == [SECOND]
    assert set(bench.announcer.active) == {SECOND}
    assert bench.executor.epoch == epoch, "what was planned for others goes on"


async def test_a_withdrawal_that_the_kernel_does_not_confirm_says_so_and_silences(bench):
    await held(bench, {VIP: "s0"})
    bench.kernel.dump_broken = NetlinkError(errno.EINTR, "dump", "addresses")
    assert not bench.executor.withdraw([], ["s0"])
    assert bench.kernel.table == {}


async def test_a_fence_lets_nothing_out_of_the_switch_that_it_could_neither_remove_nor_read_anew(bench):
    """A dump showed the address, of which the facts do not know; then the kernel gave no answer any more."""
    unknown = Vip("192.0.2.8")
    await bench.executor.take([take(unknown)], epoch=bench.executor.epoch)
    bench.facts.note_gone(marked(unknown))
    bench.log.clear()

    def dump():
        found = whole()
        bench.kernel.broken = bench.kernel.dump_broken = NetlinkError(errno.ENOBUFS, "apply", "1 address changes")
        return found

    bench.kernel.dump, whole = dump, bench.kernel.dump
    assert bench.executor.fence() is False
    assert bench.kernel.ours() == {unknown}
    assert ("out", unknown) not in bench.log
    assert ("silence", unknown) in bench.log
