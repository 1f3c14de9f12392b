"""R1, R3, R7: when a heartbeat counts, when it is lost, and whose it is after a restart."""

import pytest

from kvip.core.election import claims
from kvip.core.election.state import valid_until
from tests.unit.core.election.simnode import TIMERS
from tests.unit.core.election.simserver import Faults
from tests.unit.core.election.simulation import World, settled

D, R, P = TIMERS.lease_duration_s, TIMERS.renew_deadline_s, TIMERS.retry_period_s


def heartbeat_of(node):
    return f"kvip-node-{node.name}"


def renewal_under_way(world, node):
    """The node's next renewal, sent but not arrived."""
    node.hold = lambda op: op.purpose == "renew"
    node.held = []
    world.until(lambda: node.held, limit_s=2 * P)
    return node.held[0]


# -- R1 --------------------------------------------------------------------------------------------------------------------


def test_r1_a_renewal_counts_from_the_instant_it_was_sent():
    world, a = settled("a")
    op = renewal_under_way(world, a)
    before = valid_until(a.state)
    after = claims.answered(a.state, op, world.perform(op), now=before - 0.01)
    assert after.renewed_until == op.sent_at + R
    assert claims.step(after, before - 0.01).fence == ""


def test_r1_an_answer_that_comes_when_the_last_renewal_ran_out_renews_nothing():
    world, a = settled("a")
    op = renewal_under_way(world, a)
    until = valid_until(a.state)
    after = claims.answered(a.state, op, world.perform(op), now=until)
    assert valid_until(after) == until
    assert claims.step(after, until).fence


def test_r1_a_renewal_seen_too_late_in_the_watch_renews_nothing():
    world, a = settled("a")
    op = renewal_under_way(world, a)
    until = valid_until(a.state)
    after = claims.watched(a.state, op.name, world.perform(op).lease, now=until)
    assert valid_until(after) == until
    assert claims.step(after, until).fence


def test_r1_a_first_heartbeat_answered_too_late_makes_nobody_valid():
    world = World()
    a = world.add("a")
    op = renewal_under_way(world, a)
    answer = world.perform(op)
    assert valid_until(claims.answered(a.state, op, answer, now=op.sent_at + R)) is None
    assert valid_until(claims.answered(a.state, op, answer, now=op.sent_at + P)) is not None


def test_r1_a_node_whose_view_is_old_is_not_valid_however_well_it_writes():
    world, a, b = settled("a", "b")
    b.kill()
    a.hold = lambda op: op.kind == "list"
    a.watch.stalled_until = world.now + 60.0
    world.run(R + 0.1)
    assert a.fences == ["the Leases cannot be seen"]


def test_r2_an_answer_to_a_former_incarnation_renews_nothing():
    world, a = settled("a")
    op = renewal_under_way(world, a)
    until = valid_until(a.state)
    fenced = claims.fenced(a.state, a._incarnation())
    assert valid_until(claims.answered(fenced, op, world.perform(op), now=until - 1.0)) is None


def test_r5_a_node_that_cannot_act_writes_no_heartbeat():
    world, a, b = settled("a", "b")
    a.stuck = True
    world.run(0.05)
    since = world.now
    world.until(lambda: b.acts() == set(world.vips), limit_s=R + D + 2)
    assert not world.sent(a, purpose="renew", since=since)


# -- R3 --------------------------------------------------------------------------------------------------------------------


def test_r3_a_heartbeat_ended_by_another_is_a_fence_at_once():
    world, a = settled("a")
    world.server.blank(heartbeat_of(a))
    world.run(0.05)
    assert a.fences == ["heartbeat ended by another"]


def test_r3_a_heartbeat_that_was_deleted_is_a_fence_at_once():
    world, a = settled("a")
    world.server.delete(heartbeat_of(a))
    world.run(0.05)
    assert a.fences == ["heartbeat deleted"]


@pytest.mark.parametrize(
    ("change", "reason"), [("delete", "heartbeat deleted"), ("blank", "heartbeat ended by another")], ids=["404", "409"]
)
def test_r3_a_refused_renewal_is_a_fence_without_any_watch(change, reason):
    world, a = settled("a")
    a.watch.stalled_until = world.now + 60.0
    getattr(world.server, change)(heartbeat_of(a))
    world.run(P + 0.2)
    assert a.fences == [reason]


def test_r3_a_refused_renewal_that_cannot_be_looked_into_is_a_fence():
    world, a = settled("a")
    a.watch.stalled_until = world.now + 60.0
    a.hold = lambda op: op.kind != "write"
    world.server.blank(heartbeat_of(a))
    world.run(R + 0.1)
    assert a.fences == ["heartbeat changed by another"]


def test_r3_ones_own_renewal_whose_answer_was_lost_is_no_loss():
    world, a = settled("a")
    op = renewal_under_way(world, a)
    a.watch.stalled_until = world.now + 60.0
    world.perform(op)
    a.hold = lambda op, until=world.now + 1.5 * P: op.kind == "list" and world.now < until
    since = world.now
    world.run(10.0)
    refused = [at for at, each in world.sent(a, purpose="renew", since=since) if each.version == op.version]
    assert refused, "the write upon the version before was tried, in vain"
    assert a.fences == []
    assert a.acts() == set(world.vips)


def test_r3_somebody_elses_annotation_is_no_loss():
    world, a, b = settled("a", "b")
    world.server.touch(heartbeat_of(a))
    world.run(10.0)
    assert (a.fences, b.fences) == ([], [])


def test_r3_a_heartbeat_put_back_under_another_uid_is_a_fence():
    world = World()
    a = world.add("a")
    first = []
    world.until(lambda: first or first.extend(lease for name, lease in world.server.leases.items() if name == heartbeat_of(a)), limit_s=5)
    world.run(5.0)
    a.watch.stalled_until = world.now + 0.5
    world.server.delete(heartbeat_of(a))
    world.server.put_back(first[0])
    world.run(P + 0.5)
    assert a.fences


# -- R7 --------------------------------------------------------------------------------------------------------------------


def test_r7_what_a_predecessor_known_to_be_dead_held_is_free_at_once():
    world, a = settled("a")
    former = a.state.incarnation
    a.kill()
    a.boot(trusted=former)
    assert world.until(world.all_held, limit_s=D) < 0.5


def test_r7_a_predecessor_that_is_not_known_to_be_dead_is_waited_for():
    world, a = settled("a")
    a.kill()
    a.boot()
    took_s = world.until(world.all_held, limit_s=2 * D)
    assert D <= took_s < D + 0.5


def test_r7_alone_it_takes_what_its_former_life_held_even_when_the_watch_is_faster_than_answers():
    world, a = settled("a")
    a.kill()
    a.boot()
    a.faults = Faults(delay_s=(0.05, 0.06), watch_delay_s=(0.0, 0.001))
    assert world.until(world.all_held, limit_s=2 * D) < D + 1.0


def test_r7_two_machines_with_one_name_one_waits_while_the_other_renews():
    world, a = settled("a")
    twin = world.add("a")
    world.run(4 * D)
    assert a.acts() == set(world.vips)
    assert (a.fences, twin.fences) == ([], [])
    assert not world.sent(twin, kind="write")


def test_r7_two_machines_with_one_name_what_was_taken_is_not_taken_back():
    world, a = settled("a")
    twin = world.add("a")
    world.run(1.0)
    a.stall(D + 2.0)
    world.run(4 * D)
    assert twin.acts() == set(world.vips)
    assert len(a.fences) == 1
    assert twin.fences == []
