"""Takes in a claim record as it was read or watched.

Input: a state, the Lease or its absence, the time. Output: the state after it. It must not believe what kvip did not write,
nor give this node anything by it.
"""

from __future__ import annotations

from kvip.core.election import heartbeat, records
from kvip.core.election.history import rewritten
from kvip.core.election.lease import is_older
from kvip.core.election.records import Record
from kvip.core.election.seal import created, follows
from kvip.core.election.state import Slot, State, longest_s, matters, permitted, replace, with_longest, with_slot
from kvip.core.model import Vip
from kvip.core.objects import Lease


def learn_record(state: State, number: int, lease: Lease | None, *, now: float, asked: str | None) -> State:
    slot = state.slots.get(number)
    if slot is None:
        return state
    known = slot.record
    if lease is None:
        if known is None or asked is None or known.version != asked:
            return state
        return _set_record(state, slot, None, now=now, free_from=now + longest_s(state))
    version = lease.metadata.resource_version
    if known is not None and version == known.version:
        return state if (lease.metadata.uid, records.mark_of(lease)) == (known.uid, known.mark) else rewritten(state, now=now)
    if known is not None and is_older(version, known.version):
        if asked is not None and is_older(version, asked):
            return rewritten(state, now=now)
        return _another_before(state, slot, known, now=now) if slot.unseen_until and lease.metadata.uid != known.uid else state
    record = records.parse(lease)
    free_from = slot.free_from
    if known is not None:
        if record.uid != known.uid:
            free_from = now + longest_s(state)
            # Were we to act by it at once, even if we created it, who held by the former one may not know yet that it is gone.
            record = replace(record, intact=record.intact and state.incarnation not in record.claims)
        elif record.intact and not follows(record.mark, known_version=known.version):
            record = replace(record, intact=False)
    elif _claims_unasked(state, record, number):
        record = replace(record, intact=False)
    elif state.followed and state.synced_at is not None:
        slot = replace(slot, unseen_until=now + longest_s(state), seen=False)
    if not record.intact:
        free_from = now + max(longest_s(state), record.duration_s)
    return _set_record(state, slot, record, now=now, free_from=max(slot.free_from, free_from))


def seen(state: State, number: int, uid: str) -> State:
    """The watch showed a record of this UID: it has shown before whatever stood in its place."""
    slot = state.slots.get(number)
    if slot is None or slot.record is None or not slot.unseen_until or slot.record.uid != uid:
        return state
    return with_slot(state, replace(slot, seen=True, look_at=0.0))


def _another_before(state: State, slot: Slot, known: Record, *, now: float) -> State:
    """Another record stood in the place of one that was created since, and was deleted: who held by it may not know that yet."""
    return _set_record(state, slot, replace(known, intact=False), now=now, free_from=max(slot.free_from, now + longest_s(state)))


def _claims_unasked(state: State, record: Record, number: int) -> bool:
    """Does a record that was just created give us something without a write of ours under way? Then an old content was put back.

    Who creates a record claims by it for himself only.
    """
    if not created(record.mark) or state.incarnation not in record.claims:
        return False
    under_way = state.flights.get(records.name_of(number))
    return under_way is None or under_way.annotations.get(heartbeat.WRITTEN) != record.mark


def _set_record(state: State, slot: Slot, record: Record | None, *, now: float, free_from: float) -> State:
    had = permitted(state, slot)
    if record is not None and not record.intact:
        record = _nothing_new_for_us(state, record, had | (slot.leaving - slot.doubted))
    mine = frozenset(record.claims.get(state.incarnation, ())) if record is not None else frozenset()
    before = slot.record.holder if slot.record is not None else {}
    after = record.holder if record is not None else {}
    wanted = {
        vip: one if before.get(vip) == after.get(vip) else replace(one, since=now)
        for vip, one in slot.wanted.items()
        if matters(one.want, mine=vip in mine)
    }
    moved = record is None or record.version != slot.doubt_version
    slot = replace(
        slot,
        record=record,
        free_from=free_from,
        listed_since={
            incarnation: slot.listed_since.get(incarnation, now) for incarnation in (record.claims if record is not None else ())
        },
        wanted=wanted,
        leaving=slot.leaving & mine,
        settled=slot.settled & mine,
        doubted=frozenset() if moved else slot.doubted,
        look_at=0.0,
    )
    state = with_slot(state, slot)
    if record is not None:
        state = with_longest(state, record.duration_s if record.intact else 0.0)
    return replace(state, lost="claims changed by another") if had - mine and not state.lost else state


def _nothing_new_for_us(state: State, record: Record, had: frozenset[Vip]) -> Record:
    """A record that kvip did not write as it stands takes away, and gives nothing."""
    if state.incarnation not in record.claims:
        return record
    claims = dict(record.claims)
    claims[state.incarnation] = tuple(vip for vip in claims.get(state.incarnation, ()) if vip in had)
    holder = {vip: incarnation for vip, incarnation in record.holder.items() if incarnation != state.incarnation or vip in had}
    return replace(record, claims=claims, holder=holder)
