"""Where VIPs may be held, as the caches of EndpointSlices and Nodes say now.

Input: the two caches, wishes. Output: what `core.siting` makes of them, and which Services a change concerns. It must not interpret
Services, nor decide who holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kvip.core import selectors, siting
from kvip.core.desired import Wish
from kvip.core.election.placement import ALIKE, Leaning
from kvip.core.model import ServiceKey
from kvip.core.objects import EndpointSlice, Node
from kvip.core.selectors import Preference
from kvip.core.siting import SERVICE_NAME_LABEL, Choice, Endpoints, NodeRules, Site
from kvip.kube.informer import Informer


class Whereabouts:
    """Indexes the slices by Service; keeps what was last known of the labels of Nodes."""

    def __init__(self, *, slices: Informer[EndpointSlice], nodes: Informer[Node], node: str, rules: NodeRules) -> None:
        self._slices = slices
        self._nodes = nodes
        self._node = node
        self._rules = rules
        self._slices_of: dict[ServiceKey, set[str]] = {}
        self._service_of: dict[str, ServiceKey] = {}
        self._judged: dict[str, tuple[Mapping[str, str], str]] = {}
        self._own: tuple[Node | None, str] = None, ""
        """This node's object, and what was found of it: asked for at each turn of several loops."""
        self.version = 0
        """Grows with each change that an answer may hang on."""

    @property
    def synced(self) -> bool:
        """Are the endpoints known?"""
        return self._slices.synced

    def slice_changed(self, key: str) -> set[ServiceKey]:
        """An EndpointSlice changed: returns the Services it belonged and belongs to, by the name in its label."""
        self.version += 1
        piece: EndpointSlice | None = self._slices.store.get(key)
        before = self._service_of.pop(key, None)
        if before is not None:
            self._slices_of[before].discard(key)
            if not self._slices_of[before]:
                del self._slices_of[before]
        name = (piece.metadata.labels or {}).get(SERVICE_NAME_LABEL) if piece else None
        if piece is None or not name:
            return {before} if before is not None else set()
        service = ServiceKey(f"{piece.metadata.namespace}/{name}")
        self._service_of[key] = service
        self._slices_of.setdefault(service, set()).add(key)
        return {service} if before is None else {service, before}

    def node_changed(self, name: str) -> bool:
        """A Node changed: is it another one for the question where VIPs may be held?"""
        node: Node | None = self._nodes.store.get(name)
        before = self._judged.pop(name, None)
        if node is not None:
            self._judged[name] = (node.metadata.labels or {}, siting.exclusion(node, self._rules))
        changed = before != self._judged.get(name)
        self.version += changed
        return changed

    def exclusion(self) -> str:
        """Why this node is to hold no VIPs, by its Node object; "" = it may."""
        node: Node | None = self._nodes.store.get(self._node)
        judged, excluded = self._own
        if node is not judged:
            self._own = node, excluded = node, siting.exclusion(node, self._rules)
        return excluded

    def endpoints(self, service: ServiceKey) -> Endpoints:
        """What the slices of a Service say."""
        return siting.gather(self._slices.store[key] for key in self._slices_of.get(service, ()))

    def choose(self, claimants: Iterable[Wish]) -> Choice:
        """Where a VIP of these Services (oldest first) may be held."""
        return siting.choose([self.site(wish) for wish in claimants])

    def site(self, wish: Wish) -> Site:
        """What one claimant asks of the node."""
        return siting.site(wish, self._known_endpoints(wish), self._nodes.store, self._rules)

    def shortage(self, wish: Wish) -> str:
        """Why no node does for it, as a sentence about its Service; "" = some node does."""
        return siting.shortage(wish, self._known_endpoints(wish), self._nodes.store, self._rules)

    def _known_endpoints(self, wish: Wish) -> Endpoints | None:
        """Its endpoints, where they matter and are known."""
        concerned = wish.local_only or wish.needs_endpoints
        return self.endpoints(wish.key) if concerned and self._slices.synced else None

    def leaning(self, claimants: Iterable[Wish], choice: Choice) -> Leaning:
        """Which nodes are to take the VIP first: those that may hold it, in the order of the oldest Service that has one."""
        prefers = next((wish.prefers for wish in claimants if wish.prefers != Preference()), None)
        if prefers is None and choice.nodes is None:
            return ALIKE
        tiers = selectors.tiers(prefers, siting.labels_of(self._nodes.store)) if prefers is not None else ()
        return Leaning(fit=choice.nodes, tiers=tiers)
