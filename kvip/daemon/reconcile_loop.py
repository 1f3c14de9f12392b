"""The reconcile loop: marks what may have changed, plans it, has it executed, and publishes what was confirmed.

Input: dirty keys from the informers, the netlink monitor, the election and timers. Output: actions for the executor, results for `Outcome`.
Events only mark keys; every decision reads snapshots and facts again (level-triggered).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from kvip import metrics
from kvip.clock import Clock
from kvip.core import diff
from kvip.core.facts import Facts
from kvip.core.model import Address, IfIndex, Link, ServiceKey, Vip
from kvip.daemon.desire import Desire
from kvip.daemon.executor import IN_DOUBT, Executor
from kvip.daemon.outcome import Outcome
from kvip.daemon.supervision import Heartbeats
from kvip.errors import KvipError

log = logging.getLogger(__name__)

TICK_S = 0.5
SERVICES_PER_TURN = 256
REFRESHES_PER_TICK = 512
RETRY_S = 1.0
WITH_LINKS = frozenset({"start", "overrun", "audit"})
"""Causes for which messages about NICs may have been missed as well."""


class ReconcileLoop:
    """Owns the dirty sets; `run` is its loop, the `on_...` methods only mark."""

    def __init__(
        self,
        *,
        clock: Clock,
        heartbeats: Heartbeats,
        desire: Desire,
        facts: Facts,
        executor: Executor,
        outcome: Outcome,
        permit: Callable[[Vip], float | None],
        restart_announcements: Callable[[Link], None],
        read_links: Callable[[], Awaitable[list[Link]]],
        nic: str,
        lifetime_s: int,
        audit_interval_s: float,
    ) -> None:
        self._clock = clock
        self._heartbeats = heartbeats
        self._desire = desire
        self._facts = facts
        self._executor = executor
        self._outcome = outcome
        self._permit = permit
        self._restart_announcements = restart_announcements
        self._read_links = read_links
        self._nic = nic
        self._lifetime_s = lifetime_s
        self._audit_interval_s = audit_interval_s
        self._services: dict[ServiceKey, None] = {}
        self._vips: dict[Vip, float] = {}
        self._resync_cause = ""
        self._resync_not_before = 0.0
        self._retry: dict[Vip, float] = {}
        self._audited_at = clock.now()
        self._refreshed_at = clock.now()
        self._wake = asyncio.Event()
        self._knew = False
        self._link_messages = 0

    # -- marks ------------------------------------------------------------------------------------------------------

    def on_service(self, key: str) -> None:
        """A Service, or an EndpointSlice of it, may have changed."""
        self._services[ServiceKey(key)] = None
        self._wake.set()

    def on_snapshot(self) -> None:
        """A cache is complete, for the first time or again."""
        self._wake.set()

    def on_all_services(self) -> None:
        """What every Service is judged by may have changed (Node addresses, this node's addresses, first sync)."""
        for key in self._desire.known_services():
            self._services[key] = None
        self._mark_vips(self._facts.marked())
        self._wake.set()

    def on_permit_changed(self) -> None:
        """The election was won, or everything was withdrawn."""
        self._desire.tell_problems()
        self._mark_vips({*self._desire.ledger.vips(), *self._facts.marked()})
        self._wake.set()

    def on_address(self, address: Address, present: bool) -> None:
        """The kernel reported an address; only what contradicts the facts matters."""
        if self._facts.contradicted_by(address, present=present):
            self._facts.doubted = True
            self.on_resync("event")

    def on_resync(self, cause: str = "overrun") -> None:
        """The facts may be wrong: read them anew."""
        if not self._resync_cause or cause in WITH_LINKS:
            self._resync_cause = cause
        self._wake.set()

    def on_link(self, link: Link | None, index: IfIndex, present: bool) -> None:
        """A NIC appeared, changed or vanished."""
        self._link_messages += 1
        known = self._facts.links.get(index)
        if not present or link is None:
            self._facts.links.pop(index, None)
        else:
            self._facts.links[index] = link
            came_up = known is not None and link.up and link.carrier and not (known.up and known.carrier)
            if known is not None and (came_up or known.mac != link.mac):
                self._restart_announcements(link)
        if known != link and self._nic in (known.name if known else "", link.name if link else ""):
            self.on_permit_changed()
            self.on_resync("link")

    def _mark_vips(self, vips: Iterable[Vip]) -> None:
        now = self._clock.now()
        for vip in vips:
            self._vips.setdefault(vip, now)

    # -- the loop ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Reconcile for ever. A start after a failure looks at everything again: what was being done then is not known."""
        self.on_all_services()
        self.on_permit_changed()
        self.on_resync("start")
        while True:
            self._wake.clear()
            await self._resync()
            self._notice_knowledge()
            self._read_services()
            self._mark_due()
            await self._act()
            self._heartbeats.beat("reconcile")
            if self._desire.synced and not self._services:
                self._outcome.report_left_over()
            metrics.vips.labels("claimed").set(len(self._desire.ledger))
            metrics.vips.labels("bound").set(len(self._facts.marked()))
            if self._services and self._desire.synced:
                await asyncio.sleep(0)
                continue
            try:
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _notice_knowledge(self) -> None:
        """What was planned while the caches were not current came to nothing: plan it again once they are."""
        if self._desire.synced and not self._knew:
            self.on_all_services()
            self.on_permit_changed()
        self._knew = self._desire.synced

    async def _resync(self) -> None:
        now = self._clock.now()
        if now - self._audited_at >= self._audit_interval_s:
            self._resync_cause = self._resync_cause or "audit"
        if not self._resync_cause or now < self._resync_not_before:
            return
        cause, self._resync_cause = self._resync_cause, ""
        try:
            if cause in WITH_LINKS:
                heard = self._link_messages
                links = await self._read_links()
                if heard != self._link_messages:
                    # A message that came during the dump may be newer than the dump.
                    self.on_resync(cause)
                else:
                    self._take_links(links)
            had = set(self._facts.marked())
            changed = self._executor.resync(cause)
        except (KvipError, OSError) as error:
            self._resync_cause = cause
            self._resync_not_before = now + RETRY_S
            log.warning("the kernel's addresses cannot be read; keeping what is known", extra={"reason": str(error)})
            return
        self._mark_vips(changed)
        if cause == "audit":
            self._audited_at = now
            self._mark_vips({*self._facts.marked(), *self._desire.ledger.vips()})
        for vip in had - set(self._facts.marked()):
            if self._desire.ledger.claimants(vip) and self._permit(vip) is not None:
                metrics.put_back_total.inc()
                log.warning("the VIP was removed by someone else; putting it back", extra={"vip": vip})
        if self._desire.surroundings_changed():
            self.on_all_services()

    def _take_links(self, links: list[Link]) -> None:
        there = {link.index for link in links}
        for index in [index for index in self._facts.links if index not in there]:
            self.on_link(None, index, False)
        for link in links:
            self.on_link(link, link.index, True)

    def _read_services(self) -> None:
        if not self._desire.synced:
            return
        now = self._clock.now()
        for _ in range(min(SERVICES_PER_TURN, len(self._services))):
            key = next(iter(self._services))
            del self._services[key]
            try:
                touched = self._desire.read(key)
            except Exception:
                log.exception("a Service cannot be read; the others go on", extra={"service": key})
                continue
            for vip in touched:
                self._vips.setdefault(vip, now)

    def _mark_due(self) -> None:
        now = self._clock.now()
        for vip in [vip for vip, at in self._retry.items() if at <= now]:
            del self._retry[vip]
            self._vips.setdefault(vip, now)
        if now - self._refreshed_at < TICK_S:
            return
        self._refreshed_at = now
        left = REFRESHES_PER_TICK
        for vip in self._facts.marked():
            if any(diff.refresh_due(bound, now=now, lifetime_s=self._lifetime_s) for bound in self._facts.bound(vip)):
                self._vips.setdefault(vip, now)
                left -= 1
                if not left:
                    break

    async def _act(self) -> None:
        if not self._vips:
            return
        dirty, self._vips = self._vips, {}
        now = self._clock.now()
        epoch = self._executor.epoch
        link = self._facts.link(self._nic)
        let_gos: list[diff.LetGo] = []
        takes: list[diff.Take] = []
        refreshes: list[diff.Refresh] = []
        for vip in dirty:
            conflict: Address | None = None
            wanted = self._desire.wanted(vip, link=link, permitted=self._permit(vip) is not None, announced=self._executor.announces(vip))
            for action in diff.plan(wanted, self._facts.bound(vip), now=now, lifetime_s=self._lifetime_s):
                match action:
                    case diff.LetGo():
                        let_gos.append(action)
                    case diff.Take():
                        takes.append(action)
                        self._outcome.asked(vip, dirty[vip])
                    case diff.Announce():
                        self._executor.announce(action)
                    case diff.Hush():
                        self._executor.hush(vip)
                        self._outcome.hushed(vip)
                    case diff.Refresh():
                        refreshes.append(action)
                    case diff.Conflict(address=address):
                        conflict = address
            if conflict is None:
                self._outcome.no_conflict(vip)
            else:
                self._outcome.conflict(vip, conflict)
        done = await self._executor.let_go(let_gos, epoch=epoch) if let_gos else []
        done += await self._executor.take(takes, epoch=epoch) if takes else []
        done += await self._executor.refresh(refreshes, epoch=epoch) if refreshes else []
        for result in done:
            if result.problem == IN_DOUBT:
                self._vips.setdefault(result.action.vip, now)
                self._wake.set()
            elif not self._outcome.confirmed(result):
                self._retry[result.action.vip] = self._clock.now() + RETRY_S
                self.on_resync("failure")
