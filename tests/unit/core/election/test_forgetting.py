"""What a node remembers of incarnations that are over: those that a Lease names, and the latest; and that no more is needed."""

import pytest

from kvip.core.election import claims, state
from kvip.core.election.heartbeat import node_of
from kvip.core.model import Vip
from tests.unit.core.election import chaos
from tests.unit.core.election.simnode import TIMERS
from tests.unit.core.election.simulation import settled

D = TIMERS.lease_duration_s
KEPT = 4


@pytest.fixture(autouse=True)
def short_memory(monkeypatch):
    monkeypatch.setattr(state, "KEPT_UNNAMED", KEPT)


def test_fences_without_end_leave_a_bounded_memory():
    world, a, _ = settled("a", "b")
    for _ in range(5 * KEPT):
        a.fence("a test")
        a.soon()
        world.until(world.all_held, limit_s=2 * D)
    assert len(a.state.retired) <= KEPT + 1
    assert len(a.state.dead) <= KEPT + 1


def test_deaths_without_end_leave_a_bounded_memory():
    world, a, b = settled("a", "b")
    for _ in range(3 * KEPT):
        a.kill()
        world.until(lambda: b.acts() == set(world.vips), limit_s=3 * D)
        a.boot()
        world.run(2 * D)
        b.able = set()
        b.soon()
        world.until(lambda: a.acts() == set(world.vips), limit_s=D)
        b.able = set(world.vips)
        b.soon()
    assert KEPT <= len(b.state.dead) <= KEPT + 2


def test_who_is_named_by_a_record_is_remembered_however_many_come_after():
    world, a, b = settled("a", "b")
    former, b.able = a.state.incarnation, set()
    a.kill()
    world.run(TIMERS.renew_deadline_s)

    def forget():
        for number in range(5 * KEPT):
            b.state = claims.trust(b.state, f"b_{number:032x}")

    b.state = claims.trust(b.state, former)
    forget()
    assert former in b.state.retired
    assert len(b.state.retired) == KEPT + 1
    b.able = set(world.vips)
    b.soon()
    assert world.until(lambda: b.acts() == set(world.vips), limit_s=3 * D) < 1.0, "it is known to be over"
    a.boot()
    world.run(2 * D)
    forget()
    assert former not in b.state.retired


def test_an_incarnation_that_was_forgotten_and_is_named_again_is_found_dead_as_any_other():
    """A claim that it wrote is carried out late: the VIPs are not free by memory, but by a read of the heartbeat."""
    world, a, b = settled("a", "b")
    former = a.state.incarnation
    a.hold = lambda op: op.purpose == "claim"
    a.able, b.able = set(), set()
    a.soon(), b.soon()
    world.until(lambda: a.held, limit_s=2.0)
    (late, *_) = a.held
    a.hold = None
    a.kill()
    for number in range(KEPT):
        b.state = claims.trust(b.state, f"b_{number:032x}")
    b.state = state.replace(b.state, dead={})
    assert world.perform(late).ok
    world.run(0.1)
    b.able = set(world.vips)
    b.soon()
    world.until(lambda: b.acts() == set(world.vips), limit_s=3 * D)
    assert world.sent(b, kind="read", name=f"kvip-node-{node_of(former)}")


@pytest.mark.parametrize("seed", range(3))
def test_chaos_with_a_memory_of_one(monkeypatch, seed):
    monkeypatch.setattr(state, "KEPT_UNNAMED", 1)
    chaos.run_seed(seed)


def test_vips_that_nobody_asks_for_any_more_leave_nothing_behind():
    world, a, b = settled("a", "b")
    for number in range(5 * KEPT):
        world.vips.append(fresh := Vip(f"198.51.100.{number}"))
        for node in (a, b):
            node.asked.add(fresh), node.able.add(fresh), node.soon()
        world.until(lambda fresh=fresh: world.holders(fresh), limit_s=2.0)
        for node in (a, b):
            node.asked.discard(fresh), node.able.discard(fresh), node.soon()
        world.until(lambda fresh=fresh: not world.holders(fresh), limit_s=2.0)
        world.run(0.5)
    for node in (a, b):
        assert {vip for slot in node.state.slots.values() for vip in slot.wanted} == node.asked
        assert {vip for slot in node.state.slots.values() for vip in slot.record.holder} == node.asked
