"""What a node of another mode makes of the Leases of `claims`: who may act, since when it stands still, what is to be ended."""

import pytest

from kvip.core.election import heartbeat, interlock, records
from kvip.core.election.heartbeat import LABELS, About
from kvip.core.election.interlock import Sight
from kvip.core.objects import Lease, ObjectMeta

ONE, TWO = "n1_" + "1" * 32, "n2_" + "2" * 32
D = 5.0
VIP = "192.0.2.7"


def beating(incarnation, version, *, duration_s=D):
    spec, notes = heartbeat.beat(incarnation, About(), sequence=int(version), duration_s=duration_s, before=None)
    name = heartbeat.name_of(heartbeat.node_of(incarnation))
    return Lease(metadata=ObjectMeta(name=name, uid=f"u-{name}", resource_version=version, annotations=notes, labels=LABELS), spec=spec)


def over(incarnation, version):
    before = heartbeat.parse(beating(incarnation, "1"))
    spec, notes = heartbeat.ending(TWO, "released", sequence=2, before=before)
    name = heartbeat.name_of(before.node)
    return Lease(metadata=ObjectMeta(name=name, uid=before.uid, resource_version=version, annotations=notes, labels=LABELS), spec=spec)


def record(incarnation, version="7", *, duration_s=D):
    spec, notes = records.claim({incarnation: (VIP,)}, incarnation, count=64, duration_s=duration_s, before=None)
    return Lease(
        metadata=ObjectMeta(name=records.name_of(3), uid="u-3", resource_version=version, annotations=notes, labels=LABELS), spec=spec
    )


def seen(*looks, gap_s=2.0, retired=frozenset()):
    """`looks`: (when, leases)."""
    sight = Sight(own_s=D, gap_s=gap_s)
    for now, leases in looks:
        sight = interlock.look(sight, leases, now=now, retired=retired)
    return sight


def every(second, until, *leases):
    return [(float(now), leases) for now in range(0, until + 1, second)]


def test_g5_nothing_there_is_nothing_in_the_way():
    assert interlock.clear_at(seen((0.0, []))) < 0


def test_g5_a_heartbeat_blocks_for_its_duration_from_when_it_was_first_seen_as_it_is():
    assert interlock.clear_at(seen(*every(1, 4, beating(ONE, "1")))) == D


def test_g5_each_change_of_a_heartbeat_counts_anew():
    looks = [(float(now), [beating(ONE, str(now + 1))]) for now in range(9)]
    assert interlock.clear_at(seen(*looks)) == 8 + D


def test_g5_a_longer_duration_that_it_published_counts():
    assert interlock.clear_at(seen((0.0, [beating(ONE, "1", duration_s=15)]))) == 15


def test_g5_a_shorter_duration_than_our_own_does_not():
    assert interlock.clear_at(seen((0.0, [beating(ONE, "1", duration_s=2)]))) == D


def test_g5_time_in_which_nobody_looked_does_not_count():
    assert interlock.clear_at(seen((0.0, [beating(ONE, "1")]), (4.0, [beating(ONE, "1")]))) == 4 + D


def test_g5_an_ended_heartbeat_blocks_nothing():
    assert interlock.clear_at(seen((0.0, [over(ONE, "2"), record(ONE)]))) < 0


def test_g5_a_heartbeat_that_kvip_did_not_write_as_it_stands_blocks():
    lease = beating(ONE, "1")
    blanked = Lease(metadata=lease.metadata, spec=over(ONE, "2").spec)
    assert interlock.clear_at(seen((0.0, [blanked]))) == D


def test_g5_an_incarnation_that_only_a_record_names_blocks():
    assert interlock.clear_at(seen((0.0, [record(ONE, duration_s=8)]))) == 8


def test_g5_a_heartbeat_that_vanished_blocks_from_when_it_was_missed():
    assert interlock.clear_at(seen((0.0, [beating(ONE, "1")]), (1.0, []), (2.0, []))) == 1 + D


@pytest.mark.parametrize("leases", [[beating(ONE, "1")], [record(ONE)]])
def test_g5_what_this_node_itself_was_in_mode_claims_blocks_nothing(leases):
    assert interlock.clear_at(seen((0.0, leases), retired=frozenset({ONE}))) < 0


def test_g5_only_heartbeats_that_stood_still_for_long_enough_are_to_be_ended():
    looks = [(float(now), [beating(ONE, "1"), beating(TWO, str(now + 1))]) for now in range(6)]
    sight = seen(*looks)
    assert interlock.dead(sight, now=4.9) == []
    assert [beat.holder for beat in interlock.dead(sight, now=5.0)] == [ONE]


def test_g5_what_has_no_heartbeat_cannot_be_ended():
    assert interlock.dead(seen(*every(1, 9, record(ONE))), now=9.0) == []
