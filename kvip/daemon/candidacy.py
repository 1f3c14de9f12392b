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


class Candidacy:
    """Keeps which Leases are left to another node for a moment."""

    def __init__(self, demand: NodeDemand, pool: LeasePool, grants: LeaseGrants, clock: Clock, *, young_s: float) -> None:
        """`young_s`: for how long after the start a holder may exist that was not seen (PROTOCOL T4)."""
        self._demand = demand
        self._pool = pool
        self._grants = grants
        self._clock = clock
        self._old_at = clock.now() + young_s
        self._held_off: dict[LeaseKey, float] = {}
        self._full = False

    def require(self, vip: Vip) -> None:
        """Note which Leases the address requires now, and take part in their elections."""
        leases, before = self._demand.leases(vip), self._grants.required(vip)
        if leases is None or leases == before:
            return
        by_others = not self._grants.under(vip) and any(self._pool.standing(lease) is Standing.OTHERS for lease in before)
        for lease in self._grants.require(vip, leases):
            self._pool.begin(lease)
            if by_others:
                self._held_off[lease] = self._clock.now() + HOLD_OFF_S

    def stand_again(self) -> list[LeaseKey]:
        """The Leases that need not be left to another any longer."""
        now = self._clock.now()
        over = [lease for lease, until in self._held_off.items() if until <= now]
        for lease in over:
            del self._held_off[lease]
        return over

    def able(self, lease: LeaseKey) -> bool:
        """May this node take the Lease, or keep it?"""
        loop, vips = self._pool.get(lease), self._grants.requiring(lease)
        holding = loop is not None and loop.election.holding
        needs = [self._grants.required(vip) for vip in vips]
        standing = {each: self._pool.standing(each) for required in needs for each in required}
        if not in_turn(lease, needs, standing, holding=holding) or (not holding and (lease in self._held_off or self._crowded())):
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
