"""By which Leases each address is held, and the lease group of the switch that goes with them.

Input: what addresses require, and who has which Lease (`LeasePool`). Output: grants, kept in step with the switch through `Wires`. It must
not take part in an election.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from kvip.clock import Clock
from kvip.core.election.services import LeaseKey, granted
from kvip.core.model import Vip
from kvip.daemon.elector import Wires
from kvip.daemon.lease_groups import GROUPS, LeaseGroups, Leases, group_names
from kvip.daemon.lease_pool import LeasePool

log = logging.getLogger(__name__)

NONE: Leases = frozenset()


class LeaseGrants:
    """Owns which Leases every address requires, and by which it is held."""

    def __init__(self, pool: LeasePool, wires: Wires, clock: Clock) -> None:
        self._pool = pool
        self._wires = wires
        self._clock = clock
        self._groups = LeaseGroups(group_names())
        self._required: dict[Vip, tuple[LeaseKey, ...]] = {}
        self._vips: dict[LeaseKey, set[Vip]] = {}
        self._under: dict[Vip, Leases] = {}

    # -- what is known ----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._under)

    def required(self, vip: Vip) -> tuple[LeaseKey, ...]:
        """The Leases that the address requires, in the order in which to take them."""
        return self._required.get(vip, ())

    def requiring(self, lease: LeaseKey) -> tuple[Vip, ...]:
        """The addresses that require this Lease."""
        return tuple(self._vips.get(lease, ()))

    def known(self) -> tuple[Vip, ...]:
        """Every address that requires a Lease."""
        return tuple(self._required)

    def under(self, vip: Vip) -> Leases:
        """The Leases by which the address is held; empty = it is not."""
        return self._under.get(vip, NONE)

    def group(self, vip: Vip) -> str:
        """The lease group that goes with them."""
        return self._groups.group(self.under(vip))

    def needed(self, lease: LeaseKey) -> bool:
        """Does anything hang on the Lease, or may still be let through by it?"""
        return bool(self._vips.get(lease) or self._groups.containing(lease))

    # -- what changes -------------------------------------------------------------------------------------------------------

    def require(self, vip: Vip, leases: tuple[LeaseKey, ...]) -> tuple[LeaseKey, ...]:
        """The address requires these from now on; returns those that are new to it."""
        before = self._required.pop(vip, ())
        for lease in before:
            self._vips[lease].discard(vip)
        if leases:
            self._required[vip] = leases
        for lease in leases:
            self._vips.setdefault(lease, set()).add(vip)
        return tuple(lease for lease in leases if lease not in before)

    def settle(self, vips: Iterable[Vip]) -> None:
        """Decide anew by which Leases these addresses are held."""
        for vip in tuple(vips):
            required = self.required(vip)
            standing = {lease: self._pool.standing(lease) for lease in {*required, *self.under(vip)}}
            under = self.under(vip)  # The look at the Leases may have ended them.
            wanted = granted(required, under, standing)
            if wanted == under:
                continue
            if wanted:
                self._grant(vip, wanted, under)
                continue
            del self._under[vip]
            if required:
                self._wires.withdrawn((vip,), (), stale=False)
            else:
                self._wires.won((vip,))

    def give_up(self, vip: Vip) -> None:
        """Withdraw the address if it is held by a Lease that it does not require any more: that one says nothing of who may hold it now."""
        if not self.under(vip) <= set(self.required(vip)):
            del self._under[vip]
            self._wires.withdrawn((vip,), (), stale=False)

    def renewed(self, lease: LeaseKey) -> str:
        """The Lease is held for longer: re-arm all that goes with it. Returns "" or why it must be fenced."""
        problems = (self._arm(leases, group) for leases, group in self._groups.containing(lease))
        return next((problem for problem in problems if problem), "")

    def lost(self, lease: LeaseKey, *, stale: bool) -> None:
        """The Lease is not held any more: withdraw all that hangs on it."""
        hit = self._groups.containing(lease)
        vips = {vip for leases, _ in hit for vip in self._groups.vips(leases)}
        for vip in vips:
            if lease in self.under(vip):
                del self._under[vip]
        self._wires.withdrawn(vips, [group for _, group in hit], stale=stale)

    def forget_all(self) -> None:
        """Nothing is held by any Lease any more."""
        self._under.clear()

    def tidy(self, held: frozenset[Vip]) -> None:
        """Free the groups of which no address is left. `held`: what is still bound or announced here."""
        for leases, group in self._groups.deserted(lambda vip, leases: vip in held or self.under(vip) == leases):
            if self._wires.withdrawn((), (group,), stale=False):
                self._groups.free(leases)
        for lease in [lease for lease, vips in self._vips.items() if not vips]:
            del self._vips[lease]

    def maybe_bound(self) -> frozenset[Vip]:
        """The addresses that may still be let through by some group."""
        return self._groups.all_vips()

    def _grant(self, vip: Vip, leases: Leases, before: Leases) -> None:
        if self._valid_until(leases) is None:
            return
        group = self._groups.enter(vip, leases)
        if not group:
            log.error("no lease group is left for the address; another node has to hold it", extra={"vip": vip, "groups": GROUPS})
            return
        problem = self._arm(leases, group)
        if not problem:
            self._under[vip] = leases
            problem = self._wires.regrouped(vip) if before else ""
        if problem:
            log.warning("the address cannot be held by its Leases", extra={"vip": vip, "leases": sorted(leases), "reason": problem})
            self._under.pop(vip, None)
            self._wires.withdrawn((vip,), (), stale=False)
        elif before:
            self._groups.left(vip, before)
        else:
            self._wires.won((vip,))

    def _arm(self, leases: Leases, group: str) -> str:
        until = self._valid_until(leases)
        # A Lease that ended takes down what hangs on it: not by the fault of the others.
        return "" if until is None else self._wires.renewed(until, group)

    def _valid_until(self, leases: Leases) -> float | None:
        untils = [self._pool.valid_until(lease) for lease in leases]
        known = [until for until in untils if until is not None]
        return min(known) if known and len(known) == len(untils) else None
