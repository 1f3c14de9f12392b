"""What mode `claims` still holds, as a node of another mode sees it (PROTOCOL G5).

Input: all labelled Leases, again and again. Output: from when on nobody of `claims` can act. It must not believe a time from a Lease.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kvip.core.election import heartbeat, records
from kvip.core.election.heartbeat import Heartbeat, node_of
from kvip.core.objects import Lease


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """An incarnation of `claims` that may act, and how it was last seen."""

    version: str
    """Of its heartbeat; "" = there is none, though a record names it or it was there before."""
    since: float
    silence_s: float
    beat: Heartbeat | None = None


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What one node knows of `claims`."""

    own_s: float
    """Our own lease duration, seconds: nobody is dead before."""
    gap_s: float
    """Looks farther apart than this tell nothing of the time between them."""
    looked_at: float = float("-inf")
    holders: dict[str, Holder] = {}


def look(sight: Sight, leases: Iterable[Lease], *, now: float, retired: frozenset[str] = frozenset()) -> Sight:
    """Take in a consistent list. `retired`: incarnations of this very node that are known to be dead."""
    blind = now - sight.looked_at > sight.gap_s
    seen: dict[str, Holder] = {}
    over: set[str] = set(retired)
    named: dict[str, float] = {}
    leases = list(leases)
    for lease in leases:
        if lease.metadata.name.startswith(heartbeat.PREFIX):
            beat = heartbeat.parse(lease)
            if beat.intact and not beat.holder:
                continue
            # One that is not as kvip wrote it may hide who lives.
            key = beat.holder if beat.intact else lease.metadata.name
            seen[key] = Holder(version=beat.version, since=now, silence_s=max(sight.own_s, beat.duration_s), beat=beat)
        elif records.number_in(lease.metadata.name) is not None:
            record = records.parse(lease)
            named |= {incarnation: max(sight.own_s, record.duration_s) for incarnation in record.claims}
    nodes = {lease.metadata.name.removeprefix(heartbeat.PREFIX) for lease in leases if lease.metadata.name.startswith(heartbeat.PREFIX)}
    missing = {incarnation: silence_s for incarnation, silence_s in named.items() if node_of(incarnation) not in nodes}
    missing |= {key: holder.silence_s for key, holder in sight.holders.items() if node_of(key) not in nodes and key not in seen}
    seen |= {key: Holder(version="", since=now, silence_s=silence_s) for key, silence_s in missing.items()}
    holders: dict[str, Holder] = {}
    for key, holder in seen.items():
        known = sight.holders.get(key)
        if key in over:
            continue
        if known is not None and not blind and known.version == holder.version:
            holder = msgspec.structs.replace(holder, since=known.since)
        holders[key] = holder
    return msgspec.structs.replace(sight, looked_at=now, holders=holders)


def clear_at(sight: Sight) -> float:
    """From when on nobody of `claims` can act, should nothing change; in the past = now."""
    return max((holder.since + holder.silence_s for holder in sight.holders.values()), default=float("-inf"))


def dead(sight: Sight, *, now: float) -> list[Heartbeat]:
    """Heartbeats that stood still for long enough: to be ended by compare-and-swap, so that nobody has to wait for them again."""
    over = (holder for holder in sight.holders.values() if now >= holder.since + holder.silence_s)
    return [holder.beat for holder in over if holder.beat is not None]
