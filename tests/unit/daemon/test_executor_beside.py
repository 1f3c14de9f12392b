"""A request that another thread makes: the loop goes on, and whatever else comes meanwhile is as sure as without it."""

import asyncio
import errno
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from kvip.daemon.binding import BESIDE_FROM
from kvip.daemon.executor import PERMIT_ENDED, SHUT_OUT
from kvip.errors import NetlinkError
from tests.unit.daemon.executor_bench import Bench, Kernel, many, marked, take, unmarked

VIPS = many(BESIDE_FROM)
FIRST, SECOND, *OTHERS = VIPS
LONGEST_S = 10.0


class HeldKernel(Kernel):
    """Requests of many are begun and then held until `go`."""

    def __init__(self, log):
        super().__init__(log)
        self.began = threading.Event()
        self.go = threading.Event()
        self.over = threading.Event()
        self.raises = None

    def apply(self, operations):
        if len(operations) >= BESIDE_FROM and operations[0].kind == "add":
            self.began.set()
            assert self.go.wait(LONGEST_S)
            if self.raises is not None:
                raise self.raises
        try:
            return super().apply(operations)
        finally:
            self.over.set()


@pytest.fixture
def bench():
    with ThreadPoolExecutor(max_workers=1) as beside:
        yield Bench(beside=beside, kernel=HeldKernel)


class Taking:
    """A crowd being taken, once its request is with the kernel. At the end it is over."""

    def __init__(self, bench):
        self.bench = bench

    async def __aenter__(self):
        executor = self.bench.executor
        self.task = asyncio.create_task(executor.take([take(vip) for vip in VIPS], epoch=executor.epoch))
        async with asyncio.timeout(LONGEST_S):
            while not self.bench.kernel.began.is_set():
                await asyncio.sleep(0.001)
        return self

    async def __aexit__(self, *_):
        self.bench.kernel.go.set()
        await asyncio.wait([self.task])

    async def problems(self):
        self.bench.kernel.go.set()
        return {done.action.vip: done.problem for done in await self.task}


def at_once(bench):
    """The kernel goes on as soon as somebody waits for it."""
    threading.Timer(0.02, bench.kernel.go.set).start()


async def test_the_loop_goes_on_while_the_kernel_binds(bench):
    async with Taking(bench) as taking:
        await asyncio.sleep(0.005)
        assert bench.kernel.table == {}
        assert bench.announcer.active == {}
        assert bench.slices == 0, "a kernel that hangs is no progress (R5)"
        assert await taking.problems() == dict.fromkeys(VIPS, "")
    assert set(bench.announcer.active) == set(VIPS)
    assert set(bench.facts.marked()) == bench.kernel.ours() == set(VIPS)


async def test_i1_what_is_being_bound_counts_as_bound(bench):
    async with Taking(bench) as taking:
        assert set(bench.facts.marked()) == set(VIPS)
        assert all(map(bench.facts.unconfirmed, VIPS)), "nothing is proven by it"
        assert bench.facts.confirmed_count() == 0
        await taking.problems()
        assert not any(map(bench.facts.unconfirmed, VIPS))
        assert bench.facts.confirmed_count() == len(VIPS)


async def test_what_the_kernel_refuses_counts_as_bound_no_longer(bench):
    bench.kernel.refuse[FIRST] = errno.EPERM
    async with Taking(bench) as taking:
        assert (await taking.problems())[FIRST]
    assert set(bench.facts.marked()) == {SECOND, *OTHERS}
    assert ("out", FIRST) in bench.log
    assert FIRST not in bench.announcer.active


async def test_r2_a_fence_comes_after_what_is_with_the_kernel_and_leaves_nothing_of_it(bench):
    async with Taking(bench) as taking:
        at_once(bench)
        assert bench.executor.fence()
        assert bench.log[bench.log.index(("disarm", "")) + 1] == ("stop all", "")
        assert bench.kernel.ours() == set(bench.facts.marked()) == set(bench.guard.vips()) == set()
        assert await taking.problems() == dict.fromkeys(VIPS, PERMIT_ENDED)
    assert bench.announcer.active == {}
    assert bench.kernel.ours() == set(bench.guard.vips()) == set()


async def test_r2_a_withdrawal_takes_its_own_and_the_others_are_announced(bench):
    async with Taking(bench) as taking:
        at_once(bench)
        assert bench.executor.withdraw([FIRST], [])
        assert bench.kernel.ours() == {SECOND, *OTHERS}
        assert await taking.problems() == dict.fromkeys(VIPS, "") | {FIRST: PERMIT_ENDED}
    assert set(bench.announcer.active) == bench.kernel.ours() == set(bench.guard.vips()) == {SECOND, *OTHERS}


async def test_i1_a_permit_that_ends_meanwhile_is_the_end_of_that_vip_alone(bench):
    async with Taking(bench) as taking:
        bench.denied.add(FIRST)
        assert await taking.problems() == dict.fromkeys(VIPS, "") | {FIRST: PERMIT_ENDED}
    assert set(bench.announcer.active) == bench.kernel.ours() == set(bench.guard.vips()) == {SECOND, *OTHERS}


async def test_k5_what_the_switch_lost_meanwhile_is_not_announced_and_not_bound(bench):
    async with Taking(bench) as taking:
        bench.guard.remove([FIRST])
        bench.guard.silence({SECOND: "eth0"})
        assert await taking.problems() == dict.fromkeys(VIPS, "") | {FIRST: SHUT_OUT, SECOND: SHUT_OUT}
    assert set(bench.announcer.active) == bench.kernel.ours() == set(OTHERS)


async def test_k8_what_hangs_on_another_lease_group_by_now_goes_on_under_that_one(bench):
    async with Taking(bench) as taking:
        bench.groups[FIRST] = "other"
        assert bench.executor.regroup(FIRST) == ""
        bench.groups[SECOND] = "other"
        assert await taking.problems() == dict.fromkeys(VIPS, "") | {SECOND: SHUT_OUT}
    assert set(bench.announcer.active) == bench.kernel.ours() == {FIRST, *OTHERS}
    assert bench.guard.members("other") == {FIRST}


async def test_i6_what_another_program_put_there_after_a_withdrawal_is_left_alone(bench):
    async with Taking(bench) as taking:
        at_once(bench)
        bench.executor.withdraw([FIRST], [])
        bench.kernel.put(unmarked(FIRST))
        assert (await taking.problems())[FIRST] == PERMIT_ENDED
    assert FIRST in {address.ip for address in bench.kernel.table.values()}


async def test_i6_what_lost_the_mark_meanwhile_is_left_alone_though_the_permit_ended(bench):
    async with Taking(bench) as taking:
        bench.denied.update((FIRST, SECOND))
        bench.kernel.go.set()
        bench.kernel.over.wait(LONGEST_S)
        bench.kernel.put(unmarked(FIRST))
        assert (await taking.problems())[FIRST] == PERMIT_ENDED
    assert {address.ip for address in bench.kernel.table.values()} == {FIRST, *OTHERS}


async def test_r2_a_fence_in_the_question_for_a_permit_afterwards_leaves_nothing_announced(bench):
    def fencing(vip):
        if vip == VIPS[-1] and bench.kernel.ours():
            bench.executor.fence()
            bench.executor._permit = lambda vip: None
            return None
        return 1003.0

    async with Taking(bench) as taking:
        bench.executor._permit = fencing
        assert (await taking.problems())[VIPS[-1]] == PERMIT_ENDED
    assert bench.kernel.ours() == set(bench.facts.marked()) == set()
    assert bench.announcer.active == {}


async def test_a_renewal_and_a_dump_come_after_what_is_with_the_kernel(bench):
    async with Taking(bench) as taking:
        at_once(bench)
        found, complete = bench.executor._binding.marked()
        assert complete
        assert {address.ip for address in found} == set(VIPS)
        assert await taking.problems() == dict.fromkeys(VIPS, "")


async def test_a_stop_while_the_kernel_binds_waits_for_it_and_leaves_nothing(bench):
    async with Taking(bench) as taking:
        taking.task.cancel()
        at_once(bench)
        assert bench.executor.fence()
        await asyncio.wait([taking.task])
        assert taking.task.cancelled()
    assert bench.kernel.ours() == set(bench.facts.marked()) == set()


async def test_a_stop_without_a_fence_leaves_the_facts_right(bench):
    async with Taking(bench) as taking:
        taking.task.cancel()
        at_once(bench)
        await asyncio.wait([taking.task])
    assert bench.kernel.ours() == set(bench.facts.marked()) == set(VIPS)


async def test_a_stop_is_no_less_one_for_what_the_other_thread_raised(bench):
    bench.kernel.raises = RuntimeError("unforeseen")
    async with Taking(bench) as taking:
        taking.task.cancel()
        at_once(bench)
        await asyncio.wait([taking.task])
        assert taking.task.cancelled()


async def test_a_request_that_fails_as_a_whole_is_a_problem_of_each(bench):
    bench.kernel.raises = NetlinkError(errno.ENOBUFS, "apply", "addresses")
    async with Taking(bench) as taking:
        assert all((await taking.problems()).values())
    assert bench.facts.marked() == ()
    assert bench.announcer.active == {}


async def test_r2_a_fence_is_whole_whatever_the_other_thread_raised(bench):
    bench.know(marked(FIRST))
    bench.kernel.raises = RuntimeError("unforeseen")
    async with Taking(bench) as taking:
        at_once(bench)
        assert bench.executor.fence()
        with pytest.raises(RuntimeError, match="unforeseen"):
            await taking.task
    assert bench.kernel.ours() == set()
