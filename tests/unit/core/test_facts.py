"""Facts: complete dumps, confirmed results, and messages that only call for a dump.

Over 300 lines: each test is about the one class.
"""

import ipaddress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvip.core.facts import Facts
from kvip.core.model import MARK_PROTO, Address, IfIndex, Link, Vip

VIP = Vip("192.0.2.7")


def address(ip="192.0.2.7", *, index=2, marked=True, prefix=32, valid_s=60, flags=0):
    return Address(ip=Vip(ip), prefix_len=prefix, index=IfIndex(index), proto=MARK_PROTO if marked else 0, valid_s=valid_s, flags=flags)


def shown(facts, vip=VIP):
    return {(b.address.prefix_len, b.address.index, b.address.marked) for b in facts.bound(vip)}


def test_a_confirmed_address_is_bound_and_expires_by_its_lifetime():
    facts = Facts()
    facts.note_bound(address(), now=100.0)
    (bound,) = facts.bound(VIP)
    assert bound.expires_at == 160.0
    assert facts.marked() == (VIP,)
    facts.note_gone(address())
    assert facts.bound(VIP) == ()
    assert facts.marked() == ()


def test_an_address_without_a_lifetime_never_expires():
    facts = Facts()
    facts.note_bound(address(valid_s=None), now=100.0)
    assert facts.bound(VIP)[0].expires_at is None


def test_a_dump_replaces_everything_and_names_what_changed():
    facts = Facts()
    facts.replace_all([address(), address("192.0.2.8"), address("192.0.2.9", marked=False)], now=0.0)
    changed = facts.replace_all([address(), address("192.0.2.9"), address("192.0.2.10")], now=1.0)
    assert changed == {"192.0.2.8", "192.0.2.9", "192.0.2.10"}
    assert set(facts.marked()) == {"192.0.2.7", "192.0.2.9", "192.0.2.10"}


def test_a_dump_that_shows_only_a_later_expiry_changes_nothing_but_the_expiry():
    facts = Facts()
    facts.replace_all([address()], now=0.0)
    assert facts.replace_all([address(valid_s=55)], now=20.0) == set()
    assert facts.bound(VIP)[0].expires_at == 75.0


@pytest.mark.parametrize("after", [{"flags": 0x08}, {"prefix": 24}])
def test_a_dump_names_an_address_whose_flags_or_prefix_changed(after):
    facts = Facts()
    facts.replace_all([address()], now=0.0)
    assert facts.replace_all([address(**after)], now=1.0) == {VIP}


@pytest.mark.parametrize("marked_first", [True, False])
def test_one_nic_may_have_the_same_address_twice_with_different_prefixes(marked_first):
    # IPv4: __inet_insert_ifa (net/ipv4/devinet.c) refuses only equal address *and* mask.
    pair = [address(), address(prefix=24, marked=False)]
    facts = Facts()
    facts.replace_all(pair if marked_first else pair[::-1], now=0.0)
    assert shown(facts) == {(32, 2, True), (24, 2, False)}
    assert facts.marked() == (VIP,)
    assert [a.prefix_len for a in facts.unmarked()] == [24]


def test_the_same_address_on_two_nics_is_bound_twice():
    facts = Facts()
    facts.replace_all([address(index=2), address(index=3, marked=False)], now=0.0)
    assert shown(facts) == {(32, 2, True), (32, 3, False)}
    facts.note_gone(address())
    assert facts.marked() == ()
    assert shown(facts) == {(32, 3, False)}


def test_gone_twice_is_gone_once():
    facts = Facts()
    facts.note_gone(address())
    facts.note_bound(address(), now=0.0)
    facts.note_gone(address(index=3))
    assert facts.marked() == (VIP,)


@pytest.mark.parametrize(
    ("message", "present", "contradicts"),
    [
        (address(), True, False),
        (address(valid_s=20), True, False),
        (address(), False, True),
        (address(marked=False), True, True),
        (address(flags=0x08), True, True),
        (address(index=3), True, True),
        (address(index=3), False, False),
        (address("192.0.2.8"), True, True),
        (address("192.0.2.8"), False, False),
    ],
)
def test_a_message_contradicts_only_when_it_says_something_else(message, present, contradicts):
    facts = Facts()
    facts.note_bound(address(), now=0.0)
    assert facts.contradicted_by(message, present=present) is contradicts
    assert shown(facts) == {(32, 2, True)}


def test_networks_are_those_of_unmarked_addresses_without_host_routes():
    facts = Facts()
    facts.replace_all(
        [
            address("192.0.2.1", marked=False, prefix=24),
            address("192.0.2.2", marked=False, prefix=24),
            address("198.51.100.1", marked=False, prefix=32),
            address("203.0.113.9", prefix=24),
            address("2001:db8::1", marked=False, prefix=64),
        ],
        now=0.0,
    )
    assert facts.networks() == (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::/64"))


def test_a_nic_is_found_by_its_present_name():
    link = Link(index=IfIndex(2), name="eth0", mac=b"\2" * 6, up=True, carrier=True)
    facts = Facts()
    facts.links[link.index] = link
    assert facts.link("eth0") == link
    facts.links[link.index] = msgspec.structs.replace(link, name="lan0")
    assert facts.link("eth0") is None


IPVS = IfIndex(9)
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(("bound", "gone", "dump")),
        st.integers(1, 3),
        st.sampled_from((IfIndex(2), IPVS)),
        st.booleans(),
        st.sampled_from((24, 32)),
    ),
    max_size=30,
)


@given(CHANGES)
def test_what_is_marked_or_not_follows_every_change(changes):
    facts, there = Facts(), {}
    facts.links[IPVS] = Link(index=IPVS, name="kube-ipvs0", mac=b"", up=False, carrier=False)
    for what, number, index, marked, prefix in changes:
        one = address(f"192.0.2.{number}", index=index, marked=marked, prefix=prefix)
        if what == "dump":
            there = {(one.ip, index, prefix): one}
            facts.replace_all(there.values(), now=0.0)
        elif what == "bound":
            there[one.ip, index, prefix] = one
            facts.note_bound(one, now=0.0)
        else:
            there.pop((one.ip, index, prefix), None)
            facts.note_gone(one)
        mine = {each.ip for each in there.values() if each.marked}
        assert set(facts.marked()) == mine
        assert facts.marked_count() == len(mine)
        strange = [each for each in there.values() if not each.marked]
        assert facts.proxied() == {each.ip for each in strange if each.index == IPVS}
        own = {(each.ip, each.index, each.prefix_len) for each in strange if each.index != IPVS}
        assert {(each.ip, each.index, each.prefix_len) for each in facts.unmarked()} == own


PLACES = st.tuples(st.integers(1, 3), st.sampled_from((IfIndex(2), IPVS)), st.booleans(), st.sampled_from((24, 32)))


def one_of(place):
    number, index, marked, prefix = place
    return address(f"192.0.2.{number}", index=index, marked=marked, prefix=prefix)


def known(facts):
    vips = [Vip(f"192.0.2.{number}") for number in range(1, 4)]
    return {(vip, place): bound.address.marked for vip in vips for place, bound in facts._bound.get(vip, {}).items()}


@given(st.lists(PLACES), st.lists(PLACES), st.lists(st.tuples(st.booleans(), PLACES), max_size=8))
def test_a_dump_taken_over_in_parts_agrees_with_the_kernel_whatever_kvip_does_meanwhile(before, in_kernel, meanwhile):
    """`before`: what is known; `in_kernel`: what others made of it, which the dump shows; `meanwhile`: kvip binds (True) or removes."""
    facts = Facts()
    for place in before:
        facts.note_bound(one_of(place), now=0.0)
    there = {(one.ip, (one.index, one.prefix_len)): one for one in map(one_of, in_kernel)}
    facts.expect_dump()
    parts = facts.take_over(list(there.values()), now=0.0, part=1)
    for binds, place in meanwhile:
        one = one_of(place)
        if binds:
            there[one.ip, (one.index, one.prefix_len)] = one
            facts.note_bound(one, now=0.0)
        else:
            there.pop((one.ip, (one.index, one.prefix_len)), None)
            facts.note_gone(one)
        next(parts, None)
    for _ in parts:
        pass
    assert known(facts) == {key: one.marked for key, one in there.items()}
    assert set(facts.marked()) == {one.ip for one in there.values() if one.marked}


def test_facts_in_doubt_stay_so_until_the_last_part_of_a_dump_that_was_begun_after_it():
    facts = Facts()
    facts.doubt()
    facts.expect_dump()
    for _ in facts.take_over([address(), address("192.0.2.8")], now=0.0, part=1):
        assert facts.doubted
    assert not facts.doubted


@pytest.mark.parametrize(("known_before", "in_dump", "then"), [([], [address()], False), ([address()], [], True)])
def test_a_message_that_agrees_with_the_facts_and_not_with_the_dump_under_way_calls_for_another(known_before, in_dump, then):
    """Others changed the address twice: the dump shows what was between, and the message what came of it."""
    facts = Facts()
    for each in known_before:
        facts.note_bound(each, now=0.0)
    facts.expect_dump()
    facts.hear(address(), present=then)
    assert not facts.contradicted_by(address(), present=then)
    for _ in facts.take_over(in_dump, now=0.0):
        pass
    assert facts.doubted
    facts.replace_all([address()] if then else [], now=0.0)
    assert not facts.doubted


def test_what_kvip_itself_did_after_a_message_is_no_contradiction_to_it():
    facts = Facts()
    facts.note_bound(address(), now=0.0)
    facts.expect_dump()
    facts.hear(address(), present=True)
    facts.note_gone(address())
    for _ in facts.take_over([address()], now=0.0):
        pass
    assert not facts.doubted
    assert facts.marked() == ()


# -- lifetimes ---------------------------------------------------------------------------------------------------------


def test_what_the_kernel_will_drop_soonest_is_named_first_and_only_what_is_marked():
    facts = Facts()
    facts.note_bound(address("192.0.2.8", valid_s=40), now=100.0)
    facts.note_bound(address("192.0.2.9", valid_s=20), now=100.0)
    facts.note_bound(address("192.0.2.10", valid_s=10, marked=False), now=100.0)
    facts.note_bound(address("192.0.2.11", valid_s=90), now=100.0)
    assert facts.expiring(150.0, most=9) == ["192.0.2.9", "192.0.2.8"]
    assert facts.expiring(150.0, most=1) == ["192.0.2.9"]
    facts.note_bound(address("192.0.2.9", valid_s=60), now=110.0)
    facts.note_gone(address("192.0.2.8"))
    assert facts.expiring(150.0, most=9) == []


def test_a_marked_address_without_a_lifetime_is_always_due():
    facts = Facts()
    facts.note_bound(address(valid_s=None), now=100.0)
    assert facts.expiring(0.0, most=9) == [VIP]


def test_of_two_places_the_one_that_ends_first_counts():
    facts = Facts()
    facts.note_bound(address(valid_s=90), now=0.0)
    facts.note_bound(address(index=3, valid_s=30), now=0.0)
    assert facts.expiring(30.0, most=9) == [VIP]
    facts.note_gone(address(index=3))
    assert facts.expiring(30.0, most=9) == []


def test_a_dump_sets_every_lifetime_anew():
    facts = Facts()
    facts.note_bound(address("192.0.2.8", valid_s=10), now=0.0)
    facts.replace_all([address(valid_s=20)], now=0.0)
    assert facts.expiring(60.0, most=9) == [VIP]
    assert (facts.is_marked(VIP), facts.is_marked(Vip("192.0.2.8"))) == (True, False)


def test_a_lifetime_that_the_kernel_rounds_is_no_other_one():
    """It tells the seconds that are left, rounded: what was computed when the address was confirmed is more exact."""
    facts = Facts()
    facts.note_bound(address(valid_s=60), now=100.4)
    facts.replace_all([address(valid_s=49)], now=111.0)
    assert facts.bound(VIP)[0].expires_at == 160.4
    facts.replace_all([address(valid_s=40)], now=111.0)
    assert facts.bound(VIP)[0].expires_at == 151.0


@pytest.mark.parametrize(("before", "after"), [(60, None), (None, 60)])
def test_a_lifetime_that_begins_or_ends_is_taken_over_from_a_dump(before, after):
    facts = Facts()
    facts.note_bound(address(valid_s=before), now=0.0)
    facts.replace_all([address(valid_s=after)], now=0.0)
    assert facts.bound(VIP)[0].expires_at == after


def noted_by_an_unchanged_dump(size, monkeypatch):
    facts = Facts()
    addresses = [address(f"10.0.{number >> 8}.{number & 255}") for number in range(size)]
    facts.replace_all(addresses, now=0.0)
    noted = []
    monkeypatch.setattr(facts, "note_bound", lambda one, *, now: noted.append(one))
    assert facts.replace_all(addresses, now=0.3) == set()
    return len(noted)


def test_a_dump_that_shows_nothing_new_makes_nothing_anew(monkeypatch):
    assert noted_by_an_unchanged_dump(20, monkeypatch) == noted_by_an_unchanged_dump(200, monkeypatch) == 0
