"""The runner of the shared Lease, on an event loop whose time is the hand-driven clock, against a store with faults."""

import asyncio
import itertools
import re

import pytest

from kvip.clock import ManualClock
from kvip.core.election.lease import RELEASED_ANNOTATION, SUCCESSION_ANNOTATION, Timers, observed
from kvip.core.objects import Lease, LeaseSpec, ObjectMeta
from kvip.daemon.lease_loop import LeaseLoop
from kvip.daemon.lease_writer import new_incarnation
from kvip.daemon.stakes import Stakes
from kvip.daemon.supervision import Heartbeats
from kvip.daemon.validity import Footing
from kvip.errors import ApiError
from kvip.kube.decode import EnvelopeError

TIMERS = Timers(lease_duration_s=5.0, renew_deadline_s=3.0, retry_period_s=1.0)
PEER = "n2_" + "0" * 32


class ClockLoop(asyncio.SelectorEventLoop):
    """An event loop that does not wait: its pauses move the clock."""

    def __init__(self, clock):
        super().__init__()
        self._clock = clock
        poll = self._selector.select

        def select(timeout):
            assert timeout is not None, "everything waits, and no timer runs"
            clock.advance(max(0.0, timeout))
            return poll(0)

        self._selector.select = select

    def time(self):
        return self._clock.now()


class Server:
    """The port of `LeaseClient`: a compare-and-swap store. `rules` say what happens to the next writes, in order."""

    def __init__(self, clock):
        self.clock = clock
        self.lease = None
        self.version = 0
        self.rules = []
        self.writes = []
        self.reads = 0
        self.read_fault = None

    def store(self, holder, *, annotations=None, duration=5, transitions=0):
        self.version += 1
        self.lease = Lease(
            metadata=ObjectMeta(name="svcs", resource_version=str(self.version), annotations=annotations),
            spec=LeaseSpec(holder_identity=holder, lease_duration_seconds=duration, lease_transitions=transitions),
        )
        return self.lease

    async def get(self, name, *, deadline_s):
        self.reads += 1
        await asyncio.sleep(0.001)
        if self.read_fault:
            raise self.read_fault
        return self.lease

    async def create(self, name, spec, *, annotations=None, labels=None, deadline_s):
        return await self.put("", spec, annotations, deadline_s)

    async def replace(self, name, spec, *, resource_version, uid="", annotations=None, labels=None, deadline_s):
        assert resource_version
        return await self.put(resource_version, spec, annotations, deadline_s)

    async def put(self, version, spec, annotations, deadline_s):
        self.writes.append((self.clock.now(), spec.holder_identity))
        rule = self.rules.pop(0) if self.rules else "well"
        if rule == "lost request":
            await self.time_out(deadline_s)
        if rule == "refused":
            raise ApiError("PUT", "lease", status=500, reason="InternalError")
        if rule == "hangs for ever":
            await asyncio.sleep(3600)
        await asyncio.sleep(0.001)
        if version != (self.lease.metadata.resource_version if self.lease else ""):
            raise ApiError("PUT", "lease", status=409, reason="Conflict")
        stored = self.store(spec.holder_identity, annotations=annotations, duration=spec.lease_duration_seconds)
        if rule == "lost answer":
            await self.time_out(deadline_s)
        if rule == "garbled":
            raise EnvelopeError("an answer that is no Lease")
        if isinstance(rule, float):
            await asyncio.sleep(rule)
        return stored

    async def time_out(self, deadline_s):
        await asyncio.sleep(deadline_s)
        raise ApiError("PUT", "lease", status=0, reason="Timeout")


class Bench:
    """One LeaseLoop, its server, and what it called back and when."""

    def __init__(self):
        self.clock = ManualClock()
        self.server = Server(self.clock)
        self.heartbeats = Heartbeats(self.clock)
        self.won = []
        self.fences = []
        self.turning = True
        self.earlier_holder = False
        self.proven = True
        self.problem = ""

    def loop(self):
        return LeaseLoop(
            self.server,
            name="svcs",
            timers=TIMERS,
            footing=Footing(self.clock, self.heartbeats),
            draw=lambda: new_incarnation("n1"),
            stakes=Stakes(
                on_won=lambda: self.won.append(self.clock.now()),
                on_fence=lambda reason: self.fences.append((self.clock.now(), reason)),
                on_renewed=lambda until: self.problem,
                earlier_holder=lambda: self.earlier_holder,
                proven=lambda: self.proven,
            ),
        )

    async def reconcile(self):
        while True:
            if self.turning:
                self.heartbeats.beat("reconcile")
            await asyncio.sleep(0.25)

    def play(self, story):
        """Run `story(loop)` beside the loop's own task."""

        async def scene():
            loop = self.loop()
            self.heartbeats.beat("reconcile")
            tasks = [asyncio.create_task(loop.run()), asyncio.create_task(self.reconcile())]
            try:
                await story(loop)
            finally:
                for task in tasks:
                    task.cancel()
                for result in await asyncio.gather(*tasks, return_exceptions=True):
                    assert isinstance(result, asyncio.CancelledError), result

        with asyncio.Runner(loop_factory=lambda: ClockLoop(self.clock)) as runner:
            runner.run(scene())


@pytest.fixture
def bench():
    return Bench()


async def won(bench, loop):
    await asyncio.sleep(0.2)
    assert loop.election.holding
    assert loop.valid_until is not None


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


# -- after a holder that was no kvip (G1) ------------------------------------------------------------------------------


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
