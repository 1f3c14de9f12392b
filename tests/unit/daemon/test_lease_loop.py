"""Taking, renewing and losing the shared Lease: answers that are late, lost or refused, and a watch that tells."""

import asyncio
import itertools
import re

import pytest

from kvip.core.election.lease import RELEASED_ANNOTATION, observed
from kvip.daemon.lease_writer import new_incarnation
from tests.unit.daemon.lease_bench import TIMERS, Bench, won


@pytest.fixture
def bench():
    return Bench()


def test_incarnations_are_never_the_same():
    names = {new_incarnation("n1") for _ in range(100)}
    assert len(names) == 100
    assert all(re.fullmatch(r"n1_[0-9a-f]{32}", name) for name in names)


def test_an_absent_lease_is_taken_and_renewed_each_retry_period(bench):
    async def story(loop):
        assert loop.valid_until is None
        await asyncio.sleep(20)
        assert loop.valid_until > bench.clock.now() + 1.9
        assert observed(loop.election, now=bench.clock.now())
        assert bench.server.lease.spec.holder_identity == loop.election.incarnation

    bench.play(story)
    assert len(bench.won) == 1
    assert not bench.fences
    times = [at for at, _ in bench.server.writes]
    assert 19 <= len(times) <= 21
    assert all(1.0 <= later - earlier < 1.1 for earlier, later in itertools.pairwise(times))


def test_t4_a_missing_lease_is_not_created_at_once_where_a_service_shows_an_earlier_holder(bench):
    bench.earlier_holder = True

    async def story(loop):
        await asyncio.sleep(TIMERS.lease_duration_s - 0.1)
        assert bench.server.lease is None
        await asyncio.sleep(0.5)
        assert loop.valid_until is not None

    bench.play(story)


def test_another_kvips_lease_is_taken_after_its_duration(bench):
    bench.server.store(new_incarnation("n2"))
    start = bench.clock.now()
    bench.play(lambda loop: asyncio.sleep(8))
    assert len(bench.won) == 1
    assert start + 5.0 <= bench.won[0] < start + 5.5


def test_a_release_seen_by_the_watch_is_taken_at_once(bench):
    peer = new_incarnation("n2")
    bench.server.store(peer)

    async def story(loop):
        await asyncio.sleep(1.0)
        loop.changed(bench.server.store("", annotations={RELEASED_ANNOTATION: f"{peer}/0"}))
        await asyncio.sleep(0.05)
        assert loop.valid_until is not None

    bench.play(story)


def test_a_late_answer_does_not_count(bench):
    async def story(loop):
        await won(bench, loop)
        until = loop.election.valid_until
        bench.server.rules = [3.5]
        await asyncio.sleep(until - bench.clock.now() - 0.001)
        assert loop.valid_until == until
        assert not bench.fences
        await asyncio.sleep(0.002)
        assert loop.valid_until is None
        ((at, reason),) = bench.fences
        assert at == pytest.approx(until, abs=0.001)
        assert reason == "renew deadline"
        await asyncio.sleep(0.5)
        assert loop.valid_until is None

    bench.play(story)


def test_the_fence_does_not_wait_for_a_request_that_hangs(bench):
    async def story(loop):
        await won(bench, loop)
        until, former = loop.election.valid_until, loop.election.incarnation
        bench.server.rules = ["hangs for ever"]
        await asyncio.sleep(10)
        assert [reason for _, reason in bench.fences] == ["renew deadline"]
        assert bench.fences[0][0] == pytest.approx(until, abs=0.001)
        assert loop.election.incarnation != former

    bench.play(story)


@pytest.mark.parametrize("fault", ["lost request", "refused"])
def test_one_failed_renewal_is_made_good_before_the_deadline(bench, fault):
    async def story(loop):
        await won(bench, loop)
        bench.server.rules = [fault]
        await asyncio.sleep(6)
        assert loop.valid_until is not None

    bench.play(story)
    assert not bench.fences
    assert len(bench.won) == 1


def test_ones_own_renewal_whose_answer_was_lost_is_recognised(bench):
    async def story(loop):
        await won(bench, loop)
        bench.server.rules = ["lost answer"]
        await asyncio.sleep(6)
        assert loop.valid_until is not None

    bench.play(story)
    assert not bench.fences


def test_a_first_take_whose_answer_was_lost_is_recognised(bench):
    async def story(loop):
        bench.server.rules = ["lost answer"]
        await asyncio.sleep(4)
        assert loop.valid_until is not None

    bench.play(story)


def test_a_conflict_with_a_foreign_holder_fences_at_once(bench):
    async def story(loop):
        await won(bench, loop)
        bench.server.store(new_incarnation("n2"))
        await asyncio.sleep(1.05)
        assert [reason for _, reason in bench.fences] == ["lease taken by another"]
        assert loop.valid_until is None

    bench.play(story)


@pytest.mark.parametrize("hanging", [False, True], ids=["idle", "while a renewal hangs"])
def test_a_foreign_holder_in_the_watch_fences_at_once(bench, hanging):
    async def story(loop):
        await won(bench, loop)
        if hanging:
            bench.server.rules = ["lost request"]
            await asyncio.sleep(1.1)
        loop.changed(bench.server.store(new_incarnation("n2")))
        await asyncio.sleep(0.02)
        assert loop.valid_until is None
        assert [reason for _, reason in bench.fences] == ["lease taken by another"]

    bench.play(story)


def test_a_lease_that_was_deleted_fences_and_is_not_created_before_its_duration_passed(bench):
    async def story(loop):
        await won(bench, loop)
        bench.server.lease = None
        loop.changed(None)
        gone_at = bench.clock.now()
        await asyncio.sleep(0.05)
        assert [reason for _, reason in bench.fences] == ["lease deleted"]
        await asyncio.sleep(7)
        assert gone_at + 5.0 <= bench.won[1] < gone_at + 5.5

    bench.play(story)
