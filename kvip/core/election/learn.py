"""Takes in what was read and watched of the Leases, and notes as of when the view is complete.

Input: a state, a Lease or its absence, the time. Output: the state after it. It must not decide what to do, only notice what
makes this node's own claims void.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kvip.core.election import heartbeat, members, records
from kvip.core.election import lease as shared
from kvip.core.election.heartbeat import node_of
from kvip.core.election.history import learn_count, rewritten, with_count
from kvip.core.election.learn_records import learn_record, seen
from kvip.core.election.lease import is_older
from kvip.core.election.members import Member
from kvip.core.election.state import State, fresh, longest_s, look_again, own_name, remembering, replace, valid, with_longest
from kvip.core.objects import Lease


def watched(state: State, name: str, lease: Lease | None, *, now: float) -> State:
    """A message of the watch. A deletion carries no version, and may be old: a consistent read is asked for.

    Of a snapshot, what vanished is to be told first: with this node's own heartbeat in it the view counts as complete.
    """
    if name == state.shared_name:
        return replace(state, shared_at=float("-inf"))
    if lease is None:
        return replace(state, verify=state.verify | {name}) if version_of(state, name) else state
    state = replace(state, shown={**state.shown, name: lease.metadata.resource_version})
    state = learn(state, name, lease, now=now)
    number = records.number_in(name)
    if number is not None:
        state = seen(state, number, lease.metadata.uid)
    if name in state.ahead and not is_older(lease.metadata.resource_version, version_of(state, name)):
        state = replace(state, ahead={key: at for key, at in state.ahead.items() if key != name})
    if name != own_name(state) or lease.spec.holder_identity != state.incarnation:
        return state
    sequence = heartbeat.parse(lease).sequence
    sent_at = state.sent.get(sequence)
    if sent_at is None:
        return state
    state = confirm(state, sequence=sequence, sent_at=sent_at, now=now)
    # The watch is complete up to this write. What was known before and still was not shown is gone, or was set back.
    unseen = {key for key, at in state.ahead.items() if at <= sent_at}
    if float("-inf") < state.listed_at <= sent_at:
        state = look_again(replace(state, listed_at=float("-inf")))
    return freshen(replace(state, verify=state.verify | unseen), sent_at, now=now)


def answers_ahead(before: State, after: State, names: Iterable[str], *, now: float) -> State:
    """Note what an answer showed, so that the watch is held to show it as well."""
    versions = {name: version for name in names if (version := version_of(after, name)) and version != version_of(before, name)}
    news = {name: now for name, version in versions.items() if version != before.shown.get(name)}
    return replace(after, ahead={**after.ahead, **news}) if news else after


def confirm(state: State, *, sequence: int, sent_at: float, now: float) -> State:
    """A heartbeat of this incarnation was written. It counts only while the last one is valid (PROTOCOL R1)."""
    until = sent_at + state.timers.renew_deadline_s
    state = replace(state, confirmed_sequence=max(state.confirmed_sequence, sequence))
    in_time = now < until and fresh(state, now) if state.renewed_until is None else valid(state, now)
    if not in_time or (state.renewed_until is not None and until <= state.renewed_until):
        return state
    first = state.renewed_until is None
    state = replace(state, renewed_until=until, renewed_at=max(state.renewed_at, sent_at))
    return look_again(replace(state, valid_since=now)) if first else state


def freshen(state: State, at: float, *, now: float) -> State:
    """The view is complete as of `at`, unless something in it still has to be confirmed."""
    if state.verify:
        return replace(state, fresh_next=max(state.fresh_next, at))
    before = state.fresh_at
    at = max(at, state.fresh_next)
    if before is not None and at <= before:
        return state
    gap = before is None or now - before > 2 * state.timers.retry_period_s
    state = replace(state, fresh_at=at, fresh_since=now if gap else state.fresh_since)
    return look_again(state) if gap else state


def learn(state: State, name: str, lease: Lease | None, *, now: float, asked: str | None = None, sent_at: float = 0.0) -> State:
    """One Lease as the watch (`asked` None) or a consistent read showed it; `asked` = the version known when that was sent."""
    if asked is not None:
        if lease is None and version_of(state, name) not in ("", asked):
            # It was changed after the read was sent: that read does not tell whether it vanished before or after.
            return replace(state, verify=state.verify | {name})
        state = replace(state, verify=state.verify - {name})
        if not state.verify and state.fresh_next > float("-inf"):
            state = freshen(replace(state, fresh_next=float("-inf")), state.fresh_next, now=now)
    if name == state.shared_name:
        return _learn_shared(state, lease, now=now, asked=asked or "", sent_at=sent_at)
    if name == records.CLUSTER:
        return learn_count(state, lease, now=now, asked=asked)
    number = records.number_in(name)
    if number is not None:
        return learn_record(state, number, lease, now=now, asked=asked)
    if name.startswith(heartbeat.PREFIX):
        return _learn_member(state, name.removeprefix(heartbeat.PREFIX), lease, now=now, asked=asked, sent_at=sent_at)
    return state


def learn_all(state: State, leases: Iterable[Lease], *, version: str, known: str, sent_at: float, now: float) -> State:
    """A consistent list of all Leases. What is known and not in it must be confirmed missing by a read of its own."""
    if is_older(version, known):
        return rewritten(state, now=now)
    found = {lease.metadata.name: lease for lease in leases}
    if any(_set_back(version_of(state, name), lease, known) for name, lease in found.items()):
        return rewritten(state, now=now)
    cluster = found.get(records.CLUSTER)
    said = [count for lease in (cluster, *found.values()) if lease is not None and (count := records.count_in(lease)) is not None]
    if state.count is None and said:
        state = with_count(state, said[0])
    if cluster is not None:
        state = learn(state, records.CLUSTER, cluster, now=now)
    for name, lease in found.items():
        state = learn(state, name, lease, now=now)
    missing = {name for name in _names(state) if name not in found and not is_older(version, version_of(state, name))}
    state = replace(state, verify=state.verify | missing)
    if state.synced_at is None:
        state = look_again(replace(_with_the_absent(state, now), synced_at=now, bridged_at=now))
    else:
        state = replace(state, listed_at=now)
    return freshen(state, sent_at, now=now)


def bridged(state: State, *, now: float) -> State:
    """The watch went on from a snapshot. What was created and deleted in between was never seen: a VIP that has no holder may have had
    one, as before the first sync, and a record that the snapshot shows first may stand in the place of another (PROTOCOL T4)."""
    slots = {number: replace(slot, seen=False) for number, slot in state.slots.items() if slot.seen}
    return replace(state, bridged_at=now, followed=True, slots={**state.slots, **slots} if slots else state.slots)


def _set_back(version: str, lease: Lease, known: str) -> bool:
    """Does a list show less than was known when it was sent?"""
    return is_older(lease.metadata.resource_version, version) and not is_older(known, version)


def _with_the_absent(state: State, now: float) -> State:
    """Nodes that a record names and that have no heartbeat: dead a lease after the first sync (PROTOCOL T1)."""
    named = {node_of(incarnation) for slot in state.slots.values() if slot.record is not None for incarnation in slot.record.claims}
    absent = Member(beat=None, named="", changed_at=now, holder_since=now, silence_s=longest_s(state))
    return replace(state, members={**dict.fromkeys(named, absent), **state.members})


def _learn_member(state: State, node: str, lease: Lease | None, *, now: float, asked: str | None, sent_at: float) -> State:
    before = state.members.get(node)
    mine = before is not None and before.beat is not None and before.beat.holder == state.incarnation
    seen = members.observe(
        before,
        lease,
        now=now,
        own_s=state.timers.lease_duration_s,
        longest_s=longest_s(state),
        own=mine,
        asked=asked,
        sent_at=sent_at,
    )
    if seen is None:
        return state
    if seen.rewritten:
        return rewritten(state, now=now)
    member = seen.member
    duration_s = member.beat.duration_s if member.beat is not None and member.beat.intact else 0.0
    state = with_longest(replace(state, members={**state.members, node: member}), duration_s)
    if _renewed(before, member) and member.beat is not None and member.beat.holder not in state.met:
        state = replace(state, met=remembering(state, state.met, member.beat.holder))
    if _changes_more_than_time(before, member):
        state = look_again(state)
    return _check_own(state, member, now=now, consistent=asked is not None) if node == state.node else state


def _check_own(state: State, member: Member, *, now: float, consistent: bool) -> State:
    if state.renewed_until is None:
        return state
    beat = member.beat
    if beat is None:
        return replace(state, lost="heartbeat deleted")
    if beat.holder != state.incarnation or not beat.intact:
        return replace(state, lost="heartbeat taken by another" if beat.holder else "heartbeat ended by another")
    if consistent and beat.sequence < state.confirmed_sequence:
        return rewritten(state, now=now)
    return state


def _renewed(before: Member | None, after: Member) -> bool:
    one, two = before.beat if before is not None else None, after.beat
    if one is None or two is None or not (two.holder and two.intact):
        return False
    return one.holder == two.holder and one.version != two.version


def _changes_more_than_time(before: Member | None, after: Member) -> bool:
    one, two = before.beat if before is not None else None, after.beat
    if one is None or two is None:
        return one is not two or before is None
    return (one.holder, one.intact, one.about) != (two.holder, two.intact, two.about)


def _learn_shared(state: State, lease: Lease | None, *, now: float, asked: str, sent_at: float) -> State:
    before = state.shared if state.shared is not None else shared.Election(incarnation=state.incarnation, timers=state.timers)
    after = shared.observe(before, lease, now=now, asked_at_version=asked)
    after_ours = sent_at >= state.valid_since
    shared_for = state.incarnation if after_ours else state.shared_for
    read_at = max(state.shared_read_at, sent_at)
    same = state.shared is not None and shared_for == state.shared_for and _stands(before, after)
    same = same and seen_free(before, read_at=state.shared_read_at) == seen_free(after, read_at=read_at)
    state = replace(state, shared=after, shared_at=now, shared_for=shared_for, shared_read_at=read_at)
    return state if same else look_again(state)


def seen_free(election: shared.Election, *, read_at: float) -> bool:
    """Was the Lease of mode `global` seen free, or as it was by a read that was sent when its time was over? `read_at`: the last one's.

    Its holder's silence counts as far as it was seen (PROTOCOL T1): while no read comes through, it may be renewed.
    """
    free_at, view = shared.free_at(election), election.view
    return free_at is None or (view is not None and free_at <= max(view.changed_at, read_at))


def _stands(before: shared.Election, after: shared.Election) -> bool:
    """Does the Lease of mode `global` stand as it did when it was seen last?"""
    if before.view is None or after.view is None:
        return False
    return after == msgspec.structs.replace(before, view=msgspec.structs.replace(before.view, seen_at=after.view.seen_at))


def _names(state: State) -> list[str]:
    held = [heartbeat.name_of(node) for node, member in state.members.items() if member.beat is not None]
    held += [records.CLUSTER] if state.cluster is not None else []
    return held + [records.name_of(number) for number, slot in state.slots.items() if slot.record is not None]


def version_of(state: State, name: str) -> str:
    """The version of a Lease as known; "" = there is none, or it was never seen."""
    if name == records.CLUSTER:
        return state.cluster.resource_version if state.cluster is not None else ""
    number = records.number_in(name)
    if number is not None:
        slot = state.slots.get(number)
        return slot.record.version if slot is not None and slot.record is not None else ""
    member = state.members.get(name.removeprefix(heartbeat.PREFIX))
    return member.beat.version if member is not None and member.beat is not None else ""
