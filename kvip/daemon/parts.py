"""The parts of one running daemon, and the wires between them.

Input: settings. Output: the parts that silence the kernel; `assembly` makes the others. It must not decide anything, nor run anything:
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
from kvip.daemon import journal as journals
from kvip.daemon.announcer import Announcer
from kvip.daemon.beside import DumpsBeside, a_thread
from kvip.daemon.binding import Binding
from kvip.daemon.caches import Caches
from kvip.daemon.chronicle import Chronicle
from kvip.daemon.demand import NodeDemand
from kvip.daemon.desire import Desire
from kvip.daemon.disputes import Disputes
from kvip.daemon.elector import Elector
from kvip.daemon.executor import Executor
from kvip.daemon.firewall import Firewall
from kvip.daemon.guard import Guard
from kvip.daemon.lag import LoopLag
from kvip.daemon.leftovers import Leftovers
from kvip.daemon.lifetime import lifetime_s
from kvip.daemon.nics import Nics
from kvip.daemon.outcome import Outcome
from kvip.daemon.publisher import Publisher
from kvip.daemon.reconcile_loop import ReconcileLoop
from kvip.daemon.reserved import Reserved
from kvip.daemon.rush import Rush, Telling
from kvip.daemon.strays import StrayWatch
from kvip.daemon.supervision import Heartbeats
from kvip.daemon.terms import rules_of
from kvip.daemon.unplaced import Unplaced
from kvip.daemon.upkeep import Upkeep
from kvip.daemon.wires import DaemonWires
from kvip.kernel.batches import AddressSocket
from kvip.kernel.host import forwards_ipv6
from kvip.kernel.monitor import Monitor
from kvip.kernel.packet import IMPLEMENTATION
from kvip.kernel.service_rules import ServiceRules
from kvip.kernel.switch import Switch
from kvip.kube.events import EventWriter
from kvip.kube.status import HostWriter, StatusWriter
from kvip.settings import Settings

log = logging.getLogger(__name__)


class Parts:
    """What one daemon consists of. Made in two steps: what silences the kernel here, then by `assemble` what needs the API and the NIC."""

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
        self,
        settings: Settings,
        *,
        clock: Clock,
        addresses: AddressSocket,
        dumps: AddressSocket,
        switch: Switch | None,
        ports: ServiceRules | None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.ports = ports
        self.addresses = addresses
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
            Binding(
                addresses,
                self.facts,
                clock=clock,
                lifetime_s=self.lifetime_s,
                dump_beside=DumpsBeside(dumps.dump),
                beside=a_thread("bind"),
            ),
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

    def remember(self, found: list[Address]) -> None:
        """What the journal of a former daemon says about the marked addresses that were found at start."""
        journal = journals.load(Path(self.settings.state_dir))
        if not journals.is_predecessors(journal, node=self.settings.node_name):
            journal = None
        claims = journal.claims if journal is not None else {}
        self.outcome.found_at_start({address.ip: claims.get(address.ip, ()) for address in found})
        links = self.facts.links
        self.disputes.probing.remember({address.ip: links[address.index].name for address in found if address.index in links})
        self.desire.remember(claims)
        self.strays.remember(claims)
        if journal is not None:
            self.elected().trust_predecessor(journal.incarnation, lately=bool(found))

    def elected(self) -> Elector:
        """The elector, once `assemble` made it."""
        assert self.elector is not None
        return self.elector

    def lifetime_s(self) -> int:
        """The lifetime that the kernel is given with each VIP now, in seconds."""
        return lifetime_s(self.settings.address_lifetime_s, vips=self.facts.marked_count())
