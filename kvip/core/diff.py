"""The difference between what should be bound and what is: one VIP in, ordered actions out.

Pure. It must not act, wait, or guess: what is not known leads to no action, except that a VIP without a permit
is always let go of.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kvip.core.facts import Bound
from kvip.core.model import Address, Link, Vip, host_prefix

TENTATIVE = 0x40
"""IFA_F_TENTATIVE: duplicate address detection runs; the kernel does not answer for the address yet."""
DADFAILED = 0x08
"""IFA_F_DADFAILED (linux/if_addr.h): the kernel does not use the address."""
DUPLICATE = "duplicate address detected by the kernel"
TAKEN = "another host has the address"
"""Why such an address is let go of."""


class LetGo(msgspec.Struct, frozen=True, kw_only=True):
    """Stop announcing, then remove this address."""

    vip: Vip
    address: Address
    reason: str
    keeps: bool = False
    """True: only a stray place goes; the VIP stays bound where it belongs, and its announcements go on."""


class Take(msgspec.Struct, frozen=True, kw_only=True):
    """Bind the VIP to the NIC, then announce it. `dad`: the kernel looks for duplicates first, and it is announced after that."""

    vip: Vip
    link: Link
    dad: bool = False


class Adopt(msgspec.Struct, frozen=True, kw_only=True):
    """The VIP is bound as it should be, but silent: it was adopted by hand, or could not be removed. Let it through, then announce it."""

    vip: Vip
    link: Link


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """Nobody is known to have held this VIP before: ask the segment whether some host has it, before it is bound."""

    vip: Vip
    link: Link


class Refresh(msgspec.Struct, frozen=True, kw_only=True):
    """Renew the lifetime of an address that is bound; nothing is announced."""

    vip: Vip
    link: Link


class Announce(msgspec.Struct, frozen=True, kw_only=True):
    """The VIP is bound as it should be, but nothing is announced for it: begin a burst."""

    vip: Vip
    link: Link


class Hush(msgspec.Struct, frozen=True, kw_only=True):
    """Announced or in the switch, but not bound by kvip any more: stop, and take it out."""

    vip: Vip


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """The address is on this node without kvip's mark: report it, leave it alone."""

    vip: Vip
    address: Address


Action = LetGo | Take | Adopt | Probe | Refresh | Announce | Hush | Conflict


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be true of one VIP on this node."""

    vip: Vip
    known: bool
    """False: the desire is not known yet (unsynced caches), so nothing is withdrawn for lack of a claimant."""
    claimed: bool
    eligible: bool | None = True
    """False: claimed, but nothing on this node serves it (externalTrafficPolicy Local); None: not known yet."""
    placeless: bool = False
    """True: claimed, but no NIC of this node does for it."""
    permitted: bool
    link: Link | None
    """The NIC to bind to; None when it is not there."""
    announced: bool = False
    """Is it being announced from here?"""
    admitted: bool = True
    """Is it let through by the switch?"""
    guarded: bool = False
    """Does the switch know it at all?"""
    unprobed: bool = False
    """True: to be asked for on the segment before it is bound for the first time."""
    contested: bool = False
    """True: another host answered for it; not bound until it goes."""
    secured: bool = True
    """Are the rules in the kernel that only the Services' ports reach it, where that is wanted?"""
    dad: bool = False
    """Is the kernel to look for duplicates when it binds it?"""
    exposed: bool = False
    """True: such rules are missing for too long, and cannot be put back."""


def plan(wanted: Wanted, bound: tuple[Bound, ...], *, now: float, lifetime_s: int) -> tuple[Action, ...]:
    """Actions that bring one VIP from its facts to what is wanted, let-gos first."""
    actions = _plan(wanted, bound, now=now, lifetime_s=lifetime_s)
    held = any(b.address.marked for b in bound)
    if (wanted.announced or wanted.guarded) and not held:
        return (Hush(vip=wanted.vip), *actions)
    return actions


def _plan(wanted: Wanted, bound: tuple[Bound, ...], *, now: float, lifetime_s: int) -> tuple[Action, ...]:
    mine = [b for b in bound if b.address.marked]
    foreign = [b.address for b in bound if not b.address.marked]
    withdrawal = _withdrawal(wanted)
    due = [b for b in mine if refresh_due(b, now=now, lifetime_s=lifetime_s)]
    if withdrawal is not None:
        return (
            tuple(LetGo(vip=wanted.vip, address=b.address, reason=withdrawal) for b in mine)
            if withdrawal
            else _kept(wanted, () if foreign else due)
        )
    if foreign:
        gone = tuple(LetGo(vip=wanted.vip, address=b.address, reason="address in use on this node") for b in mine)
        return (*gone, *(Conflict(vip=wanted.vip, address=address) for address in foreign))
    if wanted.link is None:
        return ()
    faults = [(b, _fault(wanted, b.address)) for b in mine]
    right = next((b for b, fault in faults if not fault), None)
    actions: list[Action] = [
        LetGo(vip=wanted.vip, address=b.address, reason=fault, keeps=right is not None) for b, fault in faults if fault
    ]
    if right is None:
        # After a duplicate the segment is asked before the address is bound again.
        actions += [] if any(fault == DUPLICATE for _, fault in faults) else _beginning(wanted, wanted.link)
    else:
        if not wanted.admitted and wanted.contested:
            return (*actions, LetGo(vip=wanted.vip, address=right.address, reason=TAKEN))
        if not wanted.admitted and wanted.unprobed:
            # Silent, though it is bound: who held it meanwhile may have been no kvip, and may answer still.
            actions.append(Probe(vip=wanted.vip, link=wanted.link))
        elif not wanted.admitted and wanted.secured:
            actions.append(Adopt(vip=wanted.vip, link=wanted.link))
        elif wanted.admitted and not wanted.announced and not right.address.flags & TENTATIVE:
            actions.append(Announce(vip=wanted.vip, link=wanted.link))
        if right in due:
            actions.append(Refresh(vip=wanted.vip, link=wanted.link))
    return tuple(actions)


def _kept(wanted: Wanted, due: Sequence[Bound]) -> tuple[Action, ...]:
    """What stays as it is must not run out meanwhile."""
    link = wanted.link
    if link is None or not (wanted.known and wanted.permitted and wanted.admitted):
        return ()
    return tuple(Refresh(vip=wanted.vip, link=link) for b in due if not _fault(wanted, b.address))


def _withdrawal(wanted: Wanted) -> str | None:
    """Why the VIP must not be here; "" = leave it as it is; None = it belongs here."""
    if wanted.known and not wanted.claimed:
        return "no claimant"
    if not wanted.permitted:
        return "no permit"
    if not wanted.known or wanted.eligible is None:
        return ""
    if wanted.exposed:
        return "its firewall rules cannot be applied"
    if wanted.placeless:
        return "no NIC for it here"
    return None if wanted.eligible else "no local endpoint"


def _beginning(wanted: Wanted, link: Link) -> list[Action]:
    if wanted.contested:
        return []
    if wanted.unprobed:
        return [Probe(vip=wanted.vip, link=link)]
    return [Take(vip=wanted.vip, link=link, dad=wanted.dad)] if wanted.secured else []


def refresh_due(bound: Bound, *, now: float, lifetime_s: int) -> bool:
    """True when a third of the lifetime has passed, or the lifetime is not one of ours."""
    return bound.expires_at is None or bound.expires_at < renewal_by(now, lifetime_s=lifetime_s)


def renewal_by(now: float, *, lifetime_s: int) -> float:
    """An address that would end before then is to be renewed."""
    return now + lifetime_s * 2 / 3


def _fault(wanted: Wanted, address: Address) -> str:
    if wanted.link is not None and address.index != wanted.link.index:
        return "wrong NIC"
    if address.prefix_len != host_prefix(wanted.vip):
        return "wrong prefix length"
    if address.flags & DADFAILED:
        return DUPLICATE
    return ""
