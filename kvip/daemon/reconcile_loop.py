"""The reconcile loop: keeps what may have changed, and has it read, planned and executed turn by turn.

Input: dirty keys from the informers, the netlink monitor, the election and timers. Output: turns.
Events only mark keys; every decision reads snapshots and facts again (level-triggered).
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable

from kvip import metrics
from kvip.clock import Clock
from kvip.core import diff
from kvip.core.deadlines import Deadlines
from kvip.core.facts import Facts
from kvip.core.model import ServiceKey, Vip
from kvip.daemon.binding import SLICE, TAKE_SLICE
from kvip.daemon.desire import Desire
from kvip.daemon.marks import Marks
from kvip.daemon.news import News
from kvip.daemon.nics import Nics
from kvip.daemon.outcome import Outcome
from kvip.daemon.supervision import Heartbeats
from kvip.daemon.turn import Turn
from kvip.daemon.upkeep import Upkeep
from kvip.daemon.waking import woken

log = logging.getLogger(__name__)

TICK_S = 0.5
SERVICES_PER_TURN = 32
VIPS_PER_TURN = TAKE_SLICE
"""What a turn does before others get theirs: a withdrawal that comes meanwhile waits for one turn, not for all that is to be bound."""
UNHURRIED_PER_TURN = 32
"""VIPs beside those that an audit looks at, and as many whose lifetimes are renewed: about a millisecond, for which a change waits."""
SORTED_AT_A_TIME = 1_024
"""VIPs of which is asked at a time whether they are to go first: about a millisecond or two."""
STEPS_BETWEEN_TURNS = 8
"""Of the event loop, which others get: a renewal takes several from its timer to its request, each would wait for a turn. Microseconds."""
FEWEST_REFRESHES = 64
REFRESH_SHARE = 12
"""Lifetimes are renewed from a third of them on, all within a twelfth more: a few at each tick, however many there are."""


class ReconcileLoop:
    """Owns the dirty sets; `run` is its loop, the `on_...` methods only mark."""

    upkeep: Upkeep
    turn: Turn

    def __init__(
        self,
        *,
        clock: Clock,
        heartbeats: Heartbeats,
        desire: Desire,
        facts: Facts,
        nics: Nics,
        outcome: Outcome,
        permit: Callable[[Vip], float | None],
        demand_changed: Callable[[Iterable[Vip]], None],
        tick: Callable[[], None],
        lifetime_s: Callable[[], int],
        rush: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`demand_changed` hears which VIPs' claims or eligibility changed; `tick` is called at least twice a second. `rush` hears how
        many VIPs wait for their turn.

        `upkeep` and `turn` are set before `run`: they call back into this loop.
        """
        self._clock = clock
        self._heartbeats = heartbeats
        self._desire = desire
        self._facts = facts
        self._nics = nics
        self._outcome = outcome
        self._permit = permit
        self._demand_changed = demand_changed
        self._news = News(clock, demand_changed)
        self._tick = tick
        self._lifetime_s = lifetime_s
        self._rush = rush
        self._services: OrderedDict[ServiceKey, None] = OrderedDict()
        self._marks = Marks(ends=self._ends, claimed=lambda vip: bool(desire.ledger.claimants(vip)))
        self._retry = Deadlines()
        self._refreshed_at = clock.now()
        self._wake = asyncio.Event()
        self._reading_all = False
        self._nodes_changed = False
        self._knew_endpoints = False
        self._told_unknown: set[Vip] = set()
        """VIPs of which was told that it is not known what is asked for them."""

    # -- marks ------------------------------------------------------------------------------------------------------

    def on_service(self, key: str) -> None:
        """A Service, or an EndpointSlice of it, may have changed."""
        self._services[ServiceKey(key)] = None
        self._wake.set()

    def wake(self) -> None:
        """Something is to be looked at: a cache is complete, or the kernel reported a change."""
        self._wake.set()

    def on_all_services(self) -> None:
        """What every Service is judged by may have changed (Node addresses, this node's addresses, first sync)."""
        for key in self._desire.known_services():
            self._services[key] = None
        self.on_vips(self._facts.marked())

    def on_nodes(self) -> None:
        """Where VIPs may be held may have changed for any of them; the loop marks them all, once for many Nodes."""
        self._nodes_changed = True
        self._wake.set()

    def on_permit_changed(self) -> None:
        """The election was won, or everything was withdrawn."""
        self.on_vips({*self._desire.ledger.vips(), *self._facts.marked()})

    def on_vips(self, vips: Iterable[Vip]) -> None:
        """These VIPs may have to be taken or let go of."""
        self._marks.add(vips, now=self._clock.now())
        self._rush(len(self._marks))
        if self._marks:
            self._wake.set()

    def look_over(self, vips: Iterable[Vip]) -> None:
        """These are to be looked at, though nothing is known to have changed: whatever did comes first."""
        self._marks.add_unhurried(vips, now=self._clock.now())
        if self._marks.waiting:
            self._wake.set()

    # -- what a turn could not finish -------------------------------------------------------------------------------------

    def at(self, vip: Vip, when: float) -> None:
        """Look at the VIP again then."""
        self._retry.set(vip, when)

    def doubt(self) -> None:
        """The facts may be wrong."""
        self.upkeep.doubt("failure")

    # -- the loop ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Reconcile for ever. A start after a failure looks at everything again: what was being done then is not known."""
        self.on_all_services()
        self.on_permit_changed()
        self.upkeep.doubt("start")
        self.upkeep.doubt_rules()
        while True:
            self._wake.clear()
            await self._refresh_facts()
            self._notice_knowledge()
            self._read_services()
            self._mark_due()
            self._tick()
            for _ in range(len(self._marks) // SORTED_AT_A_TIME):
                if not self._marks.sort(most=SORTED_AT_A_TIME):
                    break
                await asyncio.sleep(0)
            reading = bool(self._services) and self._desire.known
            dirty = self._marks.take(most=VIPS_PER_TURN, beside=UNHURRIED_PER_TURN, reading=reading)
            renewals = self._marks.take_renewals(most=UNHURRIED_PER_TURN, reading=reading)
            bound = await self.turn.act(dirty, self, renewals=renewals) if dirty or renewals else set[Vip]()
            # A renewal says nothing new, unless it came to letting go.
            told = self._news.note([*dirty, *(vip for vip in renewals if not self._facts.is_marked(vip))], bound=bound)
            if not self._desire.known:
                self._told_unknown.update(told)
            self._heartbeats.beat("reconcile")
            if self._desire.known:
                self._outcome.report_left_over()
            crowded = self._marks.waiting or (bool(self._services) and self._desire.synced)
            idle = not crowded and not self._wake.is_set()
            more = [tell(most=SLICE, idle=idle) for tell in (self._news.tell, self._outcome.tell)]
            if crowded or any(more):
                for _ in range(STEPS_BETWEEN_TURNS):
                    await asyncio.sleep(0)
                continue
            await woken(self._wake, within_s=self._pause_s())

    def _ends(self, vip: Vip) -> bool:
        """Is the VIP here, and nobody asks for it or this node may not hold it?"""
        return self._facts.is_marked(vip) and (not self._desire.ledger.claimants(vip) or self._permit(vip) is None)

    def _pause_s(self) -> float:
        soonest = min(self._desire.claiming.lingers_until(), self._retry.soonest)
        return min(TICK_S, max(0.001, soonest - self._clock.now()))

    def _notice_knowledge(self) -> None:
        """Caches that became complete, or complete again: each Service is read before anything is concluded from its absence."""
        endpoints = self._desire.whereabouts.synced
        if not self._desire.synced:
            self._desire.read_through(False)
            self._reading_all = False
        elif not self._desire.known and not self._reading_all:
            self._reading_all = True
            self.on_all_services()
        elif self._nodes_changed or endpoints != self._knew_endpoints:
            self.on_all_services()
        self._nodes_changed, self._knew_endpoints = False, endpoints

    async def _refresh_facts(self) -> None:
        changed, removed = await self.upkeep.refresh()
        self.on_vips(changed)
        for vip in removed:
            if self._desire.ledger.claimants(vip) and self._permit(vip) is not None:
                metrics.put_back_total.inc()
                log.warning("the VIP was removed by someone else; putting it back", extra={"vip": vip})
        if self._desire.ground_changed():
            self.on_all_services()
        if self._nics.settle():
            self.on_all_services()
            self.on_permit_changed()
            self._demand_changed(self._desire.ledger.vips())

    def _read_services(self) -> None:
        if not self._desire.synced:
            return
        for key in self._desire.claiming.lingered():
            self._services[key] = None
        batch = [self._services.popitem(last=False)[0] for _ in range(min(SERVICES_PER_TURN, len(self._services)))]
        touched = self._desire.read(batch)
        if touched:
            self.on_vips(touched)
            self._demand_changed([vip for vip in touched if self._desire.ledger.claimants(vip)])
        if not self._services and not self._desire.known:
            self._reading_all = False
            self._desire.read_through(True)
            self.on_permit_changed()
            self._demand_changed({*self._desire.ledger.vips(), *self._told_unknown})
            self._told_unknown.clear()

    def _mark_due(self) -> None:
        now = self._clock.now()
        again = self._retry.due(now)
        for vip in again:
            self._retry.drop(vip)
        self._marks.add(again, now=now)
        if now - self._refreshed_at < TICK_S:
            return
        self._refreshed_at = now
        lifetime_s = self._lifetime_s()
        most = max(FEWEST_REFRESHES, round(self._facts.marked_count() * REFRESH_SHARE * TICK_S / lifetime_s))
        self._marks.add_renewals(self._facts.expiring(diff.renewal_by(now, lifetime_s=lifetime_s), most=most), now=now)
