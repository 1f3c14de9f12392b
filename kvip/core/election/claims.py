"""One node's part in mode `claims`: what it learns, and the one function that says what to do.

Input: a `State`, messages and answers, demand, the time. Output: the next `State`, requests to make, a fence to carry out. The same code
runs in the daemon and in the simulation; it must not do I/O, nor read a clock, nor draw a random number.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from kvip.core.election import placement, rebalancing, records, renewal, taking
from kvip.core.election.answers import Answer as Answer
from kvip.core.election.answers import answered as answered
from kvip.core.election.heartbeat import About
from kvip.core.election.learn import bridged as bridged
from kvip.core.election.learn import watched as watched
from kvip.core.election.lease import Timers
from kvip.core.election.looking import blocked as blocked
from kvip.core.election.looking import look, opens_at, under_way
from kvip.core.election.records import number_of
from kvip.core.election.state import (
    NEVER,
    Op,
    Slot,
    State,
    Want,
    Wanted,
    fresh,
    look_again,
    matters,
    permitted,
    remembering,
    replace,
    valid,
    valid_until,
)
from kvip.core.model import Incarnation, Vip

NOTHING = About()
VIPS_PER_STEP = 1_000
"""Records are decided about until they have so many VIPs; what is due beyond that is left to the next step, which is due at once."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What to do now, and when to ask again at the latest. With a `fence` there is nothing else to do first."""

    state: State
    ops: tuple[Op, ...] = ()
    fence: str = ""
    wake_at: float = NEVER


def start(
    node: str,
    incarnation: Incarnation,
    timers: Timers,
    *,
    count: int = records.DEFAULT_COUNT,
    about: About = NOTHING,
    shared_name: str = "",
    rebalance: bool = False,
) -> State:
    """A node that knows nothing yet. `count`: how many records there are to be if nobody decided that before.

    `shared_name`: the Lease of mode `global`, "" = there can be none. `rebalance`: see `rebalancing`.
    """
    return State(
        node=node,
        incarnation=incarnation,
        timers=timers,
        configured_count=count,
        about=about,
        shared_name=shared_name,
        rebalance=rebalance,
    )


def step(state: State, now: float, *, stuck: bool = False) -> Step:
    """Decide. `stuck`: this node cannot act on its permits at present (PROTOCOL R5)."""
    if state.renewed_until is not None:
        reason = state.lost or ("" if valid(state, now) else _why_invalid(state))
        if reason:
            return Step(state=state, fence=reason)
    state = _forgiven(state, now)
    ops: list[Op] = []
    wakes = [NEVER]
    state, wake_at = look(state, now, ops)
    wakes.append(wake_at)
    state, op, wake_at = renewal.plan(state, now, stuck=stuck)
    wakes.append(wake_at)
    if op is not None:
        state = under_way(state, op, ops)
    until = valid_until(state)
    if until is not None:
        wakes.append(until)
        state, wake_at = _claim(state, now, ops)
        wakes.append(wake_at)
    return Step(state=state, ops=tuple(ops), wake_at=min(wakes))


def fenced(state: State, incarnation: Incarnation) -> State:
    """Everything was withdrawn: a new life begins, and the old one is over for good."""
    slots = {
        number: replace(slot, leaving=frozenset(), settled=frozenset(), moving={}, doubted=frozenset())
        for number, slot in state.slots.items()
    }
    return look_again(
        replace(
            state,
            incarnation=incarnation,
            retired=remembering(state, state.retired, state.incarnation),
            renewed_until=None,
            renewed_at=float("-inf"),
            valid_since=NEVER,
            sent={},
            confirmed_sequence=0,
            lost="",
            slots=slots,
            flights={},
            pauses={},
        )
    )


def trust(state: State, incarnation: Incarnation, *, lately: bool = False) -> State:
    """A predecessor on this node that is known to be dead (PROTOCOL R7). `lately`: what it bound was still there."""
    met = remembering(state, state.met, incarnation) if lately else state.met
    return look_again(replace(state, retired=remembering(state, state.retired, incarnation), met=met))


def demanded(state: State, wants: Mapping[Vip, Want], *, now: float) -> State:
    """What `Demand` says of these VIPs. Before the number of records is known nothing can be placed: tell again then."""
    if state.count is None:
        return state
    touched: dict[int, dict[Vip, Wanted]] = {}
    news: set[int] = set()
    for vip, want in wants.items():
        number = number_of(vip, state.count)
        slot = state.slots[number]
        known = touched.get(number, slot.wanted).get(vip)
        if known is not None and known.want == want:
            continue
        wanted = touched.get(number)
        if wanted is None:
            wanted = touched[number] = dict(slot.wanted)
        mine = slot.record is not None and slot.record.holder.get(vip) == state.incarnation
        if known is None or not _is_only_bound(slot, vip, known.want, want, mine=mine):
            news.add(number)
        if matters(want, mine=mine):
            since = known.since if known is not None and known.want.able is True else now
            wanted[vip] = Wanted(want=want, since=since)
        else:
            wanted.pop(vip, None)
    if not touched:
        return state
    slots = {number: replace(state.slots[number], wanted=wanted) for number, wanted in touched.items()}
    state = replace(state, slots={**state.slots, **slots})
    return look_again(state, {number: slots[number] for number in news}) if news else state


def _is_only_bound(slot: Slot, vip: Vip, before: Want, now: Want, *, mine: bool) -> bool:
    """Was a VIP that is this node's and stays so bound here, and its record says so already? Then there is nothing to decide: the VIPs of a
    crowd are bound some at a time, each time some of every record."""
    said = slot.record is not None and slot.record.proves(vip)
    bound = msgspec.structs.replace(before, held=True, unconfirmed=False)
    return mine and said and vip not in slot.leaving and not now.unasked and now == bound


def refused(state: State, vips: frozenset[Vip], *, now: float) -> State:
    """These VIPs could not be bound here: they are left to others for a while."""
    refusals = placement.forgive(state.refusals, now=now)
    for vip in vips:
        refusals[vip] = placement.refuse(refusals.get(vip), now=now)
    return look_again(_forgiven(replace(state, refusals=refusals), now))


def _forgiven(state: State, now: float) -> State:
    """Publish what is refused now, and no longer what was."""
    if not state.refusals:
        return state
    published = tuple(sorted(placement.refusing(state.refusals, now=now)))
    if published == state.about.refuses:
        return state
    return replace(state, about=msgspec.structs.replace(state.about, refuses=published))


def described(state: State, about: About) -> State:
    """What this node says of itself changed; refusals and the shared Lease are the election's own to say."""
    about = msgspec.structs.replace(about, refuses=state.about.refuses, shared_dead=state.about.shared_dead)
    return state if about == state.about else look_again(replace(state, about=about))


def permits(state: State) -> frozenset[Vip]:
    """Every VIP that this node may hold while it is valid."""
    return frozenset[Vip]().union(*(permitted(state, slot) for slot in state.slots.values()))


def _why_invalid(state: State) -> str:
    assert state.renewed_until is not None
    stale = state.fresh_at is not None and state.fresh_at + state.timers.renew_deadline_s < state.renewed_until
    return "the Leases cannot be seen" if stale else "renew deadline"


def _claim(state: State, now: float, ops: list[Op]) -> tuple[State, float]:
    """Decide about each record that is due."""
    wake_at = NEVER
    free = not state.shared_name or (state.shared_for == state.incarnation and not blocked(state))
    may_take = free and fresh(state, now) and state.about.eligible and now >= state.not_before and state.synced_at is not None
    if rebalancing.due(state, now):
        state = rebalancing.plan(state, taking.scene(state, now, may_take=may_take), now)
    due = [number for number, slot in state.slots.items() if slot.look_at <= now]
    due.sort(key=lambda number: (number < state.go_on_at, number))
    scene = taking.scene(state, now, may_take=may_take) if due else None
    left = VIPS_PER_STEP
    for number in due:
        assert scene is not None
        if left <= 0:
            state = replace(state, go_on_at=number)
            break
        left -= len(state.slots[number].wanted)
        choice = taking.decide(state, number, scene, now)
        state = choice.state
        ops += choice.ops
        again = choice.look_at
        if now < opens_at(state):
            again = min(again, opens_at(state))
        state = replace(state, slots={**state.slots, number: replace(state.slots[number], look_at=again)})
    wake_at = min((slot.look_at for slot in state.slots.values()), default=NEVER)
    return state, min(wake_at, rebalancing.next_at(state))
