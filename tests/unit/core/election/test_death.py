"""T1, T2, T3: when a node counts as dead, what makes that final, and in which order its VIPs are taken."""

from kvip.core.election.lease import Timers
from kvip.core.election.state import fresh
from tests.unit.core.election.simnode import TIMERS
from tests.unit.core.election.simserver import Faults
from tests.unit.core.election.simulation import settled

D, R, P = TIMERS.lease_duration_s, TIMERS.renew_deadline_s, TIMERS.retry_period_s
LONG = Timers(lease_duration_s=9.0, renew_deadline_s=3.0, retry_period_s=1.0)
SHORT = Timers(lease_duration_s=3.0, renew_deadline_s=2.0, retry_period_s=0.5)


def taken_by(world, node, *, limit_s=20.0):
    return world.until(lambda: node.acts() == set(world.vips), limit_s=limit_s)


def writes(world, node, purpose, since):
    return [op for _, op in world.sent(node, purpose=purpose, since=since)]


# -- T1 --------------------------------------------------------------------------------------------------------------------


def test_t1_a_dead_node_is_followed_after_the_lease_duration():
    world, a, b = settled("a", "b")
    a.kill()
    assert D - P < taken_by(world, b) < D + 0.5


def test_t1_the_duration_that_counts_is_the_one_it_published():
    world, a, b = settled("a", "b")
    a.timers = LONG
    a.boot(trusted=a.state.incarnation)
    world.run(3.0)
    assert a.acts() == set(world.vips)
    a.kill()
    assert LONG.lease_duration_s - P < taken_by(world, b) < LONG.lease_duration_s + 0.5


def test_t1_never_below_our_own_minimum():
    world, a, b = settled("a", "b")
    a.timers = SHORT
    a.boot(trusted=a.state.incarnation)
    world.run(3.0)
    a.kill()
    assert taken_by(world, b) > D - P


def test_t1_a_node_with_a_stale_watch_declares_nobody_dead():
    world, a, b, c = settled("a", "b", "c")
    c.watch.stalled_until = world.now + 60.0
    c.hold = lambda op: op.kind == "list"
    began = world.now
    world.run(4 * D)
    assert not world.sent(c, purpose="kill", since=began)
    assert not world.sent(c, purpose="claim", since=began)
    assert a.acts() == set(world.vips)
    assert (a.fences, b.fences) == ([], [])


def test_t1_time_without_a_view_does_not_count():
    world, a, b = settled("a", "b")
    b.cut = True
    b.watch.break_off()
    a.kill()
    world.run(2 * D)
    b.cut = False
    took_s = world.until(lambda: fresh(b.state, b.now()), limit_s=2.0)
    assert took_s + taken_by(world, b) >= D


def test_t1_a_named_holder_without_a_heartbeat_at_the_first_sync_is_dead_a_lease_later():
    world, a = settled("a")
    a.kill()
    world.server.delete("kvip-node-a")
    b = world.add("b")
    assert D <= taken_by(world, b) < D + 1.0


def test_t1_our_own_claim_on_life_is_no_news_of_others():
    """The view is as old as the last write of one's own that the watch showed, not as its answer."""
    world, a, b = settled("a", "b")
    b.watch.stalled_until = world.now + 60.0
    b.hold = lambda op: op.kind == "list"
    began = world.now
    world.run(2 * P + 0.1)
    assert len(world.sent(b, purpose="renew", since=began)) == 2
    assert not fresh(b.state, b.now())
    assert a.fences == []


# -- T2 --------------------------------------------------------------------------------------------------------------------


def test_t2_after_the_kill_no_late_write_of_the_dead_succeeds():
    world, a, b = settled("a", "b")
    a.hold = lambda op: True
    world.until(lambda: a.held, limit_s=2 * P)
    late = a.held[0]
    a.kill()
    taken_by(world, b)
    assert world.perform(late).status == 409
    assert world.server.leases["kvip-node-a"].spec.holder_identity == ""


def test_t2_nothing_is_taken_while_the_kill_is_not_confirmed():
    world, a, b = settled("a", "b")
    a.kill()
    b.hold = lambda op: op.purpose == "kill"
    began = world.now
    world.run(4 * D)
    assert b.held
    assert not writes(world, b, "claim", began)


def test_t2_a_kill_that_is_refused_means_that_it_lives():
    world, a, b = settled("a", "b")
    a.hold = lambda op: True
    world.until(lambda: a.held, limit_s=2 * P)
    a.stall(3 * D)
    b.hold = lambda op: op.purpose == "kill"
    world.until(lambda: b.held, limit_s=2 * D)
    assert world.perform(a.held[0]).ok, "a renewal sent before arrives late"
    b.hold = None
    b.held.clear()
    assert world.perform(world.sent(b, purpose="kill")[0][1]).status == 409
    began = world.now
    world.run(D - 0.2)
    assert not world.sent(b, purpose="claim", since=began), "it counts as alive from then on"
    taken_by(world, b)


def test_t2_a_node_that_was_killed_while_it_slept_learns_it_and_begins_a_new_life():
    world, a, b = settled("a", "b")
    former = a.state.incarnation
    a.stall(3 * D)
    taken_by(world, b)
    world.run(3 * D)
    assert a.state.incarnation != former
    assert b.acts() == set(world.vips)


def test_t2_a_graceful_stop_frees_at_once():
    world, a, b = settled("a", "b")
    a.release()
    assert taken_by(world, b) < 0.5


# -- T3 --------------------------------------------------------------------------------------------------------------------


def test_t3_the_order_is_record_read_kill_write():
    world, a, b = settled("a", "b")
    a.kill()
    b.faults = Faults(delay_s=(0.01, 0.02))
    began = world.now
    taken_by(world, b)
    first = {}
    for at, op in world.sent(b, since=began):
        if op.name == "kvip-node-a" or op.purpose == "claim":
            first.setdefault(op.purpose, at)
    assert first["learn"] + 0.02 <= first["kill"]
    assert first["kill"] + 0.02 <= first["claim"]


def test_t3_what_says_that_it_is_over_is_read_consistently_too():
    world, a, b = settled("a", "b")
    began = world.now
    a.release()
    taken_by(world, b)
    read_at = min(at for at, op in world.sent(b, kind="read", name="kvip-node-a", since=began))
    assert read_at < min(at for at, op in world.sent(b, purpose="claim", since=began))


def test_t3_a_holder_is_read_after_the_record_named_it():
    """A heartbeat read before may not have named the life that the record names since."""
    world, a, b = settled("a", "b")
    a.able = set(world.vips[:3])
    a.soon()
    world.run(2.0)
    began = world.now
    b.release()
    a.able = set(world.vips)
    a.soon()
    world.until(lambda: a.acts() == set(world.vips), limit_s=1.0)
    for at, op in world.sent(a, purpose="claim", since=began):
        assert [when for when, _ in world.sent(a, kind="read", name="kvip-node-b", since=began) if when < at], op.name


def test_t3_a_record_that_moved_on_meanwhile_is_not_written():
    world, a, b, c = settled("a", "b", "c")
    a.kill()
    for node in (b, c):
        node.hold = lambda op: op.purpose == "claim"
    world.until(lambda: b.held and c.held, limit_s=2 * D)
    same = {op.name: op for op in b.held}
    late = next(op for op in c.held if op.name in same)
    assert world.perform(same[late.name]).ok
    assert world.perform(late).status == 409


def test_t3_a_claim_counts_only_when_it_is_confirmed():
    world, a, b = settled("a", "b")
    a.kill()
    b.faults = Faults()
    b.hold = lambda op: op.purpose == "claim"
    world.until(lambda: b.held, limit_s=2 * D)
    b.watch.stalled_until = world.now + 0.5
    for op in b.held:
        assert world.perform(op).ok
    world.run(0.2)
    assert not b.acts(), "written, but not known"
    world.until(lambda: b.acts() == set(world.vips), limit_s=1.0)
