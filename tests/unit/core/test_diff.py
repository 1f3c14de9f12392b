"""The planner against every state of one VIP, applied to a model of the kernel."""

from itertools import combinations, product

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from kvip.core.diff import DADFAILED, DUPLICATE, Adopt, Announce, Conflict, Hush, LetGo, Probe, Refresh, Take, Wanted
from kvip.core.model import host_prefix
from tests.unit.core.planning import LIFETIME_S, LINKS, VIPS, act, bound

# Few draws of many values each: what a draw costs is most of what an example does.
NAMES = ("known", "claimed", "permitted", "announced", "admitted", "guarded", "unprobed", "contested")
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


@settings(deadline=None, database=None)
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


@settings(deadline=None, database=None)
@given(cases())
def test_an_unmarked_address_is_never_let_go_of(case):
    wanted, there = case
    assert all(action.address.marked for action in act(wanted, there) if isinstance(action, LetGo))


@settings(deadline=None, database=None)
@given(cases())
def test_unknown_desire_withdraws_nothing_while_permitted(case):
    wanted, there = case
    actions = act(msgspec.structs.replace(wanted, known=False, permitted=True), there)
    held = any(b.address.marked for b in there)
    assert actions == ((Hush(vip=wanted.vip),) if (wanted.announced or wanted.guarded) and not held else ())


@settings(deadline=None, database=None)
@given(cases())
def test_without_a_permit_everything_marked_is_let_go_of_whatever_is_known(case):
    wanted, there = case
    actions = [a for a in act(msgspec.structs.replace(wanted, permitted=False), there) if not isinstance(a, Hush)]
    assert [a.address for a in actions] == [b.address for b in there if b.address.marked]
    assert all(isinstance(a, LetGo) for a in actions)


def unborn(wanted):
    """Not to be bound yet: the segment was not asked, or somebody answered."""
    return wanted.unprobed or wanted.contested


@settings(max_examples=3 * settings.default.max_examples, deadline=None, database=None)
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
    if (
        not wanted.permitted
        or (wanted.permitted and decided and not (wanted.claimed and wanted.eligible))
        or (wanted.known and not wanted.claimed)
    ):
        assert mine == []
    elif wanted.permitted and decided and wanted.link is not None and all(b.address.marked for b in there) and (mine or not unborn(wanted)):
        assert [(b.address.index, b.address.prefix_len, b.address.flags) for b in mine] == [(wanted.link.index, host_prefix(wanted.vip), 0)]


@settings(deadline=None, database=None)
@given(cases())
def test_let_gos_come_first(case):
    kinds = [isinstance(action, LetGo) for action in act(*case)]
    assert kinds == sorted(kinds, reverse=True)
