"""Which nodes may hold a VIP: by its Services' endpoints and annotations, and by what the Node objects say.

Input: the claimants of a VIP, what their endpoints and the Nodes say. Output: a `Choice`. The same data gives the same choice on every
node. It must not decide who holds: the election does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from kvip.core import annotations as notes
from kvip.core import selectors
from kvip.core.desired import Wish
from kvip.core.model import ServiceKey
from kvip.core.objects import Endpoint, EndpointSlice, Node

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
EXCLUDE_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"
"""On a Node, whatever its value (KEP-1143); kubeadm puts it on control-plane nodes."""
SHUTTING_DOWN = frozenset(
    {"node.cloudprovider.kubernetes.io/shutdown", "node.kubernetes.io/out-of-service", "ToBeDeletedByClusterAutoscaler"}
)
"""Taints of a Node that is about to end or has ended. Not among them: not-ready and unreachable, which tell of the kubelet only, and of all
nodes at once where the API server or the network of pods is in trouble."""
MOST_NAMED = 5
CORDONED = "node.kubernetes.io/unschedulable"


class NodeRules(msgspec.Struct, frozen=True, kw_only=True):
    """Which Nodes may hold VIPs at all."""

    exclude_label: bool = True
    cordon_hands_over: bool = False


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """What the EndpointSlices of one Service say."""

    any: bool = False
    """Is there one at all, ready or not?"""
    nodes: frozenset[str] = frozenset()
    """Where there is one that takes traffic."""
    placeless: bool = False
    """One that takes traffic does not say where it is."""


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """What one claimant asks of the node that holds its VIP."""

    service: ServiceKey
    nodes: frozenset[str] | None = None
    """The nodes that would do; None = any; empty = it is served by none."""
    readable: bool = True
    """False: its annotation about nodes cannot be read."""
    known: bool = True
    """False: its endpoints are not known yet."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Where a VIP may be held."""

    known: bool = True
    """False: nothing is to be moved or taken for lack of knowledge."""
    nodes: frozenset[str] | None = None
    """None = any node."""
    left_out: tuple[ServiceKey, ...] = ()
    """Services that are not served there although some node would serve them: older ones want another node."""

    def allows(self, node: str) -> bool | None:
        """May this node hold the VIP? None = not known."""
        return (self.nodes is None or node in self.nodes) if self.known else None


def choose(sites: Sequence[Site]) -> Choice:
    """The nodes that do for the oldest claimant, and among those for the next, as long as there are any. `sites` come oldest first.

    Who is served nowhere has no say, nor has one whose annotation cannot be read as long as there are others.
    """
    readable = [site for site in sites if site.readable]
    if (sites and not readable) or not all(site.known for site in sites):
        return Choice(known=False)
    served = [site for site in readable if site.nodes is None or site.nodes]
    if not served:
        return Choice(nodes=frozenset() if sites else None)
    nodes: frozenset[str] | None = None
    left_out: list[ServiceKey] = []
    for site in served:
        if site.nodes is None:
            continue
        both = site.nodes if nodes is None else nodes & site.nodes
        if both:
            nodes = both
        else:
            left_out.append(site.service)
    return Choice(nodes=nodes, left_out=tuple(left_out))


def site(wish: Wish, endpoints: Endpoints | None, nodes: Mapping[str, Node], rules: NodeRules) -> Site:
    """What one claimant asks of the node that holds its VIP. `endpoints` None = not known yet; `nodes` by name."""
    if wish.node_selector is None:
        return Site(service=wish.key, readable=False)
    fit: frozenset[str] | None = None
    if wish.local_only or wish.needs_endpoints:
        if endpoints is None:
            return Site(service=wish.key, known=False)
        if wish.needs_endpoints and not endpoints.any:
            return Site(service=wish.key, nodes=frozenset())
        if wish.local_only and not endpoints.placeless:
            fit = frozenset(node for node in endpoints.nodes if not exclusion(nodes.get(node), rules))
    if wish.node_selector:
        matching = selectors.matching(wish.node_selector, labels_of(nodes))
        both = frozenset(node for node in matching if not exclusion(nodes[node], rules))
        fit = both if fit is None else fit & both
    return Site(service=wish.key, nodes=fit)


def shortage(wish: Wish, endpoints: Endpoints | None, nodes: Mapping[str, Node], rules: NodeRules) -> str:
    """Why no node does for a claimant whose `site` has none, as a sentence about its Service; "" = some node does."""
    if site(wish, endpoints, nodes, rules).nodes != frozenset() or (endpoints is None and (wish.local_only or wish.needs_endpoints)):
        return ""
    found = endpoints if endpoints is not None else Endpoints()
    if wish.needs_endpoints and not found.any:
        return "it has no endpoints, and require-endpoints is set"
    local = wish.local_only and not found.placeless
    if local and not found.nodes:
        what = "none of its endpoints takes traffic (ready, or serving while terminating)" if found.any else "it has no endpoints"
        return f"externalTrafficPolicy is Local, and {what}"
    matching = frozenset(selectors.matching(wish.node_selector or (), labels_of(nodes)))
    if wish.node_selector and not matching:
        return f"no Node matches its annotation {notes.NODE_SELECTOR}"
    fit = found.nodes & matching if local and wish.node_selector else found.nodes if local else matching
    if not fit:
        return f"its endpoints are on {listed(found.nodes)}, which its annotation {notes.NODE_SELECTOR} leaves out"
    excluded = sorted(fit)[0]
    return f"it asks for {listed(fit)}, which may hold no VIPs: {exclusion(nodes.get(excluded), rules)}"


def listed(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    several = sorted(names)
    return ", ".join(several[:MOST_NAMED]) + (f" and {len(several) - MOST_NAMED} more" if len(several) > MOST_NAMED else "")


def labels_of(nodes: Mapping[str, Node]) -> dict[str, Mapping[str, str]]:
    """The labels of every node, by its name."""
    return {name: node.metadata.labels or {} for name, node in nodes.items()}


def gather(slices: Iterable[EndpointSlice]) -> Endpoints:
    """The endpoints of one Service, from all of its slices."""
    found = [endpoint for piece in slices for endpoint in piece.endpoints or ()]
    usable = [endpoint for endpoint in found if takes_traffic(endpoint)]
    nodes = frozenset(endpoint.node_name for endpoint in usable if endpoint.node_name)
    return Endpoints(any=bool(found), nodes=nodes, placeless=any(not endpoint.node_name for endpoint in usable))


def takes_traffic(endpoint: Endpoint) -> bool:
    """Ready, or serving while terminating (KEP-1672)."""
    conditions = endpoint.conditions
    if conditions is None or conditions.ready is not False:
        return True
    return conditions.serving is True and conditions.terminating is True


def exclusion(node: Node | None, rules: NodeRules) -> str:
    """Why a node is to hold no VIPs, by its Node object; "" = it may. One that is not there says nothing."""
    if node is None:
        return ""
    if rules.exclude_label and EXCLUDE_LABEL in (node.metadata.labels or {}):
        return f"its Node has the label {EXCLUDE_LABEL} (exclude-label=false makes kvip pass over it)"
    taints = {taint.key for taint in node.spec.taints or ()}
    ending = sorted(taints & SHUTTING_DOWN)
    if ending:
        return f"its Node has the taint {ending[0]}"
    if rules.cordon_hands_over and (node.spec.unschedulable or CORDONED in taints):
        return "its Node is cordoned"
    return ""
