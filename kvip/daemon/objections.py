"""What of a Service's wish cannot be done because of other Services, endpoints or nodes, in words for its Events.

Input: a wish, who shares its VIPs, where they may be held. Output: problems. It must not change anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kvip.core import annotations as notes
from kvip.core.desired import Wish
from kvip.core.model import Vip
from kvip.core.placing import NicChoice, decide
from kvip.core.problem import Problem, about, shown
from kvip.core.sharing import Sharing
from kvip.core.siting import Choice
from kvip.daemon.nics import Nics
from kvip.daemon.whereabouts import Whereabouts


def objections(
    wish: Wish, sharing: Sharing, whereabouts: Whereabouts, nics: Nics, choose: Callable[[Vip], Choice], *, node: str, one_holder: bool
) -> Iterator[Problem]:
    """Problems of one Service beyond what is wrong with its own words.

    `choose`: where a VIP may be held.
    `one_holder`: one node holds all VIPs; `node` says what follows where it is that one (nobody else speaks then).
    """
    for vip, clash in sharing.clashes_of(wish).items():
        protocol, number = clash.port
        yield Problem(
            reason="PortConflict",
            message=f"{vip}: port {number}/{protocol} of it is taken by the older Service {clash.older}; not bound for this Service until "
            "that one frees it",
        )
    if wish.local_only and whereabouts.synced and whereabouts.endpoints(wish.key).placeless:
        yield Problem(
            reason="EndpointWithoutNode",
            message="externalTrafficPolicy Local: an EndpointSlice has an endpoint without nodeName, so nobody can tell which nodes serve "
            "this Service; any node may hold its VIPs, as with Cluster",
        )
    if wish.node_selector and whereabouts.site(wish).nodes == frozenset():
        yield Problem(
            reason="NoNode",
            message=f"{notes.source_of(notes.NODE_SELECTOR)}: no node that it matches can serve this Service; its VIPs are bound nowhere",
        )
    if wish.nic is not None:
        yield from _of_nic(wish, wish.nic, sharing, nics, node=node)
    for vip in sharing.granted(wish):
        yield from _of_place(wish, vip, choose(vip), node=node, one_holder=one_holder)


def _of_place(wish: Wish, vip: Vip, choice: Choice, *, node: str, one_holder: bool) -> Iterator[Problem]:
    if wish.key in choice.left_out:
        yield Problem(
            reason="NotServed",
            message=f"{vip} is shared with older Services, and no node that suits them suits this one; it is held by one that suits them",
        )
    if one_holder and choice.allows(node) is False:
        others = ", ".join(sorted(choice.nodes or ())[:5]) or "none"
        yield Problem(
            reason="NotAnnounced",
            message=f"{vip} is not announced: {shown(node)} holds all VIPs and may not hold this one by the Service's endpoints or "
            f"{notes.NODE_SELECTOR} (nodes that may: {others}); with election=claims one of those holds it",
        )


def _of_nic(wish: Wish, choice: NicChoice, sharing: Sharing, nics: Nics, *, node: str) -> Iterator[Problem]:
    """What becomes of the NIC that it names, by what others say and by the NICs of this node."""
    for vip in sharing.granted(wish):
        sharers = sharing.claimants(vip)
        counts = decide([each.nic for each in sharers], nics.default)
        mine, its = nics.place(choice, vip), nics.place(counts, vip)
        if counts != choice and choice.readable and (mine.nic != its.nic or not mine.nic):
            older = next((each.key for each in sharers if each.nic == counts), "another Service")
            yield about("OtherNic", choice.source, choice.value, f"does not count for {vip}: the older Service {older} names another NIC")
        elif mine.port:
            fault = f"is a port of {mine.nic!r} on {node}, and a port has no addresses of its own; {vip} goes to {mine.nic!r}"
            yield about("NicIsPort", choice.source, choice.value, fault)
