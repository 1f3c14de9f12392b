"""The planner against every state of one VIP, applied to a model of the kernel."""

from itertools import combinations, product

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvip.core.diff import (
    DADFAILED,
    DUPLICATE,
    TAKEN,
    TENTATIVE,
    Adopt,
    Announce,
    Conflict,
    Hush,
    LetGo,
    Probe,
    Refresh,
    Take,
    Wanted,
    plan,
)
from kvip.core.facts import Bound
from kvip.core.model import MARK_PROTO, Address, IfIndex, Link, Vip, host_prefix

NOW = 1000.0
LIFETIME_S = 60
LINKS = tuple(Link(index=IfIndex(n), name=f"eth{n}", mac=b"\2" * 6, up=True, carrier=True) for n in (2, 3))
VIPS = (Vip("192.0.2.7"), Vip("2001:db8::7"))


def bound(vip, *, index=2, marked=True, prefix=None, flags=0, left_s=60.0):
    prefix_len = host_prefix(vip) if prefix is None else prefix
    place = Address(ip=vip, prefix_len=prefix_len, index=IfIndex(index), proto=MARK_PROTO if marked else 0, flags=flags)
    return Bound(address=place, expires_at=None if left_s is None else NOW + left_s)


# Few draws of many values each: what a draw costs is most of what an example does.
NAMES = ("known", "claimed", "permitted", "announced", "admitted", "guarded", "waiting", "unprobed", "contested")
SWITCHES = st.integers(0, 2 ** len(NAMES) - 1)
INDICES = st.sampled_from([each for size in range(4) for each in combinations((2, 3, 4), size)])
PLACES = st.sampled_from(
    [
        {"marked": marked, "prefix": prefix, "flags": flags, "left_s": left_s}
        for marked, prefix, flags, left_s in product((False, True), (None, 24), (0, DADFAILED), (None, -1.0, 10.0, 39.0, 41.0, 60.0))
    ]
)


@st.composite
def cases(draw):
    vip = draw(st.sampled_from(VIPS))
    yes = draw(SWITCHES)
    wanted = Wanted(
        vip=vip,
        eligible=draw(st.sampled_from([True, False, None])),
        link=draw(st.sampled_from([*LINKS, None])),
        **{name: bool(yes >> bit & 1) for bit, name in enumerate(NAMES)},
    )
    there = tuple(bound(vip, index=index, **draw(PLACES)) for index in draw(INDICES))
    return wanted, there


def act(wanted, there):
    return plan(wanted, there, now=NOW, lifetime_s=LIFETIME_S)


def after_actions(wanted, actions):
    """What is announced, let through and in the switch afterwards, as the executor treats each action."""
    change = msgspec.structs.replace
    for action in actions:
        if isinstance(action, LetGo) and action.reason == DUPLICATE:
            wanted = change(wanted, unprobed=True)
        match action:
            case Hush() | LetGo(keeps=False):
                wanted = change(wanted, announced=False, guarded=False, admitted=False)
            case Take() | Adopt():
                wanted = change(wanted, announced=True, guarded=True, admitted=True)
            case Announce():
                wanted = change(wanted, announced=True)
    return wanted


def apply(there, actions):
    """What a kernel shows after these actions, in order; an `add` of what is there fails, as in the kernel."""
    places = {(b.address.index, b.address.prefix_len): b for b in there}
    for action in actions:
        match action:
            case LetGo(address=address):
                assert places.pop((address.index, address.prefix_len)).address.marked
            case Take(vip=vip, link=link) | Refresh(vip=vip, link=link):
                key = (link.index, host_prefix(vip))
                assert (key in places) is isinstance(action, Refresh)
                assert key not in places or places[key].address.marked
                places[key] = bound(vip, index=link.index, left_s=float(LIFETIME_S))
            case Conflict(address=address):
                assert (address.index, address.prefix_len) in places
            case Announce(vip=vip, link=link) | Adopt(vip=vip, link=link):
                assert places[link.index, host_prefix(vip)].address.marked
            case Probe(vip=vip, link=link):
                assert all(key == (link.index, host_prefix(vip)) for key, b in places.items() if b.address.marked), "what is silent there"
            case Hush():
                assert not any(b.address.marked for b in there)
    return tuple(places.values())


@settings(max_examples=100, deadline=None, database=None)
@given(cases())
def test_nothing_is_taken_without_permit_claim_and_knowledge(case):
    wanted, there = case
    actions = act(wanted, there)
    if any(isinstance(action, Take | Adopt | Probe) for action in actions):
        assert wanted.eligible is True
        assert not wanted.placeless
    if any(isinstance(action, Take | Adopt | Probe | Refresh) for action in actions):
        assert wanted.permitted
        assert wanted.known
        assert wanted.claimed
        assert wanted.eligible is not False, "what is kept because it is not known does not run out"
        assert wanted.link is not None
        assert all(b.address.marked for b in there)


@settings(max_examples=100, deadline=None, database=None)
@given(cases())
def test_an_unmarked_address_is_never_let_go_of(case):
    wanted, there = case
    assert all(action.address.marked for action in act(wanted, there) if isinstance(action, LetGo))


@settings(max_examples=100, deadline=None, database=None)
@given(cases())
def test_unknown_desire_withdraws_nothing_while_permitted(case):
    wanted, there = case
    actions = act(msgspec.structs.replace(wanted, known=False, permitted=True), there)
    held = any(b.address.marked for b in there)
    assert actions == ((Hush(vip=wanted.vip),) if (wanted.announced or wanted.guarded) and not held else ())


@settings(max_examples=100, deadline=None, database=None)
@given(cases())
def test_without_a_permit_everything_marked_is_let_go_of_whatever_is_known(case):
    wanted, there = case
    actions = [a for a in act(msgspec.structs.replace(wanted, permitted=False, waiting=False), there) if not isinstance(a, Hush)]
    assert [a.address for a in actions] == [b.address for b in there if b.address.marked]
    assert all(isinstance(a, LetGo) for a in actions)


def unborn(wanted):
    """Not to be bound yet: the segment was not asked, or somebody answered."""
    return wanted.unprobed or wanted.contested


@settings(max_examples=300, deadline=None, database=None)
@given(cases())
def test_one_step_converges(case):
    wanted, there = case
    actions = act(wanted, there)
    after = apply(there, actions)
    wanted = after_actions(wanted, actions)
    assert not (wanted.announced or wanted.guarded) or any(b.address.marked for b in after)
    again = act(wanted, after)
    assert all(isinstance(action, Conflict | Probe) for action in again)
    assert {b for b in after if not b.address.marked} == {b for b in there if not b.address.marked}
    mine = [b for b in after if b.address.marked]
    decided = wanted.known and wanted.eligible is not None
    stays = wanted.waiting and not wanted.admitted and not (wanted.known and not wanted.claimed)
    if (
        (not wanted.permitted and not stays)
        or (wanted.permitted and decided and not (wanted.claimed and wanted.eligible))
        or (wanted.known and not wanted.claimed)
    ):
        assert mine == []
    elif wanted.permitted and decided and wanted.link is not None and all(b.address.marked for b in there) and (mine or not unborn(wanted)):
        assert [(b.address.index, b.address.prefix_len, b.address.flags) for b in mine] == [(wanted.link.index, host_prefix(wanted.vip), 0)]


@settings(max_examples=100, deadline=None, database=None)
@given(cases())
def test_let_gos_come_first(case):
    kinds = [isinstance(action, LetGo) for action in act(*case)]
    assert kinds == sorted(kinds, reverse=True)


WANTED = Wanted(vip=VIPS[0], known=True, claimed=True, permitted=True, link=LINKS[0], announced=True, guarded=True)


@pytest.mark.parametrize(("left_s", "due"), [(60.0, False), (40.0, False), (39.9, True), (0.0, True), (-5.0, True), (None, True)])
def test_an_address_is_refreshed_when_a_third_of_its_life_has_passed(left_s, due):
    expected = (Refresh(vip=VIPS[0], link=LINKS[0]),) if due else ()
    assert act(WANTED, (bound(VIPS[0], left_s=left_s),)) == expected


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"permitted": False}, "no permit"),
        ({"permitted": False, "known": False}, "no permit"),
        ({"claimed": False}, "no claimant"),
        ({"eligible": False}, "no local endpoint"),
    ],
)
def test_a_let_go_says_why(fields, reason):
    (action,) = act(msgspec.structs.replace(WANTED, **fields), (bound(VIPS[0]),))
    assert isinstance(action, LetGo)
    assert action.reason == reason


def test_a_duplicate_is_let_go_of_and_not_bound_at_once_again():
    (gone,) = act(msgspec.structs.replace(WANTED, vip=VIPS[1]), (bound(VIPS[1], flags=DADFAILED),))
    assert isinstance(gone, LetGo)
    assert gone.reason == DUPLICATE


def test_a_tentative_address_is_not_announced_before_the_kernel_uses_it():
    wanted = msgspec.structs.replace(WANTED, vip=VIPS[1], announced=False)
    assert act(wanted, (bound(VIPS[1], flags=TENTATIVE),)) == ()
    assert act(wanted, (bound(VIPS[1]),)) == (Announce(vip=VIPS[1], link=LINKS[0]),)


@pytest.mark.parametrize("dad", [False, True])
def test_duplicate_address_detection_is_asked_for_with_the_bind(dad):
    wanted = msgspec.structs.replace(WANTED, vip=VIPS[1], announced=False, guarded=False, dad=dad)
    assert act(wanted, ()) == (Take(vip=VIPS[1], link=LINKS[0], dad=dad),)


@pytest.mark.parametrize("place", [{"index": 3}, {"prefix": 24}])
def test_a_wrongly_bound_vip_is_bound_anew(place):
    gone, taken = act(WANTED, (bound(VIPS[0], **place),))
    assert isinstance(gone, LetGo)
    assert taken == Take(vip=VIPS[0], link=LINKS[0])


def test_an_unmarked_twin_makes_ours_go_and_is_reported():
    ours, theirs = bound(VIPS[0]), bound(VIPS[0], index=3, marked=False)
    gone, conflict = act(WANTED, (ours, theirs))
    assert isinstance(gone, LetGo)
    assert gone.address == ours.address
    assert conflict == Conflict(vip=VIPS[0], address=theirs.address)


def test_without_its_nic_a_vip_is_neither_bound_nor_let_go_of():
    wanted = msgspec.structs.replace(WANTED, link=None)
    assert act(wanted, ()) == (Hush(vip=VIPS[0]),)
    assert act(wanted, (bound(VIPS[0]),)) == ()


def test_what_is_bound_but_not_announced_is_announced():
    wanted = msgspec.structs.replace(WANTED, announced=False)
    assert act(wanted, (bound(VIPS[0]),)) == (Announce(vip=VIPS[0], link=LINKS[0]),)


def test_what_lost_its_mark_is_no_longer_announced():
    wanted = msgspec.structs.replace(WANTED, claimed=False, guarded=False)
    assert act(wanted, (bound(VIPS[0], marked=False),)) == (Hush(vip=VIPS[0]),)


SILENT = msgspec.structs.replace(WANTED, announced=False, admitted=False)


def test_what_a_former_daemon_left_is_adopted_once_it_is_ours_again():
    assert act(SILENT, (bound(VIPS[0]),)) == (Adopt(vip=VIPS[0], link=LINKS[0]),)


def test_g1_what_a_former_daemon_left_is_adopted_only_when_nobody_else_has_it():
    """A holder that was no kvip may have had it since, and been killed: its kernel answers still."""
    asked = msgspec.structs.replace(SILENT, unprobed=True)
    assert act(asked, (bound(VIPS[0]),)) == (Probe(vip=VIPS[0], link=LINKS[0]),)
    assert act(asked, (bound(VIPS[0], left_s=10.0),)) == (Probe(vip=VIPS[0], link=LINKS[0]), Refresh(vip=VIPS[0], link=LINKS[0]))
    (gone,) = act(msgspec.structs.replace(asked, contested=True), (bound(VIPS[0]),))
    assert (type(gone), gone.reason) == (LetGo, TAKEN)


@pytest.mark.parametrize("known", [True, False])
def test_i5_a_silent_address_stays_while_it_may_yet_be_ours(known):
    wanted = msgspec.structs.replace(SILENT, permitted=False, waiting=True, known=known)
    assert act(wanted, (bound(VIPS[0]),)) == ()
    (gone,) = act(msgspec.structs.replace(wanted, waiting=False), (bound(VIPS[0]),))
    assert gone.reason == "no permit"
    (gone,) = act(msgspec.structs.replace(wanted, admitted=True), (bound(VIPS[0]),))
    assert gone.reason == "no permit"


def test_a_silent_address_that_nobody_claims_goes_without_a_permit_to_wait_for():
    wanted = msgspec.structs.replace(SILENT, permitted=False, waiting=True, claimed=False)
    (gone,) = act(wanted, (bound(VIPS[0]),))
    assert gone.reason == "no claimant"


def test_an_address_of_no_known_holder_is_probed_before_it_is_bound():
    fresh = msgspec.structs.replace(WANTED, announced=False, guarded=False)
    assert act(msgspec.structs.replace(fresh, unprobed=True), ()) == (Probe(vip=VIPS[0], link=LINKS[0]),)
    assert act(msgspec.structs.replace(fresh, contested=True), ()) == ()
    assert act(fresh, ()) == (Take(vip=VIPS[0], link=LINKS[0]),)


def test_a_contested_address_that_is_held_stays():
    assert act(msgspec.structs.replace(WANTED, contested=True, unprobed=True), (bound(VIPS[0]),)) == ()
