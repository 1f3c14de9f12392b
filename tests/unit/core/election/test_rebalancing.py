"""T5: the option that moves VIPs from the node that holds most to one that holds few."""

from kvip.core.election import placement, rebalancing
from tests.unit.core.election.simnode import TIMERS
from tests.unit.core.election.simulation import World, settled

D = TIMERS.lease_duration_s
ROUNDS_S = rebalancing.SETTLED_S + 8 * rebalancing.PERIOD_S


def held(*nodes):
    return [len(node.acts()) for node in nodes]


def test_t5_without_the_option_nothing_moves():
    world, a, b, c = settled("a", "b", "c")
    world.run(ROUNDS_S)
    assert held(a, b, c) == [6, 0, 0]


def test_t5_rebalancing_ends_with_equal_shares_and_moves_nothing_after_that():
    world, a, b, c = settled("a", "b", "c", rebalance=True)
    world.run(ROUNDS_S)
    assert held(a, b, c) == [2, 2, 2]
    writes = len(world.sent(a, purpose="claim")) + len(world.sent(b, purpose="claim")) + len(world.sent(c, purpose="claim"))
    world.run(ROUNDS_S)
    assert held(a, b, c) == [2, 2, 2]
    assert writes == sum(len(world.sent(node, purpose="claim")) for node in (a, b, c))


def test_t5_rebalancing_hands_over_by_name_what_was_let_go_of_first():
    world, a, b = settled("a", "b", rebalance=True)
    a.unbind_s = 0.5
    world.until(lambda: b.acts(), limit_s=ROUNDS_S)
    assert not world.sent(b, purpose="claim"), "it was given, not taken"


def test_t5_rebalancing_one_record_at_a_time():
    world, a, b = settled("a", "b", rebalance=True)
    world.until(lambda: b.acts(), limit_s=ROUNDS_S)
    first = world.now
    (record,) = {op.name for at, op in world.sent(a, purpose="claim", since=first - 1.0)}
    world.run(rebalancing.PERIOD_S - 1.0)
    assert {op.name for _, op in world.sent(a, purpose="claim", since=first - 1.0)} == {record}


def test_t5_a_node_that_just_came_is_given_nothing_yet():
    world, a, b = settled("a", "b", rebalance=True)
    world.run(rebalancing.SETTLED_S - 10)
    b.kill()
    b.boot()
    world.run(rebalancing.SETTLED_S - 1)
    assert held(a, b) == [6, 0]
    world.run(ROUNDS_S)
    assert held(a, b) == [3, 3]


def test_t5_rebalancing_respects_who_could_hold_and_who_is_preferred():
    world, a, b, c = settled("a", "b", "c", rebalance=True)
    world.leaning = placement.Leaning(fit=frozenset("ab"), tiers=(frozenset("a"),))
    for node in (a, b, c):
        node.soon()
    world.run(ROUNDS_S)
    assert held(a, b, c) == [6, 0, 0]
    world.leaning = placement.Leaning(fit=frozenset("ab"), tiers=(frozenset("ab"),))
    for node in (a, b, c):
        node.soon()
    world.run(ROUNDS_S)
    assert held(a, b, c) == [3, 3, 0]


def test_t5_what_comes_back_is_not_given_away_again_for_a_while():
    world, a, b = settled("a", "b", rebalance=True)
    b.able = set()
    b.soon()
    world.run(3 * ROUNDS_S)
    assert held(a, b) == [6, 0]
    given = len(world.sent(a, purpose="claim"))
    world.run(ROUNDS_S)
    assert len(world.sent(a, purpose="claim")) == given, "tried once each, then left alone"


def test_t5_no_heir_no_gap():
    world, a, b = settled("a", "b", vips=2, rebalance=True)
    a.let_go = lambda vip: None
    world.until(lambda: any(slot.moving for slot in a.state.slots.values()), limit_s=ROUNDS_S)
    b.kill()
    world.run(3 * D)
    del a.let_go
    a.soon()
    world.run(1.0)
    assert a.acts() == set(world.vips)


def test_t5_what_a_turn_bound_that_still_goes_on_is_not_given_away():
    """What is bound is told when the turn ends; thousands of addresses take seconds, and the last of them is let go of after."""
    world = World()
    a, b = world.add("a", rebalance=True), world.add("b", rebalance=True)
    for node in (a, b):
        node.asked = set()
    world.run(2 * rebalancing.SETTLED_S)
    a.asked, a.busy = set(world.vips), True
    a.soon()
    world.until(lambda: a.acts() == set(world.vips), limit_s=2.0)
    b.asked = set(world.vips)
    b.soon()
    world.run(2 * rebalancing.PERIOD_S)
    assert held(a, b) == [6, 0]
    a.busy = False
    a.soon()
    world.run(ROUNDS_S)
    assert held(a, b) == [3, 3]
