"""Makes the parts of a daemon that need the API server or a NIC, and connects them with the others.

Input: parts of which those that silence the kernel are made, the API, the NIC. Output: the others, set on them. It must not decide
anything, nor run anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kvip import metrics
from kvip.core.placing import NicChoice
from kvip.core.strays import parse_ranges
from kvip.daemon import journal as journals
from kvip.daemon.about import describe
from kvip.daemon.caches import Caches
from kvip.daemon.demand import NodeDemand
from kvip.daemon.desire import Desire
from kvip.daemon.disputes import Disputes
from kvip.daemon.elections import build_elector, lease_filter
from kvip.daemon.firewall import build_firewall
from kvip.daemon.hosts import build_host_notes
from kvip.daemon.leftovers import Leftovers
from kvip.daemon.nic import read_all_links
from kvip.daemon.nics import Nics
from kvip.daemon.outcome import Outcome
from kvip.daemon.publisher import Publisher
from kvip.daemon.reconcile_loop import ReconcileLoop
from kvip.daemon.reserved import Reserved
from kvip.daemon.strays import StrayWatch
from kvip.daemon.terms import service_kind, whereabouts_of
from kvip.daemon.turn import Turn
from kvip.daemon.unplaced import Unplaced
from kvip.daemon.upkeep import Upkeep
from kvip.kernel import foreign_rules
from kvip.kernel.host import answers_for_others
from kvip.kernel.monitor import Monitor
from kvip.kube.api import Api
from kvip.kube.events import EventWriter
from kvip.kube.leases import LeaseClient
from kvip.kube.status import HostWriter, StatusWriter

if TYPE_CHECKING:
    from kvip.daemon.parts import Parts


def assemble(parts: Parts, *, lease_api: Api, api: Api, api_host: str, nic: NicChoice) -> None:
    """Make the parts that need the API (`api_host`: its URL) and the NIC of the settings."""
    parts.reserved = Reserved(api_host, on_changed=parts.wires.surroundings_changed)
    parts.nics = Nics(
        nic,
        preferred=parts.settings.interface,
        facts=parts.facts,
        clock=parts.clock,
        ledger=parts.ledger,
        claims=lambda vip: parts.desire.nic_claims(vip),
    )
    _assemble_desire(parts, lease_api=lease_api, api=api)
    _assemble_reconcile(parts)
    parts.elector = build_elector(
        parts.settings,
        client=lambda namespace: LeaseClient(lease_api, namespace),
        clock=parts.clock,
        heartbeats=parts.heartbeats,
        demand=parts.demand,
        wires=parts.wires,
        services=parts.caches.services,
        leases=parts.caches.leases,
        about=lambda: describe(parts.facts, parts.nics.announcing(), eligible=parts.demand.node_able()),
    )


def _assemble_desire(parts: Parts, *, lease_api: Api, api: Api) -> None:
    settings = parts.settings
    lease_namespace, chosen = lease_filter(settings)
    parts.events = EventWriter(
        api,
        node=settings.node_name,
        clock=parts.clock,
        on_posted=lambda reason: metrics.events_total.labels(reason).inc(),
        turn=parts.rush.over,
    )
    parts.leftovers = Leftovers(foreign_rules.find_all, lambda text: parts.events.post_on_node(reason="ForeignRules", message=text))
    parts.status = StatusWriter(api, on_conflict=parts.wires.service_changed, turn=parts.rush.over)
    parts.hosts = HostWriter(api, on_conflict=parts.wires.service_changed, turn=parts.rush.over)
    parts.caches = Caches(
        api=api,
        lease_api=lease_api,
        lease_namespace=lease_namespace,
        lease_filter=chosen,
        services_in=settings.watched_namespace,
        service_kind=service_kind(settings),
        clock=parts.clock,
        beat=parts.heartbeats.beat,
        on_service=parts.wires.service_changed,
        on_slice=parts.wires.slice_changed,
        on_node=parts.wires.node_changed,
        on_lease=parts.wires.lease_changed,
        on_snapshot=lambda: parts.reconcile.wake(),
        on_leases=parts.wires.leases_complete,
    )
    parts.publisher = Publisher(
        node=settings.node_name,
        ledger=parts.ledger,
        services=lambda: parts.caches.services.store,
        status=None if settings.disable_service_updates else parts.status,
        hosts=build_host_notes(parts),
        events=parts.events,
        speaks=parts.wires.speaks,
        covers=parts.wires.covers,
        granted_elsewhere=parts.wires.granted_elsewhere,
        clock=parts.clock,
        answers_for_others=lambda: any(map(answers_for_others, parts.nics.announcing())),
        later=parts.telling.later,
    )
    parts.journal = journals.JournalWriter(
        Path(settings.state_dir),
        parts.ledger,
        node=settings.node_name,
        incarnation=lambda: parts.elected().incarnation,
        known=lambda: parts.desire.known,
    )
    parts.desire = Desire(
        ledger=parts.ledger,
        services=parts.caches.services,
        nodes=parts.caches.nodes,
        whereabouts=whereabouts_of(settings, parts.caches),
        facts=parts.facts,
        nics=parts.nics,
        reserved=parts.reserved,
        rules=parts.rules,
        node=settings.node_name,
        one_holder=settings.election == "global",
        clock=parts.clock,
        publisher=parts.publisher,
        on_ledger_changed=parts.journal.touch,
    )


def _assemble_reconcile(parts: Parts) -> None:
    settings = parts.settings
    parts.outcome = Outcome(clock=parts.clock, desire=parts.desire, facts=parts.facts, publisher=parts.publisher, chronicle=parts.chronicle)
    parts.firewall = build_firewall(parts, nics=parts.nics.announcing)
    parts.demand = NodeDemand(
        clock=parts.clock,
        desire=parts.desire,
        facts=parts.facts,
        guard=parts.guard,
        firewall=parts.firewall,
        announces=parts.announcer.announces,
        unasked=lambda vip, link: parts.disputes.probing.in_doubt(vip, link),
        on_node_changed=lambda: parts.wires.demand_changed(parts.ledger.vips()),
        nics=parts.nics,
    )
    parts.unplaced = Unplaced(
        node=settings.node_name,
        clock=parts.clock,
        ledger=parts.ledger,
        nics=parts.nics,
        publisher=parts.publisher,
        speaks=parts.wires.speaks,
        elsewhere=lambda vip: parts.elected().elsewhere(vip),
    )
    parts.reconcile = ReconcileLoop(
        clock=parts.clock,
        heartbeats=parts.heartbeats,
        desire=parts.desire,
        facts=parts.facts,
        nics=parts.nics,
        outcome=parts.outcome,
        permit=parts.permit,
        demand_changed=parts.wires.demand_changed,
        tick=parts.wires.tick,
        lifetime_s=parts.lifetime_s,
        rush=parts.rush.note,
    )
    parts.upkeep = parts.reconcile.upkeep = Upkeep(
        clock=parts.clock,
        facts=parts.facts,
        executor=parts.executor,
        read_links=read_all_links,
        restart_announcements=parts.announcer.restart_on,
        check_rules=parts.wires.check_rules,
        audited=parts.wires.audited,
        on_nic=parts.wires.nic_changed,
        on_duplicate=lambda vip: parts.disputes.duplicate(vip),
        wake=lambda: parts.reconcile.wake(),
        nics=parts.nics,
        audit_interval_s=settings.audit_interval_s,
    )
    parts.disputes = Disputes(
        clock=parts.clock,
        heartbeats=parts.heartbeats,
        facts=parts.facts,
        desire=parts.desire,
        executor=parts.executor,
        publisher=parts.publisher,
        elector=parts.elected,
        look_at=parts.reconcile.on_vips,
        nics=parts.nics,
        probes=settings.probe,
        chronicle=parts.chronicle,
    )
    parts.strays = StrayWatch(
        parts.clock,
        parts.facts,
        lambda: parts.caches.services.store,
        parts.ledger,
        parts.desire.node_addresses,
        parts.publisher.stray,
        parts.executor.remove_stray if settings.stray_action == "remove" else None,
        rules=parts.rules,
        nics=parts.nics.announcing,
        known=lambda: parts.desire.known,
        ranges=parse_ranges(settings.stray_ranges),
    )
    parts.reconcile.turn = Turn(
        clock=parts.clock,
        desire=parts.desire,
        facts=parts.facts,
        executor=parts.executor,
        guard=parts.guard,
        firewall=parts.firewall,
        outcome=parts.outcome,
        asking=parts.disputes.probing,
        permit=parts.permit,
        on_refused=parts.wires.refused,
        on_duplicate=parts.disputes.duplicate,
        dad=settings.ipv6_dad,
        nics=parts.nics,
        lifetime_s=parts.lifetime_s,
    )
    parts.monitor = Monitor(
        on_address=parts.upkeep.on_address,
        on_link=parts.upkeep.on_link,
        on_resync=lambda: parts.upkeep.doubt("overrun"),
        answered=parts.addresses.port,
    )
