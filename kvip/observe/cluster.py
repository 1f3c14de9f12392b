"""Who holds what in the whole cluster, as the Leases and Services at the API server say.

Input: the objects, the settings that all nodes share, the wall clock. Output: `ClusterView`, and the facts for an explanation. Pure. For
readers: an age here compares the clocks of two machines, and no node decides by it (PROTOCOL T1).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec

from kvip.core import siting
from kvip.core.addresses import Surroundings, addresses_of
from kvip.core.desired import Rules, Wish, interpret, is_ours
from kvip.core.election import heartbeat, records
from kvip.core.election.heartbeat import node_of
from kvip.core.election.lease import PER_SERVICE, SUCCESSION_ANNOTATION
from kvip.core.election.services import LeaseKey, Scheme, lease_of
from kvip.core.ledger import Claimant
from kvip.core.model import ServiceKey, Vip
from kvip.core.objects import EndpointSlice, Lease, Node, Service
from kvip.core.sharing import Sharing
from kvip.core.siting import SERVICE_NAME_LABEL, NodeRules
from kvip.observe.explaining import Case
from kvip.observe.standing import VipFacts, holding_node
from kvip.observe.state import Instants, ServiceView, VipView, numeric, unmet

ClusterState = Literal["held", "expired", "pending", "invalid", "conflict"]
Election = Literal["claims", "global", "per-service"]
GRACE_S = 2.0
"""Between a renewal and its being seen here, and between the clocks of two machines."""


class Objects(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of the API server."""

    services: tuple[Service, ...] = ()
    nodes: tuple[Node, ...] = ()
    slices: tuple[EndpointSlice, ...] = ()
    leases: tuple[Lease, ...] = ()


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that all nodes share."""

    rules: Rules
    node_rules: NodeRules = NodeRules()
    namespace: str = "kube-system"
    lease_name: str = "plndr-svcs-lock"


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """A node with a heartbeat (election `claims`)."""

    node: str
    state: Literal["alive", "expired", "ended"]
    """`ended`: it gave its heartbeat back, or others ended it."""
    incarnation: str
    heartbeat_age_s: float | None
    """By the clocks of the node and of whoever asks; None = it does not say."""
    lease_duration_s: float
    eligible: bool
    nics: tuple[str, ...]
    vips: int


class ClusterVip(msgspec.Struct, frozen=True, kw_only=True):
    """One VIP."""

    vip: str
    state: ClusterState
    reason: str
    services: tuple[ServiceView, ...]
    node: str
    holder: str
    in_status: bool
    """Does the status of each of its Services show it?"""


class ClusterView(msgspec.Struct, frozen=True, kw_only=True):
    """The document."""

    at: str
    election: Election
    """As the Leases show it."""
    nodes: tuple[NodeView, ...]
    vips: tuple[ClusterVip, ...]


class Cluster:
    """What follows from the objects, by the functions that the daemons decide with."""

    def __init__(self, objects: Objects, terms: Terms, *, wall: datetime) -> None:
        self._objects = objects
        self._terms = terms
        self._wall = wall
        self._services = {ServiceKey(f"{each.metadata.namespace}/{each.metadata.name}"): each for each in objects.services}
        self._nodes = {each.metadata.name: each for each in objects.nodes}
        self.surroundings = Surroundings(node_addresses=frozenset(vip for node in objects.nodes for vip in addresses_of(node)))
        self._sharing = Sharing()
        for service in objects.services:
            if is_ours(service, terms.rules):
                self._sharing.ask(interpret(service, terms.rules, self.surroundings))
        self._sharing.settle()
        self._leases = {LeaseKey(f"{each.metadata.namespace}/{each.metadata.name}"): each for each in objects.leases}
        own = [each for each in objects.leases if each.metadata.namespace == terms.namespace]
        self._beats = {
            each.node: (each, lease)
            for lease in own
            if lease.metadata.name.startswith(heartbeat.PREFIX) and (each := heartbeat.parse(lease))
        }
        parsed = (records.parse(lease) for lease in own if records.number_in(lease.metadata.name) is not None)
        self._record_holder = {vip: holder for record in parsed for vip, holder in record.holder.items()}
        self._shared = self._leases.get(LeaseKey(f"{terms.namespace}/{terms.lease_name}"))
        self.election = self._mode()

    def _mode(self) -> Election:
        """The mode that left traces: heartbeats that live, else a shared Lease with a holder, else heartbeats, else Leases of Services."""
        if any(view.state == "alive" for view in self._node_views({})):
            return "claims"
        if self._shared is not None and self._shared.spec.holder_identity:
            mark = (self._shared.metadata.annotations or {}).get(SUCCESSION_ANNOTATION, "")
            return "per-service" if mark.startswith(PER_SERVICE) else "global"
        return "claims" if self._beats else "per-service"

    def view(self) -> ClusterView:
        """The document, in numeric order of the VIPs."""
        granted = {vip for wish in self._sharing.wishes() for vip in self._sharing.granted(wish)}
        rows = [self._row(vip) for vip in granted]
        for wish in self._sharing.wishes():
            rows += [_missing(row) for row in unmet(wish, self._sharing.clashes_of(wish))]
        held: dict[str, int] = {}
        for row in rows:
            if row.state == "held":
                held[row.node] = held.get(row.node, 0) + 1
        ordered = tuple(sorted(rows, key=lambda row: (numeric(row.vip), row.state == "conflict", row.services[0].service)))
        return ClusterView(at=self.at, election=self.election, nodes=tuple(self._node_views(held)), vips=ordered)

    @property
    def at(self) -> str:
        """The instant of the view."""
        return Instants(now=0.0, wall=self._wall).now()

    def case(self, key: ServiceKey) -> Case:
        """All that bears on one Service, but what only the nodes know."""
        wish = self._sharing.wish(key)
        vips = wish.addresses if wish is not None else ()
        return Case(
            key=key,
            service=self._services.get(key),
            header=None,
            rules=self._terms.rules,
            surroundings=self.surroundings,
            rivals={vip: self._sharing.asking(vip) for vip in vips},
            facts={vip: self._facts(vip) for vip in vips},
        )

    def _row(self, vip: Vip) -> ClusterVip:
        wishes = self._sharing.claimants(vip)
        holder, alive = self._holder(vip)
        state: ClusterState = "held" if alive else "expired" if holder else "pending"
        reason = ""
        if state == "expired":
            reason = "its holder's heartbeat stands still" if self.election == "claims" else "its holder's Lease stands still"
        elif state == "pending":
            reason = self._facts(vip).shortage or "no node holds it"
        return ClusterVip(
            vip=vip,
            state=state,
            reason=reason,
            services=tuple(ServiceView(service=each.key, uid=each.uid, generation=each.generation, since="") for each in wishes),
            node=holding_node(holder),
            holder=holder,
            in_status=all(any(entry.ip == vip for entry in self._services[each.key].ingress) for each in wishes),
        )

    def _facts(self, vip: Vip) -> VipFacts:
        wishes = self._sharing.claimants(vip)
        holder, alive = self._holder(vip)
        choice = siting.choose([siting.site(each, self._endpoints(each), self._nodes, self._terms.node_rules) for each in wishes])
        shortages = (siting.shortage(each, self._endpoints(each), self._nodes, self._terms.node_rules) for each in wishes)
        return VipFacts(
            vip=vip,
            node="",
            claimants=tuple(Claimant(uid=each.uid, service=each.key) for each in wishes),
            holder=holder,
            elsewhere=alive,
            choice=choice,
            shortage=next(filter(None, shortages), "") if choice.nodes == frozenset() else "",
        )

    def _endpoints(self, wish: Wish) -> siting.Endpoints:
        namespace, _, name = wish.key.partition("/")
        found = (each for each in self._objects.slices if each.metadata.namespace == namespace)
        return siting.gather(each for each in found if (each.metadata.labels or {}).get(SERVICE_NAME_LABEL) == name)

    def _holder(self, vip: Vip) -> tuple[str, bool]:
        """Who holds the VIP, and whether that one lives."""
        if self.election == "claims":
            holder = self._record_holder.get(vip, "")
            known = self._beats.get(node_of(holder))
            return holder, known is not None and known[0].holder == holder and self._fresh(known[1])
        # In `global` a Service may have asked for a Lease of its own (per-service-on-demand).
        shared = LeaseKey(f"{self._terms.namespace}/{self._terms.lease_name}") if self.election == "global" else LeaseKey("")
        leases = (lease_of(self._services[each.key], Scheme(shared=shared)).lease for each in self._sharing.claimants(vip))
        own = next(filter(None, map(self._leases.get, leases)), None)
        return self._by(own or (self._shared if self.election == "global" else None))

    def _by(self, lease: Lease | None) -> tuple[str, bool]:
        return ("", False) if lease is None else (lease.spec.holder_identity or "", bool(lease.spec.holder_identity) and self._fresh(lease))

    def _fresh(self, lease: Lease) -> bool:
        age_s = self._age_s(lease)
        return age_s is not None and age_s <= (lease.spec.lease_duration_seconds or 0) + GRACE_S

    def _age_s(self, lease: Lease) -> float | None:
        try:
            renewed = datetime.fromisoformat(lease.spec.renew_time or "")
            return max(0.0, (self._wall - renewed).total_seconds())
        except (ValueError, TypeError):
            return None

    def _node_views(self, held: Mapping[str, int]) -> list[NodeView]:
        return [
            NodeView(
                node=beat.node,
                state="ended" if not beat.holder else "alive" if self._fresh(lease) else "expired",
                incarnation=beat.holder,
                heartbeat_age_s=round(age_s, 1) if (age_s := self._age_s(lease)) is not None else None,
                lease_duration_s=beat.duration_s,
                eligible=beat.about.eligible,
                nics=tuple(nic.name for nic in beat.about.nics),
                vips=held.get(beat.node, 0),
            )
            for beat, lease in sorted(self._beats.values(), key=lambda pair: pair[0].node)
        ]


def _missing(row: VipView) -> ClusterVip:
    state: ClusterState = "invalid" if row.state == "invalid" else "conflict" if row.state == "conflict" else "pending"
    return ClusterVip(vip=row.vip, state=state, reason=row.reason, services=row.services, node="", holder="", in_status=False)
