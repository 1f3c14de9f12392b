"""One shared Lease, with client-go's semantics and kvip's fencing: the pure state machine of mode `global`.

Input: what was read of the Lease, answers to writes, and the time (CLOCK_BOOTTIME seconds). Output: what to write
and until when this node may act. It must not do I/O, nor decide by timestamps found in the Lease: only by
when it saw the Lease change (client-go: tools/leaderelection).

Rules: a renewal counts only if its answer comes while the last one is still valid, and is valid from the instant
the request was handed over. Another node may take the Lease only after it watched it stand still for the whole duration.

Over 300 lines: one state machine.
"""

from __future__ import annotations

import re

import msgspec

from kvip.core.model import Incarnation
from kvip.core.natural import natural
from kvip.core.objects import Lease

RELEASED_ANNOTATION = "kvip.io/released"
"""`<incarnation>/<leaseTransitions>` of the last kvip that released this Lease, so that a release by kvip is told from one by client-go."""
SUCCESSION_ANNOTATION = "kvip.io/succeeds"
"""`<holder>/<leaseTransitions>` of the last holder that was no kvip, while some VIP of the Lease was not found free since (PROTOCOL G1)."""
PER_SERVICE = "per-service/"
"""As value: the holder belongs to a mode with Leases for Services, so others may hold VIPs beside it, now and after it."""

_INCARNATION = re.compile(r".+_[0-9a-f]{32}")
RETIRED_LIMIT = 64
"""Former incarnations that are remembered; one forgotten is waited for like any other node's."""
FOREIGN_RELEASE_WAIT_S = 2.0
"""client-go releases the Lease before its holder removed its addresses."""


class Timers(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. lease_duration > renew_deadline > retry_period."""

    lease_duration_s: float
    renew_deadline_s: float
    retry_period_s: float


class View(msgspec.Struct, frozen=True, kw_only=True):
    """The Lease as last seen; `holder` "" = released, `version` "" = absent.

    An absent Lease that was there before is not free at once: its holder may not know yet. `duration_s` is then how long to wait.
    """

    holder: str
    version: str
    uid: str = ""
    """metadata.uid: without it a PUT on a Lease that was deleted creates it again (kube-apiserver, update with create-on-update)."""
    duration_s: float
    transitions: int
    released_by_kvip: bool
    annotations: dict[str, str] = {}
    labels: dict[str, str] = {}
    changed_at: float
    """When this node first saw this version."""
    seen_at: float
    """When this node last read the Lease."""


class Election(msgspec.Struct, frozen=True, kw_only=True):
    """One node's knowledge of the Lease. `valid_until` None = not holding."""

    incarnation: Incarnation
    timers: Timers
    view: View | None = None
    valid_until: float | None = None
    shortest_duration_s: float | None = None
    """Smallest leaseDurationSeconds seen with a holder: other holders' timers bound ours."""
    not_before: float = 0.0
    """Nothing is taken before this: history was rewritten, so a holder may exist that is not seen."""
    rewritten: bool = False
    """While holding, a consistent read showed an older Lease than one seen before (a restored store): fence."""
    mark: str = ""
    """What this node writes as SUCCESSION_ANNOTATION for all its time, "" = only what is to be said of a former holder."""
    retired: frozenset[str] = frozenset()
    """Former incarnations of this very process (or of a predecessor known to be dead): theirs is free at once."""

    @property
    def holding(self) -> bool:
        """Does this node hold the Lease, as far as the last confirmed write says?"""
        return self.valid_until is not None


class Take(msgspec.Struct, frozen=True, kw_only=True):
    """Write the Lease with oneself as holder on `version` ("" = create it)."""

    version: str
    transitions: int


class Renew(msgspec.Struct, frozen=True, kw_only=True):
    """Write the Lease again, oneself still the holder, on `version`."""

    version: str
    transitions: int


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing to write before `until`."""

    until: float


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """This node held the Lease and does not any more: fence now."""

    reason: str


Decision = Take | Renew | Wait | Lost


def deadline_s(election: Election) -> float:
    """The renew deadline in force: one's own, or 0.6 of the shortest duration another holder of this Lease published."""
    own = election.timers.renew_deadline_s
    return own if election.shortest_duration_s is None else min(own, 0.6 * election.shortest_duration_s)


def observe(election: Election, lease: Lease | None, *, now: float, asked_at_version: str = "") -> Election:
    """Take in the Lease as read or watched.

    A version older than the one known is a late message, and ignored. `asked_at_version`: for the answer to a consistent
    read, the version known when it was asked; an answer older than that means that history was rewritten.
    """
    known = election.view
    if lease is None:
        if known is not None and not known.version:
            return msgspec.structs.replace(election, view=msgspec.structs.replace(known, seen_at=now))
        silence = _stretch(known.holder) * max(known.duration_s, election.timers.lease_duration_s) if known is not None else 0.0
        absent = View(holder="", version="", duration_s=silence, transitions=0, released_by_kvip=False, changed_at=now, seen_at=now)
        return msgspec.structs.replace(election, view=absent)
    version = lease.metadata.resource_version
    if known is not None and known.version:
        if version == known.version:
            return msgspec.structs.replace(election, view=msgspec.structs.replace(known, seen_at=now))
        if is_older(version, known.version):
            if not asked_at_version or not is_older(version, asked_at_version):
                return election
            longest_s = max(known.duration_s, election.timers.lease_duration_s, float(lease.spec.lease_duration_seconds or 0))
            election = msgspec.structs.replace(election, not_before=now + 2 * longest_s, rewritten=election.holding)
    holder = lease.spec.holder_identity or ""
    duration = float(lease.spec.lease_duration_seconds or 0)
    transitions = lease.spec.lease_transitions or 0
    if known is not None and not holder and not _released_by_kvip(lease):
        election = msgspec.structs.replace(election, not_before=max(election.not_before, _held_until(election, known, now=now)))
    view = View(
        holder=holder,
        version=version,
        uid=lease.metadata.uid,
        annotations=lease.metadata.annotations or {},
        labels=lease.metadata.labels or {},
        duration_s=duration,
        transitions=transitions,
        released_by_kvip=_released_by_kvip(lease),
        changed_at=now,
        seen_at=now,
    )
    shortest = election.shortest_duration_s
    if holder and duration > 0 and holder != election.incarnation and holder not in election.retired:
        shortest = duration if shortest is None else min(shortest, duration)
    return msgspec.structs.replace(election, view=view, shortest_duration_s=shortest)


def _released_by_kvip(lease: Lease) -> bool:
    released = (lease.metadata.annotations or {}).get(RELEASED_ANNOTATION, "")
    return not lease.spec.holder_identity and released.endswith(f"/{lease.spec.lease_transitions or 0}")


def _held_until(election: Election, known: View, *, now: float) -> float:
    """How long a holder may act that does not know yet: its Lease was blanked, or deleted and created anew, by someone else.

    A client-go holder blanks its Lease itself (ReleaseOnCancel); FOREIGN_RELEASE_WAIT_S covers that.
    """
    if not known.version:
        return known.changed_at + known.duration_s
    if known.holder and _stretch(known.holder) == 1.0:
        return now + max(known.duration_s, election.timers.lease_duration_s)
    return 0.0


def _stretch(holder: str) -> float:
    """client-go gives up later than kvip and removes its addresses after that: how many durations to wait for whom."""
    return 1.0 if not holder or _INCARNATION.fullmatch(holder) else 2.0


def is_older(version: str, than: str) -> bool:
    """resourceVersion order; both are decimal numbers (Kubernetes API conventions, "Resource Versions", KEP-5504)."""
    earlier, later = natural(version), natural(than)
    return earlier is not None and later is not None and earlier < later


def free_at(election: Election) -> float | None:
    """When the Lease is free for this node to take; None = it is its own."""
    free = _free_at(election)
    return None if free is None else max(free, election.not_before)


def _free_at(election: Election) -> float | None:
    view = election.view
    if view is None:
        return float("inf")
    if not view.version:
        return view.changed_at + view.duration_s
    if view.holder in election.retired:
        return view.changed_at
    if view.holder == election.incarnation:
        return None
    if is_per_service(view) and not election.mark:
        # Nodes of its mode have taken it long before that, unless there are none any more (PROTOCOL G5).
        return view.changed_at + 2 * max(view.duration_s, election.timers.lease_duration_s)
    if not view.holder:
        return view.changed_at if view.released_by_kvip else view.changed_at + FOREIGN_RELEASE_WAIT_S
    return view.changed_at + _stretch(view.holder) * max(view.duration_s, election.timers.lease_duration_s)


def decide(election: Election, *, now: float, renewed_at: float = 0.0) -> Decision:
    """What to do now. `renewed_at`: when the last renewal was handed over."""
    view = election.view
    if election.valid_until is not None:
        if now >= election.valid_until:
            return Lost(reason="renew deadline")
        if election.rewritten:
            return Lost(reason="lease history rewritten")
        if view is None or not view.version:
            return Lost(reason="lease deleted")
        if view.holder != election.incarnation:
            return Lost(reason="lease taken by another")
        due = renewed_at + min(election.timers.retry_period_s, deadline_s(election) / 3)
        return Renew(version=view.version, transitions=view.transitions) if now >= due else Wait(until=due)
    if view is None:
        return Wait(until=now + election.timers.retry_period_s)
    free = free_at(election)
    if free is None:
        return Renew(version=view.version, transitions=view.transitions)
    if now < free:
        return Wait(until=free)
    return Take(version=view.version, transitions=view.transitions + (1 if view.version else 0))


def confirmed(election: Election, lease: Lease, *, sent_at: float, now: float) -> Election:
    """A write was answered with success: valid from the instant it was sent, unless the answer came too late to count."""
    until = sent_at + deadline_s(election)
    known = observe(election, lease, now=now)
    in_time = now < until and (election.valid_until is None or now < election.valid_until)
    return msgspec.structs.replace(known, valid_until=until if in_time else election.valid_until)


def fenced(election: Election, incarnation: Incarnation) -> Election:
    """After a fence: nothing is held, and a new incarnation starts. Answers to the old one no longer count."""
    retired = election.retired if len(election.retired) < RETIRED_LIMIT else frozenset()
    return msgspec.structs.replace(
        election, incarnation=incarnation, valid_until=None, rewritten=False, retired=retired | {str(election.incarnation)}
    )


def succession(view: View) -> str:
    """Who is no kvip and held the Lease that is there last; "" = nobody. When it was killed, its kernel still answers for its VIPs."""
    if not _of_kvip(view):
        return f"{view.holder or 'unknown'}/{view.transitions}"
    noted = view.annotations.get(SUCCESSION_ANNOTATION, "")
    return f"after {noted}" if is_per_service(view) else noted


def is_per_service(view: View) -> bool:
    """Was the Lease held last by a kvip of a mode with Leases for Services?"""
    return _of_kvip(view) and view.annotations.get(SUCCESSION_ANNOTATION, "").startswith(PER_SERVICE)


def _of_kvip(view: View) -> bool:
    return bool(_INCARNATION.fullmatch(view.holder)) if view.holder else view.released_by_kvip


def may_create(election: Election, *, earlier_holder: bool, now: float) -> bool:
    """May a missing Lease be created? It may have been deleted under a holder that does not know yet, until a whole duration has passed."""
    absent_s = now - election.view.changed_at if election.view is not None else 0.0
    return absent_s >= election.timers.lease_duration_s or not earlier_holder


def attempt_s(election: Election, *, now: float) -> float:
    """The deadline of one request: two more attempts must fit before the renew deadline, and none goes on past it."""
    timers = election.timers
    cap_s = max(timers.retry_period_s, (deadline_s(election) - timers.retry_period_s) / 2)
    return cap_s if election.valid_until is None else max(0.05, min(cap_s, election.valid_until - now))


def held_elsewhere(election: Election) -> bool:
    """Does another node hold the Lease, as far as is known?"""
    view = election.view
    if view is None or not view.holder or free_at(election) is None:
        return False
    return view.holder not in election.retired


def observed(election: Election, *, now: float) -> bool:
    """Has the Lease been read within its duration?"""
    view = election.view
    return view is not None and now - view.seen_at < max(election.timers.lease_duration_s, view.duration_s)
