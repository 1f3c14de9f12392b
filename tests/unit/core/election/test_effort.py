"""What a node spends on its decisions: alike VIPs are ranked once, known records are not read again, and one step has an end."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvip.core.election import claims, placement, records
from kvip.core.election.placement import ALIKE, Leaning, Turns, lean
from kvip.core.election.state import look_again
from tests.unit.core.election.simulation import settled

NODES = ("a", "b", "c", "d")
SOME = st.frozensets(st.sampled_from(NODES))
LEANINGS = st.builds(Leaning, fit=st.none() | SOME, tiers=st.lists(SOME, max_size=2).map(tuple))
VIPS = st.sampled_from(["192.0.2.1", "192.0.2.2", "192.0.2.3"])
QUESTIONS = st.lists(st.tuples(VIPS, LEANINGS, st.sampled_from(["", *NODES])), max_size=12)


@given(st.permutations(NODES), st.dictionaries(st.sampled_from(NODES), st.frozensets(VIPS)), QUESTIONS)
def test_t5_what_is_remembered_is_what_would_be_found_anew(order, refused, questions):
    turns = Turns(order, refused)
    for vip, leaning, former in questions:
        willing = [node for node in order if vip not in refused.get(node, ())]
        assert turns.of(vip, leaning, former=former) == lean(willing, leaning, former=former)


class Counting:
    """A function, and how often it was called."""

    def __init__(self, function):
        self.function = function
        self.calls = 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return self.function(*args, **kwargs)


def rankings(vips, monkeypatch):
    """How often candidates are ranked in one look at every record, with so many VIPs in 4 records."""
    world, _, b, _ = settled("a", "b", "c", vips=vips)
    counting = Counting(lean)
    monkeypatch.setattr(placement, "lean", counting)
    step = claims.step(look_again(b.state), b.now())
    monkeypatch.undo()
    assert step.wake_at > b.now()
    assert sum(len(slot.wanted) for slot in b.state.slots.values()) == vips == len(world.vips)
    return counting.calls


def test_vips_that_are_alike_are_ranked_once_for_each_record(monkeypatch):
    assert 0 < rankings(20, monkeypatch) == rankings(200, monkeypatch) <= 4


@pytest.fixture
def standby():
    _, _, b = settled("a", "b", vips=40)
    return b


def decided(before, after):
    """The records that were decided about in between."""
    return {number for number, slot in after.slots.items() if slot.look_at != before.slots[number].look_at}


def test_one_step_decides_about_so_many_vips_and_the_next_goes_on_at_once(standby, monkeypatch):
    monkeypatch.setattr(claims, "VIPS_PER_STEP", 1)
    state, now = look_again(standby.state), standby.now()
    seen = []
    for _ in range(4):
        step = claims.step(state, now)
        seen.append(decided(state, step.state))
        assert (step.wake_at <= now) == (len(seen) < 4)
        state = step.state
    assert seen == [{0}, {1}, {2}, {3}]


def test_what_was_left_comes_first_though_everything_is_due_again(standby, monkeypatch):
    monkeypatch.setattr(claims, "VIPS_PER_STEP", 1)
    now, seen = standby.now(), []
    state = standby.state
    for _ in range(4):
        state = look_again(state)
        step = claims.step(state, now)
        seen.append(decided(state, step.state))
        state = step.state
    assert seen == [{0}, {1}, {2}, {3}]


def test_the_outcome_is_the_same_in_one_step_and_in_many(standby, monkeypatch):
    whole = claims.step(look_again(standby.state), standby.now())
    monkeypatch.setattr(claims, "VIPS_PER_STEP", 1)
    parts = claims.step(look_again(standby.state), standby.now())
    while parts.wake_at <= standby.now():
        parts = claims.step(parts.state, standby.now())
    assert parts.state.slots == whole.state.slots
    assert parts.wake_at == whole.wake_at


def test_a_record_that_is_known_already_is_not_read_again(standby, monkeypatch):
    name = records.name_of(0)
    lease = standby.world.server.leases[name]
    counting = Counting(records.parse)
    monkeypatch.setattr(records, "parse", counting)
    claims.watched(standby.state, name, lease, now=standby.now())
    assert counting.calls == 0


def test_demand_for_many_vips_makes_each_record_anew_once(standby):
    wants = {vip: one.want for slot in standby.state.slots.values() for vip, one in slot.wanted.items()}
    unable = {vip: claims.Want(asked=True, able=False, leaning=ALIKE) for vip in wants}
    at_once = claims.demanded(standby.state, unable, now=standby.now())
    one_by_one = standby.state
    for vip, want in unable.items():
        one_by_one = claims.demanded(one_by_one, {vip: want}, now=standby.now())
    assert at_once.slots == one_by_one.slots
    assert claims.demanded(at_once, unable, now=standby.now()) is at_once


@pytest.fixture
def holder():
    """It has bound nothing so far, as far as it was told."""
    _, a, _ = settled("a", "b", vips=40)
    unbound = {vip: msgspec.structs.replace(one.want, held=False) for slot in a.state.slots.values() for vip, one in slot.wanted.items()}
    a.state = claims.step(claims.demanded(a.state, unbound, now=a.now()), a.now()).state
    return a


def bound(state, **further):
    return {
        vip: msgspec.structs.replace(one.want, held=True, **further) for slot in state.slots.values() for vip, one in slot.wanted.items()
    }


def test_nothing_is_decided_anew_when_what_is_held_is_bound_and_its_record_says_so(holder):
    after = claims.demanded(holder.state, bound(holder.state), now=holder.now())
    assert {one.want.held for slot in after.slots.values() for one in slot.wanted.values()} == {True}
    assert decided(holder.state, after) == set()


@pytest.mark.parametrize("news", ["it is to go", "its record says that it was never bound", "it is leaving", "another holds it"])
def test_all_else_is_news(holder, news):
    state, further = holder.state, {}
    vip, number = next((vip, number) for number, slot in state.slots.items() for vip in slot.wanted)
    slot = state.slots[number]
    if news == "it is to go":
        further = {"able": False}
    elif news == "it is leaving":
        slot = msgspec.structs.replace(slot, leaving=frozenset({vip}))
    elif news == "another holds it":
        slot = msgspec.structs.replace(slot, record=msgspec.structs.replace(slot.record, holder={**slot.record.holder, vip: "b_1"}))
    else:
        slot = msgspec.structs.replace(slot, record=msgspec.structs.replace(slot.record, noted=frozenset({vip})))
    state = msgspec.structs.replace(state, slots={**state.slots, number: slot})
    after = claims.demanded(state, {vip: bound(state, **further)[vip]}, now=holder.now())
    assert decided(state, after) == {number}
