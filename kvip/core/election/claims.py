"""One node's part in mode `claims`: what it learns, and the one function that says what to do.

Input: a `State`, messages and answers, demand, the time. Output: the next `State`, requests to make, a fence to carry out. The same code
runs in the daemon and in the simulation; it must not do I/O, nor read a clock, nor draw a random number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zlib import crc32

import msgspec

from kvip.core.election import lease as shared
from kvip.core.election import placement, records, renewal, taking
from kvip.core.election.heartbeat import LABELS, About
from kvip.core.election.learn import answers_ahead, confirm, learn, learn_all, version_of
from kvip.core.election.learn import watched as watched
from kvip.core.election.lease import Timers
from kvip.core.election.records import number_of
from kvip.core.election.state import (
    ALL,
    NEVER,
    Op,
    Slot,
    State,
    Want,
    Wanted,
    attempt_s,
    free_to_send,
    fresh,
    look_again,
    own_name,
    permitted,
    replace,
    valid,
    valid_until,
)
from kvip.core.model import Incarnation, Vip
from kvip.core.objects import Lease

NOTHING = About()
FIRST_PAUSE_S = 0.1
REFUSED_PAUSE_S = 0.02
SHARED_POLL_S = 10.0
STALE_PERIODS = 1.5
"""The view is renewed by a list when no write of one's own was seen in the watch for so many retry periods."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a request. `status` 0 with `ok` False = no answer: it may have been carried out, now or later."""

    ok: bool
    lease: Lease | None = None
    """What was read or written; None after a read = there is none."""
    leases: Sequence[Lease] = ()
    version: str = ""
    """resourceVersion of a list."""
    status: int = 0
    terminating: bool = False
    """403: the namespace is being deleted."""
    retry_after_s: float = 0.0


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
) -> State:
    """A node that knows nothing yet. `count`: how many records there are to be if nobody decided that before.

    `shared_name`: the Lease of mode `global`, "" = there can be none.
    """
    return State(node=node, incarnation=incarnation, timers=timers, configured_count=count, about=about, shared_name=shared_name)


def step(state: State, now: float, *, stuck: bool = False) -> Step:
    """Decide. `stuck`: this node cannot act on its permits at present (PROTOCOL R5)."""
    if state.renewed_until is not None:
        reason = state.lost or ("" if valid(state, now) else _why_invalid(state))
        if reason:
            return Step(state=state, fence=reason)
    ops: list[Op] = []
    wakes = [NEVER]
    state, wake_at = _look(state, now, ops)
    wakes.append(wake_at)
    state, op, wake_at = renewal.plan(state, now, stuck=stuck)
    wakes.append(wake_at)
    if op is not None:
        state = _under_way(state, op, ops)
    until = valid_until(state)
    if until is not None:
        wakes.append(until)
        state, wake_at = _claim(state, now, ops)
        wakes.append(wake_at)
    return Step(state=state, ops=tuple(ops), wake_at=min(wakes))


def fenced(state: State, incarnation: Incarnation) -> State:
    """Everything was withdrawn: a new life begins, and the old one is over for good."""
    slots = {number: replace(slot, leaving=frozenset(), settled=frozenset(), doubted=frozenset()) for number, slot in state.slots.items()}
    return look_again(
        replace(
            state,
            incarnation=incarnation,
            retired=state.retired | {str(state.incarnation)},
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


def trust(state: State, incarnation: Incarnation) -> State:
    """A predecessor on this node that is known to be dead (PROTOCOL R7)."""
    return look_again(replace(state, retired=state.retired | {str(incarnation)}))


def demanded(state: State, wants: Mapping[Vip, Want], *, now: float) -> State:
    """What `Demand` says of these VIPs. Before the number of records is known nothing can be placed: tell again then."""
    if state.count is None:
        return state
    touched: dict[int, Slot] = {}
    for vip, want in wants.items():
        number = number_of(vip, state.count)
        slot = touched.get(number) or state.slots[number]
        known = slot.wanted.get(vip)
        if known is not None and known.want == want:
            continue
        wanted = dict(slot.wanted)
        mine = slot.record is not None and slot.record.holder.get(vip) == state.incarnation
        if want.asked or mine or want.able is None:
            since = known.since if known is not None and known.want.able is True else now
            wanted[vip] = Wanted(want=want, since=since)
        else:
            wanted.pop(vip, None)
        touched[number] = replace(slot, wanted=wanted)
    return look_again(state, touched) if touched else state


def refused(state: State, vips: frozenset[Vip], *, now: float) -> State:
    """These VIPs could not be bound here: they are left to others for a while."""
    refusals = placement.forgive(state.refusals, now=now)
    for vip in vips:
        refusals[vip] = placement.refuse(refusals.get(vip), now=now)
    published = tuple(sorted(placement.refusing(refusals, now=now)))
    return look_again(replace(state, refusals=refusals, about=msgspec.structs.replace(state.about, refuses=published)))


def described(state: State, about: About) -> State:
    """What this node says of itself changed; refusals and the shared Lease are the election's own to say."""
    about = msgspec.structs.replace(about, refuses=state.about.refuses, shared_dead=state.about.shared_dead)
    return state if about == state.about else look_again(replace(state, about=about))


def answered(state: State, op: Op, answer: Answer, *, now: float) -> State:
    """Take in what came of a request. An answer to a former incarnation teaches, but renews nothing."""
    state = replace(state, flights={name: flight for name, flight in state.flights.items() if flight is not op})
    current = op.incarnation == state.incarnation
    if not answer.ok:
        return _look_on(_failed(state, op, answer, now=now, current=current), op)
    if op.name in state.pauses:
        state = replace(state, pauses={name: pause for name, pause in state.pauses.items() if name != op.name})
    if op.kind == "list":
        after = learn_all(state, answer.leases, version=answer.version, known=op.known, sent_at=op.sent_at, now=now)
        return answers_ahead(state, after, [lease.metadata.name for lease in answer.leases], now=now)
    if op.kind == "read":
        after = learn(state, op.name, answer.lease, now=now, asked=op.known, sent_at=op.sent_at)
        if op.name in after.ahead:
            absent = not version_of(after, op.name)
            after = replace(
                after, ahead={name: now if name == op.name else at for name, at in after.ahead.items() if name != op.name or not absent}
            )
        return _look_on(answers_ahead(state, after, (op.name,), now=now), op)
    before, state = state, learn(state, op.name, answer.lease, now=now) if answer.lease is not None else state
    state = answers_ahead(before, state, (op.name,), now=now)
    if op.purpose == "renew" and current:
        state = confirm(state, sequence=op.sequence, sent_at=op.sent_at, now=now)
    if op.purpose == "kill":
        state = replace(state, dead=state.dead | {_victim(op)})
    return _look_on(state, op)


def _look_on(state: State, op: Op) -> State:
    """Decide again about what may have waited for this request."""
    if op.purpose == "renew" or op.kind == "list":
        return state
    number = records.number_in(op.name)
    return look_again(state) if number is None else look_again(state, {n: state.slots[n] for n in (number,) if n in state.slots})


def permits(state: State) -> frozenset[Vip]:
    """Every VIP that this node may hold while it is valid."""
    return frozenset[Vip]().union(*(permitted(state, slot) for slot in state.slots.values()))


def blocked(state: State, now: float) -> str:
    """Why nothing is taken although this node is alive: a holder of another mode; "" = nothing in the way (PROTOCOL G5)."""
    if not state.shared_name or state.shared is None:
        return ""
    free_at = shared.free_at(state.shared)
    view = state.shared.view
    if free_at is None or free_at <= now or view is None or view.version in (state.shared_dead, state.about.shared_dead):
        return ""
    return f"Lease {state.shared_name} is held by {view.holder or 'somebody until just now'}; nothing is taken beside another mode"


def _why_invalid(state: State) -> str:
    assert state.renewed_until is not None
    stale = state.fresh_at is not None and state.fresh_at + state.timers.renew_deadline_s < state.renewed_until
    return "the Leases cannot be seen" if stale else "renew deadline"


def _look(state: State, now: float, ops: list[Op]) -> tuple[State, float]:
    """Reads that keep the view complete: a list when it is not recent, and of what is to be confirmed."""
    timers = state.timers
    wake_at = NEVER
    due = now if state.fresh_at is None or state.synced_at is None else state.fresh_at + STALE_PERIODS * timers.retry_period_s
    ready_at = free_to_send(state, ALL, now)
    if ready_at is not None:
        if max(due, ready_at) <= now:
            versions = [version_of(state, own_name(state)), *(m.beat.version for m in state.members.values() if m.beat is not None)]
            versions += [slot.record.version for slot in state.slots.values() if slot.record is not None]
            known = max((version for version in versions if version.isdecimal()), key=int, default="")
            state = _under_way(state, _read(state, "list", ALL, known, now), ops)
        else:
            wake_at = max(due, ready_at)
    names = sorted(state.verify)
    if not state.count_stored and state.synced_at is not None:
        state, again = _settle_count(state, now, ops)
        wake_at = min(wake_at, again)
    for name in names:
        ready_at = free_to_send(state, name, now)
        if ready_at is None:
            continue
        if ready_at <= now:
            state = _under_way(state, _read(state, "read", name, version_of(state, name), now), ops)
        else:
            wake_at = min(wake_at, ready_at)
    if state.shared_name and valid(state, now):
        state, again = _look_at_shared(_publish_shared(state, now), now, ops)
        wake_at = min(wake_at, again)
    return state, wake_at


def _settle_count(state: State, now: float, ops: list[Op]) -> tuple[State, float]:
    """`kvip-cluster` does not say how many records there are: it is written once, and who comes second reads what the first one said."""
    ready_at = free_to_send(state, records.CLUSTER, now)
    if ready_at is None or ready_at > now:
        return state, ready_at or NEVER
    found = state.cluster
    version, uid = (found.resource_version, found.uid) if found is not None else ("", "")
    if state.pauses.get(records.CLUSTER):
        return _under_way(state, _read(state, "read", records.CLUSTER, version, now), ops), NEVER
    spec, notes = records.cluster(state.count or state.configured_count)
    op = msgspec.structs.replace(_read(state, "write", records.CLUSTER, version, now), purpose="count", version=version, uid=uid)
    return _under_way(state, msgspec.structs.replace(op, spec=spec, annotations=notes, labels=dict(LABELS)), ops), NEVER


def _publish_shared(state: State, now: float) -> State:
    """Spare the nodes that start later the wait for a holder that is dead already."""
    view = state.shared.view if state.shared is not None else None
    if view is None or not view.holder or blocked(state, now) or view.version == state.about.shared_dead:
        return state
    return replace(state, about=msgspec.structs.replace(state.about, shared_dead=view.version))


def _look_at_shared(state: State, now: float, ops: list[Op]) -> tuple[State, float]:
    urgent = state.shared_for != state.incarnation
    period_s = state.timers.retry_period_s if blocked(state, now) else SHARED_POLL_S
    due = now if urgent else state.shared_at + period_s
    ready_at = free_to_send(state, state.shared_name, now)
    if ready_at is None or max(due, ready_at) > now:
        return state, NEVER if ready_at is None else max(due, ready_at)
    view = state.shared.view if state.shared is not None else None
    return _under_way(state, _read(state, "read", state.shared_name, view.version if view is not None else "", now), ops), NEVER


def _claim(state: State, now: float, ops: list[Op]) -> tuple[State, float]:
    """Decide about each record that is due."""
    wake_at = NEVER
    due = [number for number, slot in state.slots.items() if slot.look_at <= now]
    free = not state.shared_name or (state.shared_for == state.incarnation and not blocked(state, now))
    may_take = free and fresh(state, now) and state.about.eligible and now >= state.not_before and state.synced_at is not None
    scene = taking.scene(state, now, may_take=may_take) if due else None
    for number in due:
        assert scene is not None
        choice = taking.decide(state, number, scene, now)
        state = choice.state
        ops += choice.ops
        again = choice.look_at
        if now < state.not_before:
            again = min(again, state.not_before)
        state = replace(state, slots={**state.slots, number: replace(state.slots[number], look_at=again)})
    wake_at = min((slot.look_at for slot in state.slots.values()), default=NEVER)
    return state, wake_at


def _read(state: State, kind: str, name: str, known: str, now: float) -> Op:
    return Op(
        kind=kind,  # type: ignore[arg-type]
        name=name,
        incarnation=state.incarnation,
        sent_at=now,
        deadline_s=attempt_s(state, now),
        known=known,
    )


def _under_way(state: State, op: Op, ops: list[Op]) -> State:
    ops.append(op)
    return replace(state, flights={**state.flights, op.name: op})


def _failed(state: State, op: Op, answer: Answer, *, now: float, current: bool) -> State:
    """A write that was refused may have been overtaken by one of our own whose answer was lost: a read tells."""
    failures = state.pauses.get(op.name, (0, 0.0))[0] + 1
    refused = op.kind == "write" and answer.status in (404, 409)
    pause_s = REFUSED_PAUSE_S if refused else min(state.timers.retry_period_s, FIRST_PAUSE_S * 2 ** min(failures - 1, 10))
    pause_s = max(pause_s, min(answer.retry_after_s, state.timers.retry_period_s))
    spread = 0.8 + 0.4 * (crc32(f"{state.incarnation} {op.name} {failures}".encode()) / 2**32)
    state = replace(state, pauses={**state.pauses, op.name: (failures, now + pause_s * spread)})
    if refused and op.name != records.CLUSTER:
        state = replace(state, verify=state.verify | {op.name})
    mine = op.name == own_name(state) and current and state.renewed_until is not None
    if mine and answer.terminating:
        return replace(state, lost="the namespace is being deleted")
    if mine and op.kind == "read" and op.name in state.verify:
        return replace(state, lost="heartbeat changed by another")
    return state


def _victim(op: Op) -> str:
    return op.annotations["kvip.io/ended"].split(" ")[0]
