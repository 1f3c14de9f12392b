"""The executor over a fake kernel: what is done in which order, and what is never touched."""

import asyncio
import errno

import msgspec
import pytest

from kvip.clock import ManualClock
from kvip.core.diff import Adopt, LetGo, Refresh, Take, Wanted, plan
from kvip.core.facts import Facts
from kvip.core.model import Address, IfIndex, Link, Vip
from kvip.daemon.binding import SLICE, Binding
from kvip.daemon.executor import IN_DOUBT, Executor
from kvip.daemon.guard import Guard
from kvip.errors import NetlinkError, SwitchError
from kvip.kernel.batches import OpResult, vip_address
from kvip.kernel.codec import DecodeError
from kvip.kernel.switch import Expired

LINK = Link(index=IfIndex(2), name="eth0", mac=b"\2\0\0\0\0\1", up=True, carrier=True)
VIP = Vip("192.0.2.7")


def many(count):
    return [Vip(f"10.0.{n >> 8}.{n & 255}") for n in range(count)]


def marked(vip=VIP, index=2):
    return vip_address(vip, IfIndex(index), valid_s=60)


def unmarked(vip=VIP, index=2, prefix=32):
    return Address(ip=vip, prefix_len=prefix, index=IfIndex(index))


class Kernel:
    """The port of `AddressSocket`: a table of addresses, with the kernel's answers."""

    def __init__(self, log):
        self.log = log
        self.table = {}
        self.refuse = {}  # VIP -> errno
        self.broken = None
        self.dump_broken = None
        self.after_add = None

    def put(self, *addresses):
        for address in addresses:
            self.table[address.ip, address.prefix_len, address.index] = address

    def apply(self, operations):
        if self.broken:
            raise self.broken
        assert 0 < len(operations) <= SLICE
        return [self.one(operation) for operation in operations]

    def one(self, operation):
        address = operation.address
        key = (address.ip, address.prefix_len, address.index)
        self.log.append((operation.kind, address.ip))
        code = self.refuse.get(address.ip, 0)
        if not code:
            if operation.kind == "delete":
                code = 0 if self.table.pop(key, None) else errno.EADDRNOTAVAIL
            elif operation.kind == "add" and key in self.table:
                code = errno.EEXIST
            else:
                self.table[key] = address
        if operation.kind == "add" and self.after_add:
            self.after_add(address.ip)
        return OpResult(operation=operation, errno=code, ext_ack="", seen=self.table.get(key))

    def dump(self):
        self.log.append(("dump", ""))
        if self.dump_broken:
            raise self.dump_broken
        return list(self.table.values())


class Announcements:
    """The announcer's side that the executor calls."""

    def __init__(self, log):
        self.log = log
        self.active = {}

    def start(self, vip, link):
        self.log.append(("start", vip))
        self.active[vip] = link

    def stop(self, vip):
        self.log.append(("stop", vip))
        self.active.pop(vip, None)

    def stop_all(self):
        self.log.append(("stop all", ""))
        self.active.clear()


class FakeSwitch:
    """The port of `Switch`: logs what changes an answer."""

    def __init__(self, log):
        self.log = log
        self.refuses = False
        self.expired = False
        self.whole = True

    def install(self, *, nics, vips):
        self.log.append(("install", " ".join(sorted(vips))))
        self.whole = True

    def covers(self, nic):
        return True

    def intact(self):
        return self.whole

    def admit(self, vips, group):
        if self.refuses:
            raise SwitchError("no")
        self.log += [("admit", vip) for vip in vips]

    def silence(self, vips):
        self.log += [("silence", vip) for vip in vips]

    def remove(self, vips):
        self.log += [("out", vip) for vip in vips]

    def others(self, vips):
        self.log.append(("others", " ".join(sorted(vips))))

    def arm_first(self, group, *, until):
        self.log.append(("arm", until))

    def rearm(self, group, *, until):
        if self.expired or not self.whole:
            raise Expired("gone")
        self.log.append(("rearm", until))

    def disarm(self, group=None):
        self.log.append(("disarm", group or ""))

    def provide(self, group):
        pass


class Bench:
    def __init__(self, *, weak=False):
        self.log = []
        self.switch = None if weak else FakeSwitch(self.log)
        self.kernel = Kernel(self.log)
        self.announcer = Announcements(self.log)
        self.facts = Facts()
        self.denied = set()
        self.groups = {}
        self.slices = 0
        self.news = lambda: None
        self.guard = Guard(self.switch)
        self.guard.install([], {})
        self.log.clear()
        self.executor = Executor(
            Binding(self.kernel, self.facts, clock=ManualClock(), lifetime_s=lambda: 60),
            self.guard,
            self.announcer,
            self.facts,
            clock=ManualClock(),
            permit=lambda vip: None if vip in self.denied or None in self.denied else 1003.0,
            group=lambda vip: self.groups.get(vip, "main"),
            progress=self.count,
            catch_up=lambda: self.news(),
        )

    def count(self):
        self.slices += 1

    def know(self, *addresses):
        self.kernel.put(*addresses)
        for address in addresses:
            self.facts.note_bound(address, now=1000.0)


@pytest.fixture
def bench():
    return Bench()


def take(vip=VIP):
    return Take(vip=vip, link=LINK)


def let_go(address):
    return LetGo(vip=address.ip, address=address, reason="no claimant")


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
    assert bench.log == [("admit", VIP), ("add", VIP), ("delete", VIP), ("out", VIP)]
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


async def test_long_work_tells_of_its_progress_after_each_slice(bench):
    vips = many(SLICE * 2 + 1)
    await bench.executor.take([take(vip) for vip in vips], epoch=bench.executor.epoch)
    assert bench.slices == 3
    await bench.executor.refresh([Refresh(vip=vip, link=LINK) for vip in vips], epoch=bench.executor.epoch)
    await bench.executor.let_go([let_go(marked(vip)) for vip in vips], epoch=bench.executor.epoch)
    assert bench.slices == 9


async def test_a_fence_between_slices_ends_a_take(bench):
    vips = many(SLICE * 3)
    fenced = []

    def fence_later(vip):
        if vip == vips[SLICE - 1] and not fenced:
            fenced.append(vip)
            asyncio.get_running_loop().call_soon(bench.executor.fence)

    bench.kernel.after_add = fence_later
    await bench.executor.take([take(vip) for vip in vips], epoch=bench.executor.epoch)
    assert fenced
    assert bench.kernel.table == {}
    assert bench.announcer.active == {}


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


def test_k5_at_start_what_is_marked_is_silenced_and_stays(bench):
    bench.facts.links[LINK.index] = LINK
    bench.kernel.put(marked(), unmarked(Vip("192.0.2.9")))
    assert bench.executor.silence(nics=["eth0"]) == ([marked()], False)
    assert ("install", VIP) in bench.log
    assert len(bench.kernel.table) == 2


async def test_what_a_former_daemon_left_is_let_through_before_it_is_announced(bench):
    bench.know(marked())
    (done,) = await bench.executor.adopt([Adopt(vip=VIP, link=LINK)], epoch=bench.executor.epoch)
    assert done.problem == ""
    assert bench.log == [("admit", VIP), ("start", VIP)]


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


def test_without_a_switch_start_removes_every_marked_address_and_says_which():
    bench = Bench(weak=True)
    theirs = unmarked(Vip("192.0.2.9"))
    bench.kernel.put(marked(), theirs)
    assert bench.executor.silence(nics=["eth0"]) == ([marked()], True)
    assert list(bench.kernel.table.values()) == [theirs]


def test_without_a_switch_start_fails_when_the_kernel_keeps_an_address_or_gives_no_dump():
    bench = Bench(weak=True)
    bench.kernel.put(marked())
    bench.kernel.refuse[VIP] = errno.EPERM
    with pytest.raises(NetlinkError, match=r"192\.0\.2\.7"):
        bench.executor.silence(nics=["eth0"])
    bench.kernel.dump_broken = NetlinkError(errno.EINTR, "dump", "addresses")
    with pytest.raises(NetlinkError):
        bench.executor.silence(nics=["eth0"])


def test_an_interrupted_dump_leaves_the_facts_as_they_were(bench):
    bench.know(marked())
    bench.kernel.dump_broken = NetlinkError(errno.EINTR, "dump", "addresses")
    with pytest.raises(NetlinkError):
        bench.executor.resync("overrun")
    assert bench.facts.marked() == (VIP,)
    bench.kernel.dump_broken = None
    bench.kernel.table.clear()
    assert bench.executor.resync("overrun") == {VIP}
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
    bench.executor.resync("doubt")
    assert not bench.facts.doubted


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


SECOND, THIRD = Vip("192.0.2.8"), Vip("192.0.2.9")


async def held(bench, groups):
    bench.groups = groups
    for vip in groups:
        assert [done.problem for done in await bench.executor.take([take(vip)], epoch=bench.executor.epoch)] == [""]
        bench.announcer.active[vip] = LINK
    bench.log.clear()


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


async def test_a_vip_moves_to_another_group_without_a_frame_or_an_address_changed(bench):
    await held(bench, {VIP: "s0"})
    bench.groups[VIP] = "s1"
    assert bench.executor.regroup(VIP) == ""
    assert bench.log == [("admit", VIP)]
    assert bench.guard.members("s1") == {VIP}
    bench.switch.refuses = True
    assert "switch" in bench.executor.regroup(VIP)
