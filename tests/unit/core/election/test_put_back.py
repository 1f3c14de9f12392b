"""T4: what kvip did not write as it stands takes away, and gives nothing: blanked, edited, unlabelled, put back from a backup."""

from kvip.core.election import records
from tests.unit.core.election.simnode import TIMERS
from tests.unit.core.election.simulation import settled

D, R = TIMERS.lease_duration_s, TIMERS.renew_deadline_s


def record_of(world, vip):
    return records.name_of(records.number_of(vip, 4))


def test_t4_a_record_that_somebody_blanked_frees_nothing_at_once():
    world, a, b = settled("a", "b")
    a.stall(R)
    world.server.blank(record_of(world, world.vips[0]))
    world.run(D - 0.2)
    assert not b.takes
    world.until(world.all_held, limit_s=2 * D)


def test_t4_an_old_content_that_is_put_back_gives_nobody_anything():
    """b held the VIPs once; what it is given by a backup, a may still hold."""
    world, a, b = settled("a", "b")
    a.able = set()
    a.soon()
    world.until(lambda: b.acts() == set(world.vips), limit_s=5.0)
    world.server.back_up()
    a.able, b.able = set(world.vips), set()
    b.soon()
    world.until(lambda: a.acts() == set(world.vips), limit_s=5.0)
    b.able = set(world.vips)
    world.run(1.0)
    a.stall(R)
    for name, lease in world.server.backups[0][1].items():
        if name.startswith(records.PREFIX):
            world.server.put_back(lease)
    world.run(R)
    assert not b.acts()


def test_t4_a_write_upon_a_record_that_somebody_changed_waits_like_a_taking():
    """With kvip's own mark upon it the others would believe all that it says."""
    world, a, b = settled("a", "b")
    name = record_of(world, world.vips[0])
    world.server.touch(name)
    world.run(0.1)
    a.able = set()
    a.soon()
    began = world.now
    world.run(D - 0.2)
    assert not world.sent(a, name=name, kind="write", since=began)
    world.until(lambda: b.acts() == set(world.vips), limit_s=2.0)


def test_t4_a_record_that_somebody_changed_is_mended_by_those_it_names():
    world, a, b = settled("a", "b")
    name = record_of(world, world.vips[0])
    world.server.unlabel(name)
    world.run(D + 1.0)
    assert records.parse(world.server.leases[name]).intact
    assert a.acts() == set(world.vips)
    assert (a.fences, b.fences) == ([], [])


def test_t4_a_vip_let_go_of_while_its_record_was_changed_is_free_later():
    world, a, b = settled("a", "b")
    a.able = set()
    a.soon()
    world.run(0.001)
    world.server.touch(record_of(world, world.vips[0]))
    world.until(lambda: b.acts() == set(world.vips), limit_s=2 * D)


def test_t4_a_created_record_gives_only_what_was_asked_for():
    """The first content of a record, created anew from a backup, is marked rightly: no mark can name the UID that it will get."""
    world, a, b = settled("a", "b", vips=1)
    name = record_of(world, world.vips[0])
    first = next(lease for each, lease in world.server.log if each == name)
    a.able = set()
    a.soon()
    world.until(lambda: b.acts() == set(world.vips), limit_s=5.0)
    a.able = set(world.vips)
    world.run(1.0)
    b.stall(R)
    world.server.delete(name)
    world.server.put_back(first)
    world.run(R)
    assert not a.acts()


def test_t4_a_created_record_frees_nothing_by_naming_who_is_over():
    world, a, b = settled("a", "b", vips=1)
    name = record_of(world, world.vips[0])
    first = next(lease for each, lease in world.server.log if each == name)
    a.fence("test")
    a.turn()
    world.until(lambda: a.acts() == set(world.vips), limit_s=5.0)
    world.run(2.0)
    a.stall(R)
    world.server.delete(name)
    world.server.put_back(first)
    world.run(R)
    assert not b.acts()


def test_t4_a_created_heartbeat_ends_nobody_before_the_lease():
    world, a, b = settled("a", "b")
    first = next(lease for name, lease in world.server.log if name == "kvip-node-a")
    a.fence("test")
    a.turn()
    world.until(lambda: a.acts() == set(world.vips), limit_s=5.0)
    world.run(2.0)
    a.stall(R)
    world.server.delete("kvip-node-a")
    world.server.put_back(first)
    world.run(R)
    assert not b.acts()
