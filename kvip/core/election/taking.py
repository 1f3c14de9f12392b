"""What to do about one claim record: take what is free, hand over, write off.

Input: a state, the number of a record, the time. Output: requests to make now, and when to look again. The order of every taking
is PROTOCOL T3: record, consistent read of each named holder's heartbeat, kill where it is dead, compare-and-swap on the record.
"""

from __future__ import annotations

import msgspec

from kvip.core.election import heartbeat, placement, records, renewal
from kvip.core.election.heartbeat import LABELS, node_of
from kvip.core.election.members import dead_at, ended, living, over_at
from kvip.core.election.state import (
    NEVER,
    Op,
    Scene,
    Slot,
    State,
    Want,
    attempt_s,
    free_to_send,
    longest_s,
    refuses,
    remembering,
    replace,
    with_slot,
)
from kvip.core.model import Vip

UNKNOWN = Want(asked=False, able=None)
POLL_S = 0.02
"""How often to ask whether a VIP has been let go of."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one record."""

    state: State
    ops: tuple[Op, ...] = ()
    look_at: float = NEVER


def scene(state: State, now: float, *, may_take: bool) -> Scene:
    """Who is alive and holds how much."""
    alive = {
        node: incarnation
        for node, member in state.members.items()
        if (incarnation := living(member, now=now, fresh_since=state.fresh_since))
        and member.beat is not None
        and member.beat.about.eligible
    }
    if state.about.eligible:
        alive[state.node] = state.incarnation
    node_of_life = {incarnation: node for node, incarnation in alive.items()}
    loads: dict[str, int] = {}
    total = 0
    for slot in state.slots.values():
        total += len(slot.wanted)
        for incarnation, vips in slot.record.claims.items() if slot.record is not None else ():
            node = node_of_life.get(incarnation)
            if node is not None:
                loads[node] = loads.get(node, 0) + len(vips)
    refused = {node: frozenset(vips) for node in alive if (vips := refuses(state, node))}
    return Scene(alive=alive, loads=loads, total=total, may_take=may_take, refused=refused)


def decide(state: State, number: int, scene: Scene, now: float) -> Choice:
    """What to do about one record now."""
    before = state.slots[number]
    slot = _sorted_out(state, before, scene, now)
    state = with_slot(state, slot) if slot is not before else state
    mine = frozenset(slot.record.claims.get(state.incarnation, ())) if slot.record is not None else frozenset()
    # Until it was leaving it was permitted, and may have been bound since `held` was told: that is to be told again before the next step.
    off = frozenset(vip for vip in slot.leaving & before.leaving if not _want(slot, vip).held)
    here_or_off = [(vip, slot.wanted[vip].want) for vip in mine - (slot.leaving - off) if vip in slot.wanted]
    proven = frozenset([vip for vip, want in here_or_off if want.held and not want.unconfirmed])
    asking = frozenset([vip for vip, want in here_or_off if want.unasked and vip not in proven])
    told = slot.record is None or not (proven & slot.record.unproven or asking - slot.record.unproven)
    look_at = min(slot.unseen_until or NEVER, now + POLL_S if slot.leaving else NEVER)
    if slot.leaving - before.leaving:
        look_at = now
    takes: set[Vip] = set()
    waiting: set[str] = set()
    turns = placement.Turns(placement.order(number, scene.alive, scene.loads, total=scene.total), scene.refused)
    for vip, wanted in slot.wanted.items() if scene.may_take else ():
        if wanted.want.able is not True or vip in mine:
            continue
        if _refused(state, vip, now):
            look_at = min(look_at, state.refusals[vip].until)
            continue
        holder = slot.record.holder.get(vip) if slot.record is not None else None
        due = _due(state, slot, vip, holder, turns)
        if now < due:
            look_at = min(look_at, due)
            continue
        takes.add(vip)
        if holder is not None and holder not in state.dead:
            waiting.add(holder)
    ops: list[Op] = []
    for holder in sorted(waiting):
        state, op, again = _confirm_dead(state, holder, slot.listed_since.get(holder, now), now)
        ops += [op] if op is not None else []
        look_at = min(look_at, again)
    if waiting - state.dead.keys():
        takes = {vip for vip in takes if slot.record is None or slot.record.holder.get(vip) in {*state.dead, None}}
    if slot.record is not None and not slot.record.intact and now < slot.free_from:
        # Upon our write the others would believe all that it says.
        return Choice(state=state, ops=tuple(ops), look_at=slot.free_from)
    if not takes and not off and told and not _in_doubt(slot) and not _to_be_mended(state, slot):
        return Choice(state=state, ops=tuple(ops), look_at=look_at)
    ready_at = free_to_send(state, records.name_of(number), now)
    if ready_at is None or ready_at > now:
        return Choice(state=state, ops=tuple(ops), look_at=min(look_at, ready_at or NEVER))
    state, write = _write(state, slot, scene, turns, takes=frozenset(takes), off=off, proven=proven, asking=asking, now=now)
    return Choice(state=state, ops=(*ops, write), look_at=look_at)


def _sorted_out(state: State, slot: Slot, scene: Scene, now: float) -> Slot:
    """What of ours stays, and what is to be let go of. Not known = stays."""
    if slot.unseen_until and (slot.seen or now >= slot.unseen_until):
        slot = replace(slot, unseen_until=0.0, seen=False)
    mine = slot.record.claims.get(state.incarnation, ()) if slot.record is not None else ()
    moving = {vip: node for vip, node in slot.moving.items() if vip in mine and node in scene.alive and vip not in refuses(state, node)}
    answers = [(vip, slot.wanted[vip].want.able) for vip in mine if vip in slot.wanted]
    going = {vip for vip, able in answers if able is False} | moving.keys()
    going.update(vip for vip in state.refusals.keys() & mine if _refused(state, vip, now))
    staying = {vip for vip, able in answers if able} - going
    leaving, settled = (slot.leaving | going) - staying, slot.settled | staying
    if (leaving, settled, moving) == (slot.leaving, slot.settled, slot.moving):
        return slot
    return replace(slot, leaving=leaving, settled=settled, moving=moving)


def _in_doubt(slot: Slot) -> bool:
    """Is something of ours kept from us by an old write whose outcome is unknown? A new one upon the same version settles it."""
    return slot.record is not None and slot.record.version == slot.doubt_version and bool(slot.doubted - slot.leaving)


def _to_be_mended(state: State, slot: Slot) -> bool:
    """Was a record that names us changed by somebody else? Written anew it is believed again, and shows no more than we know to be ours."""
    return slot.record is not None and not slot.record.intact and state.incarnation in slot.record.claims


def _want(slot: Slot, vip: Vip) -> Want:
    wanted = slot.wanted.get(vip)
    return wanted.want if wanted is not None else UNKNOWN


def _is_here(want: Want) -> bool:
    """Did the kernel say so? Then it was asked for, or did not have to be."""
    return want.held and not want.unconfirmed


def _refused(state: State, vip: Vip, now: float) -> bool:
    refusal = state.refusals.get(vip)
    return refusal is not None and now < refusal.until


def _due(state: State, slot: Slot, vip: Vip, holder: str | None, turns: placement.Turns) -> float:
    """When it is this node's turn to take a VIP."""
    wanted = slot.wanted[vip]
    free = max(_free_at(state, wanted.want, holder), slot.free_from, slot.unseen_until, state.not_before, wanted.since)
    former = node_of(holder) if holder is not None else ""
    turn = turns.of(vip, wanted.want.leaning, former=former)
    rank = turn.index(state.node) if state.node in turn else len(turn)
    return free + placement.delay_s(rank)


def _free_at(state: State, want: Want, holder: str | None) -> float:
    """When nobody can hold the VIP any more. Absent is not free (PROTOCOL T4)."""
    if holder is None:
        return max(state.bridged_at, state.listed_at) + longest_s(state) if want.shown else 0.0
    if holder in state.dead or holder in state.retired:
        return 0.0
    member = state.members.get(node_of(holder))
    if member is None:
        assert state.synced_at is not None
        return max(state.synced_at, state.fresh_since) + longest_s(state)
    return over_at(member) if ended(member, holder) else dead_at(member, fresh_since=state.fresh_since)


def _confirm_dead(state: State, holder: str, listed_since: float, now: float) -> tuple[State, Op | None, float]:
    """A consistent read of what named the holder, and its killing where it still does; then it is dead for good.

    A heartbeat that was read before the record listed the holder may not have named it yet.
    """
    node = node_of(holder)
    member = state.members.get(node)
    if holder in state.retired:
        return replace(state, dead=remembering(state, state.dead, holder)), None, now
    if member is not None and ended(member, holder):
        if member.read_at >= max(over_at(member), listed_since):
            return replace(state, dead=remembering(state, state.dead, holder)), None, now
    elif member is not None and member.read_at >= max(dead_at(member, fresh_since=state.fresh_since), listed_since):
        if member.beat is None:
            return replace(state, dead=remembering(state, state.dead, holder)), None, now
        return _send(state, renewal.kill(state, member.beat, now), now)
    name = heartbeat.name_of(node)
    known = member.beat.version if member is not None and member.beat is not None else ""
    op = Op(kind="read", name=name, incarnation=state.incarnation, sent_at=now, deadline_s=attempt_s(state, now), known=known)
    return _send(state, op, now)


def _send(state: State, op: Op, now: float) -> tuple[State, Op | None, float]:
    ready_at = free_to_send(state, op.name, now)
    if ready_at is None:
        # A renewal of our own under way decides nothing when it is answered.
        return state, None, now + POLL_S
    if ready_at > now:
        return state, None, ready_at
    return replace(state, flights={**state.flights, op.name: op}), op, NEVER


def _write(
    state: State,
    slot: Slot,
    scene: Scene,
    turns: placement.Turns,
    *,
    takes: frozenset[Vip],
    off: frozenset[Vip],
    proven: frozenset[Vip],
    asking: frozenset[Vip],
    now: float,
) -> tuple[State, Op]:
    """The record as it is to be: what we take and keep, and what others hold; what the dead held and nobody asks for is dropped.

    `proven`: what is bound here; `asking`: what has to be asked for before it is.
    """
    record, changed = slot.record, takes | off
    claims: dict[str, tuple[Vip, ...]] = {}
    for incarnation, vips in (record.claims if record is not None else {}).items():
        over = incarnation in state.dead or incarnation in state.retired
        claims[incarnation] = tuple(vip for vip in vips if vip not in changed and not (over and vip not in slot.wanted))
    claims[state.incarnation] = (*claims.get(state.incarnation, ()), *sorted(takes))
    for vip in sorted(off & slot.settled):
        heir = _heir(state, slot, vip, scene, turns)
        if heir:
            claims[heir] = (*claims.get(heir, ()), vip)
    # Nobody knows for how long the address has been free: another host may have been given it meanwhile.
    long_dead = {vip for vip in takes if record is not None and record.holder.get(vip) not in state.met and not _is_here(_want(slot, vip))}
    spec, notes = records.claim(
        claims,
        state.incarnation,
        count=state.count or 0,
        duration_s=state.timers.lease_duration_s,
        before=record,
        proven=proven,
        asking=asking | long_dead,
    )
    version, uid, labels = (record.version, record.uid, record.labels) if record is not None else ("", "", {})
    op = Op(
        kind="write",
        name=records.name_of(slot.number),
        incarnation=state.incarnation,
        sent_at=now,
        deadline_s=attempt_s(state, now),
        known=version,
        purpose="claim",
        version=version,
        uid=uid,
        spec=spec,
        annotations=notes,
        labels={**labels, **LABELS},
        changes=len(takes) + len(off),
    )
    doubted = off | (slot.doubted if slot.doubt_version == version else frozenset())
    state = with_slot(state, replace(slot, doubt_version=version, doubted=doubted))
    return replace(state, flights={**state.flights, op.name: op}), op


def _heir(state: State, slot: Slot, vip: Vip, scene: Scene, turns: placement.Turns) -> str:
    """The living incarnation that is to hold a VIP after us; "" when nobody asks for it or nobody is there."""
    if not _want(slot, vip).asked:
        return ""
    if vip in slot.moving:
        return scene.alive[slot.moving[vip]]
    heirs = (node for node in turns.of(vip, _want(slot, vip).leaning, former="") if node != state.node)
    return next((scene.alive[node] for node in heirs), "")
