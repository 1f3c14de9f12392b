"""How the shared Lease changes hands: releases, a trusted predecessor, and a holder that was no kvip (PROTOCOL G1)."""

import asyncio

import pytest

from kvip.core.election.lease import RELEASED_ANNOTATION, SUCCESSION_ANNOTATION
from kvip.daemon.lease_writer import new_incarnation
from tests.unit.clock_loop import ClockLoop
from tests.unit.daemon.lease_bench import PEER, Bench, won


@pytest.fixture
def bench():
    return Bench()


@pytest.mark.parametrize("raced", [False, True], ids=["quiet", "a write of ours came between"])
def test_a_release_names_no_holder_and_says_it_was_kvip(bench, raced):
    async def story(loop):
        await won(bench, loop)
        me = loop.election.incarnation
        if raced:
            bench.server.store(str(me))
        await loop.release()
        assert loop.valid_until is None
        found = bench.server.lease
        assert found.spec.holder_identity == ""
        assert found.metadata.annotations == {RELEASED_ANNOTATION: f"{me}/0"}

    async def scene():
        loop = bench.loop()
        bench.heartbeats.beat("reconcile")
        task = asyncio.create_task(loop.run())
        await asyncio.sleep(0.2)
        assert loop.election.holding
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await story(loop)

    with asyncio.Runner(loop_factory=lambda: ClockLoop(bench.clock)) as runner:
        runner.run(scene())
    assert not bench.fences


def test_a_release_leaves_another_holder_alone_and_takes_no_longer_than_a_second(bench):
    async def scene():
        loop = bench.loop()
        bench.heartbeats.beat("reconcile")
        task = asyncio.create_task(loop.run())
        await asyncio.sleep(0.2)
        assert loop.election.holding
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        peer = new_incarnation("n2")
        bench.server.store(peer)
        await loop.release()
        assert bench.server.lease.spec.holder_identity == peer

        second = bench.loop()
        bench.server.lease = None
        task = asyncio.create_task(second.run())
        await asyncio.sleep(0.2)
        assert second.election.holding
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        bench.server.rules = ["hangs for ever"]
        before = bench.clock.now()
        await second.release()
        assert bench.clock.now() - before <= 1.01

    with asyncio.Runner(loop_factory=lambda: ClockLoop(bench.clock)) as runner:
        runner.run(scene())


def test_a_trusted_predecessors_lease_is_taken_at_once(bench):
    former = new_incarnation("n1")
    bench.server.store(former)

    async def scene():
        loop = bench.loop()
        loop.trust_predecessor(former)
        bench.heartbeats.beat("reconcile")
        task = asyncio.create_task(loop.run())
        await asyncio.sleep(0.1)
        assert loop.valid_until is not None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with asyncio.Runner(loop_factory=lambda: ClockLoop(bench.clock)) as runner:
        runner.run(scene())


@pytest.mark.parametrize(("holder", "transitions", "noted"), [("kube", 4, "kube/4"), ("", 7, "unknown/7")])
def test_g1_who_takes_after_client_go_notes_it_until_all_was_found_free(bench, holder, transitions, noted):
    bench.server.store(holder, transitions=transitions)
    bench.proven = False

    async def story(loop):
        assert loop.succeeds == ""
        await asyncio.sleep(10.5)
        assert loop.succeeds == noted
        assert bench.server.lease.metadata.annotations == {SUCCESSION_ANNOTATION: noted}
        bench.proven = True
        await asyncio.sleep(1.5)
        assert loop.succeeds == ""
        assert bench.server.lease.metadata.annotations == {}

    bench.play(story)


@pytest.mark.parametrize("end", ["released", "killed"])
def test_g1_the_next_kvip_inherits_what_was_not_found_free_yet(bench, end):
    notes = {SUCCESSION_ANNOTATION: "kube/4"} | ({RELEASED_ANNOTATION: f"{PEER}/5"} if end == "released" else {})
    bench.server.store("" if end == "released" else PEER, transitions=5, annotations=notes)
    bench.proven = False

    async def story(loop):
        await asyncio.sleep(6.0)
        assert loop.succeeds == "kube/4"

    bench.play(story)


def test_g1_a_lease_that_vanished_under_an_earlier_holder_is_not_known_to_have_been_kvips(bench):
    bench.earlier_holder = True
    bench.proven = False

    async def story(loop):
        await asyncio.sleep(6.0)
        assert loop.succeeds == "unknown/0"

    bench.play(story)


def test_after_a_kvip_nobody_is_asked(bench):
    bench.server.store(PEER)
    bench.proven = False

    async def story(loop):
        await asyncio.sleep(6.0)
        assert loop.election.holding
        assert loop.succeeds == ""

    bench.play(story)
