"""Which VIPs a record notes as unproven: nobody of kvip ever bound them, so the segment is asked by whoever is to hold them."""

import msgspec
import pytest

from kvip.core.election import claims, records
from tests.unit.core.election.simnode import TIMERS
from tests.unit.core.election.simulation import World, settled

D, P = TIMERS.lease_duration_s, TIMERS.retry_period_s


def record_of(world, vip):
    return records.parse(world.server.leases[records.name_of(records.number_of(vip, 4))])


def unproven(world):
    return {vip for vip in world.vips if vip in record_of(world, vip).unproven}


def test_what_is_taken_first_is_unproven_until_it_is_bound_and_then_nothing_more_is_written():
    world = World()
    a = world.add("a")
    world.until(world.all_held, limit_s=5.0)
    world.run(P)
    writes = [op for _, op in world.sent(a, purpose="claim")]
    for vip in world.vips:
        first, *_, last = [op.annotations for op in writes if vip in op.annotations[records.CLAIMS]]
        assert vip in first[records.UNPROVEN]
        assert records.UNPROVEN not in last
    assert unproven(world) == set()
    world.run(10 * P)
    assert len(world.sent(a, purpose="claim")) == len(writes)


def test_what_may_be_bound_is_unproven_until_the_kernel_says_that_it_is():
    world = World(vips=2)
    maybe, _ = world.vips
    world.unconfirmed = {maybe}
    a = world.add("a")
    world.until(world.all_held, limit_s=5.0)
    world.run(P)
    assert unproven(world) == {maybe}
    world.unconfirmed = set()
    a.soon()
    world.run(P)
    assert unproven(world) == set()


def test_a_vip_that_its_holder_could_not_bind_is_no_less_unproven_for_the_next():
    """The former holder asked, got an answer and bound nothing: only the record tells that from a holder that had it bound."""
    world = World(vips=2)
    contested, good = world.vips
    world.taken = {contested}
    a, b = world.add("a"), world.add("b")
    world.until(lambda: world.holders(good) and contested in record_of(world, contested).holder, limit_s=5.0)
    world.run(P)
    assert unproven(world) == {contested}
    for _ in range(2):
        holder = next(node for node in (a, b) if record_of(world, contested).holder[contested] == node.state.incarnation)
        heir = b if holder is a else a
        holder.kill()
        world.until(lambda heir=heir: contested in claims.permits(heir.state), limit_s=2 * D)
        assert unproven(world) == {contested}
        holder.boot()
        world.run(D)
    world.taken = set()
    heir.soon()
    world.until(lambda: world.holders(contested), limit_s=1.0)
    world.run(P)
    assert unproven(world) == set()


def test_what_was_bound_is_proven_for_whoever_takes_it_over():
    world, a, b = settled("a", "b")
    assert unproven(world) == set()
    a.kill()
    world.taken = set(world.vips)
    world.until(lambda: set(world.vips) == claims.permits(b.state), limit_s=2 * D)
    assert unproven(world) == set()


def test_a_vip_that_is_given_to_another_goes_as_unproven_as_it_was():
    world, a, b = settled("a", "b", vips=1)
    (vip,) = world.vips
    a.asked, b.asked = set(), set()
    a.soon(), b.soon()
    world.until(lambda: vip not in record_of(world, vip).holder, limit_s=2.0)
    world.taken = {vip}
    a.asked, b.asked, b.able = {vip}, {vip}, set()
    a.soon(), b.soon()
    world.until(lambda: vip in claims.permits(a.state), limit_s=2.0)
    assert unproven(world) == {vip}, "what is asked for again is a first assignment again"
    a.able, b.able = set(), {vip}
    b.soon(), a.soon()
    world.until(lambda: vip in claims.permits(b.state), limit_s=2.0)
    assert unproven(world) == {vip}


def test_what_its_holder_has_to_ask_for_again_is_unproven_again_until_it_is_bound():
    """It goes to another segment, say, and has left the first one already."""
    world, a, b = settled("a", "b", vips=2)
    moving, _ = world.vips
    world.moved, world.taken = {moving}, {moving}
    a.bound.discard(moving)
    a.soon()
    world.run(P)
    assert unproven(world) == {moving}
    a.kill()
    world.until(lambda: set(world.vips) == claims.permits(b.state), limit_s=2 * D)
    assert unproven(world) == {moving}
    world.moved, world.taken = set(), set()
    b.soon()
    world.until(lambda: b.acts() == set(world.vips), limit_s=1.0)
    world.run(P)
    assert unproven(world) == set()


def test_what_is_in_doubt_as_it_is_given_to_another_is_unproven_for_that_one():
    """The kernel found another host with it, and the NIC lost its carrier in the same moment."""
    world, a, b = settled("a", "b", vips=2)
    vip, _ = world.vips
    world.moved, world.taken = {vip}, {vip}
    a.bound.discard(vip)
    a.able.discard(vip)
    a.soon()
    world.until(lambda: vip in claims.permits(b.state), limit_s=1.0)
    assert unproven(world) == {vip}


@pytest.mark.parametrize("how", ["blank", "touch"])
def test_a_record_that_somebody_changed_proves_nothing_until_its_holders_wrote_it_again(how):
    world, _, b = settled("a", "b")
    vip = world.vips[0]
    number = records.number_of(vip, 4)

    def proven():
        record = b.state.slots[number].record
        assert record.proves(vip) is (vip in record.holder and vip not in record.unproven)
        return record.proves(vip)

    assert proven()
    getattr(world.server, how)(records.name_of(number))
    world.run(0.1)
    assert not proven()
    world.until(proven, limit_s=3 * D)
    assert len(world.holders(vip)) == 1


@pytest.mark.parametrize(("text", "left"), [("[]", 0), ("{", 2), ("null", 2), ('["192.0.2.1"]', 1), ('["192.0.2.1", "192.0.2.99"]', 1)])
def test_a_note_that_cannot_be_read_proves_nothing_and_one_of_others_concerns_nobody(text, left):
    world, *_ = settled("a", vips=2)
    for lease in [lease for name, lease in world.server.leases.items() if name.startswith(records.PREFIX)]:
        edited = msgspec.structs.replace(lease.metadata, annotations={**lease.metadata.annotations, records.UNPROVEN: text})
        world.server.leases[lease.metadata.name] = msgspec.structs.replace(lease, metadata=edited)
    assert len(unproven(world)) == left


def test_what_a_holder_held_whom_nobody_saw_alive_is_unproven_for_the_next():
    """Every node was off for days, say, and another host was given the address."""
    world, a, b = settled("a", "b")
    a.kill(), b.kill()
    world.run(100 * D)
    b.boot()
    world.taken = set(world.vips)
    world.until(lambda: set(world.vips) == claims.permits(b.state), limit_s=3 * D)
    assert unproven(world) == set(world.vips)
    world.taken = set()
    b.soon()
    world.until(lambda: b.acts() == set(world.vips), limit_s=1.0)
    world.run(P)
    assert unproven(world) == set()


@pytest.mark.parametrize("lately", [True, False])
def test_what_was_still_bound_at_a_restart_and_was_removed_is_proven(lately):
    world, a, _ = settled("a", "b")
    former = a.state.incarnation
    a.kill()
    world.taken = set(world.vips)
    a.boot(trusted=former, lately=lately)
    world.until(lambda: set(world.vips) == claims.permits(a.state), limit_s=2.0)
    assert unproven(world) == (set() if lately else set(world.vips))
