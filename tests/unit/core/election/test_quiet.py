"""What a node asks for while nothing happens, and when it looks again by itself."""

from kvip.core.election import claims, taking
from kvip.core.election import lease as lease_of_another_mode
from kvip.core.model import Incarnation
from kvip.core.objects import LeaseSpec
from tests.unit.core.election.simnode import TIMERS
from tests.unit.core.election.simulation import World, settled

P = TIMERS.retry_period_s
SHARED = "svcs"


def test_what_the_watch_showed_before_the_number_of_records_was_known_is_not_waited_for():
    """Else each of these records is read again every second, for ever: the watch never shows again what does not change."""
    world, _ = settled("a")
    state = claims.start("b", Incarnation("b_" + "0" * 32), TIMERS)
    for name, lease in sorted(world.server.leases.items()):
        state = claims.watched(state, name, lease, now=world.now)
    (op,) = claims.step(state, world.now).ops
    assert op.kind == "list"
    state = claims.answered(claims.step(state, world.now).state, op, world.perform(op), now=world.now)
    assert any(slot.record is not None for slot in state.slots.values())
    assert state.ahead == {}


def test_the_lease_of_another_mode_that_stands_as_it_did_decides_about_no_record(monkeypatch):
    world = World()
    a = world.add("a", shared_name=SHARED)
    world.until(world.all_held, limit_s=5)
    world.run(60)
    decided, decide, read = [], taking.decide, len(world.sent(a, name=SHARED))
    monkeypatch.setattr(taking, "decide", lambda state, number, *rest: decided.append(number) or decide(state, number, *rest))
    world.run(60)
    assert len(world.sent(a, name=SHARED)) > read
    assert decided == []


def test_g5_what_another_mode_gave_back_is_taken_as_soon_as_it_is_free():
    """client-go's release: nothing tells when the wait that it calls for is over."""
    world = World()
    world.server.store(SHARED, "u0", LeaseSpec(holder_identity="other", lease_duration_seconds=5, lease_transitions=1), {}, {})
    world.add("a", shared_name=SHARED)
    world.run(2 * P)
    assert not world.all_held()
    world.server.store(SHARED, "u0", LeaseSpec(holder_identity="", lease_duration_seconds=1, lease_transitions=1), {}, {})
    world.until(world.all_held, limit_s=5)


def test_g5_silence_of_another_mode_counts_as_far_as_it_was_seen():
    """Every read of its Lease is lost, while its holder lives and all else is answered."""
    world = World()

    def renewed(by):
        world.server.store(SHARED, "u0", LeaseSpec(holder_identity="other", lease_duration_seconds=5, lease_transitions=by), {}, {})

    renewed(0)
    a = world.add("a", shared_name=SHARED)
    world.run(2 * P)
    a.hold = lambda op: op.name == SHARED
    for by in range(1, 20):
        renewed(by)
        world.run(2.0)
        assert not a.acts()
    a.hold = None
    world.run(2 * P)
    assert not a.acts(), "it was renewed just now"
    world.until(world.all_held, limit_s=12)


def test_g5_what_an_answer_shows_may_be_as_old_as_its_question():
    """It was answered before the holder's time was over, which renewed then; the answer came after."""
    world = World()
    lease = {"holder_identity": "other", "lease_duration_seconds": 5}
    world.server.store(SHARED, "u0", LeaseSpec(lease_transitions=0, **lease), {}, {})
    a = world.add("a", shared_name=SHARED)
    world.run(2 * P)
    free_at = lease_of_another_mode.free_at(a.state.shared)
    world.run(free_at - a.now() - P)
    a.hold = lambda op: op.name == SHARED
    world.until(lambda: a.held, limit_s=P)
    (op,) = a.held
    assert op.sent_at < free_at < op.sent_at + op.deadline_s
    answer = world.perform(op)
    world.server.store(SHARED, "u0", LeaseSpec(lease_transitions=1, **lease), {}, {})
    world.run(free_at - a.now() + 0.01)
    a.answer(op, answer, a.epoch)
    world.run(0.5)
    assert not a.acts()


def test_g5_what_was_waited_out_once_is_not_waited_for_by_those_that_start_later():
    """A Lease that another mode gave back stays as it is for ever: each restart would wait for it again."""
    world = World()
    world.server.store(SHARED, "u0", LeaseSpec(holder_identity="", lease_duration_seconds=1, lease_transitions=1), {}, {})
    a = world.add("a", shared_name=SHARED)
    world.until(world.all_held, limit_s=5)
    world.run(2 * P)
    a.release()
    world.run(0.5)
    a.boot()
    world.until(world.all_held, limit_s=1.5)


def gone_by(world, node, *, version_of_it=1):
    """What another mode left is there, and was waited out by this node."""
    world.server.store(SHARED, "u0", LeaseSpec(holder_identity="", lease_duration_seconds=1, lease_transitions=version_of_it), {}, {})
    world.until(lambda: node.state.about.shared_dead == world.server.leases[SHARED].metadata.resource_version, limit_s=15)
    world.run(2 * P)


def test_g5_what_a_node_says_that_is_gone_hides_nothing_of_what_others_say():
    """It waited out what the other mode left the time before."""
    world = World()
    a = world.add("a", shared_name=SHARED)
    world.run(2 * P)
    z = world.add("z", shared_name=SHARED)
    gone_by(world, z)
    z.release()
    gone_by(world, a, version_of_it=2)
    a.release()
    world.run(0.5)
    a.boot()
    world.until(world.all_held, limit_s=1.5)


def test_g5_what_was_waited_out_is_known_though_a_daemon_died_as_soon_as_it_had_started():
    world = World()
    a = world.add("a", shared_name=SHARED)
    gone_by(world, a)
    for _ in range(2):
        former = a.state.incarnation
        a.kill()
        a.boot(trusted=former)
        world.until(lambda: a.state.renewed_until is not None, limit_s=2.0)
    world.until(world.all_held, limit_s=1.0)


def test_g5_what_was_waited_out_is_not_known_of_a_store_that_was_set_back():
    """Its versions are given anew."""
    world = World()
    a = world.add("a", shared_name=SHARED)
    world.run(2 * P)
    world.server.back_up()
    world.run(60.0)
    gone_by(world, a)
    world.server.restore(world.server.backups[0])
    world.until(lambda: a.fences, limit_s=5.0)
    assert not a.state.about.shared_dead
