"""Lease groups of the switch: one per set of Leases, given out and taken back."""

from kvip.daemon.lease_groups import LeaseGroups

A, B = frozenset({"shop/a"}), frozenset({"shop/a", "shop/b"})
VIP, OTHER = "10.0.0.1", "10.0.0.2"


def test_one_group_per_set_of_leases_and_none_when_all_are_in_use():
    groups = LeaseGroups(["s0", "s1"])
    assert groups.enter(VIP, A) == groups.enter(OTHER, A) == "s0"
    assert groups.enter(VIP, B) == "s1"
    assert groups.enter(VIP, frozenset({"shop/c"})) == ""
    assert groups.containing("shop/b") == [(B, "s1")]
    assert len(groups.containing("shop/a")) == 2
    assert groups.all_vips() == {VIP, OTHER}


def test_a_group_is_free_again_only_when_its_last_address_is_gone_for_certain():
    groups = LeaseGroups(["s0"])
    groups.enter(VIP, A)
    groups.enter(OTHER, A)
    here = {VIP, OTHER}
    assert groups.deserted(lambda vip, _: vip in here) == []
    here.discard(VIP)
    groups.left(OTHER, A)
    assert groups.deserted(lambda vip, _: vip in here) == [(A, "s0")]
    groups.free(A)
    assert groups.enter(VIP, B) == "s0"
