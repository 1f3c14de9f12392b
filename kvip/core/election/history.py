"""What voids all that was known: a store that was set back, another number of records.

Input: a state, `kvip-cluster` as read, the time. Output: the state after it, lost where this node held something.
It must not take anything for old that is merely late.
"""

from __future__ import annotations

from kvip.core.election import records
from kvip.core.election.lease import is_older
from kvip.core.election.state import Slot, State, longest_s, replace
from kvip.core.objects import Lease

REWRITTEN = "history of the Leases rewritten"
RECOUNTED = "number of records changed"


def rewritten(state: State, *, now: float) -> State:
    """A store that was set back: nothing known counts any more, and nothing is taken for a whole lease (PROTOCOL T4)."""
    slots = {number: replace(slot, record=None, look_at=0.0) for number, slot in state.slots.items()}
    return replace(
        state,
        cluster=None,
        count_stored=False,
        members={},
        about=replace(state.about, shared_dead=""),
        shared=None,
        shared_for="",
        slots=slots,
        verify=frozenset(),
        ahead={},
        shown={},
        synced_at=None,
        fresh_at=None,
        fresh_next=float("-inf"),
        not_before=now + longest_s(state),
        lost=REWRITTEN if state.renewed_until is not None else "",
    )


def with_count(state: State, count: int | None) -> State:
    """Now it is known over how many records the VIPs are spread."""
    if count is None or count == state.count:
        return state
    return replace(state, count=count, slots={number: state.slots.get(number, Slot(number=number)) for number in range(count)})


def decided(state: State, count: int) -> State:
    """The number of records was decided after the first list: what that showed of records was passed over, so it is read again."""
    return replace(with_count(state, count), synced_at=None, fresh_at=None)


def recounted(state: State, count: int, *, now: float) -> State:
    """`kvip-cluster` says another number than this node went by: its records are not those that the others look into."""
    held = state.renewed_until is not None
    wanted = [(vip, replace(one, since=now)) for slot in state.slots.values() for vip, one in slot.wanted.items()]
    state = with_count(rewritten(replace(state, count=None, slots={}), now=now), count)
    slots = dict(state.slots)
    for vip, one in wanted:
        slot = slots[records.number_of(vip, count)]
        slots[slot.number] = replace(slot, wanted={**slot.wanted, vip: one})
    return replace(state, slots=slots, lost=RECOUNTED if held else "")


def learn_count(state: State, lease: Lease | None, *, now: float, asked: str | None = None) -> State:
    known = state.cluster.resource_version if state.cluster is not None else ""
    if lease is None:
        return state if asked is None or asked != known else replace(state, cluster=None, count_stored=False)
    if is_older(lease.metadata.resource_version, known):
        return rewritten(state, now=now) if asked is not None and is_older(lease.metadata.resource_version, asked) else state
    count = records.count_in(lease)
    state = replace(state, cluster=lease.metadata, count_stored=count is not None)
    if count is None or count == state.count:
        return state
    return decided(state, count) if state.count is None else recounted(state, count, now=now)
