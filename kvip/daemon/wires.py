"""The wires between the parts of a daemon: who hears what from whom.

Input: calls of the election (as `Wires`), the caches and the loops. Output: calls of other parts. It must not decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from kvip import metrics
from kvip.core.desired import named, service_key
from kvip.core.model import ServiceKey, Uid, Vip
from kvip.core.objects import Service
from kvip.daemon.guard import GROUP

if TYPE_CHECKING:
    from kvip.daemon.parts import Parts


class DaemonWires:
    """Implements `Wires`; every call is complete when it returns."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    # -- what the election reports -----------------------------------------------------------------------------------------

    def renewed(self, until: float, group: str = GROUP) -> str:
        """The lease group is valid until then; returns "" or why to let go."""
        problem = self._parts.executor.arm(until, group)
        if not problem:
            self._parts.renewed_at = self._parts.clock.now()
            metrics.lease_renewals_total.inc()
            self._parts.disputes.renewed()
            self._parts.chronicle.able()
        return problem

    def won(self, vips: Iterable[Vip] | None) -> None:
        """These VIPs may be taken, or must be let go of; None = all."""
        self._parts.journal.touch()
        if vips is None:
            self._parts.reconcile.on_permit_changed()
        else:
            self._parts.reconcile.on_vips(vips)

    def fenced(self, reason: str) -> None:
        """Withdraw everything before this returns."""
        try:
            self._parts.executor.fence()
        finally:
            self._parts.outcome.withdrawn()
            self._parts.caches.renew()
            self._parts.desire.read_through(False)
            self._parts.reconcile.on_permit_changed()
            self._parts.upkeep.doubt("fence")
            self._parts.journal.touch()
            self._parts.chronicle.fenced(reason)

    def withdrawn(self, vips: Collection[Vip], groups: Collection[str], *, stale: bool) -> bool:
        """Withdraw these VIPs before this returns."""
        try:
            return self._parts.executor.withdraw(vips, groups)
        finally:
            for vip in vips:
                self._parts.outcome.hushed(vip)
                self._parts.chronicle.note("withdrawn", vip, detail="its Lease is not held any more")
            if stale:
                self._parts.caches.renew()
            self._parts.reconcile.on_vips(vips)
            self._parts.upkeep.doubt("fence")
            self._parts.journal.touch()

    def regrouped(self, vip: Vip) -> str:
        """A VIP that is held hangs on another lease group now: it may be held for other Services than before."""
        problem = self._parts.executor.regroup(vip)
        if not problem:
            for claimant in self._parts.ledger.claimants(vip).values():
                self._parts.reconcile.on_service(claimant.service)
        return problem

    def heard(self, back: bool) -> None:
        """The API server answers again after an outage (`back`), or a Lease that was refused is granted."""
        self._parts.caches.retry_now()
        if back:
            self._parts.chronicle.note("api-back")

    # -- between the other parts -----------------------------------------------------------------------------------------------

    def speaks(self, uid: Uid) -> bool:
        """Does this node speak for the Service of this UID?"""
        return self._parts.elector is not None and self._parts.elector.speaks(uid)

    def covers(self, vip: Vip, service: ServiceKey) -> bool:
        """Is a VIP that is held here held for this Service?"""
        lease = self._parts.desire.lease(service)
        return not lease or (self._parts.elector is not None and self._parts.elector.covers(vip, lease))

    def granted_elsewhere(self, service: Service, vip: Vip) -> bool | None:
        """Of a VIP that a Service names and this node does not grant it, though another may: is one known to hold it? None = of no such."""
        wish = self._parts.desire.sharing.wish(service_key(service))
        if (
            service.spec.type != "LoadBalancer"
            or (wish is not None and vip in wish.addresses)
            or vip not in named(service, self._parts.rules)
        ):
            return None
        return self._parts.elector is not None and self._parts.elector.elsewhere(vip)

    def check_rules(self) -> None:
        """Someone may have changed the switch's rules."""
        problem = self._parts.guard.check()
        if problem and self._parts.elector is not None:
            self._parts.elector.fence(problem)

    def refused(self, vip: Vip, problem: str) -> None:
        """The VIP could not be bound here several times in a row."""
        self._parts.publisher.not_bound(vip, problem)
        if self._parts.elector is not None:
            self._parts.elector.refuse(vip)
        self._parts.chronicle.note("refused", vip, detail=problem)

    def tick(self) -> None:
        """At least twice a second: what hangs on time."""
        self._parts.publisher.blocked(self._parts.elector.blocked if self._parts.elector is not None else "")
        self._parts.demand.tick()
        self._parts.unplaced.tick()
        if self._parts.desire.known:
            self._parts.publisher.catch_up()
            self._parts.firewall.begin()
        proxied = frozenset(vip for vip in self._parts.facts.proxied() if self._parts.ledger.claimants(vip))
        self._parts.guard.others(proxied)
        self._parts.publisher.local_elsewhere(proxied)
        if self._parts.guard.problem:
            self._parts.upkeep.doubt_rules(wake=False)

    def nic_changed(self) -> None:
        """A NIC of VIPs changed, appeared or vanished."""
        self._parts.demand.nic_changed()
        self._parts.firewall.doubt()
        self._parts.reconcile.on_permit_changed()

    async def audited(self) -> None:
        """An audit read the kernel: look at every VIP, also those that only the switch still knows; others get their turn meanwhile."""
        parts = self._parts
        parts.reconcile.look_over({*parts.ledger.vips(), *parts.facts.marked(), *parts.guard.vips()})
        await asyncio.sleep(0)
        parts.firewall.audit()
        await asyncio.sleep(0)
        parts.disputes.probing.tidy()
        await asyncio.sleep(0)
        parts.strays.check()

    def demand_changed(self, vips: Iterable[Vip]) -> None:
        """What this node could hold changed."""
        changed = tuple(vips)
        self._parts.unplaced.note(changed)
        self._parts.firewall.update(changed)
        if self._parts.elector is not None:
            self._parts.elector.demand_changed(changed)

    def lease_changed(self, key: str) -> None:
        """The watch delivered a Lease."""
        if self._parts.elector is not None:
            self._parts.elector.lease_changed(key, self._parts.caches.leases.store.get(key))

    def leases_complete(self) -> None:
        """A consistent List of the Leases was read."""
        if self._parts.elector is not None:
            self._parts.elector.leases_synced()

    def service_changed(self, key: str) -> None:
        """A Service changed."""
        self._parts.reconcile.on_service(key)

    def slice_changed(self, key: str) -> None:
        """An EndpointSlice changed."""
        for service in self._parts.desire.whereabouts.slice_changed(key):
            self._parts.reconcile.on_service(service)

    def node_changed(self, name: str) -> None:
        """A Node changed: its addresses, or whether and which VIPs may be held there."""
        if self._parts.desire.whereabouts.node_changed(name):
            self._parts.reconcile.on_nodes()
        self.surroundings_changed()

    def surroundings_changed(self) -> None:
        """Addresses that no VIP may equal may have changed."""
        if self._parts.desire.surroundings_changed():
            self._parts.reconcile.on_all_services()
