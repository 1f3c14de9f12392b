"""This node's own heartbeat: when to write it, upon what, and whether the name is free for a new life.

Input: a state and the time. Output: the write, or when to ask again. It must not write for a node that cannot act, nor over a life
that may still go on (PROTOCOL R5, R7).
"""

from __future__ import annotations

from kvip.core.election import heartbeat
from kvip.core.election.heartbeat import LABELS, Heartbeat, node_of
from kvip.core.election.members import dead_at
from kvip.core.election.state import NEVER, Op, State, attempt_s, free_to_send, fresh, longest_s, own, own_name, replace

RELEASED = "released"
KEPT_SENT = 16


def plan(state: State, now: float, *, stuck: bool) -> tuple[State, Op | None, float]:
    """The heartbeat to write now, if any, and when to ask again."""
    ready_at = free_to_send(state, own_name(state), now)
    if ready_at is None:
        return state, None, NEVER
    due = _due(state, now, ready_at)
    if now < due or stuck:
        return state, None, max(due, now + 0.1) if stuck else due
    sequence = state.sequence + 1
    member = own(state)
    before = member.beat if member is not None else None
    spec, notes = heartbeat.beat(state.incarnation, state.about, sequence=sequence, duration_s=state.timers.lease_duration_s, before=before)
    op = write(state, own_name(state), before, now=now, purpose="renew")
    op = replace(op, spec=spec, annotations=notes, sequence=sequence)
    sent = dict([*state.sent.items(), (sequence, now)][-KEPT_SENT:])
    return replace(state, sequence=sequence, sent=sent), op, NEVER


def _due(state: State, now: float, ready_at: float) -> float:
    if state.renewed_until is not None:
        return max(ready_at, state.renewed_at + state.timers.retry_period_s)
    if state.synced_at is None or state.count is None or not fresh(state, now):
        return NEVER
    return max(ready_at, _free_at(state))


def _free_at(state: State) -> float:
    """When this node's name is free for a new life."""
    assert state.synced_at is not None
    member = own(state)
    beat = member.beat if member is not None else None
    ours = {state.incarnation, *state.retired}
    if beat is not None and beat.intact and (not beat.holder or beat.holder in ours):
        return 0.0
    if member is not None:
        # Vanished, or changed by someone else: absent is not free, for ourselves either (PROTOCOL T4, R7).
        return dead_at(member, fresh_since=state.fresh_since)
    former = {incarnation for slot in state.slots.values() if slot.record for incarnation in slot.record.claims}
    if {incarnation for incarnation in former if node_of(incarnation) == state.node} <= ours:
        return 0.0
    return max(state.synced_at, state.fresh_since) + longest_s(state)


def kill(state: State, victim: Heartbeat, now: float) -> Op:
    """Write a dead node's heartbeat: after it no write of that node, however late, can succeed (PROTOCOL T2)."""
    how = f"killed by {state.incarnation}"
    spec, notes = heartbeat.ending(state.incarnation, how, sequence=victim.sequence + 1, before=victim)
    op = write(state, heartbeat.name_of(victim.node), victim, now=now, purpose="kill")
    return replace(op, spec=spec, annotations=notes)


def release(state: State, now: float) -> Op | None:
    """Give the heartbeat back; None when it is not ours as far as known."""
    member = own(state)
    if member is None or member.beat is None or member.beat.holder != state.incarnation:
        return None
    spec, notes = heartbeat.ending(state.incarnation, RELEASED, sequence=state.sequence + 1, before=member.beat)
    return replace(write(state, own_name(state), member.beat, now=now, purpose="release"), spec=spec, annotations=notes)


def write(state: State, name: str, before: Heartbeat | None, *, now: float, purpose: str) -> Op:
    """A compare-and-swap upon what is known of a heartbeat."""
    version, uid, labels = (before.version, before.uid, before.labels) if before is not None else ("", "", {})
    op = Op(kind="write", name=name, incarnation=state.incarnation, sent_at=now, deadline_s=attempt_s(state, now))
    return replace(op, known=version, purpose=purpose, version=version, uid=uid, labels={**labels, **LABELS})
