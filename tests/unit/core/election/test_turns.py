"""T5: whose turn it is, hand-over, refusals; and the number of records, stored once."""

import pytest

from kvip.core.election import claims, placement, records
from kvip.core.election.heartbeat import About, parse
from tests.unit.core.election.simnode import TIMERS
from tests.unit.core.election.simulation import World, settled

D, P = TIMERS.lease_duration_s, TIMERS.retry_period_s


def first_turn(vip, nodes):
    return placement.order(records.number_of(vip, 4), nodes, {}, total=0)


# -- placement ---------------------------------------------------------------------------------------------------------------


def test_t5_candidates_follow_each_other_at_150_ms():
    assert [round(placement.delay_s(rank), 3) for rank in range(4)] == [0.0, 0.15, 0.3, 0.45]


def test_t5_beyond_ten_candidates_the_steps_get_small():
    assert placement.delay_s(11) - placement.delay_s(10) == pytest.approx(0.015)


def test_t5_the_order_of_a_record_differs_from_record_to_record_and_excludes_nobody():
    orders = {tuple(placement.order(number, "abc", {}, total=0)) for number in range(64)}
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert {order[0] for order in orders} == {"a", "b", "c"}


def test_t5_when_a_node_goes_the_order_of_the_others_stays():
    for number in range(64):
        order = placement.order(number, "abcd", {}, total=0)
        assert placement.order(number, [node for node in "abcd" if node != order[0]], {}, total=0) == order[1:]


def test_t5_who_holds_its_share_already_comes_last():
    first, *others = placement.order(1, "abc", {}, total=6)
    assert placement.order(1, "abc", {first: 2}, total=6) == [*others, first]


def test_t5_who_takes_is_the_first_in_order():
    world, a, b, c = settled("a", "b", "c")
    a.kill()
    world.until(lambda: all(world.holders(vip) for vip in world.vips) and not a.acts(), limit_s=2 * D)
    assert b.takes + c.takes == len(world.vips)
    first = {vip: first_turn(vip, "bc")[0] for vip in world.vips}
    loads = {node.name: len(node.acts()) for node in (b, c)}
    assert any(world.holders(vip) == [first[vip]] for vip in world.vips)
    assert max(loads.values()) < len(world.vips) or len(set(first.values())) == 1


def test_t5_a_candidate_that_does_not_take_lets_the_next_have_its_turn():
    world, a, b, c = settled("a", "b", "c", vips=1)
    first, second = (world.node(name) for name in first_turn(world.vips[0], "bc"))
    first.hold = lambda op: op.purpose == "claim"
    a.release()
    took_s = world.until(lambda: second.acts() == set(world.vips), limit_s=2.0)
    assert 0.15 <= took_s < 0.5
    assert {first, second} == {b, c}


@pytest.mark.parametrize("name", ["b", "c"])
def test_t5_a_preferred_node_takes_first_and_takes_nothing_that_is_held(name):
    world, a, *_ = settled("a", "b", "c")
    world.leaning = placement.Leaning(tiers=(frozenset({name}),))
    world.run(2 * D)
    assert a.acts() == set(world.vips), "preference alone moves nothing"
    a.kill()
    world.until(lambda: all(world.holders(vip) for vip in world.vips) and not a.acts(), limit_s=2 * D)
    assert world.node(name).acts() == set(world.vips)


def test_t5_a_preferred_node_that_does_not_take_lets_the_others():
    world, a, b, c = settled("a", "b", "c", vips=1)
    world.leaning = placement.Leaning(fit=frozenset({"c"}), tiers=(frozenset({"c"}),))
    c.hold = lambda op: op.purpose == "claim"
    a.release()
    assert 0.15 <= world.until(lambda: b.acts() == set(world.vips), limit_s=2.0) < 0.5


def test_t5_a_vip_is_handed_over_to_a_node_that_could_hold_it():
    world, a, b, c = settled("a", "b", "c", vips=1)
    second = world.node(first_turn(world.vips[0], "bc")[1])
    world.leaning = placement.Leaning(fit=frozenset({second.name}))
    for node in (a, b, c):
        node.able = set(world.vips) if node is second else set()
        node.soon()
    assert world.until(lambda: second.acts() == set(world.vips), limit_s=2.0) < 0.15
    assert not world.sent(second, purpose="claim"), "it was given, not taken"


def test_t5_a_node_that_comes_back_takes_nothing_back():
    world, a, b = settled("a", "b")
    a.kill()
    world.until(lambda: b.acts() == set(world.vips), limit_s=2 * D)
    a.boot()
    world.run(3 * D)
    assert b.acts() == set(world.vips)


def test_t5_a_node_that_is_not_eligible_takes_nothing():
    world, a, b = settled("a", "b")
    b.state = claims.described(b.state, About(eligible=False))
    a.kill()
    world.run(4 * D)
    assert not b.takes
    b.state = claims.described(b.state, About(eligible=True))
    b.soon()
    assert world.until(lambda: b.acts() == set(world.vips), limit_s=5.0) < 1.0


# -- hand-over ---------------------------------------------------------------------------------------------------------------


def test_t5_a_holder_lets_go_first_then_names_the_next():
    world, a, b = settled("a", "b", vips=1)
    a.unbind_s = 0.5
    a.able = set()
    a.soon()
    world.until(lambda: world.sent(a, purpose="claim") and not a.bound, limit_s=2.0)
    world.until(lambda: b.acts() == set(world.vips), limit_s=1.0)
    (last,) = [op for _, op in world.sent(a, purpose="claim")][-1:]
    assert f'"{b.state.incarnation}":["{world.vips[0]}"]' in last.annotations[records.CLAIMS]
    assert not world.sent(b, purpose="claim"), "it was given, not taken"


def test_t5_nothing_is_written_off_while_it_is_bound():
    world, a, b = settled("a", "b")
    a.let_go = lambda vip: None
    a.able = set()
    began = world.now
    a.soon()
    world.run(2 * D)
    assert not world.sent(a, purpose="claim", since=began)
    assert not b.acts()


def test_t5_a_hand_over_whose_outcome_is_not_known_is_not_taken_back_by_wishing():
    """The write may still arrive: the VIP is the heir's then."""
    world, a, b = settled("a", "b", vips=1)
    a.hold = lambda op: op.purpose == "claim"
    a.able = set()
    a.soon()
    world.until(lambda: a.held, limit_s=2.0)
    (handing_over,) = a.held
    a.able = set(world.vips)
    a.soon()
    world.run(P)
    assert not a.acts()
    assert world.perform(handing_over).ok
    world.until(lambda: b.acts() == set(world.vips), limit_s=1.0)


def test_t5_a_vip_that_nobody_asks_for_is_named_for_nobody():
    world, a, b = settled("a", "b", vips=1)
    a.asked, b.asked = set(), set()
    a.soon()
    world.run(2.0)
    assert records.parse(world.server.leases[records.name_of(records.number_of(world.vips[0], 4))]).holder == {}


# -- refusals ----------------------------------------------------------------------------------------------------------------


def refuse(node, vips):
    node.state = claims.refused(node.state, frozenset(vips), now=node.now())
    node.soon()


def test_t5_what_could_not_be_bound_is_handed_over_and_published():
    world, a, b = settled("a", "b", vips=1)
    refuse(a, world.vips)
    world.until(lambda: b.acts() == set(world.vips), limit_s=1.0)
    world.run(2 * P)
    assert parse(world.server.leases["kvip-node-a"]).about.refuses == tuple(world.vips)


def test_t5_what_all_refuse_is_tried_again_after_a_minute():
    world, a, b = settled("a", "b", vips=1)
    for node in (a, b):
        refuse(node, world.vips)
    world.run(50.0)
    assert not world.holders(world.vips[0])
    assert world.until(world.all_held, limit_s=15.0)
    world.run(2 * P)
    assert parse(world.server.leases["kvip-node-b"]).about.refuses == ()


def test_t5_a_refusal_ends_when_it_ends():
    world, a = settled("a", vips=1)
    world.run(P / 2)
    refuse(a, world.vips)
    assert world.until(lambda: not a.bound, limit_s=1.0) < 0.2
    world.run(59.5)
    assert not a.acts()
    assert world.until(world.all_held, limit_s=2.0) < 0.6


def test_t5_each_further_refusal_lasts_longer_up_to_five_minutes():
    refusal, lengths = None, []
    for _ in range(5):
        refusal = placement.refuse(refusal, now=0.0)
        lengths.append(refusal.length_s)
    assert lengths == [60.0, 120.0, 240.0, 300.0, 300.0]


# -- the number of records ---------------------------------------------------------------------------------------------------


def counts(world):
    return [node.state.count for node in world.nodes]


def test_the_number_of_records_is_decided_once_by_whoever_comes_first():
    world = World()
    for name, count in (("a", 3), ("b", 5), ("c", 4)):
        world.add(name, count=count)
    world.run(1.0)
    assert world.all_held()
    assert len(set(counts(world))) == 1
    assert [name for name, _ in world.server.log].count(records.CLUSTER) == 1


def test_a_daemon_that_is_configured_otherwise_uses_the_stored_number():
    world, a = settled("a")
    b = world.add("b", count=64)
    world.run(2.0)
    assert b.state.count == a.state.count == 4
    a.release()
    assert world.until(lambda: b.acts() == set(world.vips), limit_s=5.0) < 0.5


def test_a_number_that_was_deleted_is_written_again_as_it_was():
    world, a, b = settled("a", "b")
    world.server.delete(records.CLUSTER)
    world.run(1.0)
    assert records.count_in(world.server.leases[records.CLUSTER]) == 4
    assert (a.fences, b.fences) == ([], [])


def test_another_number_than_ones_own_is_a_fence_and_a_wait():
    world, a, b = settled("a", "b")
    found = world.server.leases[records.CLUSTER]
    spec, notes = records.cluster(7)
    world.server.store(records.CLUSTER, found.metadata.uid, spec, notes, found.metadata.labels)
    world.run(0.1)
    assert a.fences == ["number of records changed"]
    assert world.until(world.all_held, limit_s=3 * D) >= D - 0.2
    assert counts(world) == [7, 7]
    assert b.fences == ["number of records changed"]


def test_after_another_number_of_records_who_held_nothing_still_knows_what_is_wanted():
    world, a, b = settled("a", "b")
    found = world.server.leases[records.CLUSTER]
    spec, notes = records.cluster(7)
    world.server.store(records.CLUSTER, found.metadata.uid, spec, notes, found.metadata.labels)
    world.run(0.1)
    a.kill()
    world.until(lambda: b.acts() == set(world.vips), limit_s=4 * D)


def test_a_number_that_was_set_back_with_the_store_is_noticed():
    world = World()
    world.server.back_up()
    a = world.add("a", count=3)
    world.until(world.all_held, limit_s=5.0)
    world.run(10.0)
    world.server.restore(world.server.backups[0])
    a.stall(2.0)
    world.add("b", count=5).boot()
    world.nodes[1].deaf_until = 0.0
    world.run(3 * D)
    assert len(set(counts(world))) == 1
    assert world.all_held()
