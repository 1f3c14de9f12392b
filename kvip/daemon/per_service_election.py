"""Modes with Leases for Services: `per-service`, and `global` with `per-service-on-demand`. The Leases' names and semantics are kube-vip's.

Input: which Leases an address requires (`Demand.leases`), the Leases by one watch. Output: the answers of `Elector`. An address is held
when all Leases of the Services that share it are (PROTOCOL G3); each set of Leases has its lease group in the switch; a Lease that is lost
takes down what hangs on it, and nothing else. It must not touch the kernel.

The shared Lease is part of both modes: who holds it speaks for Services without a holder, and it keeps nodes of other modes out (G5).

Over 300 lines: the answers of `Elector` for two modes; what has a job of its own (candidacy, pool, grants, groups) stands apart already.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial

from kvip import metrics
from kvip.clock import Clock
from kvip.core.election.lease import PER_SERVICE, Timers, is_per_service
from kvip.core.election.services import LeaseKey, Standing
from kvip.core.model import Incarnation, Uid, Vip
from kvip.core.objects import Lease
from kvip.daemon.candidacy import Candidacy
from kvip.daemon.demand import NodeDemand
from kvip.daemon.elector import Wires
from kvip.daemon.interlock import Interlock
from kvip.daemon.lease_grants import LeaseGrants
from kvip.daemon.lease_loop import LeaseLoop
from kvip.daemon.lease_pool import LeasePool
from kvip.daemon.stakes import Stakes
from kvip.daemon.supervision import Heartbeats
from kvip.daemon.validity import Footing
from kvip.daemon.waking import woken
from kvip.kube.leases import LeaseClient

log = logging.getLogger(__name__)

TURN_S = 1.0
HEARD = ("lease taken by another", "lease deleted", "nothing can be announced here")
"""Reasons for a fence that came from the API server or from this node: what is known of the Services is not old."""


class PerServiceElection:
    """Implements `Elector` by one `LeaseLoop` per Lease."""

    def __init__(
        self,
        clients: Callable[[str], LeaseClient],
        *,
        shared: LeaseKey,
        on_demand: bool,
        node: str,
        timers: Timers,
        clock: Clock,
        heartbeats: Heartbeats,
        demand: NodeDemand,
        wires: Wires,
        seen: Callable[[], Mapping[str, Lease]],
    ) -> None:
        """`clients`: of the Leases of a namespace. `shared`: kube-vip's one Lease; `on_demand`: Services hang on it unless they ask for
        one of their own. `seen`: the Leases that the watch delivered, by namespace/name."""
        self._clients = clients
        self._shared = shared
        self._on_demand = on_demand
        self._timers = timers
        self._demand = demand
        self._wires = wires
        self._life = f"{node}_{secrets.token_hex(12)}"
        self._drawn = 0
        self._former: Incarnation | None = None
        self._footing = Footing(clock, heartbeats, on_heard=wires.heard)
        self._interlock = Interlock(clients(shared.partition("/")[0]), clock=clock, timers=timers)
        self._pool = LeasePool(self._make, seen)
        self._grants = LeaseGrants(self._pool, wires, clock)
        self._candidacy = Candidacy(demand, self._pool, self._grants, clock, young_s=timers.lease_duration_s)
        self._dirty: set[Vip] = set()
        self._wake = asyncio.Event()
        self._synced = False
        self._fencing = False

    # -- what the rest of kvip asks -----------------------------------------------------------------------------------

    @property
    def incarnation(self) -> Incarnation:
        """The first identity of this life; those in Leases differ in the last 8 digits."""
        return Incarnation(f"{self._life}{0:08x}")

    @property
    def observed(self) -> bool:
        """Were the Leases read?"""
        return self._synced

    @property
    def blocked(self) -> str:
        """What of another mode is in the way."""
        return "" if self._grants else self._interlock.reason or self._foreign_mode()

    @property
    def valid_until(self) -> float | None:
        """Until when this node may act by any of its Leases."""
        return max((until for lease in self._pool if (until := self._pool.valid_until(lease)) is not None), default=None)

    def group(self, vip: Vip) -> str:
        """The lease group of the Leases that the address is held by."""
        return self._grants.group(vip)

    def permit(self, vip: Vip) -> float | None:
        """Until the first of its Leases ends."""
        soonest: float | None = None
        for lease in self._grants.under(vip):
            until = self._pool.valid_until(lease)
            if until is None:
                return None
            soonest = until if soonest is None else min(soonest, until)
        return soonest

    def covers(self, vip: Vip, lease: LeaseKey) -> bool:
        """Not at once by that of a Service that came to share the address, see `granted`."""
        return lease in self._grants.under(vip)

    def elsewhere(self, vip: Vip) -> bool:
        """Does another node hold one of its Leases?"""
        return any(self._pool.standing(lease) is Standing.OTHERS for lease in self._grants.required(vip))

    def succeeds(self, vip: Vip) -> str:
        """Whoever held it before, by whichever Lease: another one after each change of hands, so that it is always asked for."""
        holds = (f"{lease}={loop.election.incarnation}" for lease in self._grants.under(vip) if (loop := self._pool.get(lease)))
        return " ".join(sorted(holds))

    def had(self, vip: Vip) -> bool | None:
        """Not written: each is asked for anew, see `succeeds`."""
        return None

    def holder(self, vip: Vip) -> str:
        """Who holds its Leases; several while they are on their way to one node."""
        loops = (self._pool.get(lease) for lease in self._grants.required(vip))
        holders = {loop.election.view.holder for loop in loops if loop is not None and loop.election.view is not None}
        return ", ".join(sorted(holders - {""}))

    def peer_macs(self) -> Collection[bytes]:
        """Leases of Services say nothing of NICs."""
        return ()

    def speaks(self, uid: Uid) -> bool:
        """The holder of the shared Lease speaks for every Service; who holds an address says what concerns it."""
        return self._pool.valid_until(self._shared) is not None

    # -- what happens -----------------------------------------------------------------------------------------------------

    def demand_changed(self, vips: Iterable[Vip]) -> None:
        """What `Demand` says of these VIPs may have changed."""
        self._dirty.update(vips)
        if self._dirty:
            self._wake.set()

    def refuse(self, vip: Vip) -> None:
        """The Lease is given up by hand only: binding is tried again, ever more rarely."""

    def doubt(self, vip: Vip) -> None:
        """A peer announced a VIP of ours: read its Leases before anything is answered again."""
        for lease in self._grants.under(vip):
            loop = self._pool.get(lease)
            if loop is not None:
                loop.verify()

    def fence(self, reason: str) -> None:
        """Withdraw everything now; each Lease gets a new incarnation."""
        if self._fencing or not (self._pool.held() or self._grants.maybe_bound()):
            return
        self._fencing = True
        try:
            self._grants.forget_all()
            self._wires.fenced(reason)
            for lease in self._pool:
                loop = self._pool.get(lease)
                if loop is not None:
                    loop.fence(reason)
        finally:
            self._fencing = False
        self._wake.set()

    def lease_changed(self, key: str, lease: Lease | None) -> None:
        """The watch delivered a Lease; those of others do not matter."""
        loop = self._pool.get(key)
        if loop is None:
            return
        name = LeaseKey(key)
        before, foreign = self._pool.standing(name), self._foreign_mode()
        loop.changed(lease)
        if self._foreign_mode() != foreign:
            self._pool.look()
        if self._pool.standing(name) is not before:
            self._settle(name)
            if self._candidacy.waits_for(name):
                self._wake.set()

    def leases_synced(self) -> None:
        """What the watch missed is found out when a Lease is to be taken."""
        self._synced = True
        self._wake.set()

    def trust_predecessor(self, incarnation: Incarnation, *, lately: bool) -> None:
        """A former daemon of this node, known dead (PROTOCOL R7): what it held by any Lease is free at once."""
        self._former = incarnation

    # -- the loop -----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take part in every election that an address of a Service needs, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._dirty.update(self._demand.vips(), self._grants.known())
            await self._pool.run(group)
            self._pool.begin(self._shared)
            while True:
                self._footing.heartbeats.beat("election")
                self._wake.clear()
                self._turn()
                await woken(self._wake, within_s=TURN_S)

    async def release(self) -> None:
        """Give every Lease back."""
        self._grants.forget_all()
        metrics.lease_holding.set(0)
        await self._pool.release()

    def _turn(self) -> None:
        dirty, self._dirty = self._dirty, set()
        for vip in dirty:
            self._candidacy.require(vip)
        again = self._candidacy.stand_again()
        self._settle_all({*dirty, *(vip for lease in again for vip in self._grants.requiring(lease))})
        for vip in self._candidacy.outstayed():
            self._grants.give_up(vip)
        self._look({*again, *(lease for vip in dirty for lease in self._grants.required(vip))})
        self._grants.tidy(frozenset(vip for vip in self._grants.maybe_bound() if self._demand.held(vip)))
        for lease in self._pool:
            if lease != self._shared and not self._grants.needed(lease) and not self._candidacy.waits_for(lease):
                self._pool.end(lease)
        metrics.lease_holding.set(self._pool.held())

    def _look(self, leases: Iterable[LeaseKey]) -> None:
        for lease in leases:
            loop = self._pool.get(lease)
            if loop is not None:
                loop.look()

    # -- one Lease ------------------------------------------------------------------------------------------------------------

    def _make(self, lease: LeaseKey) -> LeaseLoop:
        namespace, _, name = lease.partition("/")
        return LeaseLoop(
            self._clients(namespace),
            name=name,
            timers=self._timers,
            footing=self._footing,
            draw=self._draw,
            stakes=Stakes(
                on_won=partial(self._won, lease),
                on_fence=partial(self._fenced, lease),
                on_renewed=lambda _: self._grants.renewed(lease),
                able=self._demand.holder_able if lease == self._shared else partial(self._candidacy.able, lease),
                dead=self._dead,
                earlier_holder=partial(self._candidacy.earlier_holder, lease),
                in_the_way=partial(self._in_the_way, lease),
                polls=lease == self._shared,
                mark=f"{PER_SERVICE}0" if lease == self._shared else "",
            ),
        )

    def _draw(self) -> Incarnation:
        self._drawn += 1
        return Incarnation(f"{self._life}{self._drawn:08x}")

    def _dead(self, holder: str) -> bool:
        """Other incarnations of this life let go before the next was drawn; those of the former daemon are over with it."""
        lives = [incarnation[:-8] for incarnation in (self.incarnation, self._former) if incarnation]
        return any(holder.startswith(life) and len(holder) == len(life) + 8 for life in lives)

    def _foreign_mode(self) -> str:
        loop = self._pool.get(self._shared)
        view = loop.election.view if loop is not None else None
        if self._on_demand or view is None or is_per_service(view) or self._pool.standing(self._shared) is not Standing.OTHERS:
            return ""
        return f"the Lease {self._shared} is held by {view.holder}, in another mode; nothing is taken beside it"

    async def _in_the_way(self, lease: LeaseKey, deadline_s: float) -> str:
        if lease != self._shared:
            loop = self._pool.get(self._shared)
            if loop is None or loop.election.view is None:
                return f"the Lease {self._shared} was not read yet"
            if foreign := self._foreign_mode():
                return foreign
        return await self._interlock.look_once(self.incarnation, retired=frozenset({self._former or ""}), deadline_s=deadline_s)

    def _won(self, lease: LeaseKey) -> None:
        metrics.lease_holding.set(self._pool.held())
        if lease == self._shared:
            self._pool.look()
        self._settle(lease)

    def _settle(self, lease: LeaseKey) -> None:
        """The Lease is in other hands: what hangs on it, and whose turn the Leases beside it are."""
        vips = self._grants.requiring(lease)
        self._settle_all(vips)
        self._look(each for vip in vips for each in self._grants.required(vip))

    def _settle_all(self, vips: Iterable[Vip]) -> None:
        self._grants.settle([vip for vip in vips if not self._candidacy.waits(vip)])

    def _fenced(self, lease: LeaseKey, reason: str) -> None:
        if self._fencing:
            return
        if reason == "suspend":
            self.fence(reason)
            return
        self._grants.lost(lease, stale=reason not in HEARD)
        metrics.lease_holding.set(self._pool.held())
        self._wake.set()
