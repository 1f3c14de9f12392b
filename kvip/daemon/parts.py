"""The parts of one running daemon: builds them, wires them, starts and stops them in order.

Input: settings, the API, the NIC. Output: a daemon that serves until cancelled, and then has let go of everything.
It must not decide anything: it only connects.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from kvip import __version__, metrics
from kvip.checks import parse_listen
from kvip.clock import Clock
from kvip.core.desired import Rules
from kvip.core.election.lease import Timers
from kvip.core.facts import Facts
from kvip.core.ledger import Ledger
from kvip.core.model import Address, Incarnation, Link, Vip
from kvip.core.objects import EndpointSlice, Lease, Node, Service
from kvip.daemon import journal as journals
from kvip.daemon.announcer import Announcer
from kvip.daemon.desire import Desire
from kvip.daemon.executor import Executor
from kvip.daemon.lease_loop import LeaseLoop
from kvip.daemon.nic import read_all_links
from kvip.daemon.outcome import Outcome
from kvip.daemon.publisher import Publisher
from kvip.daemon.reconcile_loop import ReconcileLoop
from kvip.daemon.supervision import Heartbeats, supervise
from kvip.kernel.batches import AddressSocket
from kvip.kernel.monitor import Monitor
from kvip.kernel.packet import IMPLEMENTATION
from kvip.kube.api import Api
from kvip.kube.decode import ApiObject, ObjectDecoder
from kvip.kube.events import EventWriter
from kvip.kube.informer import Informer
from kvip.kube.leases import LeaseClient
from kvip.kube.status import StatusWriter
from kvip.observe import health, http
from kvip.settings import Settings

log = logging.getLogger(__name__)

LAST_WORDS_S = 0.3

T = TypeVar("T", bound=ApiObject)


class Daemon:
    """The parts of one running daemon and the wires between them."""

    _reconcile: ReconcileLoop
    _desire: Desire
    _outcome: Outcome

    def __init__(self, settings: Settings, *, clock: Clock, addresses: AddressSocket) -> None:
        self._settings = settings
        self._clock = clock
        self._heartbeats = Heartbeats(clock)
        self._facts = Facts()
        self._ledger = Ledger()
        self._lifetime_s = settings.address_lifetime_s
        self._election: LeaseLoop | None = None
        self._announcer = Announcer(
            clock=clock,
            heartbeats=self._heartbeats,
            permit=self._permit,
            on_announced=lambda vip, at: self._outcome.announced(vip, at),
            refresh_s=settings.refresh_interval_s,
            rate_pps=settings.frame_rate_pps,
            burst=settings.frame_burst,
            links=self._facts.links,
        )
        self.executor = Executor(
            addresses,
            self._announcer,
            self._facts,
            clock=clock,
            permit=self._permit,
            progress=lambda: self._heartbeats.beat("reconcile"),
            catch_up=lambda: self._monitor.catch_up(),
            lifetime_s=self._lifetime_s,
        )
        metrics.build_info.labels(__version__, IMPLEMENTATION).set(1)

    def _permit(self, vip: Vip) -> float | None:
        return self._election.permit(vip) if self._election is not None else None

    def build(self, *, lease_api: Api, api: Api, link: Link) -> None:
        """Make the parts that need the API and the NIC."""
        settings = self._settings
        node = settings.node_name
        self._events = EventWriter(api, node=node, clock=self._clock)
        self._status = StatusWriter(api, on_conflict=self._service_changed)
        self._publisher = Publisher(
            node=node,
            ledger=self._ledger,
            services=lambda: self._services.store,
            status=self._status,
            events=self._events,
            may_write=lambda: self._permit(Vip("")) is not None,
        )
        self._services = self._informer(api, "/api/v1/services", Service, self._service_changed)
        self._slices = self._informer(api, "/apis/discovery.k8s.io/v1/endpointslices", EndpointSlice, self._slice_changed)
        self._nodes = self._informer(api, "/api/v1/nodes", Node, self._node_changed)
        self._lease_watch: Informer[Lease] = Informer(
            lease_api,
            f"/apis/coordination.k8s.io/v1/namespaces/{settings.namespace}/leases",
            decoder=ObjectDecoder(Lease),
            clock=self._clock,
            on_change=self._lease_changed,
            params={"fieldSelector": f"metadata.name={settings.lease_name}"},
        )
        self._journal = journals.JournalWriter(
            Path(settings.state_dir), self._ledger, node=node, incarnation=self._incarnation, known=lambda: self._desire.synced
        )
        self._desire = Desire(
            ledger=self._ledger,
            services=self._services,
            slices=self._slices,
            nodes=self._nodes,
            facts=self._facts,
            rules=Rules(load_balancer_class=settings.load_balancer_class, class_only=settings.class_only),
            node=node,
            clock=self._clock,
            publisher=self._publisher,
            on_ledger_changed=self._journal.touch,
        )
        self._outcome = Outcome(clock=self._clock, desire=self._desire, facts=self._facts, publisher=self._publisher, nic=link.name)
        self._reconcile = ReconcileLoop(
            clock=self._clock,
            heartbeats=self._heartbeats,
            desire=self._desire,
            facts=self._facts,
            executor=self.executor,
            outcome=self._outcome,
            permit=self._permit,
            restart_announcements=self._announcer.restart_on,
            read_links=read_all_links,
            nic=link.name,
            lifetime_s=self._lifetime_s,
            audit_interval_s=settings.audit_interval_s,
        )
        self._election = LeaseLoop(
            LeaseClient(lease_api, settings.namespace),
            name=settings.lease_name,
            node=node,
            timers=Timers(
                lease_duration_s=settings.lease_duration_s,
                renew_deadline_s=settings.renew_deadline_s,
                retry_period_s=settings.retry_period_s,
            ),
            clock=self._clock,
            heartbeats=self._heartbeats,
            on_won=self._won,
            on_fence=self._fenced,
            on_heard=self._api_heard,
            earlier_holder=self._earlier_holder,
        )
        self._facts.links[link.index] = link

    def _informer(self, api: Api, path: str, kind: type[T], on_change: Callable[[str], None]) -> Informer[T]:
        decoder = ObjectDecoder(kind)
        return Informer(
            api, path, decoder=decoder, clock=self._clock, on_change=on_change, on_snapshot=lambda: self._reconcile.on_snapshot()
        )

    def remember(self, found: list[Address]) -> None:
        """What the journal of a former daemon says about the addresses that were found and removed at start."""
        journal = journals.load(Path(self._settings.state_dir))
        usable = journal is not None and journal.boot_id == journals.boot_id() and journal.node == self._settings.node_name
        claims = journal.claims if journal is not None and usable else {}
        if found:
            log.warning("addresses of a former daemon removed at start", extra={"vips": [address.ip for address in found]})
        self._outcome.found_at_start({address.ip: claims.get(address.ip, ()) for address in found})
        self._desire.remember(claims)
        if journal is not None and usable and self._election is not None:
            self._election.trust_predecessor(journal.incarnation)

    async def serve(self) -> None:
        """Run every component until cancelled, then let go of everything in order."""
        assert self._election is not None
        self.executor.resync("start")
        self._desire.surroundings_changed()
        self._monitor = Monitor(
            on_address=self._reconcile.on_address, on_link=self._reconcile.on_link, on_resync=lambda: self._reconcile.on_resync("overrun")
        )
        background = {
            "monitor": self._monitor.run,
            "informer-services": self._services.run,
            "informer-endpointslices": self._slices.run,
            "informer-nodes": self._nodes.run,
            "lease-watch": self._lease_watch.run,
            "status": self._status.run,
            "events": self._events.run,
            "journal": self._journal.run,
            "announcer": self._announcer.run,
        }
        if self._settings.metrics_address:
            background["http"] = self._serve_http
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(supervise(name, component), name=name) for name, component in background.items()]
            deciding = [
                group.create_task(supervise("reconcile", self._reconcile.run), name="reconcile"),
                group.create_task(supervise("election", self._election.run), name="election"),
            ]
            try:
                log.info("kvip started", extra={"version": __version__, "node": self._settings.node_name, "frames": IMPLEMENTATION})
                await asyncio.Event().wait()
            finally:
                await self._stop(deciding)
                for task in tasks:
                    task.cancel()

    async def _stop(self, deciding: list[asyncio.Task[None]]) -> None:
        """Shielded by nothing: every step is bounded, and the addresses go first and without waiting."""
        for task in deciding:
            task.cancel()
        self.executor.fence()
        await asyncio.wait(deciding, timeout=LAST_WORDS_S)
        clean = self.executor.fence()
        if self._election is not None and clean:
            await self._election.release()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self._journal.flush()
                await self._events.drain(timeout_s=LAST_WORDS_S)
        log.info("kvip stopped", extra={"bound": 0 if clean else len(self._facts.marked())})

    # -- wires -----------------------------------------------------------------------------------------------------------

    def _incarnation(self) -> Incarnation:
        assert self._election is not None
        return self._election.election.incarnation

    def _won(self) -> None:
        self._journal.touch()
        self._reconcile.on_permit_changed()

    def _fenced(self, reason: str) -> None:
        try:
            self.executor.fence()
        finally:
            self._outcome.withdrawn()
            for informer in (self._services, self._slices, self._nodes):
                informer.renew()
            self._reconcile.on_permit_changed()
            self._reconcile.on_resync("fence")
            self._journal.touch()

    def _earlier_holder(self) -> bool:
        return not self._services.synced or any(service.ingress for service in self._services.store.values())

    def _api_heard(self) -> None:
        for informer in (self._services, self._slices, self._nodes, self._lease_watch):
            informer.retry_now()

    def _lease_changed(self, key: str) -> None:
        if self._election is not None:
            self._election.lease_changed(self._lease_watch.store.get(key))

    def _service_changed(self, key: str) -> None:
        self._reconcile.on_service(key)

    def _slice_changed(self, key: str) -> None:
        for service in self._desire.slice_changed(key):
            self._reconcile.on_service(service)

    def _node_changed(self, _: str) -> None:
        if self._desire.surroundings_changed():
            self._reconcile.on_all_services()

    async def _serve_http(self) -> None:
        address = parse_listen(self._settings.metrics_address)
        await http.serve(address, alive=self._alive, ready=self._ready, update=self._update_gauges)

    def _alive(self) -> health.Verdict:
        return health.alive(self._heartbeats.ages_s(), renew_deadline_s=self._settings.renew_deadline_s)

    def _ready(self) -> health.Verdict:
        synced = {"services": self._services.synced, "endpointslices": self._slices.synced, "nodes": self._nodes.synced}
        return health.ready(started=True, synced=synced, lease_observed=self._election is not None and self._election.observed)

    def _update_gauges(self) -> None:
        now = self._clock.now()
        for kind, informer in (("services", self._services), ("endpointslices", self._slices), ("nodes", self._nodes)):
            metrics.informer_synced.labels(kind).set(informer.synced)
            metrics.informer_heard_seconds.labels(kind).set(now - informer.last_heard if informer.last_heard else -1)
        until = self._permit(Vip(""))
        metrics.lease_valid_seconds.set(0 if until is None else until - now)
