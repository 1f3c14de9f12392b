"""What the executor does in which order, and what it never touches."""

import errno

import msgspec
import pytest

from kvip.core.diff import Adopt, LetGo, Refresh, Take, Wanted, plan
from kvip.core.model import Vip
from kvip.daemon.binding import SLICE
from kvip.daemon.executor import IN_DOUBT
from kvip.errors import NetlinkError
from tests.unit.daemon.executor_bench import LINK, VIP, Bench, let_go, many, marked, take, unmarked


@pytest.fixture
def bench():
    return Bench()


async def test_a_take_binds_before_it_announces_and_notes_what_the_kernel_shows(bench):
    (done,) = await bench.executor.take([take()], epoch=bench.executor.epoch)
    assert done.problem == ""
    assert bench.log == [("admit", VIP), ("add", VIP), ("start", VIP)]
    assert list(bench.kernel.table.values()) == [marked()]
    assert bench.facts.marked() == (VIP,)
    assert bench.facts.bound(VIP)[0].expires_at == 1060.0


async def test_without_a_permit_nothing_is_bound_and_the_others_go_on(bench):
    bench.denied.add(VIP)
    done = await bench.executor.take([take(), take(Vip("192.0.2.8"))], epoch=bench.executor.epoch)
    assert {result.action.vip: result.problem for result in done} == {VIP: "no permit", "192.0.2.8": ""}
    assert bench.log == [("admit", "192.0.2.8"), ("add", "192.0.2.8"), ("start", "192.0.2.8")]


async def test_a_permit_that_ends_while_binding_undoes_it_without_a_frame(bench):
    bench.kernel.after_add = bench.denied.add
    (done,) = await bench.executor.take([take()], epoch=bench.executor.epoch)
    assert done.problem == "permit ended while binding"
    assert bench.log == [("admit", VIP), ("add", VIP), ("dump", ""), ("delete", VIP), ("out", VIP)]
    assert bench.kernel.table == {}
    assert bench.facts.marked() == ()


async def test_an_unmarked_address_of_the_same_value_is_left_alone(bench):
    theirs = unmarked()
    bench.kernel.put(theirs)
    (done,) = await bench.executor.take([take()], epoch=bench.executor.epoch)
    assert done.problem
    assert list(bench.kernel.table.values()) == [theirs]
    assert bench.log == [("admit", VIP), ("add", VIP), ("out", VIP)]
    assert bench.facts.marked() == ()


async def test_one_refused_address_does_not_hold_up_the_others(bench):
    bench.kernel.refuse[VIP] = errno.EINVAL
    done = await bench.executor.take([take(), take(Vip("192.0.2.8"))], epoch=bench.executor.epoch)
    assert [bool(result.problem) for result in done] == [True, False]
    assert set(bench.announcer.active) == {"192.0.2.8"}


@pytest.mark.parametrize("action", ["take", "let_go", "refresh"])
async def test_a_failing_socket_is_a_problem_of_each_action_and_changes_no_fact(bench, action):
    if action != "take":
        bench.know(marked())
    bench.kernel.broken = NetlinkError(errno.ENOBUFS, "apply", "1 address changes")
    wanted = {"take": [take()], "let_go": [let_go(marked())], "refresh": [Refresh(vip=VIP, link=LINK)]}[action]
    (done,) = await getattr(bench.executor, action)(wanted, epoch=bench.executor.epoch)
    assert done.problem
    assert bench.facts.marked() == (() if action == "take" else (VIP,))
    assert bench.announcer.active == {}


async def test_k5_a_let_go_stops_frames_then_removes_then_takes_out_of_the_switch(bench):
    other = marked(Vip("192.0.2.8"))
    await bench.executor.take([take(), take(other.ip)], epoch=bench.executor.epoch)
    bench.log.clear()
    done = await bench.executor.let_go([let_go(marked()), let_go(other)], epoch=bench.executor.epoch)
    assert [result.problem for result in done] == ["", ""]
    assert bench.log == [("stop", VIP), ("stop", other.ip), ("delete", VIP), ("delete", other.ip), ("out", VIP), ("out", other.ip)]
    assert bench.kernel.table == {}
    assert bench.facts.marked() == ()


async def test_letting_go_of_what_is_gone_already_succeeds(bench):
    bench.facts.note_bound(marked(), now=1000.0)
    (done,) = await bench.executor.let_go([let_go(marked())], epoch=bench.executor.epoch)
    assert done.problem == ""
    assert bench.facts.marked() == ()


async def test_a_removal_the_kernel_refuses_stays_in_the_facts(bench):
    bench.know(marked())
    bench.kernel.refuse[VIP] = errno.EPERM
    (done,) = await bench.executor.let_go([let_go(marked())], epoch=bench.executor.epoch)
    assert done.problem
    assert bench.facts.marked() == (VIP,)


async def test_letting_go_of_a_stray_place_keeps_the_right_one_announced(bench):
    right, stray = marked(), marked(index=3)
    bench.know(right, stray)
    bench.announcer.active[VIP] = LINK
    wanted = Wanted(vip=VIP, known=True, claimed=True, permitted=True, link=LINK)
    actions = plan(wanted, bench.facts.bound(VIP), now=1000.0, lifetime_s=60)
    await bench.executor.let_go([action for action in actions if isinstance(action, LetGo)], epoch=bench.executor.epoch)
    await bench.executor.take([action for action in actions if isinstance(action, Take)], epoch=bench.executor.epoch)
    assert list(bench.kernel.table.values()) == [right]
    assert bench.announcer.active == {VIP: LINK}


async def test_a_refresh_renews_and_announces_nothing(bench):
    bench.know(marked())
    (done,) = await bench.executor.refresh([Refresh(vip=VIP, link=LINK)], epoch=bench.executor.epoch)
    assert done.problem == ""
    assert bench.log == [("replace", VIP)]


async def test_nothing_is_refreshed_without_a_permit(bench):
    bench.know(marked())
    bench.denied.add(VIP)
    assert await bench.executor.refresh([Refresh(vip=VIP, link=LINK)], epoch=bench.executor.epoch) == []
    assert bench.log == []


async def test_k5_what_was_withdrawn_since_it_was_planned_is_not_put_back_by_a_renewal(bench):
    """Its Lease was lost and won again meanwhile (mode per-service): it is permitted, but neither bound nor in the switch."""
    assert await bench.executor.refresh([Refresh(vip=VIP, link=LINK)], epoch=bench.executor.epoch) == []
    assert not bench.kernel.table


async def test_long_work_tells_of_its_progress_after_each_slice(bench):
    vips = many(SLICE * 2 + 1)
    await bench.executor.take([take(vip) for vip in vips], epoch=bench.executor.epoch)
    assert bench.slices == 2
    await bench.executor.refresh([Refresh(vip=vip, link=LINK) for vip in vips], epoch=bench.executor.epoch)
    await bench.executor.let_go([let_go(marked(vip)) for vip in vips], epoch=bench.executor.epoch)
    assert bench.slices == 8


async def test_what_a_former_daemon_left_is_let_through_before_it_is_announced(bench):
    bench.know(marked())
    (done,) = await bench.executor.adopt([Adopt(vip=VIP, link=LINK)], epoch=bench.executor.epoch)
    assert done.problem == ""
    assert bench.log == [("admit", VIP), ("start", VIP)]


async def test_an_interrupted_dump_leaves_the_facts_as_they_were(bench):
    bench.know(marked())
    bench.kernel.dump_broken = NetlinkError(errno.EINTR, "dump", "addresses")
    with pytest.raises(NetlinkError):
        await bench.executor.resync("overrun")
    assert bench.facts.marked() == (VIP,)
    bench.kernel.dump_broken = None
    bench.kernel.table.clear()
    assert await bench.executor.resync("overrun") == {VIP}
    assert bench.facts.marked() == ()


def lost_its_mark(bench):
    """The kernel announced that someone else put their own address in the place of kvip's, and the loop has not read it yet."""
    foreign = msgspec.structs.replace(marked(), proto=0)
    bench.kernel.put(foreign)

    def news():
        bench.facts.doubted = bench.facts.contradicted_by(foreign, present=True)

    bench.news = news


@pytest.mark.parametrize("verb", ["let_go", "refresh"])
async def test_i6_an_address_that_lost_its_mark_between_plan_and_act_is_left_alone(bench, verb):
    bench.know(marked())
    lost_its_mark(bench)
    before = list(bench.kernel.table.values())
    if verb == "let_go":
        (done,) = await bench.executor.let_go([let_go(marked())], epoch=bench.executor.epoch)
    else:
        (done,) = await bench.executor.refresh([Refresh(vip=VIP, link=LINK)], epoch=bench.executor.epoch)
    assert done.problem == IN_DOUBT
    assert list(bench.kernel.table.values()) == before
    await bench.executor.resync("doubt")
    assert not bench.facts.doubted
