"""The parts of one running daemon, and the wires between them.

Input: settings, the API, the NIC. Output: parts that know each other. It must not decide anything, nor run anything:
`life` starts and stops them.
"""

from __future__ import annotations

import logging
from pathlib import Path

from kvip import __version__, metrics
from kvip.clock import Clock
from kvip.core.facts import Facts
from kvip.core.ledger import Ledger
from kvip.core.model import Address, Vip
from kvip.core.placing import NicChoice
from kvip.core.strays import parse_ranges
from kvip.daemon import journal as journals
from kvip.daemon.about import describe
from kvip.daemon.announcer import Announcer
from kvip.daemon.binding import Binding
from kvip.daemon.caches import Caches
from kvip.daemon.chronicle import Chronicle
from kvip.daemon.demand import NodeDemand
from kvip.daemon.desire import Desire
from kvip.daemon.disputes import Disputes
from kvip.daemon.elections import build_elector, lease_filter
from kvip.daemon.elector import Elector
from kvip.daemon.executor import Executor
from kvip.daemon.firewall import Firewall, build_firewall
from kvip.daemon.guard import Guard
from kvip.daemon.hosts import build_host_notes
from kvip.daemon.lag import LoopLag
from kvip.daemon.leftovers import Leftovers
from kvip.daemon.lifetime import lifetime_s
from kvip.daemon.nic import read_all_links
from kvip.daemon.nics import Nics
from kvip.daemon.outcome import Outcome
from kvip.daemon.publisher import Publisher
from kvip.daemon.reconcile_loop import ReconcileLoop
from kvip.daemon.reserved import Reserved
from kvip.daemon.rush import Rush, Telling
from kvip.daemon.strays import StrayWatch
from kvip.daemon.supervision import Heartbeats
from kvip.daemon.terms import rules_of, service_kind, whereabouts_of
from kvip.daemon.turn import Turn
from kvip.daemon.unplaced import Unplaced
from kvip.daemon.upkeep import Upkeep
from kvip.daemon.wires import DaemonWires
from kvip.kernel import foreign_rules
from kvip.kernel.batches import AddressSocket
from kvip.kernel.host import answers_for_others, forwards_ipv6
from kvip.kernel.monitor import Monitor
from kvip.kernel.packet import IMPLEMENTATION
from kvip.kernel.service_rules import ServiceRules
from kvip.kernel.switch import Switch
from kvip.kube.api import Api
from kvip.kube.events import EventWriter
from kvip.kube.leases import LeaseClient
from kvip.kube.status import HostWriter, StatusWriter
from kvip.settings import Settings

log = logging.getLogger(__name__)


class Parts:
    """What one daemon consists of. Made in two steps: what silences the kernel first, then what needs the API and the NIC."""

    caches: Caches
    desire: Desire
    demand: NodeDemand
    disputes: Disputes
    journal: journals.JournalWriter
    leftovers: Leftovers
    monitor: Monitor
    nics: Nics
    events: EventWriter
    firewall: Firewall
    status: StatusWriter
    hosts: HostWriter
    outcome: Outcome
    publisher: Publisher
    reconcile: ReconcileLoop
    reserved: Reserved
    strays: StrayWatch
    unplaced: Unplaced
    upkeep: Upkeep

    def __init__(
        self, settings: Settings, *, clock: Clock, addresses: AddressSocket, switch: Switch | None, ports: ServiceRules | None
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.ports = ports
        self.started_at = clock.now()
        self.renewed_at: float | None = None
        """When a renewal of a lease last counted."""
        self.heartbeats = Heartbeats(clock)
        self.lag = LoopLag()
        self.rush = Rush(clock)
        self.telling = Telling(self.rush, lambda key: self.publisher.service_changed(key))
        self.rules = rules_of(settings)
        self.facts = Facts()
        self.ledger = Ledger()
        self.chronicle = Chronicle(clock, self.ledger)
        self.elector: Elector | None = None
        self.guard = Guard(switch)
        self.wires = DaemonWires(self)
        self.announcer = Announcer(
            clock=clock,
            heartbeats=self.heartbeats,
            permit=self.permit,
            on_announced=lambda vip, at: self.outcome.announced(vip, at),
            refresh_s=settings.refresh_interval_s,
            rate_pps=settings.frame_rate_pps,
            burst=settings.frame_burst,
            links=self.facts.links,
            forwards=forwards_ipv6,
            rush=self.rush.note,
        )
        self.executor = Executor(
            Binding(addresses, self.facts, clock=clock, lifetime_s=self.lifetime_s),
            self.guard,
            self.announcer,
            self.facts,
            clock=clock,
            permit=self.permit,
            group=lambda vip: self.elected().group(vip),
            progress=lambda: self.heartbeats.beat("reconcile"),
            catch_up=lambda: self.monitor.catch_up(),
        )
        metrics.build_info.labels(__version__, IMPLEMENTATION).set(1)

    def permit(self, vip: Vip) -> float | None:
        """Until when this node may bind and announce the VIP; None = it may not."""
        return self.elector.permit(vip) if self.elector is not None else None

    def build(self, *, lease_api: Api, api: Api, api_host: str, nic: NicChoice) -> None:
        """Make the parts that need the API (`api_host`: its URL) and the NIC of the settings."""
        self.reserved = Reserved(api_host, on_changed=self.wires.surroundings_changed)
        self.nics = Nics(
            nic,
            preferred=self.settings.interface,
            facts=self.facts,
            clock=self.clock,
            ledger=self.ledger,
            claims=lambda vip: self.desire.nic_claims(vip),
        )
        self._build_desire(lease_api=lease_api, api=api)
        self._build_reconcile()
        self.elector = build_elector(
            self.settings,
            client=lambda namespace: LeaseClient(lease_api, namespace),
            clock=self.clock,
            heartbeats=self.heartbeats,
            demand=self.demand,
            wires=self.wires,
            services=self.caches.services,
            leases=self.caches.leases,
            about=lambda: describe(self.facts, self.nics.announcing(), eligible=self.demand.node_able()),
        )

    def _build_desire(self, *, lease_api: Api, api: Api) -> None:
        settings = self.settings
        lease_namespace, chosen = lease_filter(settings)
        self.events = EventWriter(
            api,
            node=settings.node_name,
            clock=self.clock,
            on_posted=lambda reason: metrics.events_total.labels(reason).inc(),
            turn=self.rush.over,
        )
        self.leftovers = Leftovers(foreign_rules.find_all, lambda text: self.events.post_on_node(reason="ForeignRules", message=text))
        self.status = StatusWriter(api, on_conflict=self.wires.service_changed, turn=self.rush.over)
        self.hosts = HostWriter(api, on_conflict=self.wires.service_changed, turn=self.rush.over)
        self.caches = Caches(
            api=api,
            lease_api=lease_api,
            lease_namespace=lease_namespace,
            lease_filter=chosen,
            services_in=settings.watched_namespace,
            service_kind=service_kind(settings),
            clock=self.clock,
            beat=self.heartbeats.beat,
            on_service=self.wires.service_changed,
            on_slice=self.wires.slice_changed,
            on_node=self.wires.node_changed,
            on_lease=self.wires.lease_changed,
            on_snapshot=lambda: self.reconcile.wake(),
            on_leases=self.wires.leases_complete,
        )
        self.publisher = Publisher(
            node=settings.node_name,
            ledger=self.ledger,
            services=lambda: self.caches.services.store,
            status=None if settings.disable_service_updates else self.status,
            hosts=build_host_notes(self),
            events=self.events,
            speaks=self.wires.speaks,
            covers=self.wires.covers,
            granted_elsewhere=self.wires.granted_elsewhere,
            clock=self.clock,
            answers_for_others=lambda: any(map(answers_for_others, self.nics.announcing())),
            later=self.telling.later,
        )
        self.journal = journals.JournalWriter(
            Path(settings.state_dir),
            self.ledger,
            node=settings.node_name,
            incarnation=lambda: self.elected().incarnation,
            known=lambda: self.desire.known,
        )
        self.desire = Desire(
            ledger=self.ledger,
            services=self.caches.services,
            nodes=self.caches.nodes,
            whereabouts=whereabouts_of(settings, self.caches),
            facts=self.facts,
            nics=self.nics,
            reserved=self.reserved,
            rules=self.rules,
            node=settings.node_name,
            one_holder=settings.election == "global",
            clock=self.clock,
            publisher=self.publisher,
            on_ledger_changed=self.journal.touch,
        )

    def _build_reconcile(self) -> None:
        settings = self.settings
        self.outcome = Outcome(clock=self.clock, desire=self.desire, facts=self.facts, publisher=self.publisher, chronicle=self.chronicle)
        self.firewall = build_firewall(self, nics=self.nics.announcing)
        self.demand = NodeDemand(
            clock=self.clock,
            desire=self.desire,
            facts=self.facts,
            guard=self.guard,
            firewall=self.firewall,
            announces=self.announcer.announces,
            unasked=lambda vip, link: self.disputes.probing.in_doubt(vip, link),
            on_node_changed=lambda: self.wires.demand_changed(self.ledger.vips()),
            nics=self.nics,
        )
        self.unplaced = Unplaced(
            node=settings.node_name,
            clock=self.clock,
            ledger=self.ledger,
            nics=self.nics,
            publisher=self.publisher,
            speaks=self.wires.speaks,
            elsewhere=lambda vip: self.elected().elsewhere(vip),
        )
        self.reconcile = ReconcileLoop(
            clock=self.clock,
            heartbeats=self.heartbeats,
            desire=self.desire,
            facts=self.facts,
            nics=self.nics,
            outcome=self.outcome,
            permit=self.permit,
            demand_changed=self.wires.demand_changed,
            tick=self.wires.tick,
            lifetime_s=self.lifetime_s,
            rush=self.rush.note,
        )
        self.upkeep = self.reconcile.upkeep = Upkeep(
            clock=self.clock,
            facts=self.facts,
            executor=self.executor,
            read_links=read_all_links,
            restart_announcements=self.announcer.restart_on,
            check_rules=self.wires.check_rules,
            audited=self.wires.audited,
            on_nic=self.wires.nic_changed,
            on_duplicate=lambda vip: self.disputes.duplicate(vip),
            wake=lambda: self.reconcile.wake(),
            nics=self.nics,
            audit_interval_s=settings.audit_interval_s,
        )
        self.disputes = Disputes(
            clock=self.clock,
            heartbeats=self.heartbeats,
            facts=self.facts,
            desire=self.desire,
            executor=self.executor,
            publisher=self.publisher,
            elector=self.elected,
            look_at=self.reconcile.on_vips,
            nics=self.nics,
            probes=settings.probe,
            chronicle=self.chronicle,
        )
        self.strays = StrayWatch(
            self.clock,
            self.facts,
            lambda: self.caches.services.store,
            self.ledger,
            self.desire.node_addresses,
            self.publisher.stray,
            self.executor.remove_stray if settings.stray_action == "remove" else None,
            rules=self.rules,
            nics=self.nics.announcing,
            known=lambda: self.desire.known,
            ranges=parse_ranges(settings.stray_ranges),
        )
        self.reconcile.turn = Turn(
            clock=self.clock,
            desire=self.desire,
            facts=self.facts,
            executor=self.executor,
            guard=self.guard,
            firewall=self.firewall,
            outcome=self.outcome,
            asking=self.disputes.probing,
            permit=self.permit,
            waiting=self.wires.waiting,
            on_refused=self.wires.refused,
            on_duplicate=self.disputes.duplicate,
            dad=settings.ipv6_dad,
            nics=self.nics,
            lifetime_s=self.lifetime_s,
        )
        self.monitor = Monitor(
            on_address=self.upkeep.on_address, on_link=self.upkeep.on_link, on_resync=lambda: self.upkeep.doubt("overrun")
        )

    def remember(self, found: list[Address], *, removed: bool) -> None:
        """What the journal of a former daemon says about the marked addresses that were found at start."""
        journal = journals.load(Path(self.settings.state_dir))
        if not journals.is_predecessors(journal, node=self.settings.node_name):
            journal = None
        claims = journal.claims if journal is not None else {}
        if found:
            message = "addresses of a former daemon removed at start" if removed else "addresses of a former daemon silenced at start"
            log.warning(message, extra={"vips": [address.ip for address in found]})
        self.outcome.found_at_start({address.ip: claims.get(address.ip, ()) for address in found}, removed=removed)
        self.desire.remember(claims)
        self.strays.remember(claims)
        if journal is not None:
            self.elected().trust_predecessor(journal.incarnation)

    def elected(self) -> Elector:
        """The elector, once `build` made it."""
        assert self.elector is not None
        return self.elector

    def lifetime_s(self) -> int:
        """The lifetime that the kernel is given with each VIP now, in seconds."""
        return lifetime_s(self.settings.address_lifetime_s, vips=self.facts.marked_count())
