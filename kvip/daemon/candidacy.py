"""Does this node stand for the Lease of a Service? Where it can serve it, in the order that all nodes keep, within what it can renew.

Input: what addresses require (`LeaseGrants`), who has which Lease, `Demand`. Output: yes or no. It must not take or give up anything.
"""

from __future__ import annotations

import logging

from kvip.clock import Clock
from kvip.core.election.services import LeaseKey, Standing, in_turn
from kvip.core.model import Vip
from kvip.daemon.demand import NodeDemand
from kvip.daemon.lease_grants import LeaseGrants
from kvip.daemon.lease_groups import GROUPS
from kvip.daemon.lease_pool import LeasePool

log = logging.getLogger(__name__)

HOLD_OFF_S = 1.5
"""How long others leave a Lease to the node that holds the address by another one already: it then moves without a gap."""

LET_GO_S = 12.0
"""Whoever held an address by a Lease on which it does not hang any more has let go of it after so long: the half-open connection over which
the Services are watched is noticed within 10 s, and HOLD_OFF_S."""


class Candidacy:
    """Keeps which Leases are left to another node for a moment, and for whom an address has to be waited."""

    def __init__(self, demand: NodeDemand, pool: LeasePool, grants: LeaseGrants, clock: Clock, *, young_s: float) -> None:
        """`young_s`: for how long after the start a holder may exist that was not seen (PROTOCOL T4)."""
        self._demand = demand
        self._pool = pool
        self._grants = grants
        self._clock = clock
        self._old_at = clock.now() + young_s
        self._held_off: dict[LeaseKey, float] = {}
        self._former: dict[Vip, dict[LeaseKey, float]] = {}
        """By address: Leases on which it does not hang any more and that another node held then, and until when that one is waited for."""
        self._kept: dict[Vip, float] = {}
        """By address that is held here by such a Lease: until when."""
        self._full = False

    def require(self, vip: Vip) -> None:
        """Note which Leases the address requires now, and take part in their elections."""
        leases, before = self._demand.leases(vip), self._grants.required(vip)
        if leases is None or leases == before:
            return
        now, here = self._clock.now(), bool(self._grants.under(vip))
        others = [] if here else [lease for lease in before if self._pool.standing(lease) is Standing.OTHERS]
        former = self._former.pop(vip, {}) | dict.fromkeys(others, now + LET_GO_S)
        former = {lease: until for lease, until in former.items() if lease not in leases}
        if former:
            self._former[vip] = former
        self._kept.pop(vip, None)
        if here and not self._grants.under(vip) <= set(leases):
            self._kept[vip] = now + HOLD_OFF_S
        for lease in self._grants.require(vip, leases):
            self._pool.begin(lease)
            if others:
                self._held_off[lease] = now + HOLD_OFF_S

    def stand_again(self) -> list[LeaseKey]:
        """The Leases that need not be left to another any longer."""
        now = self._clock.now()
        over = [lease for lease, until in self._held_off.items() if until <= now]
        for lease in over:
            del self._held_off[lease]
        for vip, former in tuple(self._former.items()):
            left = {lease: until for lease, until in former.items() if now < until and not self._let_go(lease)}
            if left:
                self._former[vip] = left
            else:
                del self._former[vip]
                over += self._grants.required(vip)
        return over

    def outstayed(self) -> list[Vip]:
        """The addresses that were held here for long enough by a Lease on which they do not hang any more: the next Lease was not won."""
        over = [vip for vip, until in self._kept.items() if until <= self._clock.now()]
        for vip in over:
            del self._kept[vip]
        return over

    def waits(self, vip: Vip) -> bool:
        """May another node hold the address by a Lease on which it does not hang any more?"""
        return vip in self._former

    def waits_for(self, lease: LeaseKey) -> bool:
        """Is the holder of this Lease waited for, although nothing hangs on it any more?"""
        return any(lease in former for former in self._former.values())

    def _let_go(self, lease: LeaseKey) -> bool:
        loop = self._pool.get(lease)
        return loop is None or loop.let_go()

    def able(self, lease: LeaseKey) -> bool:
        """May this node take the Lease, or keep it?"""
        loop, vips = self._pool.get(lease), self._grants.requiring(lease)
        holding = loop is not None and loop.election.holding
        needs = [self._grants.required(vip) for vip in vips]
        standing = {each: self._pool.standing(each) for required in needs for each in required}
        if not in_turn(lease, needs, standing, holding=holding) or (not holding and (lease in self._held_off or self._crowded())):
            return False
        if not holding and any(map(self.waits, vips)):
            return False
        answers = [self._demand.able(vip) for vip in vips]
        return any(answer or (answer is None and holding) for answer in answers) or (holding and not answers)

    def earlier_holder(self, lease: LeaseKey) -> bool:
        """May somebody hold this Lease who was not seen? Not once the Leases have been watched for a whole duration."""
        young = self._clock.now() < self._old_at
        return young and any(self._demand.shown(vip) and not self._grants.under(vip) for vip in self._grants.requiring(lease))

    def _crowded(self) -> bool:
        full = self._pool.held() >= GROUPS
        if full and not self._full:
            log.warning("this node holds as many Leases as it can renew; more are left to others", extra={"leases": GROUPS})
        self._full = full
        return full
