"""One view of what this daemon knows and does, as one document: for the log on SIGUSR1, and for whoever asks.

Input: the ledger, the kernel's facts, and what the election and the announcer say. Output: `StateView`. Pure: it must not ask anything
that waits, and nothing is said in it that is not known: what the kernel did not confirm is not bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from kvip.core.facts import Bound, Facts
from kvip.core.ledger import Ledger
from kvip.core.model import Incarnation, ServiceKey, Uid, Vip, packed


class ServiceView(msgspec.Struct, frozen=True, kw_only=True):
    """A Service that asks for a VIP."""

    service: ServiceKey
    uid: Uid
    generation: int
    since: str


class VipView(msgspec.Struct, frozen=True, kw_only=True):
    """One VIP on this node. Instants are RFC 3339 by the wall clock of the view; empty = not now."""

    vip: Vip
    services: tuple[ServiceView, ...]
    """Empty: nobody asks for it (any more)."""
    holder: str
    """Who holds it, as the Leases say: an incarnation, or another daemon's identity; "" = nobody is known."""
    permit_until: str
    bound: bool
    """Is it in the kernel with kvip's mark?"""
    nic: str
    """Where it is, with the mark or without; "" = it is not on this node."""
    expires_at: str
    """When the kernel drops it unless it is refreshed."""
    announced_since: str
    conflict: str
    """Who else has it: a MAC, or that it is on this node without kvip's mark; "" = nobody."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon itself."""

    version: str
    node: str
    election: str
    incarnation: Incarnation
    valid_until: str
    """Until when this node may act at all."""
    blocked: str
    """Why nothing is taken although this node is alive."""
    fencing: str
    """"switch", or why it is weaker."""
    nics: tuple[str, ...]
    """Those that VIPs go to, and that of the settings."""
    synced: Mapping[str, bool]
    """Kinds of objects: True = the API server's were read whole and are followed."""


class StateView(msgspec.Struct, frozen=True, kw_only=True):
    """The document."""

    at: str
    daemon: Header
    vips: tuple[VipView, ...]
    """IPv4 first, in numeric order."""


class Instants:
    """Turns instants of CLOCK_BOOTTIME into text; `now` and `wall` were read together."""

    def __init__(self, *, now: float, wall: datetime) -> None:
        self._now = now
        self._wall = wall

    def text(self, at: float | None) -> str:
        """RFC 3339 in UTC with milliseconds; "" for None."""
        if at is None:
            return ""
        return (self._wall + timedelta(seconds=at - self._now)).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def now(self) -> str:
        """The instant itself."""
        return self.text(self._now)


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What the other parts say of one VIP. Each call is a look-up."""

    permit: Callable[[Vip], float | None]
    holder: Callable[[Vip], str]
    announced_since: Callable[[Vip], float | None]
    conflicting: Callable[[Vip], bytes | None]
    """The MAC of another host that has the address."""


def view(header: Header, ledger: Ledger, facts: Facts, answers: Answers, instants: Instants) -> StateView:
    """Every VIP that a Service asks for, and every marked address that none does."""
    vips = sorted({*ledger.vips(), *facts.marked()}, key=lambda vip: (len(packed(vip)), packed(vip)))
    return StateView(at=instants.now(), daemon=header, vips=tuple(_vip(vip, ledger, facts, answers, instants) for vip in vips))


def _vip(vip: Vip, ledger: Ledger, facts: Facts, answers: Answers, instants: Instants) -> VipView:
    places = facts.bound(vip)
    marked = next((place for place in places if place.address.marked), None)
    foreign = next((place for place in places if not place.address.marked), None)
    place = marked or foreign
    mac = answers.conflicting(vip)
    return VipView(
        vip=vip,
        services=tuple(
            ServiceView(service=claimant.service, uid=claimant.uid, generation=claimant.generation, since=claimant.since)
            for claimant in ledger.claimants(vip).values()
        ),
        holder=answers.holder(vip),
        permit_until=instants.text(answers.permit(vip)),
        bound=marked is not None,
        nic=_nic(place, facts) if place else "",
        expires_at=instants.text(marked.expires_at) if marked else "",
        announced_since=instants.text(answers.announced_since(vip)),
        conflict=mac.hex(":") if mac else f"without kvip's mark on {_nic(foreign, facts)}" if foreign else "",
    )


def _nic(place: Bound, facts: Facts) -> str:
    link = facts.links.get(place.address.index)
    return link.name if link is not None else f"NIC {place.address.index}"
