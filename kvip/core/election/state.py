"""All that one node knows and has under way in mode `claims`, and what follows from it at once: validity, freshness, permits.

Frozen data; times are this node's CLOCK_BOOTTIME seconds. It must not do I/O, nor read a clock.

Over 300 lines: the data of one mode with what each field means; nothing of it decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from kvip.core.election import heartbeat
from kvip.core.election.heartbeat import About
from kvip.core.election.lease import Election, Timers
from kvip.core.election.members import Member
from kvip.core.election.placement import ALIKE, Leaning, Refusal
from kvip.core.election.records import Record
from kvip.core.model import Incarnation, Vip
from kvip.core.objects import LeaseSpec, ObjectMeta

replace = msgspec.structs.replace
NEVER = float("inf")
KEPT_UNNAMED = 64
"""So many of the latest incarnations that are over are remembered though no Lease names them: a late write may still bring one back."""
ALL = "*"
"""Stands for the name of a Lease in a list of all of them."""


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """What `Demand` says of a VIP."""

    asked: bool
    able: bool | None
    shown: bool = False
    held: bool = False
    """Here, or it may be."""
    unconfirmed: bool = False
    """The kernel has not said yet whether it is."""
    unasked: bool = False
    """Here the segment has to be asked for it, although a kvip held it before: it goes to another NIC, say."""
    leaning: Leaning = ALIKE


class Op(msgspec.Struct, frozen=True, kw_only=True):
    """One request to the API server. `sent_at` is the instant from which a renewal counts."""

    kind: Literal["list", "read", "write"]
    name: str
    incarnation: Incarnation
    sent_at: float
    deadline_s: float
    known: str = ""
    """The version known when it was sent: of the object, or for a list the highest of all."""
    purpose: Literal["learn", "renew", "kill", "claim", "count", "release"] = "learn"
    version: str = ""
    """Compare-and-swap on this version; "" = create."""
    uid: str = ""
    spec: LeaseSpec = LeaseSpec()
    annotations: dict[str, str] = {}
    labels: dict[str, str] = {}
    sequence: int = 0
    changes: int = 0
    """VIPs that this write adds or drops."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A VIP of a record as this node wants it, and since when it could be had."""

    want: Want
    since: float


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """One claim record, and what this node makes of it."""

    number: int
    record: Record | None = None
    free_from: float = 0.0
    """Nothing of it is free before this: it vanished, came anew or was changed by others, so it may hide who holds what (PROTOCOL T4)."""
    listed_since: dict[str, float] = {}
    """When each incarnation was first seen in this record: only a read after that tells whether it is over."""
    unseen_until: float = 0.0
    """The watch did not show it yet, so it may not have shown either what stood in its place before and was deleted: whoever held by that
    does not act any more after this (PROTOCOL T4). 0 = it has shown all."""
    seen: bool = False
    """The watch shows it by now; a snapshot in the place of the watch would not have told of another one before."""
    wanted: dict[Vip, Wanted] = {}
    leaving: frozenset[Vip] = frozenset()
    """Ours by the record, but no longer permitted: to be let go of, then written off."""
    settled: frozenset[Vip] = frozenset()
    """Ours, and this node was able to hold it: worth handing over by name."""
    moving: dict[Vip, str] = {}
    """Ours, and to be handed over to this node, so that all hold about as many (`rebalancing`)."""
    doubt_version: str = ""
    doubted: frozenset[Vip] = frozenset()
    """Written off upon `doubt_version`, outcome unknown: not permitted before the record moved on from there."""
    look_at: float = 0.0
    """When to decide about it again."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """One node. Made anew by each transition; what did not change is shared."""

    node: str
    timers: Timers
    incarnation: Incarnation
    about: About = About()
    configured_count: int
    count: int | None = None
    """Over how many records the VIPs are spread; None = not known yet."""
    count_stored: bool = False
    """Does `kvip-cluster` say so?"""
    cluster: ObjectMeta | None = None
    """`kvip-cluster` as last seen; None = there is none."""
    members: dict[str, Member] = {}
    slots: dict[int, Slot] = {}
    go_on_at: int = 0
    """The record to decide about first, after a step that left some to the next one."""
    dead: dict[str, None] = {}
    """Incarnations that can never act again, see `remembering`."""
    retired: dict[str, None] = {}
    """Former incarnations of this very daemon, or of a predecessor known to be dead, see `remembering`."""
    met: dict[str, None] = {}
    """Incarnations that this daemon saw renew their heartbeat, see `remembering`."""
    refusals: dict[Vip, Refusal] = {}
    longest_s: float = 0.0
    """The longest lease duration seen."""

    renewed_until: float | None = None
    renewed_at: float = float("-inf")
    valid_since: float = NEVER
    """When the first heartbeat of this incarnation was confirmed."""
    sequence: int = 0
    confirmed_sequence: int = 0
    sent: dict[int, float] = {}
    """When which of our latest heartbeats was sent."""
    fresh_at: float | None = None
    """As of when the view is known to be complete; None = never was."""
    fresh_since: float = 0.0
    """Since when it has been fresh without a gap."""
    fresh_next: float = float("-inf")
    """What `fresh_at` becomes once nothing is to be verified any more."""
    ahead: dict[str, float] = {}
    """Leases of which the watch did not show yet what answers did, and since when that is known."""
    shown: dict[str, str] = {}
    """By Lease: the version that the watch showed last, whether anything could be learnt of it by then or not."""
    synced_at: float | None = None
    followed: bool = False
    """Did the watch ever go on from a snapshot? Before that it shows nothing of what happens."""
    bridged_at: float = float("-inf")
    """When the view was last made whole by a snapshot in the place of the watch: what came and went before it was never seen."""
    listed_at: float = float("-inf")
    """The same by a list, as long as the watch was not seen to go on beyond it: then nothing was missed."""
    verify: frozenset[str] = frozenset()
    """Leases whose absence or change a consistent read must confirm."""
    not_before: float = 0.0
    """Nothing is taken before this: history was rewritten."""
    lost: str = ""
    """Why this node must fence."""

    shared_name: str = ""
    shared: Election | None = None
    shared_for: str = ""
    """For which incarnation of ours the shared Lease was read after its heartbeat was written."""
    shared_at: float = float("-inf")
    shared_read_at: float = float("-inf")
    """When the last read of it was sent that was answered: what it shows may be as old as that."""

    rebalance: bool = False
    """Are VIPs of a node that holds more than others to move to those?"""
    rebalance_at: float = 0.0
    """When to look for it next."""
    given: dict[Vip, float] = {}
    """When which VIP was given to another node for that."""

    flights: dict[str, Op] = {}
    pauses: dict[str, tuple[int, float]] = {}
    """By Lease: failures in a row, and when to try again."""


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for all records in one step."""

    alive: Mapping[str, str]
    """Node -> living incarnation, of those that may hold VIPs."""
    loads: Mapping[str, int]
    total: int
    may_take: bool
    """Is nothing known that forbids taking (another mode's holder, an unknown history)?"""
    refused: Mapping[str, frozenset[Vip]]
    """What those nodes say they could not bind, of the nodes that say so."""


def valid_until(state: State) -> float | None:
    """Until when this node may act: as long as its heartbeat and its view of all Leases are recent enough.

    The view counts because a record can vanish under a living holder: others wait out the holder's lease then, so the holder
    must have noticed by that time.
    """
    if state.renewed_until is None or state.fresh_at is None:
        return None
    return min(state.renewed_until, state.fresh_at + state.timers.renew_deadline_s)


def valid(state: State, now: float) -> bool:
    """May this node act now?"""
    until = valid_until(state)
    return until is not None and now < until


def fresh(state: State, now: float) -> bool:
    """Is what this node sees of the Leases recent (PROTOCOL T1)?"""
    return state.fresh_at is not None and now - state.fresh_at <= 2 * state.timers.retry_period_s


def permitted(state: State, slot: Slot) -> frozenset[Vip]:
    """The VIPs of a record that this node may hold while it is valid."""
    record = slot.record
    if record is None or state.renewed_until is None or slot.unseen_until:
        return frozenset()
    listed = frozenset(record.claims.get(state.incarnation, ()))
    if slot.doubted and record.version == slot.doubt_version:
        listed -= slot.doubted
    return listed - slot.leaving


def matters(want: Want, *, mine: bool) -> bool:
    """Is there anything to decide about this VIP? Not when nobody asks for it, for certain, and its record does not name us."""
    return want.asked or mine or want.able is None


def longest_s(state: State) -> float:
    """The longest lease duration that any holder may have."""
    return max(state.longest_s, state.timers.lease_duration_s)


def with_longest(state: State, duration_s: float) -> State:
    """A lease duration was seen. If it is the longest, then whoever cannot say how long he may act may have that one, also by what was
    observed before: in which order Leases are heard of tells nothing (PROTOCOL T4)."""
    more_s = duration_s - longest_s(state)
    if duration_s <= state.longest_s:
        return state
    state = replace(state, longest_s=duration_s)
    if more_s <= 0:
        return state
    mute = {node: each for node, each in state.members.items() if not (each.beat.intact if each.beat is not None else each.named)}
    members = {node: replace(each, silence_s=max(each.silence_s, duration_s)) for node, each in mute.items()}
    slots = {number: replace(slot, free_from=slot.free_from + more_s) for number, slot in state.slots.items() if slot.free_from}
    unseen = {number: slot for number, slot in {**state.slots, **slots}.items() if slot.unseen_until}
    slots |= {number: replace(slot, unseen_until=slot.unseen_until + more_s) for number, slot in unseen.items()}
    return look_again(replace(state, members={**state.members, **members}, slots={**state.slots, **slots}))


def refuses(state: State, node: str) -> tuple[Vip, ...]:
    """What another node says it could not bind."""
    member = state.members.get(node)
    return member.beat.about.refuses if member is not None and member.beat is not None else ()


def free_to_send(state: State, name: str, now: float) -> float | None:
    """When a request about this Lease may be sent: None while one is under way."""
    if name in state.flights:
        return None
    return max(now, state.pauses.get(name, (0, 0.0))[1])


def attempt_s(state: State, now: float) -> float:
    """The deadline of one request: two more attempts must fit before the renew deadline, and none goes on past it."""
    timers = state.timers
    cap_s = max(timers.retry_period_s, (timers.renew_deadline_s - timers.retry_period_s) / 2)
    until = valid_until(state)
    return cap_s if until is None else max(0.05, min(cap_s, until - now))


def remembering(state: State, known: Mapping[str, None], incarnation: str) -> dict[str, None]:
    """An incarnation that is over, with those known before; what no Lease names any more is forgotten, but for the latest.

    Who is over is only ever asked of an incarnation that a record or a heartbeat names. Should a late write name one again that was
    forgotten, it has to be found dead as any other.
    """
    latest = list({**{each: None for each in known if each != incarnation}, incarnation: None})
    if len(latest) <= KEPT_UNNAMED:
        return dict.fromkeys(latest)
    named = {each for slot in state.slots.values() if slot.record is not None for each in slot.record.claims}
    named |= {member.beat.holder for member in state.members.values() if member.beat is not None}
    return dict.fromkeys([*(each for each in latest[:-KEPT_UNNAMED] if each in named), *latest[-KEPT_UNNAMED:]])


def own(state: State) -> Member | None:
    """This node's own heartbeat as known."""
    return state.members.get(state.node)


def own_name(state: State) -> str:
    """The name of this node's heartbeat."""
    return heartbeat.name_of(state.node)


def with_slot(state: State, slot: Slot) -> State:
    """Another state of one record."""
    return replace(state, slots={**state.slots, slot.number: slot})


def look_again(state: State, numbers: Mapping[int, Slot] | None = None) -> State:
    """Decide anew about all records, or these."""
    chosen = state.slots if numbers is None else numbers
    return replace(state, slots={**state.slots, **{number: replace(slot, look_at=0.0) for number, slot in chosen.items()}})
