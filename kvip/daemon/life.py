"""Starts the parts of a daemon, serves until cancelled, and stops them in order.

Stop: no further decision -> let go of every VIP -> release -> last Events and journal -> the switch's rules.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from kvip import __version__
from kvip.checks import parse_listen
from kvip.core.service_rules import TABLE as SERVICE_TABLE
from kvip.daemon.bursts import Bursts
from kvip.daemon.gauges import update_gauges
from kvip.daemon.parts import Parts
from kvip.daemon.supervision import supervise
from kvip.daemon.viewing import Views
from kvip.kernel.packet import IMPLEMENTATION
from kvip.kernel.ruleset_monitor import RulesetMonitor
from kvip.observe import health, http, page, readers

log = logging.getLogger(__name__)

LAST_WORDS_S = 0.3
STUCK_AFTER_S = 15.0
"""A loop that did not turn for this long is stuck; these turn at least each second or two when idle."""
INFORMER_STUCK_AFTER_S = 150.0
"""An informer waits for up to 70 s for a silent server, and up to 60 s for a snapshot."""
FIRST_READ_S = 0.5


class Life:
    """One daemon from start to stop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._views = Views(parts)
        self._bursts = Bursts(parts)

    async def serve(self) -> None:
        """Run every component until cancelled, then let go of everything in order."""
        parts = self._parts
        assert parts.elector is not None
        await parts.executor.resync("start")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_READ_S):
                await parts.reserved.read()
        parts.desire.surroundings_changed()
        background = {
            "monitor": parts.monitor.run,
            **parts.caches.components(),
            "status": parts.status.run,
            "annotations": parts.hosts.run,
            "events": parts.events.run,
            "telling": parts.telling.run,
            "journal": parts.journal.run,
            "announcer": parts.announcer.run,
            "reserved": parts.reserved.run,
            **parts.disputes.components(),
            "leftovers": parts.leftovers.run,
            "lag": parts.lag.run,
        }
        if not parts.guard.weak:
            background["ruleset-monitor"] = RulesetMonitor(on_changed=parts.upkeep.doubt_rules, owns=parts.guard.owns).run
        if parts.settings.socket:
            background["readers"] = self._serve_readers
        if parts.settings.metrics_address:
            background["http"] = self._serve_http
        if parts.ports is not None:
            background["service-rules-monitor"] = RulesetMonitor(
                on_changed=parts.firewall.doubt, owns=parts.ports.owns, table=SERVICE_TABLE
            ).run
        if parts.settings.health_check_port:
            background["health"] = lambda: http.serve_health(parts.settings.health_check_port, self._alive)
        self._expect_turns()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(supervise(name, component), name=name) for name, component in background.items()]
            deciding = [
                group.create_task(supervise("reconcile", parts.reconcile.run), name="reconcile"),
                group.create_task(supervise("election", parts.elector.run), name="election"),
            ]
            if parts.ports is not None:
                deciding.append(group.create_task(supervise("firewall", parts.firewall.run), name="firewall"))
            try:
                log.info("kvip started", extra={"version": __version__, "node": parts.settings.node_name, "frames": IMPLEMENTATION})
                await asyncio.Event().wait()
            finally:
                await self._stop(deciding)
                for task in tasks:
                    task.cancel()

    def _expect_turns(self) -> None:
        heartbeats = self._parts.heartbeats
        for name in ("reconcile", "announcer", "conflicts"):
            heartbeats.expect(name, within_s=STUCK_AFTER_S)
        # One request about the lease may last nearly as long as the renew deadline.
        heartbeats.expect("election", within_s=max(STUCK_AFTER_S, 2 * self._parts.settings.renew_deadline_s))
        for name in self._parts.caches.names():
            heartbeats.expect(name, within_s=INFORMER_STUCK_AFTER_S)

    async def _stop(self, deciding: list[asyncio.Task[None]]) -> None:
        """Shielded by nothing: every step is bounded, and the addresses go first and without waiting."""
        parts = self._parts
        for task in deciding:
            task.cancel()
        parts.executor.fence()
        await asyncio.wait(deciding, timeout=LAST_WORDS_S)
        clean = parts.executor.fence()
        if parts.elector is not None and clean:
            await parts.elector.release()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await parts.journal.flush()
                await parts.events.drain(timeout_s=LAST_WORDS_S)
        if clean:
            parts.guard.uninstall()
            parts.firewall.remove()
        log.info("kvip stopped", extra={"bound": 0 if clean else parts.facts.marked_count()})

    async def _serve_http(self) -> None:
        address = parse_listen(self._parts.settings.metrics_address)
        shown = self._parts.settings.page
        more = page.pages(self._views.state, loopback_only=shown == "loopback") if shown != "off" else {}
        await http.serve(address, alive=self._alive, ready=self._ready, update=lambda: update_gauges(self._parts), more=more)

    async def _serve_readers(self) -> None:
        views = self._views
        await readers.serve(self._parts.settings.socket, state=views.state, explanation=views.explanation, bursts=self._bursts)

    def _alive(self) -> health.Verdict:
        return health.alive(self._parts.heartbeats.late())

    def _ready(self) -> health.Verdict:
        elector = self._parts.elector
        observed, blocked = (elector.observed, elector.blocked) if elector is not None else (False, "")
        return health.ready(
            started=True, synced=self._parts.caches.synced(), lease_observed=observed, blocked=blocked, weak=self._parts.guard.weak
        )
