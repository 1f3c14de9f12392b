"""The rooms of one daemon over fake ports, wired as `assembly` wires them, with an elector that permits what a test says.

The rooms themselves (desire, publisher, outcome, turn, reconcile loop, upkeep, demand, guard, executor, wires) are the real ones.
"""

from types import SimpleNamespace

from kvip.clock import ManualClock
from kvip.core.desired import Rules
from kvip.core.facts import Facts
from kvip.core.ledger import Ledger
from kvip.core.placing import NicChoice
from kvip.core.siting import NodeRules
from kvip.daemon.binding import Binding
from kvip.daemon.chronicle import Chronicle
from kvip.daemon.demand import NodeDemand
from kvip.daemon.desire import Desire
from kvip.daemon.executor import Executor
from kvip.daemon.firewall import Firewall
from kvip.daemon.guard import Guard
from kvip.daemon.hosts import HostNotes
from kvip.daemon.nics import Nics
from kvip.daemon.outcome import Outcome
from kvip.daemon.publisher import Publisher
from kvip.daemon.reconcile_loop import ReconcileLoop
from kvip.daemon.supervision import Heartbeats
from kvip.daemon.turn import Turn
from kvip.daemon.unplaced import Unplaced
from kvip.daemon.upkeep import Upkeep
from kvip.daemon.whereabouts import Whereabouts
from kvip.daemon.wires import DaemonWires
from tests.unit.daemon.fake_elector import FakeElector, NoQuestions
from tests.unit.daemon.fake_ports import (
    ETH0,
    LIFETIME_S,
    TOO_MANY,
    Announcements,
    Cache,
    EventBook,
    FakeSwitch,
    HostBook,
    Kernel,
    StatusBook,
)

ANY_NODE = NodeRules()


class Rooms:
    """One node, named n1, with VIPs on eth0."""

    def __init__(
        self, *, weak=False, dad=False, audit_interval_s=60.0, table=None, one_holder=False, node_rules=ANY_NODE, updates=True, **terms
    ):
        self.nic = terms.pop("nic", "eth0")
        self.one_holder, self.node_rules, self.updates = one_holder, node_rules, updates
        self.rules = Rules(load_balancer_class="kube-vip.io/kube-vip-class", **terms)
        self.log = []
        self.dad = dad
        self.clock = ManualClock()
        self.settings = SimpleNamespace(lease_duration_s=5.0)
        self.heartbeats = Heartbeats(self.clock)
        self.facts = Facts()
        self.facts.links[ETH0.index] = ETH0
        self.ledger = Ledger()
        self.chronicle = Chronicle(self.clock, self.ledger)
        self.kernel = Kernel(self.log)
        self.switch = None if weak else FakeSwitch(self.log, self.clock)
        self.guard = Guard(self.switch)
        self.guard.install(["eth0"], {})
        self.announcer = Announcements(self.log)
        self.elector = FakeElector(self)
        self.wires = DaemonWires(self)
        self.status, self.hosts, self.events = StatusBook(), HostBook(), EventBook()
        self.renewals = []
        self.ledger_changes = []
        self.services, self.slices, self.nodes = Cache(), Cache(), Cache()
        self.caches = SimpleNamespace(services=self.services, renew=lambda: self.renewals.append(self.clock.now()))
        self.journal = SimpleNamespace(touch=lambda: None)
        self.strays = SimpleNamespace(check=lambda: None)
        self.reserved = SimpleNamespace(gateways=frozenset(), api_servers=frozenset())
        self.asking = NoQuestions()
        self.disputes = SimpleNamespace(probing=SimpleNamespace(tidy=lambda: None), renewed=lambda: None)
        self.links = [ETH0]
        self.links_broken = None
        self.strict_arp = False
        self.on_read_links = lambda: None
        self.news = lambda: None
        self.news_read = 0
        self._rooms(audit_interval_s, table)
        self.log.clear()

    def _rooms(self, audit_interval_s, table):
        self.executor = Executor(
            Binding(self.kernel, self.facts, clock=self.clock, lifetime_s=lambda: LIFETIME_S),
            self.guard,
            self.announcer,
            self.facts,
            clock=self.clock,
            permit=lambda vip: self.elector.permit(vip),
            progress=lambda: self.heartbeats.beat("reconcile"),
            catch_up=self._catch_up,
        )
        hosts = HostNotes(
            self.hosts,
            node="n1",
            clock=self.clock,
            announces=lambda vip: self.publisher.announces(vip),
            elsewhere=lambda vip: self.elector.elsewhere(vip),
            speaks=self.wires.speaks,
        )
        self.publisher = Publisher(
            node="n1",
            ledger=self.ledger,
            services=lambda: self.services.store,
            status=self.status if self.updates else None,
            hosts=hosts if self.updates else None,
            events=self.events,
            speaks=self.wires.speaks,
            covers=self.wires.covers,
            granted_elsewhere=self.wires.granted_elsewhere,
            clock=self.clock,
            answers_for_others=lambda: not self.strict_arp,
        )
        self.nics = Nics(
            NicChoice(source="setting interface", value=self.nic, nic=self.nic),
            preferred="eth0",
            facts=self.facts,
            clock=self.clock,
            ledger=self.ledger,
            claims=lambda vip: self.desire.nic_claims(vip),
        )
        self.desire = Desire(
            ledger=self.ledger,
            services=self.services,
            nodes=self.nodes,
            whereabouts=Whereabouts(slices=self.slices, nodes=self.nodes, node="n1", rules=self.node_rules),
            facts=self.facts,
            nics=self.nics,
            reserved=self.reserved,
            rules=self.rules,
            node="n1",
            one_holder=self.one_holder,
            clock=self.clock,
            publisher=self.publisher,
            on_ledger_changed=lambda: self.ledger_changes.append(self.clock.now()),
        )
        self.desire.read_through(True)
        self.outcome = Outcome(clock=self.clock, desire=self.desire, facts=self.facts, publisher=self.publisher, chronicle=self.chronicle)
        self.firewall = Firewall(
            table,
            clock=self.clock,
            ledger=self.ledger,
            services=lambda: self.services.store,
            nics=self.nics.announcing,
            bound=self.facts.is_marked,
            look_at=lambda vips: self.reconcile.on_vips(vips),
            report=self.publisher.not_secured,
        )
        self.unplaced = Unplaced(
            node="n1",
            clock=self.clock,
            ledger=self.ledger,
            nics=self.nics,
            publisher=self.publisher,
            speaks=self.wires.speaks,
            elsewhere=lambda vip: self.elector.elsewhere(vip),
        )
        self.demand = NodeDemand(
            clock=self.clock,
            desire=self.desire,
            facts=self.facts,
            guard=self.guard,
            firewall=self.firewall,
            announces=self.announcer.announces,
            unasked=self.asking.in_doubt,
            on_node_changed=lambda: self.wires.demand_changed(self.ledger.vips()),
            nics=self.nics,
        )
        self.reconcile = ReconcileLoop(
            clock=self.clock,
            heartbeats=self.heartbeats,
            desire=self.desire,
            facts=self.facts,
            nics=self.nics,
            outcome=self.outcome,
            permit=lambda vip: self.elector.permit(vip),
            demand_changed=self.wires.demand_changed,
            tick=self._tick,
            lifetime_s=lambda: LIFETIME_S,
        )
        self.nic_changes = []
        self.upkeep = self.reconcile.upkeep = Upkeep(
            clock=self.clock,
            facts=self.facts,
            executor=self.executor,
            read_links=self._read_links,
            restart_announcements=self.announcer.restart_on,
            check_rules=self.wires.check_rules,
            audited=self.wires.audited,
            on_nic=self._on_nic,
            on_duplicate=self._on_duplicate,
            wake=self.reconcile.wake,
            nics=self.nics,
            audit_interval_s=audit_interval_s,
        )
        self.turn = self.reconcile.turn = Turn(
            clock=self.clock,
            desire=self.desire,
            facts=self.facts,
            executor=self.executor,
            guard=self.guard,
            firewall=self.firewall,
            outcome=self.outcome,
            asking=self.asking,
            permit=lambda vip: self.elector.permit(vip),
            on_refused=lambda vip, _: self.log.append(("refused", vip)),
            on_duplicate=self._on_duplicate,
            dad=self.dad,
            nics=self.nics,
            lifetime_s=lambda: LIFETIME_S,
        )
        self.turns = 0

    def _catch_up(self):
        self.news_read += 1
        assert self.news_read < TOO_MANY, "the kernel's news are read without end"
        self.news()

    def _tick(self):
        self.turns += 1
        assert self.turns < TOO_MANY, "the reconcile loop turns without end"
        self.wires.tick()

    def _on_duplicate(self, vip):
        self.log.append(("duplicate", vip))
        self.asking.unasked.add(vip)
        self.reconcile.on_vips((vip,))

    def _on_nic(self):
        self.nic_changes.append(self.clock.now())
        self.wires.nic_changed()

    async def _read_links(self):
        self.on_read_links()
        if self.links_broken:
            raise self.links_broken
        return list(self.links)
