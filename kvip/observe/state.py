"""One view of what this daemon knows and does, as one document: for the log on SIGUSR1, and for whoever asks.

Input: facts of each VIP, values that cannot be VIPs, and what the daemon says of itself. Output: `StateView`. Pure: it must not ask
anything that waits, and nothing is said in it that is not known: what the kernel did not confirm is not bound. docs/status.md lists its
fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from kvip.core.desired import Wish
from kvip.core.model import Incarnation, ServiceKey, Uid, Vip, packed
from kvip.core.problem import LONGEST_VALUE
from kvip.core.sharing import Clash
from kvip.observe.standing import State, VipFacts, judge, nic_name

Order = tuple[int, bytes, str, bool, str]
Change = Literal[
    "able", "fenced", "withdrawn", "bound", "adopted", "announced", "released", "swept", "conflict", "conflict-over", "refused", "api-back"
]


class ServiceView(msgspec.Struct, frozen=True, kw_only=True):
    """A Service that asks for a VIP."""

    service: ServiceKey
    uid: Uid
    generation: int
    since: str


class VipView(msgspec.Struct, frozen=True, kw_only=True):
    """One VIP on this node. Instants are RFC 3339 by the wall clock of the view; empty = not now, or not known."""

    vip: str
    """What a Service gives for an address, where it cannot be a VIP."""
    state: State
    reason: str
    """Why it is not announced from this node; "" = it is."""
    services: tuple[ServiceView, ...]
    """Empty: nobody asks for it (any more)."""
    node: str
    """The node that holds it; "" = nobody is known."""
    holder: str
    """Who holds it, as the Leases say: an incarnation, or another daemon's identity; "" = nobody is known."""
    since: str
    """Since when it is announced (`announced`), bound (`bound`) or asked for (`pending`)."""
    permit_until: str
    bound: bool
    """Is it in the kernel with kvip's mark?"""
    nic: str
    """Where it is, with the mark or without; "" = it is not on this node."""
    expires_at: str
    """When the kernel drops it unless it is refreshed."""
    announced_since: str
    last_announced: str
    rounds: int
    """Announcements since the last burst began."""
    conflict: str
    """Who else has it: a MAC, or that it is on this node without kvip's mark; "" = nobody."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon itself."""

    version: str
    node: str
    election: str
    incarnation: Incarnation
    epoch: int = 0
    """How often everything was withdrawn since the start."""
    valid_until: str
    """Until when this node may act at all."""
    valid_s: float = 0.0
    """Seconds until then; 0 = it may not act."""
    observed: bool = True
    """Is what it knows of the Leases fresh?"""
    blocked: str
    """Why nothing is taken although this node is alive."""
    banned: str = ""
    """Why this node is to hold nothing: its Node object, or its switch."""
    fencing: str
    """"switch", or why it is weaker."""
    nics: tuple[str, ...]
    """Those that VIPs go to, and that of the settings."""
    synced: Mapping[str, bool]
    """Kinds of objects: True = the API server's were read whole and are followed."""
    known: bool = True
    """Is it known what every Service asks for? Not before all were read since the start, or since everything was withdrawn."""
    unready: str = ""
    """Why this node holds nothing at all; "" = it may."""
    loop_lag_s: float = 0.0
    """The longest that a timer of the daemon was late in the last 10 s."""


class ChangeView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to VIPs of this node, or to the daemon as a whole."""

    at: str
    until: str
    """When the last of them happened."""
    change: Change
    vips: tuple[str, ...]
    """Which, the first few; empty = it concerns the daemon as a whole."""
    more: int
    """Further changes of the same kind and detail within 10 s of the first."""
    services: tuple[ServiceKey, ...]
    """Those of `vips`."""
    detail: str
    """Its NIC, or the cause."""


class StateView(msgspec.Struct, frozen=True, kw_only=True):
    """The document."""

    at: str
    daemon: Header
    vips: tuple[VipView, ...]
    """IPv4 first, in numeric order; what is no address comes last."""
    changes: tuple[ChangeView, ...] = ()
    """The latest, the oldest first; they begin with the daemon."""


class Instants:
    """Puts instants of the daemon's clock on the wall clock of one moment."""

    def __init__(self, *, now: float, wall: datetime) -> None:
        self._now = now
        self._wall = wall

    def text(self, at: float | None) -> str:
        """RFC 3339 in UTC with milliseconds; "" = never."""
        if at is None:
            return ""
        moment = self._wall + timedelta(seconds=at - self._now)
        return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def now(self) -> str:
        """The instant itself."""
        return self.text(self._now)

    def left_s(self, at: float | None) -> float:
        """Seconds until then, rounded to milliseconds; 0 = over, or never."""
        return 0.0 if at is None else max(0.0, round(at - self._now, 3))


def unready(header: Header) -> str:
    """Why this node holds nothing at all; "" = it may."""
    missing = sorted(kind for kind, done in header.synced.items() if not done)
    if not header.observed:
        return "the API server does not answer about the Leases, so this node may hold nothing"
    if missing:
        return f"the API server's {', '.join(missing)} were not read yet"
    if not header.known:
        return "it is not known yet what every Service asks for: they are being read"
    if header.blocked:
        return header.blocked
    if header.banned:
        return f"{header.node} holds nothing: {header.banned}"
    if header.election == "claims" and not header.valid_s:
        return "this node's heartbeat is not confirmed, so it may hold nothing"
    return ""


def view(header: Header, vips: Iterable[VipView], instants: Instants, changes: tuple[ChangeView, ...] = ()) -> StateView:
    """The document, in its order."""
    return StateView(at=instants.now(), daemon=header, vips=tuple(sorted(vips, key=order)), changes=changes)


def row(facts: VipFacts, instants: Instants, *, unready: str = "") -> VipView:
    """One VIP that a Service asks for, or that is bound although none does. `unready`: why this node holds nothing at all."""
    state, reason = judge(facts, unready=unready)
    marked, foreign = facts.marked, facts.foreign
    place = marked or foreign
    asked = min((claimant.since for claimant in facts.claimants), default="")
    return VipView(
        vip=facts.vip,
        state=state,
        reason=reason,
        services=tuple(
            ServiceView(service=claimant.service, uid=claimant.uid, generation=claimant.generation, since=claimant.since)
            for claimant in facts.claimants
        ),
        node=facts.holding_node,
        holder=facts.holder,
        since={"announced": instants.text(facts.announced_at), "bound": instants.text(facts.bound_at), "pending": asked}.get(state, ""),
        permit_until=instants.text(facts.permit_until),
        bound=marked is not None,
        nic=nic_name(place.address.index, facts.links) if place else "",
        expires_at=instants.text(marked.expires_at) if marked else "",
        announced_since=instants.text(facts.announced_at),
        last_announced=instants.text(facts.last_sent_at),
        rounds=facts.rounds,
        conflict=facts.mac.hex(":")
        if facts.mac
        else f"without kvip's mark on {nic_name(foreign.address.index, facts.links)}"
        if foreign
        else "",
    )


def unmet(wish: Wish, clashes: Mapping[Vip, Clash]) -> Iterator[VipView]:
    """What one Service asks for and does not get: values that cannot be VIPs, addresses whose port an older Service has, or no address."""
    for refused in wish.refused:
        yield _unmet(wish, refused.value, "invalid", refused.fault)
    for vip, clash in clashes.items():
        protocol, number = clash.port
        yield _unmet(wish, vip, "conflict", f"the older Service {clash.older} has port {number}/{protocol} of it")
    if not wish.listed and not wish.refused:
        yield _unmet(wish, "", "pending", "the Service names no address")


def _unmet(wish: Wish, value: str, state: State, reason: str) -> VipView:
    return VipView(
        vip=value if len(value) <= LONGEST_VALUE else f"{value[: LONGEST_VALUE - 3]}...",
        state=state,
        reason=reason,
        services=(ServiceView(service=wish.key, uid=wish.uid, generation=wish.generation, since=""),),
        node="",
        holder="",
        since="",
        permit_until="",
        bound=False,
        nic="",
        expires_at="",
        announced_since="",
        last_announced="",
        rounds=0,
        conflict="",
    )


def numeric(vip: str) -> tuple[int, bytes, str]:
    """Sorts VIPs: IPv4 first, by number; what is no address comes last."""
    try:
        value = packed(Vip(vip))
    except OSError:
        return 17, b"", vip
    return len(value), value, vip


def order(row: VipView) -> Order:
    """What is held comes before what others ask for in vain."""
    return *numeric(row.vip), row.state == "conflict", row.services[0].service if row.services else ""
