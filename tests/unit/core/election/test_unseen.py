"""T4: what the watch did not show yet gives nothing: another record may have stood in its place, and been deleted."""

from itertools import combinations

import pytest

from kvip.core.election import records
from tests.unit.core.election.simnode import TIMERS
from tests.unit.core.election.simserver import Faults
from tests.unit.core.election.simulation import World

D = TIMERS.lease_duration_s


def record_of(world, vip):
    return records.name_of(records.number_of(vip, 4))


def idle(world, *names):
    """Nodes that could hold nothing yet, and that have known the Leases for long."""
    nodes = [world.add(name) for name in names]
    for node in nodes:
        node.able = set()
    world.run(2 * D)
    return nodes


def begin(node, *vips):
    node.able = set(vips)
    node.soon()


def all_by(world, node, *, limit_s=20.0):
    return world.until(lambda: node.acts() == set(world.vips), limit_s=limit_s)


def unwatched(*nodes):
    """No list either, which would show that the view is not whole."""
    for node in nodes:
        node.hold = lambda op: op.kind == "list"


@pytest.mark.parametrize("how", ["late", "a snapshot"])
def test_t4_what_was_created_gives_nothing_before_the_watch_told_what_stood_in_its_place(how):
    """Another node created the record, held by it, and somebody deleted it: neither node has heard of that yet."""
    world = World(vips=1)
    a, b = idle(world, "a", "b")
    unwatched(a, b)
    if how == "late":
        a.watch.stalled_until = world.now + 0.6
    else:
        a.faults = Faults(resume=0.0)
        a.watch.stalled_until = world.now + 0.4
        a.watch.break_off()
    begin(b, *world.vips)
    world.until(lambda: b.acts(), limit_s=0.3)
    world.run(0.05)
    b.watch.stalled_until = world.now + 1.5
    world.server.delete(record_of(world, world.vips[0]))
    begin(a, *world.vips)
    world.run(1.2)
    assert world.sent(a, purpose="claim")
    assert b.acts()
    assert not a.acts()
    a.hold = b.hold = None
    a.watch.stalled_until = b.watch.stalled_until = 0.0
    world.run(D - 1.5)
    assert not a.acts(), "the other may act for as long"
    world.until(world.all_held, limit_s=D)


def test_t4_what_was_created_by_others_is_no_less_unknown_before_the_watch_showed_it():
    """As before, but a third node created the next record, and the VIP that the first one held by the former is taken upon that."""
    world = World(vips=6)
    a, b, c = idle(world, "a", "b", "c")
    vip, other = next(pair for pair in combinations(world.vips, 2) if record_of(world, pair[0]) == record_of(world, pair[1]))
    name = record_of(world, vip)
    unwatched(a, b, c)
    a.watch.stalled_until = c.watch.stalled_until = world.now + 1.2
    begin(b, vip)
    world.until(lambda: b.acts(), limit_s=0.4)
    b.watch.stalled_until = world.now + 1.5
    world.server.delete(name)
    begin(c, other)
    world.until(lambda: name in world.server.leases, limit_s=0.4)
    begin(a, vip)
    world.run(0.4)
    assert world.sent(a, purpose="claim")
    assert b.acts() == {vip}
    assert not a.acts()
    for node in (a, b, c):
        node.hold, node.watch.stalled_until = None, 0.0
    world.until(world.all_held, limit_s=3 * D)


def test_t4_what_was_created_is_held_a_lease_later_though_no_watch_shows_it():
    world = World(vips=1)
    (a,) = idle(world, "a")
    a.watch.stalled_until = world.now + 60.0
    begin(a, *world.vips)
    world.until(lambda: record_of(world, world.vips[0]) in world.server.leases, limit_s=1.0)
    assert D - 0.2 < all_by(world, a) < D + 0.2


def test_t4_what_was_created_is_held_as_soon_as_the_watch_shows_it():
    world = World(vips=1)
    (a,) = idle(world, "a")
    begin(a, *world.vips)
    assert all_by(world, a) < 0.1
