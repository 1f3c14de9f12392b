"""What is asked of this node, kept up to date one Service at a time.

Input: the informers' stores and the kernel's facts. Output: the ledger, and `wanted(vip)` for the planner. It must
not act: reading a Service only changes the ledger and says which VIPs to look at again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from kvip.clock import Clock
from kvip.core.addresses import Surroundings, addresses_of
from kvip.core.desired import Rules, Wish, interpret
from kvip.core.diff import Wanted
from kvip.core.election.placement import Leaning
from kvip.core.election.services import LeaseKey
from kvip.core.facts import Facts
from kvip.core.ledger import Claimant, Ledger
from kvip.core.model import Link, ServiceKey, Uid, Vip
from kvip.core.objects import Node, Service
from kvip.core.placing import NicChoice, Placed
from kvip.core.problem import Problem, bounded
from kvip.core.sharing import Sharing
from kvip.core.siting import Choice
from kvip.daemon.claiming import Claiming
from kvip.daemon.nics import Nics
from kvip.daemon.objections import objections
from kvip.daemon.publisher import Publisher
from kvip.daemon.reserved import Reserved
from kvip.daemon.whereabouts import Whereabouts
from kvip.kube.informer import Informer

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_AGAIN_S = 5.0  # at what whoever changed it should have told of
SPARE = 64
"""Answers beyond twice the VIPs that are asked for, before those that nobody needs any more are forgotten."""


class Desire:
    """Reads the stores, never writes them; `claiming` keeps the ledger."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        services: Informer[Service],
        nodes: Informer[Node],
        whereabouts: Whereabouts,
        facts: Facts,
        nics: Nics,
        reserved: Reserved,
        rules: Rules,
        node: str,
        one_holder: bool,
        clock: Clock,
        publisher: Publisher,
        on_ledger_changed: Callable[[], None],
    ) -> None:
        """`one_holder`: one node holds all VIPs, so one that it may not hold is held by nobody."""
        self.ledger = ledger
        self.whereabouts = whereabouts
        self._services = services
        self._nodes = nodes
        self._facts = facts
        self._nics = nics
        self._reserved = reserved
        self._rules = rules
        self._node = node
        self._one_holder = one_holder
        self._publisher = publisher
        self.surroundings = Surroundings()
        self.sharing = Sharing()
        self.claiming = Claiming(
            ledger=ledger,
            sharing=self.sharing,
            services=services,
            facts=facts,
            clock=clock,
            publisher=publisher,
            on_gone=self._forget,
            on_changed=on_ledger_changed,
        )
        self._problems: dict[Uid, tuple[Problem, ...]] = {}
        self._choices: dict[Vip, tuple[tuple[Wish, ...], Choice]] = {}  # with the wishes that were asked about
        self._chosen_at = (0, False)
        self._read_through = False
        self._clock = clock
        self._seen: tuple[int, tuple[Link, ...]] | None = None
        self._look_again_at = 0.0

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

    def ground_changed(self) -> bool:
        """The same as `surroundings_changed`, looked at as soon as this node's addresses or NICs are others, and else now and then: whoever
        changes anything else says so."""
        seen, now = (self._facts.strangers, tuple(self._facts.links.values())), self._clock.now()
        if seen == self._seen and now < self._look_again_at:
            return False
        self._seen, self._look_again_at = seen, now + LOOK_AGAIN_S
        return self.surroundings_changed()

    def surroundings_changed(self) -> bool:
        """Take in the addresses that are taken already; True when they differ from before."""
        surroundings = Surroundings(
            local_addresses=frozenset(address.ip for address in self._facts.unmarked() if not address.ip.startswith("fe80:")),
            node_addresses=self.node_addresses(),
            networks=self._facts.networks(),
            gateways=self._reserved.gateways,
            api_servers=self._reserved.api_servers,
        )
        changed = surroundings != self.surroundings
        self.surroundings = surroundings
        return changed

    def node_addresses(self) -> frozenset[Vip]:
        """Every address in the status of a Node."""
        return frozenset(vip for node in self._nodes.store.values() for vip in addresses_of(node))

    # -- reading Services --------------------------------------------------------------------------------------------------

    def read(self, keys: Iterable[ServiceKey]) -> set[Vip]:
        """Bring the ledger in line with these Services; returns the VIPs to look at again."""
        noted = dict.fromkeys(keys)
        self.claiming.tidy()
        _each(noted, self._note)
        concerned = [*noted, *(self.sharing.settle() - noted.keys())]
        touched = set[Vip]().union(*_each(concerned, self.claiming.claim))
        _each({*concerned, *self._sharers(touched)}, self._object)
        _each(concerned, self._publisher.service_changed)
        if touched:
            self._nics.claims_changed(touched)
        return touched

    def _note(self, key: ServiceKey) -> None:
        """What one Service asks for."""
        service: Service | None = self._services.store.get(key)
        if service is None:
            self.sharing.drop(key)
        else:
            self.sharing.ask(interpret(service, self._rules, self.surroundings))

    def _forget(self, uid: Uid) -> None:
        """The Service of this UID is gone."""
        self._publisher.forget(uid)
        self._problems.pop(uid, None)

    def _sharers(self, vips: Iterable[Vip]) -> set[ServiceKey]:
        """Other Services of these VIPs whose lot may have changed with them."""
        shared = (claimants for vip in vips if len(claimants := self.sharing.claimants(vip)) > 1)
        return {wish.key for claimants in shared if any(_is_particular(wish) for wish in claimants) for wish in claimants}

    def _object(self, key: ServiceKey) -> None:
        """Tell a Service what of its wish cannot be done, when that changed."""
        wish = self.sharing.wish(key)
        if wish is None:
            return
        found = bounded([*wish.problems, *self.objections(wish)])
        if found == self._problems.get(wish.uid, ()):
            return
        known = self._problems.get(wish.uid, ())
        self._problems[wish.uid] = found
        for problem in found:
            if problem not in known:
                log.warning("not done as asked", extra={"service": key, "uid": wish.uid, "reason": problem.message})
        self._publisher.problems(key, wish.uid, found)

    def objections(self, wish: Wish) -> tuple[Problem, ...]:
        """What of a wish cannot be done because of other Services, endpoints or nodes."""
        one_holder, node = self._one_holder, self._node
        return tuple(objections(wish, self.sharing, self.whereabouts, self._nics, self.choose, node=node, one_holder=one_holder))

    # -- what follows for a VIP --------------------------------------------------------------------------------------------

    def remember(self, claims: Mapping[Vip, tuple[Claimant, ...]]) -> None:
        """Claims by the journal of a former daemon: what of them is not asked for now is ours to remove from status."""
        for vip, claimants in claims.items():
            for claimant in (claimant for claimant in claimants if not claimant.from_status):
                self._publisher.withdrawn(claimant.service, claimant.uid, (vip,))

    def wanted(
        self,
        vip: Vip,
        *,
        placed: Placed,
        link: Link | None,
        permitted: bool,
        announced: bool,
        admitted: bool,
        guarded: bool,
        unprobed: bool,
        contested: bool,
        secured: bool,
        exposed: bool,
        dad: bool,
    ) -> Wanted:
        """What is to be true of one VIP on this node."""
        return Wanted(
            vip=vip,
            known=self.known,
            claimed=bool(self.ledger.claimants(vip)),
            eligible=self.eligible(vip) if placed.known else None,
            placeless=placed.known and not placed.nic,
            permitted=permitted,
            link=link,
            announced=announced,
            admitted=admitted,
            guarded=guarded,
            unprobed=unprobed,
            contested=contested,
            secured=secured,
            exposed=exposed,
            dad=dad,
        )

    def shown(self, vip: Vip) -> bool:
        """Does the status of a Service that asks for the VIP show that it was held before, or is that not known?"""
        if not self.known:
            return True
        services = (self._services.store.get(claimant.service) for claimant in self.ledger.claimants(vip).values())
        return any(entry.ip == vip for service in services if service is not None for entry in service.ingress)

    def eligible(self, vip: Vip) -> bool | None:
        """May this node serve the VIP, by the endpoints and annotations of its Services? None = not known yet."""
        return self.choose(vip).allows(self._node)

    def leases(self, vip: Vip) -> tuple[LeaseKey, ...]:
        """The Leases that the VIP is held by, that of the oldest Service first."""
        return tuple(dict.fromkeys(wish.lease for wish in self._deciding(vip)))

    def lease(self, service: ServiceKey) -> LeaseKey:
        """The Lease that a Service hangs on; "" = it has none of its own."""
        wish = self.sharing.wish(service)
        return wish.lease if wish is not None else LeaseKey("")

    def nic_claims(self, vip: Vip) -> list[NicChoice | None]:
        """What the Services of a VIP say of its NIC, oldest first."""
        return [wish.nic for wish in self._deciding(vip)]

    def leaning(self, vip: Vip) -> Leaning:
        """Which nodes are to take the VIP first."""
        return self.whereabouts.leaning(self._deciding(vip), self.choose(vip))

    def choose(self, vip: Vip) -> Choice:
        """Where the VIP may be held. Many Services may share it, and many ask: kept until something that it hangs on changes."""
        at = (self.whereabouts.version, self.whereabouts.synced)
        if at != self._chosen_at:
            self._choices.clear()
            self._chosen_at = at
        deciding = self._deciding(vip)
        known = self._choices.get(vip)
        if known is not None and known[0] == deciding:
            return known[1]
        if len(self._choices) > 2 * len(self.ledger) + SPARE:
            self._choices.clear()
        choice = self.whereabouts.choose(deciding)
        self._choices[vip] = (deciding, choice)
        return choice

    def _deciding(self, vip: Vip) -> tuple[Wish, ...]:
        """The Services that say where the VIP may be: those that may claim it, else the one that it is kept for."""
        granted = self.sharing.claimants(vip)
        if granted:
            return granted
        return tuple(filter(None, (self.sharing.wish(claimant.service) for claimant in self.ledger.claimants(vip).values())))


def _is_particular(wish: Wish) -> bool:
    return wish.local_only or wish.needs_endpoints or wish.node_selector != () or wish.nic is not None


def _each(keys: Iterable[ServiceKey], act: Callable[[ServiceKey], T]) -> list[T]:
    """What came of it for each Service; one that cannot be read holds up no other."""
    results = []
    for key in keys:
        try:
            results.append(act(key))
        except Exception:
            log.exception("a Service cannot be read; the others go on", extra={"service": key})
    return results
