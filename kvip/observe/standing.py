"""What state a VIP is in, as one node sees it, and why it is not announced there: facts in, one word and one sentence out.

Input: facts of the kernel and outcomes of the core's decisions. Output: `State` and a reason. Pure: it decides nothing about the VIP,
it only says what was decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from kvip.core.diff import DADFAILED, DUPLICATE, TENTATIVE
from kvip.core.election.heartbeat import node_of
from kvip.core.facts import Bound
from kvip.core.ledger import Claimant
from kvip.core.model import IfIndex, Link, Vip
from kvip.core.placing import NicChoice, Placed
from kvip.core.problem import shown
from kvip.core.siting import Choice, listed

NOT_A_MEMBER = "another node may hold it: this one is none of the members, and reads no Lease"
State = Literal["announced", "bound", "pending", "held-elsewhere", "releasing", "conflict", "invalid"]


class VipFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a node knows of one VIP. Instants are seconds of CLOCK_BOOTTIME; None = not now."""

    vip: Vip
    node: str
    claimants: tuple[Claimant, ...] = ()
    known: bool = True
    """False: it is not known yet what every Service asks for."""
    permit_until: float | None = None
    """Until when this node may hold it."""
    holder: str = ""
    """As the Leases spell it."""
    elsewhere: bool = False
    """Does another node hold it, as far as is known?"""
    bound: tuple[Bound, ...] = ()
    bound_at: float | None = None
    announced_at: float | None = None
    rounds: int = 0
    """Announcements since the last burst began."""
    last_sent_at: float | None = None
    mac: bytes | None = None
    """Another host that has the address."""
    choice: Choice = Choice()
    shortage: str = ""
    """Why no node may hold it, as a sentence about the Service; "" = some node may."""
    nic: NicChoice | None = None
    """What counts for its NIC; None = this is no node's view."""
    placed: Placed = Placed(known=False)
    links: Mapping[IfIndex, Link] = {}
    exposed: bool = False
    """The rules of service security are missing for too long."""
    unprobed: bool = False
    """The segment is to be asked before it is bound."""
    failure: str = ""
    """How the last try to bind it failed, in the kernel's own words."""

    @property
    def marked(self) -> Bound | None:
        """Where kvip has it bound."""
        return next((bound for bound in self.bound if bound.address.marked), None)

    @property
    def foreign(self) -> Bound | None:
        """Where it is on this node without kvip's mark."""
        return next((bound for bound in self.bound if not bound.address.marked), None)

    @property
    def holding_node(self) -> str:
        """The node of the holder; "" = nobody is known."""
        return holding_node(self.holder)


def holding_node(holder: str) -> str:
    """The node that an identity in a Lease names: before the "_" of kvip's and client-go's, the whole of kube-vip's."""
    return node_of(holder) or holder


def nic_name(index: IfIndex, links: Mapping[IfIndex, Link]) -> str:
    """The name of a NIC."""
    link = links.get(index)
    return link.name if link is not None else f"NIC {index}"


def judge(facts: VipFacts, *, unready: str = "") -> tuple[State, str]:
    """The state of a VIP and why it is not announced from this node; "" = it is. `unready`: why this node holds nothing at all."""
    marked, foreign = facts.marked, facts.foreign
    if not facts.claimants:
        if facts.known:
            return "releasing", "no Service asks for it; it is being removed"
        return "releasing", "silent, and kept until it is known what the Services ask for"
    if foreign is not None:
        return (
            "conflict",
            f"it is on {nic_name(foreign.address.index, facts.links)} of {facts.node} without kvip's mark, so it is left alone",
        )
    if facts.mac is not None:
        held = facts.announced_at is not None
        what = "it is announced here all the same, and defended" if held else "not bound until that host gives it up"
        return "conflict", f"the host {facts.mac.hex(':')} has the address too; {what}"
    if marked is not None and facts.permit_until is not None:
        return ("announced", "") if facts.announced_at is not None else ("bound", _why_silent(facts, marked))
    if marked is not None:
        return "releasing", f"{facts.node} may not hold it now{f': {unready}' if unready else ''}"
    if facts.elsewhere:
        return "held-elsewhere", f"{facts.holding_node} holds it" if facts.holder else NOT_A_MEMBER
    return "pending", _why_pending(facts, unready)


def _why_silent(facts: VipFacts, bound: Bound) -> str:
    if bound.address.flags & DADFAILED:
        return DUPLICATE
    if bound.address.flags & TENTATIVE:
        return "the kernel looks for duplicates first (RFC 4862)"
    return carrier_fault(facts) or facts.failure or "its first announcement is about to be sent"


def _why_pending(facts: VipFacts, unready: str) -> str:
    return (
        unready
        or site_fault(facts)
        or nic_fault(facts)
        or carrier_fault(facts)
        or bind_fault(facts)
        or ("the segment is being asked whether another host has it" if facts.permit_until is not None and facts.unprobed else "")
        or ("it is about to be bound" if facts.permit_until is not None else "")
        or (f"its last holder, {facts.holder}, is not known to be over yet" if facts.holder else "no node has taken it yet")
    )


def site_fault(facts: VipFacts) -> str:
    """Why this node may not hold it, by its Services' endpoints and annotations."""
    if not facts.choice.known:
        return "it is not known where it may be held: its annotation about nodes cannot be read, or its endpoints are not known yet"
    if facts.choice.nodes is None:
        return ""
    if not facts.choice.nodes:
        return facts.shortage or "no node may hold it"
    if not facts.node or facts.node in facts.choice.nodes:
        return ""
    return f"{facts.node} may not hold it, only {listed(facts.choice.nodes)} may"


def nic_fault(facts: VipFacts) -> str:
    """Why this node has no NIC for it."""
    if facts.nic is None or (facts.placed.known and facts.placed.nic):
        return ""
    value = f"{facts.nic.source}: {shown(facts.nic.value)}"
    if facts.placed.known:
        return f"{value} {facts.placed.fault}"
    return f"{value} cannot be understood" if not facts.nic.readable else f"{value}: the NICs are not known yet"


def carrier_fault(facts: VipFacts) -> str:
    """Why nothing can be sent on its NIC."""
    link = facts.links.get(facts.placed.index) if facts.placed.nic else None
    if link is None or (link.up and link.carrier):
        return ""
    return f"the NIC {link.name} of {facts.node} {'has no carrier' if link.up else 'is down'}"


def bind_fault(facts: VipFacts) -> str:
    """What went wrong in the kernel."""
    if facts.exposed:
        return f"its firewall rules (service-security) cannot be applied on {facts.node}"
    return f"the kernel of {facts.node} does not bind it: {facts.failure}" if facts.failure else ""
