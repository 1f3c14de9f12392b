"""What a foreign claim of a VIP means, and what follows from it: report, defend, ask the election, or nothing.

Input: claims as they were heard, what was known before, and whether the VIP is held here. Output: what is known now,
and the `Move`s to make. Pure: no clock, no frames, no decision about who may hold a VIP (PROTOCOL F1, F2; RFC 5227 2).
"""

from __future__ import annotations

from enum import Flag, auto

import msgspec

from kvip.core.model import IfIndex, Vip, is_ipv6

VERIFY_INTERVAL_S = 1.0
"""A peer's claim of one VIP is looked into at most this often (PROTOCOL F1)."""
DEFEND_INTERVAL_S = 10.0
"""RFC 5227 1.1, DEFEND_INTERVAL: two hosts that both defend must not answer each other for ever."""
PEER_RETRY_S = 2.0
"""A peer that answered a probe lets go soon; a stranger goes when somebody corrects it."""


class Claim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One host's word about an address, from one frame."""

    vip: Vip
    mac: bytes
    """The hardware address that the frame gives for it: what neighbours would learn."""
    probing: bool = False
    """True: it only asks whether the address is free (ARP probe, DAD solicitation), with this MAC."""


class Move(Flag):
    """What is to be done about a claim."""

    NOTHING = 0
    REPORT = auto()
    """Tell people: a conflict, with its MAC."""
    DEFEND = auto()
    """Announce the VIP again."""
    VERIFY = auto()
    """A peer claims it, which is evidence of a lost lease: ask the election before anything else."""
    ENDED = auto()
    """The conflict is over."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of foreign claims of one VIP. Times in CLOCK_BOOTTIME seconds, None = never."""

    mac: bytes = b""
    """The foreign host of the conflict; empty = no conflict now."""
    index: IfIndex = IfIndex(0)
    """The NIC on which it was found."""
    before_binding: bool = False
    """Found by a probe before the VIP was bound: it is not bound until the conflict ends."""
    retry_at: float = 0.0
    """When to look again whether the foreign host is still there."""
    heard_at: float | None = None
    reported_at: float | None = None
    defended_at: float | None = None
    verified_at: float | None = None


NOTHING_KNOWN = Standing()


def heard(
    standing: Standing, claim: Claim, *, index: IfIndex, held: bool, peer: bool, now: float, retry_at: float
) -> tuple[Standing, Move]:
    """A claim by a MAC that is not ours. `held`: is the VIP bound here? `peer`: is it the MAC of another node's NIC?

    A probe of a VIP that is held is not a claim: the kernel answers it, and that settles it (RFC 5227 2.1.1).
    """
    if claim.probing or not (held or standing.mac):
        return standing, Move.NOTHING
    standing = msgspec.structs.replace(standing, heard_at=now, before_binding=standing.before_binding and not held)
    if not held:
        return standing, Move.NOTHING
    if peer:
        if _recent(standing.verified_at, now, VERIFY_INTERVAL_S):
            return standing, Move.NOTHING
        return msgspec.structs.replace(standing, verified_at=now), Move.VERIFY
    move = Move.NOTHING
    if standing.mac != claim.mac and not (standing.mac and _recent(standing.reported_at, now, DEFEND_INTERVAL_S)):
        retry_at = standing.retry_at if standing.mac else retry_at
        standing = msgspec.structs.replace(standing, mac=claim.mac, index=index, retry_at=retry_at, reported_at=now)
        move |= Move.REPORT
    if not _recent(standing.defended_at, now, DEFEND_INTERVAL_S):
        standing = msgspec.structs.replace(standing, defended_at=now)
        move |= Move.DEFEND
    return standing, move


def probed(standing: Standing, answer: bytes | None, *, index: IfIndex, held: bool, now: float, retry_at: float) -> tuple[Standing, Move]:
    """A probe was answered by the MAC `answer`, or by nobody (None). While holding, the answer itself was `heard` as well."""
    if answer is None:
        return _over(standing)
    told = standing.mac == answer or (standing.mac and _recent(standing.reported_at, now, DEFEND_INTERVAL_S))
    standing = msgspec.structs.replace(standing, mac=answer, index=index, before_binding=not held, retry_at=retry_at, heard_at=now)
    return (standing, Move.NOTHING) if told else (msgspec.structs.replace(standing, reported_at=now), Move.REPORT)


def needs_probe(vip: Vip, *, held: bool) -> bool:
    """Is a conflict looked into by asking? Else by listening alone.

    The answer to an ARP probe goes to who asked. The answer to a DAD solicitation goes to all nodes, with Override set
    (RFC 4861 7.2.4, 7.2.5): asking for an IPv6 VIP that is held would move every neighbour's cache to the foreign host.
    """
    return not (held and is_ipv6(vip))


def listened(standing: Standing, *, now: float, quiet_s: float, retry_at: float) -> tuple[Standing, Move]:
    """The time to look again has come for a conflict that is only listened for: over when nothing was heard for `quiet_s`."""
    if not _recent(standing.heard_at, now, quiet_s):
        return _over(standing)
    return postponed(standing, retry_at=retry_at), Move.NOTHING


def postponed(standing: Standing, *, retry_at: float) -> Standing:
    """Still in conflict, to be looked into again."""
    return msgspec.structs.replace(standing, retry_at=retry_at)


def dropped(standing: Standing) -> tuple[Standing, Move]:
    """The conflict concerns nobody here any more, or its NIC is gone; the rate limits stay."""
    return _over(standing)


def due(standing: Standing, *, now: float) -> bool:
    """Is it time to look whether the conflict lasts?"""
    return bool(standing.mac) and now >= standing.retry_at


def idle(standing: Standing, *, now: float) -> bool:
    """No conflict, and no rate limit that still runs: nothing to remember."""
    return not (
        standing.mac
        or _recent(standing.defended_at, now, DEFEND_INTERVAL_S)
        or _recent(standing.verified_at, now, VERIFY_INTERVAL_S)
        or _recent(standing.reported_at, now, DEFEND_INTERVAL_S)
    )


def _over(standing: Standing) -> tuple[Standing, Move]:
    if not standing.mac:
        return standing, Move.NOTHING
    return msgspec.structs.replace(standing, mac=b"", before_binding=False), Move.ENDED


def _recent(at: float | None, now: float, interval_s: float) -> bool:
    return at is not None and now - at < interval_s
