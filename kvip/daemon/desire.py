"""What is asked of this node, kept up to date one Service at a time.

Input: the informers' stores and the kernel's facts. Output: the ledger, and `wanted(vip)` for the planner. It must
not act: reading a Service only changes the ledger and says which VIPs to look at again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from kvip.clock import Clock
from kvip.core.desired import SERVICE_NAME_LABEL, Rules, Surroundings, Wish, addresses_of, interpret, serves_here
from kvip.core.diff import Wanted
from kvip.core.facts import Facts
from kvip.core.ledger import Claimant, Ledger
from kvip.core.model import Link, ServiceKey, Vip
from kvip.core.objects import EndpointSlice, Node, Service
from kvip.daemon.publisher import Publisher
from kvip.daemon.reserved import Reserved
from kvip.kube.informer import Informer

log = logging.getLogger(__name__)


class Desire:
    """Owns the ledger's content; reads the stores, never writes them."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        services: Informer[Service],
        slices: Informer[EndpointSlice],
        nodes: Informer[Node],
        facts: Facts,
        reserved: Reserved,
        rules: Rules,
        node: str,
        clock: Clock,
        publisher: Publisher,
        on_ledger_changed: Callable[[], None],
    ) -> None:
        self.ledger = ledger
        self._services = services
        self._slices = slices
        self._nodes = nodes
        self._facts = facts
        self._reserved = reserved
        self._rules = rules
        self._node = node
        self._clock = clock
        self._publisher = publisher
        self._on_ledger_changed = on_ledger_changed
        self._surroundings = Surroundings()
        self._slices_of: dict[ServiceKey, set[str]] = {}
        self._service_of: dict[str, ServiceKey] = {}
        self._local_only: set[ServiceKey] = set()
        self._wishes: dict[ServiceKey, Wish] = {}
        self._former: dict[Vip, tuple[Claimant, ...]] = {}
        self._read_through = False

    @property
    def synced(self) -> bool:
        """Are the caches that decide about claims complete, and read anew since the last fence?"""
        return self._services.current and self._nodes.current

    @property
    def known(self) -> bool:
        """Is it known what every Service asks for: caches complete, and each Service read since they became so?"""
        return self._read_through and self.synced

    def read_through(self, done: bool) -> None:
        """Every Service that the caches hold has been read; or the caches were renewed, and they have to be read again."""
        self._read_through = done

    def known_services(self) -> set[ServiceKey]:
        """Every Service that exists or has a claim."""
        return {ServiceKey(key) for key in self._services.store} | set(self.ledger.services())

    def slice_changed(self, key: str) -> set[ServiceKey]:
        """An EndpointSlice changed: returns the Services it belonged and belongs to, by the name in its label."""
        piece: EndpointSlice | None = self._slices.store.get(key)
        before = self._service_of.pop(key, None)
        if before is not None:
            self._slices_of.get(before, set()).discard(key)
        name = (piece.metadata.labels or {}).get(SERVICE_NAME_LABEL) if piece else None
        if piece is None or not name:
            return {before} if before is not None else set()
        service = ServiceKey(f"{piece.metadata.namespace}/{name}")
        self._service_of[key] = service
        self._slices_of.setdefault(service, set()).add(key)
        return {service} if before is None else {service, before}

    def surroundings_changed(self) -> bool:
        """Take in the addresses that are taken already; True when they differ from before."""
        surroundings = Surroundings(
            local_addresses=frozenset(address.ip for address in self._facts.unmarked() if not address.ip.startswith("fe80:")),
            node_addresses=self.node_addresses(),
            networks=self._facts.networks(),
            gateways=self._reserved.gateways,
            api_servers=self._reserved.api_servers,
        )
        changed = surroundings != self._surroundings
        self._surroundings = surroundings
        return changed

    def node_addresses(self) -> frozenset[Vip]:
        """Every address in the status of a Node."""
        return frozenset(vip for node in self._nodes.store.values() for vip in addresses_of(node))

    def read(self, key: ServiceKey) -> set[Vip]:
        """Bring the ledger in line with one Service; returns the VIPs to look at again."""
        service: Service | None = self._services.store.get(key)
        before = {vip: tuple(self.ledger.claimants(vip).values()) for vip in self.ledger.claims_of(key)}
        former = self._wishes.get(key)
        if service is None:
            touched = self.ledger.drop(key)
            self._wishes.pop(key, None)
            self._local_only.discard(key)
            if former is not None:
                self._publisher.forget(former.uid)
        else:
            touched = self._read_existing(key, service, former)
        for vip, claimants in before.items():
            if not self.ledger.claimants(vip) and any(bound.address.marked for bound in self._facts.bound(vip)):
                self._former[vip] = claimants
        for vip in self.ledger.claims_of(key):
            self._former.pop(vip, None)
        if touched:
            self._on_ledger_changed()
        return touched | set(before) | set(self.ledger.claims_of(key))

    def _read_existing(self, key: ServiceKey, service: Service, former: Wish | None) -> set[Vip]:
        wish = interpret(service, self._rules, self._surroundings)
        if former is None or wish.problems != former.problems or wish.uid != former.uid:
            for problem in wish.problems:
                log.warning("what a Service asks for is refused", extra={"service": key, "uid": wish.uid, "reason": problem.message})
            self._publisher.problems(wish)
        asked = self.ledger.claims_of(key)
        touched = self.ledger.claim(wish, since=self._clock.wall().isoformat(timespec="seconds"))
        if former is not None and former.uid == wish.uid:
            self._publisher.withdrawn(key, wish.uid, asked - set(wish.addresses))
        elif former is not None:
            self._publisher.forget(former.uid)
        self._wishes[key] = wish
        if wish.local_only:
            self._local_only.add(key)
        else:
            self._local_only.discard(key)
        self._publisher.service_changed(key)
        return touched

    def former_claimants(self, vip: Vip) -> tuple[Claimant, ...]:
        """Who asked for a VIP that nobody asks for any more; each answer is given once."""
        return self._former.pop(vip, ())

    def remember(self, claims: Mapping[Vip, tuple[Claimant, ...]]) -> None:
        """Claims by the journal of a former daemon: what of them is not asked for now is ours to remove from status."""
        for vip, claimants in claims.items():
            for claimant in claimants:
                self._publisher.withdrawn(claimant.service, claimant.uid, (vip,))

    def wanted(
        self,
        vip: Vip,
        *,
        link: Link | None,
        permitted: bool,
        announced: bool,
        admitted: bool,
        guarded: bool,
        waiting: bool,
        unprobed: bool,
        contested: bool,
        secured: bool,
        exposed: bool,
    ) -> Wanted:
        """What is to be true of one VIP on this node."""
        return Wanted(
            vip=vip,
            known=self.known,
            claimed=bool(self.ledger.claimants(vip)),
            eligible=self.eligible(vip),
            permitted=permitted,
            link=link,
            announced=announced,
            admitted=admitted,
            guarded=guarded,
            waiting=waiting,
            unprobed=unprobed,
            contested=contested,
            secured=secured,
            exposed=exposed,
        )

    def shown(self, vip: Vip) -> bool:
        """Does the status of a Service that asks for the VIP show that it was held before, or is that not known?"""
        if not self.known:
            return True
        services = (self._services.store.get(claimant.service) for claimant in self.ledger.claimants(vip).values())
        return any(entry.ip == vip for service in services if service is not None for entry in service.ingress)

    def eligible(self, vip: Vip) -> bool | None:
        """May this node serve the VIP, by the endpoints of its Services? None = not known yet."""
        claimants = self.ledger.claimants(vip)
        local = [claimant.service for claimant in claimants.values() if claimant.service in self._local_only]
        if len(local) < len(claimants) or not claimants:
            return True
        if not self._slices.synced:
            return None
        return any(serves_here((self._slices.store[key] for key in self._slices_of.get(service, ())), self._node) for service in local)
