"""T4: absent is not free, and what was not written by kvip gives nothing."""

import pytest

from kvip.core.election import claims, records
from kvip.core.election.lease import Timers
from kvip.core.election.state import valid_until
from tests.unit.core.election.simnode import TIMERS
from tests.unit.core.election.simserver import Faults
from tests.unit.core.election.simulation import World, settled

D, R, P = TIMERS.lease_duration_s, TIMERS.renew_deadline_s, TIMERS.retry_period_s


def record_of(world, vip):
    return records.name_of(records.number_of(vip, 4))


def all_by(world, node, *, limit_s=20.0):
    return world.until(lambda: node.acts() == set(world.vips), limit_s=limit_s)


def test_t4_a_heartbeat_that_vanished_leaves_a_tombstone():
    world, a, b = settled("a", "b")
    a.kill()
    world.run(1.0)
    world.server.delete("kvip-node-a")
    assert D <= all_by(world, b) < D + 1.0


def test_t4_the_tombstone_stands_for_the_longest_lease_known():
    world, a, b = settled("a", "b")
    c = world.add("c", timers=Timers(lease_duration_s=9.0, renew_deadline_s=3.0, retry_period_s=1.0))
    c.able = set()
    world.run(2.0)
    a.kill()
    name = record_of(world, world.vips[0])
    world.server.delete(name)
    began = world.now
    world.until(lambda: name in world.server.leases, limit_s=20.0)
    assert world.now - began >= 9.0
    assert b.fences == []


def test_t4_a_record_that_vanished_leaves_a_tombstone():
    world, a, _ = settled("a", "b")
    name = record_of(world, world.vips[0])
    lost = {vip for vip in world.vips if record_of(world, vip) == name}
    world.server.delete(name)
    world.run(0.1)
    assert a.fences == ["claims changed by another"]
    assert not any(world.holders(vip) for vip in lost)
    began = world.now
    world.until(world.all_held, limit_s=2 * D)
    assert world.now - began >= D - 0.2


def test_t4_a_record_that_vanished_is_missed_even_without_a_watch():
    world, a = settled("a")
    a.watch.stalled_until = world.now + 60.0
    world.server.delete(record_of(world, world.vips[0]))
    world.run(R)
    assert a.fences == ["claims changed by another"]


def test_t4_a_deletion_that_is_not_true_changes_nothing():
    world, a = settled("a")
    for name in sorted(world.server.leases):
        a.hear(name, None)
    world.run(2.0)
    assert a.fences == []


def test_t4_a_young_daemon_creates_nothing_for_a_vip_with_an_earlier_holder():
    world, a = settled("a")
    a.kill()
    for name in sorted(world.server.leases):
        world.server.delete(name)
    b = world.add("b")
    assert all_by(world, b) >= D


@pytest.mark.parametrize("how", ["a list", "a snapshot of the watch"])
def test_t4_a_record_that_came_and_went_between_two_looks_may_have_had_a_holder(how):
    world, a, b = settled("a", "b", vips=1)
    a.able = b.able = set()
    for node in (a, b):
        node.asked = set()
        node.soon()
    world.run(2.0)
    world.server.delete(record_of(world, world.vips[0]))
    world.run(3 * D)
    for node in (a, b):
        node.asked = set(world.vips)
    if how == "a list":
        a.watch.stalled_until = world.now + 60.0
    else:
        a.cut = True
        a.watch.break_off()
    b.able = set(world.vips)
    b.soon()
    world.until(lambda: b.bound, limit_s=1.0)
    b.cut = True
    b.watch.break_off()
    world.server.delete(record_of(world, world.vips[0]))
    a.cut = False
    world.run(1.6 * P)
    assert b.acts()
    a.able = set(world.vips)
    a.soon()
    world.run(R)
    a.watch.stalled_until = world.now
    world.run(0.5)
    a.watch.break_off()
    all_by(world, a)


def test_t4_a_vip_that_nobody_ever_held_is_created_at_once():
    world = World()
    world.add("a")
    assert world.until(world.all_held, limit_s=2.0) < 1.0


def test_t4_a_store_that_was_set_back_is_a_fence_and_a_wait():
    world, a, _ = settled("a", "b")
    world.server.back_up()
    world.run(10.0)
    world.server.restore(world.server.backups[0])
    world.run(P + 0.5)
    assert a.fences == ["history of the Leases rewritten"]
    assert not any(world.holders(vip) for vip in world.vips)
    assert world.until(world.all_held, limit_s=3 * D) >= D - P - 0.5


def test_t4_a_list_that_is_older_than_what_was_seen_is_a_rewritten_history():
    world, a = settled("a")
    old = claims.Answer(ok=True, leases=tuple(world.server.labelled()), version=str(world.server.version))
    world.run(3.0)
    op = list_of(world, a)
    state = claims.answered(a.state, op, old, now=a.now())
    assert claims.step(state, a.now()).fence == "history of the Leases rewritten"
    assert state.not_before == a.now() + D


def list_of(world, node):
    """A list that the node sends now."""
    node.watch.stalled_until = world.now + 60.0
    node.hold = lambda op: op.kind == "list"
    world.until(lambda: node.held, limit_s=3 * P)
    return node.held[0]


def test_t4_a_list_that_shows_less_than_was_known_is_one_too_though_its_version_is_high():
    world, a = settled("a")
    record = record_of(world, world.vips[0])
    found = world.server.leases[record]
    a.hear(record, world.server.store(record, found.metadata.uid, found.spec, found.metadata.annotations, found.metadata.labels))
    op = list_of(world, a)
    less = [found if lease.metadata.name == record else lease for lease in world.server.labelled()]
    state = claims.answered(a.state, op, claims.Answer(ok=True, leases=less, version="99999"), now=a.now())
    assert claims.step(state, a.now()).fence == "history of the Leases rewritten"


def test_t4_an_older_list_is_one_however_little_it_shows():
    world, a = settled("a")
    op = list_of(world, a)
    state = claims.answered(a.state, op, claims.Answer(ok=True, leases=(), version="50"), now=a.now())
    assert claims.step(state, a.now()).fence == "history of the Leases rewritten"


def test_t4_a_record_that_vanished_before_the_watch_ever_showed_it_is_missed():
    """Known by the answer to one's own write only, so no watch tells that it is gone; until it does, it gives nothing either."""
    world, a = settled("a", vips=1)
    name = record_of(world, world.vips[0])
    a.able = set()
    a.soon()
    world.run(1.0)
    world.server.delete(name)
    world.run(2 * D)
    a.faults = Faults(resume=0.0)
    a.watch.stalled_until = world.now + 0.2
    a.watch.break_off()
    a.able = set(world.vips)
    a.soon()
    world.run(0.1)
    number = records.number_in(name)
    assert a.state.slots[number].record is not None
    a.hold = lambda op: op.kind == "list"
    world.server.delete(name)
    world.run(R)
    assert a.state.slots[number].record is None
    assert not a.acts()


def test_t4_ones_own_heartbeat_older_than_the_last_one_written_is_a_rewritten_history():
    world, a = settled("a")
    old = world.server.leases["kvip-node-a"]
    world.run(5.0)
    state = claims.watched(a.state, "kvip-node-a", None, now=a.now())
    op = next(op for op in claims.step(state, a.now()).ops if op.kind == "read")
    state = claims.answered(state, op, claims.Answer(ok=True, lease=old), now=a.now())
    assert claims.step(state, a.now()).fence == "history of the Leases rewritten"


def test_t4_a_namespace_that_terminates_is_a_fence():
    world, a = settled("a")
    a.hold = lambda op: op.purpose == "renew"
    world.until(lambda: a.held, limit_s=2 * P)
    state = claims.answered(a.state, a.held[0], claims.Answer(ok=False, status=403, terminating=True), now=a.now())
    assert claims.step(state, a.now()).fence == "the namespace is being deleted"


def test_t4_another_403_is_a_failure_like_any_other():
    world, a = settled("a")
    a.hold = lambda op: op.purpose == "renew"
    world.until(lambda: a.held, limit_s=2 * P)
    state = claims.answered(a.state, a.held[0], claims.Answer(ok=False, status=403), now=a.now())
    assert claims.step(state, a.now()).fence == ""


def test_t4_a_read_tells_nothing_of_a_change_after_it():
    """The read was sent, then the watch told of a newer version: that the read found nothing may be older or newer than that."""
    world, a = settled("a")
    name = record_of(world, world.vips[0])
    state = claims.watched(a.state, name, None, now=a.now())
    op = next(op for op in claims.step(state, a.now()).ops if op.name == name)
    found = world.server.leases[name]
    newer = world.server.store(name, found.metadata.uid, found.spec, found.metadata.annotations, found.metadata.labels)
    state = claims.watched(state, name, newer, now=a.now())
    state = claims.answered(state, op, claims.Answer(ok=True, lease=None), now=a.now())
    assert name in state.verify
    assert valid_until(state) == valid_until(a.state)


def test_t1_who_cannot_say_how_long_he_may_act_may_do_so_for_the_longest_known_whenever_that_was_learnt():
    """A daemon that starts hears of a heartbeat that somebody blanked before it hears of any longer lease than its own."""
    world = World()
    slow = world.add("slow", timers=Timers(lease_duration_s=8.0, renew_deadline_s=6.0, retry_period_s=2.0))
    quick = world.add("quick", timers=Timers(lease_duration_s=3.0, renew_deadline_s=2.0, retry_period_s=0.5))
    quick.able = set()
    world.until(world.all_held, limit_s=10)
    world.run(5.0)
    assert slow.acts() == set(world.vips)
    slow.stall(30.0)
    world.server.blank("kvip-node-slow")
    quick.kill()
    quick.able = set(world.vips)
    quick.boot()
    world.run(7.0)
    assert quick.acts() == set(), "who was blanked may act for up to 6 s, and 8 s are to be waited for"
    world.until(lambda: quick.acts() == set(world.vips), limit_s=5.0)


def test_t4_a_record_that_was_created_in_the_place_of_another_that_was_just_deleted_gives_nothing_yet():
    """The creation was under way all the time: who held by the former record does not know yet that it is gone."""
    world = World()
    a = world.add("a")
    a.hold = lambda op: op.purpose == "claim" and not op.version
    world.until(lambda: a.held, limit_s=2.0)
    b = world.add("b")
    world.until(lambda: b.acts(), limit_s=2.0)
    op = next(op for op in a.held if op.name in {record_of(world, vip) for vip in b.acts()})
    world.until(lambda: a.state.slots[records.number_in(op.name)].record is not None, limit_s=0.5)
    world.server.delete(op.name)
    answer = world.perform(op)
    assert answer.ok
    a.hold = None
    a.answer(op, answer, a.epoch)
    a.turn()
    assert a.acts() == set()
    world.run(3 * D)
    assert world.all_held()
