"""The requests that keep one node's view whole: lists, reads of what is to be confirmed, the record count, the Lease of mode `global`.

Input: a state, the time. Output: requests to make now, and when to look again. It must not decide who may hold what.
"""

from __future__ import annotations

import msgspec

from kvip.core.election import lease as shared
from kvip.core.election import records
from kvip.core.election.heartbeat import LABELS
from kvip.core.election.learn import seen_free, version_of
from kvip.core.election.state import ALL, NEVER, Op, State, attempt_s, free_to_send, own_name, replace, valid
from kvip.core.natural import natural

SHARED_POLL_S = 10.0
STALE_PERIODS = 1.5
"""The view is renewed by a list when no write of one's own was seen in the watch for so many retry periods."""


def look(state: State, now: float, ops: list[Op]) -> tuple[State, float]:
    """Reads that keep the view complete: a list when it is not recent, and of what is to be confirmed."""
    timers = state.timers
    wake_at = NEVER
    due = now if state.fresh_at is None or state.synced_at is None else state.fresh_at + STALE_PERIODS * timers.retry_period_s
    ready_at = free_to_send(state, ALL, now)
    if ready_at is not None:
        if max(due, ready_at) <= now:
            versions = [version_of(state, own_name(state)), *(m.beat.version for m in state.members.values() if m.beat is not None)]
            versions += [slot.record.version for slot in state.slots.values() if slot.record is not None]
            known = max(
                (version for version in versions if natural(version) is not None), key=lambda version: natural(version) or 0, default=""
            )
            state = under_way(state, _read(state, "list", ALL, known, now), ops)
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
            state = under_way(state, _read(state, "read", name, version_of(state, name), now), ops)
        else:
            wake_at = min(wake_at, ready_at)
    if state.shared_name and valid(state, now):
        state, again = _look_at_shared(_publish_shared(state), now, ops)
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
        return under_way(state, _read(state, "read", records.CLUSTER, version, now), ops), NEVER
    spec, notes = records.cluster(state.count or state.configured_count)
    op = msgspec.structs.replace(_read(state, "write", records.CLUSTER, version, now), purpose="count", version=version, uid=uid)
    return under_way(state, msgspec.structs.replace(op, spec=spec, annotations=notes, labels=dict(LABELS)), ops), NEVER


def _publish_shared(state: State) -> State:
    """Spare the nodes that start later, this one too, the wait for a holder that is dead already, or has given up."""
    view = state.shared.view if state.shared is not None else None
    if view is None or not view.version or blocked(state) or view.version == state.about.shared_dead:
        return state
    return replace(state, about=msgspec.structs.replace(state.about, shared_dead=view.version))


def _look_at_shared(state: State, now: float, ops: list[Op]) -> tuple[State, float]:
    urgent = state.shared_for != state.incarnation
    period_s = state.timers.retry_period_s if blocked(state) else SHARED_POLL_S
    due = now if urgent else state.shared_at + period_s
    if state.shared is not None and not seen_free(state.shared, read_at=state.shared_read_at):
        due = min(due, opens_at(state))
    ready_at = free_to_send(state, state.shared_name, now)
    if ready_at is None or max(due, ready_at) > now:
        return state, NEVER if ready_at is None else max(due, ready_at)
    view = state.shared.view if state.shared is not None else None
    return under_way(state, _read(state, "read", state.shared_name, view.version if view is not None else "", now), ops), NEVER


def blocked(state: State) -> str:
    """Why nothing is taken although this node is alive: a holder of another mode; "" = nothing in the way (PROTOCOL G5)."""
    if not state.shared_name or state.shared is None:
        return ""
    view = state.shared.view
    if view is None or seen_free(state.shared, read_at=state.shared_read_at) or view.version in _known_dead(state):
        return ""
    return f"Lease {state.shared_name} is held by {view.holder or 'somebody until just now'}; nothing is taken beside another mode"


def _known_dead(state: State) -> set[str]:
    """Versions of the shared Lease that some node, this one or another, saw stand still for long enough; some say so of a former one."""
    beats = (member.beat for member in state.members.values())
    return {state.about.shared_dead, *(beat.about.shared_dead for beat in beats if beat is not None and beat.intact)} - {""}


def opens_at(state: State) -> float:
    """Until when nothing can be taken, should nothing else change: after a rewritten history, or beside a holder of another mode."""
    free_at = shared.free_at(state.shared) if state.shared_name and state.shared is not None else None
    return max(state.not_before, free_at or 0.0)


def _read(state: State, kind: str, name: str, known: str, now: float) -> Op:
    return Op(
        kind=kind,  # type: ignore[arg-type]
        name=name,
        incarnation=state.incarnation,
        sent_at=now,
        deadline_s=attempt_s(state, now),
        known=known,
    )


def under_way(state: State, op: Op, ops: list[Op]) -> State:
    ops.append(op)
    return replace(state, flights={**state.flights, op.name: op})
