"""What is known of each node's heartbeat, and from when on what it named counts as dead.

Input: heartbeats as read, and when. Output: `Member`, and the instant of death by our own clock. It must not believe a time
from a Lease, nor take silence of our own view for silence of the node.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from kvip.core.election import heartbeat
from kvip.core.election.heartbeat import Heartbeat
from kvip.core.election.lease import is_older
from kvip.core.election.seal import follows
from kvip.core.objects import Lease


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One node's heartbeat as this node knows it. `beat` None = there is none."""

    beat: Heartbeat | None
    named: str
    """The incarnation it last named for certain; "" = none, or not known."""
    changed_at: float
    """When this node first saw this version; for one that vanished: when it was missed."""
    holder_since: float
    """When this node first saw it name what it names now."""
    silence_s: float
    """How long it must stay as it is before what it named is dead."""
    read_at: float = float("-inf")
    """When the last consistent read was sent."""
    over_from: float = 0.0
    """It vanished and came anew: what it named before may not know yet, and is not over before this."""


class Seen(NamedTuple):
    """What an observation came to.

    `rewritten`: a consistent read showed something older than was seen before, or one version has two contents.
    """

    member: Member
    rewritten: bool = False


def observe(
    known: Member | None,
    lease: Lease | None,
    *,
    now: float,
    own_s: float,
    longest_s: float,
    own: bool,
    asked: str | None = None,
    sent_at: float = 0.0,
) -> Seen | None:
    """Take in a heartbeat, or its absence; None = nothing new by that.

    `asked` None: a message of a watch. Else the answer to a consistent read: the version known when it was sent ("" = none).
    `own_s`, `longest_s`: our own lease duration, and the longest known. `own`: it names this very daemon,
    which knows what it wrote last.
    """
    before = known.beat if known is not None else None
    if lease is None:
        if asked is None or (before is not None and before.version != asked):
            return None
        if known is not None and before is None:
            return Seen(replace(known, read_at=max(known.read_at, sent_at)))
        named = known.named if known is not None else ""
        silence_s = max(known.silence_s, own_s) if known is not None and named else max(longest_s, own_s)
        over_from = known.over_from if known is not None else 0.0
        return Seen(
            Member(beat=None, named=named, changed_at=now, holder_since=now, silence_s=silence_s, read_at=sent_at, over_from=over_from)
        )
    beat = heartbeat.parse(lease)
    read_at = max(known.read_at if known is not None else float("-inf"), sent_at if asked is not None else float("-inf"))
    if before is not None:
        assert known is not None
        if beat.version == before.version and (beat.uid, beat.mark) != (before.uid, before.mark):
            return Seen(known, rewritten=True)
        if beat.version == before.version:
            return Seen(replace(known, read_at=read_at)) if asked is not None else None
        if is_older(beat.version, before.version):
            return Seen(known, rewritten=True) if asked is not None and is_older(beat.version, asked) else None
        if (
            beat.intact
            and beat.uid == before.uid
            and not (own and beat.mark == before.mark)
            and not follows(beat.mark, known_version=before.version)
        ):
            beat = replace_beat(beat, intact=False)
        if own and beat.uid != before.uid:
            beat = replace_beat(beat, intact=False)
    named = (beat.holder if beat.intact else "") or (known.named if known is not None else "")
    shortest_s = max(own_s, beat.duration_s, before.duration_s if before is not None else 0.0)
    silence_s = shortest_s if beat.intact else max(shortest_s, longest_s)
    same = known is not None and before is not None and (before.holder, before.intact) == (beat.holder, beat.intact)
    since = known.holder_since if known is not None and same else now
    over_from = known.over_from if known is not None else 0.0
    if known is not None and before is None:
        over_from = max(over_from, known.changed_at + known.silence_s)
    elif before is not None and beat.uid != before.uid:
        over_from = max(over_from, now + max(silence_s, longest_s))
    member = Member(beat=beat, named=named, changed_at=now, holder_since=since, silence_s=silence_s, read_at=read_at, over_from=over_from)
    return Seen(member)


def ended(member: Member, incarnation: str) -> bool:
    """Does the heartbeat say for certain that this incarnation is over, from `over_at` on? Incarnations never come back."""
    return member.beat is not None and member.beat.intact and member.beat.holder != incarnation


def over_at(member: Member) -> float:
    """From when on what this heartbeat does not name any more is over."""
    return max(member.holder_since, member.over_from)


def dead_at(member: Member, *, fresh_since: float) -> float:
    """From when on what it named is dead, should nothing change: our view must have been fresh for the whole time (PROTOCOL T1, T4)."""
    return max(member.changed_at, fresh_since) + member.silence_s


def living(member: Member, *, now: float, fresh_since: float) -> str:
    """The incarnation that is alive, as far as this node can tell; "" = none."""
    if member.beat is None or not member.beat.intact or now >= dead_at(member, fresh_since=fresh_since):
        return ""
    return member.beat.holder


def over(member: Member, incarnation: str, *, now: float, fresh_since: float) -> bool:
    """Is this incarnation over, as far as this node can tell: ended by its own or another's word, or silent for too long?"""
    return ended(member, incarnation) or now >= dead_at(member, fresh_since=fresh_since)


replace = msgspec.structs.replace


def replace_beat(beat: Heartbeat, *, intact: bool) -> Heartbeat:
    """The same heartbeat, believed or not."""
    return msgspec.structs.replace(beat, intact=intact)
