"""The shared Lease under a suspend, a stuck loop, a restored store, an API that refuses, a switch that fails."""

import asyncio

import pytest

from kvip.core.election.lease import observed
from kvip.daemon.supervision import Heartbeats
from kvip.errors import ApiError
from tests.unit.daemon.lease_bench import Bench, won


@pytest.fixture
def bench():
    return Bench()


def test_a_suspend_fences_at_the_first_question(bench):
    async def story(loop):
        await won(bench, loop)
        former = loop.election.incarnation
        bench.clock.suspend(0.5)
        assert loop.valid_until is None
        assert [reason for _, reason in bench.fences] == ["suspend"]
        assert loop.election.incarnation != former

    bench.play(story)


def test_no_suspend_no_fence(bench):
    async def story(loop):
        await won(bench, loop)
        bench.clock.suspend(0.04)
        assert loop.valid_until is not None

    bench.play(story)


def test_a_stuck_reconcile_loop_gives_the_lease_up_until_it_turns_again(bench):
    async def story(loop):
        await won(bench, loop)
        bench.turning = False
        stuck_from = bench.clock.now()
        await asyncio.sleep(6.5)
        assert [reason for _, reason in bench.fences] == ["renew deadline"]
        assert loop.valid_until is None
        await asyncio.sleep(13.5)
        # Renewed for one more renew deadline at most; nothing is written after that.
        assert max(at for at, _ in bench.server.writes) <= stuck_from + 3.1
        bench.turning = True
        await asyncio.sleep(1.5)
        assert loop.valid_until is not None

    bench.play(story)


def test_a_store_that_was_restored_to_the_past_is_fenced_not_hammered_and_taken_again(bench):
    async def story(loop):
        await asyncio.sleep(5.5)
        bench.server.version = 0
        bench.server.store(str(loop.election.incarnation))
        before = len(bench.server.writes)
        await asyncio.sleep(14)
        assert len(bench.fences) == 1
        assert loop.valid_until is not None
        assert len(bench.server.writes) - before < 50

    async def bounded(loop):
        # Without a bound a loop that never pauses would not end.
        async with asyncio.timeout(30):
            await story(loop)

    bench.play(bounded)


@pytest.mark.parametrize("status", [0, 403, 429, 500])
def test_an_api_that_refuses_is_asked_with_growing_pauses(bench, status):
    async def story(loop):
        bench.server.read_fault = ApiError("GET", "lease", status=status, reason="no")
        await asyncio.sleep(20)
        assert 15 <= bench.server.reads <= 35
        assert not observed(loop.election, now=bench.clock.now())
        bench.server.read_fault = None
        await asyncio.sleep(2)
        assert loop.valid_until is not None

    bench.play(story)


def test_two_nodes_never_hold_at_once_while_writes_fail_at_random(bench):
    server, clock = bench.server, bench.clock
    other = Bench()
    other.clock, other.server, other.heartbeats = clock, server, Heartbeats(clock)
    server.rules = ["well", 1.4, "lost answer", "refused", "lost request", 3.2, "lost request", "lost answer", 2.9, "refused"] * 5

    async def story(one):
        two = other.loop()
        task = asyncio.create_task(two.run())
        beats = asyncio.create_task(other.reconcile())
        held = 0
        for _ in range(2000):
            await asyncio.sleep(0.05)
            permits = [loop.valid_until is not None for loop in (one, two)]
            assert sum(permits) <= 1
            held += sum(permits)
        assert held > 200
        for each in (task, beats):
            each.cancel()
        await asyncio.gather(task, beats, return_exceptions=True)

    bench.play(story)


def test_answers_that_cannot_be_read_are_no_answers_and_do_not_end_the_loop(bench):
    async def story(loop):
        await won(bench, loop)
        bench.server.rules = ["garbled", "garbled"]
        await asyncio.sleep(4)
        assert loop.valid_until is not None

    bench.play(story)
    assert not bench.fences


def test_f2_a_doubt_is_not_answered_by_a_read_that_was_under_way(bench):
    async def story(loop):
        await won(bench, loop)
        before = bench.server.reads
        loop.verify()
        while bench.server.reads == before:
            await asyncio.sleep(0.0001)
        loop.verify()
        await asyncio.sleep(0.1)
        assert bench.server.reads == before + 2

    bench.play(story)


def test_a_switch_that_cannot_be_armed_is_tried_once_per_period(bench):
    bench.problem = "the switch cannot be armed"

    async def story(loop):
        await asyncio.sleep(10)
        assert loop.valid_until is None

    bench.play(story)
    assert 5 <= len(bench.fences) <= 15
