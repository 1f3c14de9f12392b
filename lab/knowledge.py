"""What the daemon of a node n1 would know of made-up Services, by the core's own decisions: for transcripts and tests of explanations.

In: Services, endpoints, and what happened. Out: `Case`s and rows. Pure: fixed instants, no daemon, no API server.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from kvip.core import siting
from kvip.core.addresses import Surroundings, parse
from kvip.core.annotations import ADDRESSES
from kvip.core.desired import Rules, Wish, interpret, is_ours, requested, service_key
from kvip.core.facts import Bound
from kvip.core.ledger import Claimant
from kvip.core.model import MARK_PROTO, Address, IfIndex, Incarnation, Link, ServiceKey, Uid, Vip, host_prefix
from kvip.core.objects import Ingress, LoadBalancerStatus, Node, ObjectMeta, Service, ServicePort, ServiceSpec, ServiceStatus
from kvip.core.placing import NicChoice, decide, place, survey
from kvip.core.sharing import Sharing
from kvip.core.siting import Endpoints, NodeRules
from kvip.observe.explaining import Case
from kvip.observe.standing import VipFacts
from kvip.observe.state import Header, Instants, StateView, row, unmet, unready, view

NOW = 10_000.0
WALL = datetime(2026, 11, 28, 2, 0, tzinfo=UTC)
INSTANTS = Instants(now=NOW, wall=WALL)
NODE, PEER = "n1", "n2"
MINE, ITS = Incarnation(f"{NODE}_{1:032x}"), f"{PEER}_{2:032x}"
CREATED = "2026-11-28T01:50:00Z"
ETH0 = Link(index=IfIndex(2), name="eth0", mac=b"\2\0\0\0\0\1", up=True, carrier=True)
ETH1 = Link(index=IfIndex(3), name="eth1", mac=b"\2\0\0\0\0\3", up=True, carrier=False)
NODE_RULES = NodeRules()
SETTING = NicChoice(source="setting interface", value="eth0", nic="eth0")
HEADER = Header(
    version="0.1.0", node=NODE, election="claims", incarnation=MINE, valid_until=INSTANTS.text(NOW + 2.4), valid_s=2.4, blocked="",
    fencing="switch", nics=("eth0",), synced={"services": True, "endpointslices": True, "nodes": True}, loop_lag_s=0.0012,
)  # fmt: skip


def service(
    name: str, *vips: str, namespace: str = "default", shows: Sequence[str] = (), created: str = CREATED, port: int = 80,
    local: bool = False, annotations: Mapping[str, str] | None = None, spec: Mapping[str, Any] | None = None, deleted: str | None = None,
) -> Service:  # fmt: skip
    """A LoadBalancer Service as the API server would have it."""
    notes = {**({ADDRESSES: ",".join(vips)} if vips else {}), **(annotations or {})}
    entries = tuple(Ingress(ip=ip, ip_mode="VIP") for ip in shows)
    return Service(
        metadata=ObjectMeta(
            name=name, namespace=namespace, uid=f"{sum(map(ord, name)):08x}-0000-4000-8000-000000000001", resource_version="1",
            creation_timestamp=created, deletion_timestamp=deleted, annotations=notes or None,
        ),
        spec=msgspec.structs.replace(
            ServiceSpec(type="LoadBalancer", external_traffic_policy="Local" if local else "Cluster", ports=(ServicePort(port=port),)),
            **(spec or {}),
        ),
        status=ServiceStatus(load_balancer=LoadBalancerStatus(ingress=entries)),
    )  # fmt: skip


def node(name: str, **labels: str) -> Node:
    """A Node object."""
    return Node(metadata=ObjectMeta(name=name, labels=labels))


class Knowledge(msgspec.Struct, kw_only=True):
    """What n1 knows. `facts` completes what follows from the Services by what happened: the election, the kernel, the wire."""

    services: list[Service]
    endpoints: dict[str, Endpoints] = {}
    """By namespace/name; a Service that is not in it has none."""
    nodes: dict[str, Node] = msgspec.field(default_factory=lambda: {name: node(name) for name in (NODE, PEER)})
    links: dict[IfIndex, Link] = msgspec.field(default_factory=lambda: {ETH0.index: ETH0, ETH1.index: ETH1})
    setting: NicChoice = SETTING
    rules: Rules = Rules(load_balancer_class="kube-vip.io/kube-vip-class")
    header: Header = HEADER
    gateways: frozenset[Vip] = frozenset()
    local_addresses: frozenset[Vip] = frozenset({Vip("10.10.0.11")})
    happened: dict[str, dict[str, Any]] = {}
    """By VIP: fields of `VipFacts`."""
    writes_status: bool = True

    @property
    def surroundings(self) -> Surroundings:
        """What is taken already."""
        return Surroundings(
            local_addresses=self.local_addresses,
            node_addresses=frozenset({Vip("10.10.0.11"), Vip("10.10.0.12")}),
            gateways=self.gateways,
            networks=(ipaddress.ip_network("10.10.0.0/24"),),
        )

    @property
    def sharing(self) -> Sharing:
        """Who asks for what."""
        sharing = Sharing()
        for each in self.services:
            sharing.ask(interpret(each, self.rules, self.surroundings))
        sharing.settle()
        return sharing

    def case(self, name: str = "default/web") -> Case:
        """All that bears on one Service."""
        key = ServiceKey(name)
        found = next((each for each in self.services if service_key(each) == key), None)
        sharing = self.sharing
        named: list[Vip] = []
        for value in requested(found, self.rules)[1] if found is not None else ():
            try:
                named.append(parse(value))
            except ValueError:
                continue
        return Case(
            key=key, service=found, header=self.header, rules=self.rules, surroundings=self.surroundings,
            rivals={vip: sharing.asking(vip) for vip in named}, facts={vip: self.facts(vip) for vip in named},
            writes_status=self.writes_status,
        )  # fmt: skip

    def view(self) -> StateView:
        """The state view of n1."""
        sharing, why = self.sharing, unready(self.header)
        vips = {vip for wish in sharing.wishes() for vip in sharing.granted(wish)} | {Vip(vip) for vip in self.happened}
        rows = [row(self.facts(vip), INSTANTS, unready=why) for vip in vips]
        for each in self.services:
            wish = sharing.wish(service_key(each))
            if wish is not None and is_ours(each, self.rules):
                rows += unmet(wish, sharing.clashes_of(wish))
        return view(self.header, rows, INSTANTS)

    def facts(self, vip: Vip) -> VipFacts:
        """What n1 knows of one VIP."""
        wishes = self.sharing.claimants(vip)
        choice = siting.choose([siting.site(each, self._endpoints(each), self.nodes, NODE_RULES) for each in wishes])
        counts = decide([each.nic for each in wishes], self.setting)
        own = [Address(ip=Vip("10.10.0.11"), prefix_len=24, index=ETH0.index)]
        placed = place(counts, vip, survey(self.links.values(), own))
        shortages = (siting.shortage(each, self._endpoints(each), self.nodes, NODE_RULES) for each in wishes)
        facts = VipFacts(
            vip=vip, node=NODE, claimants=tuple(_claimant(each) for each in wishes), choice=choice, nic=counts, placed=placed,
            links=self.links, shortage=next(filter(None, shortages), "") if choice.nodes == frozenset() else "",
        )  # fmt: skip
        return msgspec.structs.replace(facts, **self.happened.get(vip, {}))

    def _endpoints(self, wish: Wish) -> Endpoints:
        return self.endpoints.get(wish.key, Endpoints())


def _claimant(wish: Wish) -> Claimant:
    return Claimant(uid=Uid(wish.uid), service=wish.key, generation=1, since="2026-11-28T01:50:00+00:00")


def bound(vip: str, *, marked: bool = True, flags: int = 0, nic: Link = ETH0) -> tuple[Bound, ...]:
    """The kernel has it on this NIC."""
    address = Address(ip=Vip(vip), prefix_len=host_prefix(Vip(vip)), index=nic.index, proto=MARK_PROTO if marked else 0, flags=flags)
    return (Bound(address=address, expires_at=NOW + 41 if marked else None),)


def permitted() -> dict[str, Any]:
    """The election permits this node."""
    return {"holder": MINE, "permit_until": NOW + 2.4}


def announced(vip: str) -> dict[str, Any]:
    """Held, bound and announced here."""
    return {**permitted(), "bound": bound(vip), "bound_at": NOW - 540.02, "announced_at": NOW - 540, "rounds": 12, "last_sent_at": NOW - 12}


def elsewhere(holder: str = ITS) -> dict[str, Any]:
    """Another node holds it."""
    return {"holder": holder, "elsewhere": True}
