"""Service security: keeps the table of allowed ports in line with the Services, and tells which VIPs may do with what is there.

Input: VIPs whose Services were read, and doubts about the table. Output: the table, replaced as a whole by one `nft` child at a time,
and answers to `secured` and `exposed`. It must not decide who holds a VIP, and nobody waits for it: changes that come while a child
runs go with the next one. Every node has the rules of every VIP that a Service asks for, so none is missing at a take-over.

A VIP is not taken before its rules are in the kernel as wanted. One that is held keeps its former rules while new ones cannot be
applied, and keeps them until its address is gone; one that has none at all for `EXPOSED_AFTER_S`, because someone removed them and
they cannot be put back, is let go of.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from kvip import metrics
from kvip.clock import Clock
from kvip.core.ledger import Ledger
from kvip.core.model import Vip
from kvip.core.objects import Service
from kvip.core.service_rules import Restriction, Rules, compile_rules, restriction
from kvip.errors import SwitchError

if TYPE_CHECKING:
    from kvip.daemon.parts import Parts

log = logging.getLogger(__name__)

SPACING_S = 0.05
"""Between two `nft` children; the first change after a pause does not wait."""
PUT_BACK_SPACING_S = 1.0
"""Against a program that changes the table again and again."""
RETRY_S = 0.5
LONGEST_RETRY_S = 10.0
EXPOSED_AFTER_S = 3.0


class Table(Protocol):
    """The table in the kernel."""

    async def apply(self, rules: Rules) -> None:
        """Replace it. Raises SwitchError."""

    def intact(self) -> bool:
        """Is it as last applied? Raises SwitchError."""

    def remove(self) -> bool:
        """Remove it; was there one? Raises SwitchError."""


class Firewall:
    """Owns the table. `table` None: service security is off, every VIP is secured, and `run` is not called."""

    def __init__(
        self,
        table: Table | None,
        *,
        clock: Clock,
        ledger: Ledger,
        services: Callable[[], Mapping[str, Service]],
        nics: Callable[[], Collection[str]],
        bound: Callable[[Vip], bool],
        look_at: Callable[[Iterable[Vip]], None],
        report: Callable[[Vip, str], None],
    ) -> None:
        """`bound`: is the VIP an address of this node? `look_at` hears VIPs whose answers changed; `report` those whose rules could not be
        applied, and why.
        """
        self._table = table
        self._clock = clock
        self._ledger = ledger
        self._services = services
        self._nics = nics
        self._bound = bound
        self._look_at = look_at
        self._report = report
        self._wanted: dict[Vip, Restriction] = {}
        self._applied: dict[Vip, Restriction] = {}
        self._applied_nics: frozenset[str] = frozenset()
        self._compiled: Rules | None = None
        """The table that was to be applied last."""
        self._leaving: set[Vip] = set()
        """Nobody asks for them, but they are bound still: their rules go after them (PROTOCOL K5)."""
        self._begun = self._dirty = self._doubted = self._tampered = False
        self._dirty_since = self._not_before = clock.now()
        self._failing_since: float | None = None
        self._failures = 0
        self._wake = asyncio.Event()

    # -- questions ------------------------------------------------------------------------------------------------------

    def secured(self, vip: Vip) -> bool:
        """Are the VIP's rules in the kernel as its Services want them now?"""
        wanted = self._wanted.get(vip)
        return wanted is None or (self._applied.get(vip) == wanted and self._applied_nics.issuperset(self._nics()))

    def exposed(self, vip: Vip) -> bool:
        """Has the VIP no rules at all although it should, and for too long?"""
        since = self._failing_since
        failing = since is not None and self._clock.now() - since >= EXPOSED_AFTER_S
        return failing and vip in self._wanted and vip not in self._applied

    def pending_s(self) -> float:
        """For how long the kernel has not had what is wanted; 0 = it has."""
        return self._clock.now() - self._dirty_since if self._begun and self._dirty else 0.0

    # -- what changed ----------------------------------------------------------------------------------------------------

    def update(self, vips: Iterable[Vip]) -> None:
        """The Services that ask for these VIPs were read, or are gone; or the VIPs were let go of."""
        if self._table is None:
            return
        store = self._services()
        for vip in {*vips, *self._leaving}:
            claimants = self._ledger.claimants(vip).values()
            self._leaving.discard(vip)
            if not claimants and vip in self._wanted and self._bound(vip):
                self._leaving.add(vip)
                continue
            found = (store.get(claimant.service) for claimant in claimants)
            wanted = restriction(service for service in found if service is not None) if claimants else None
            if wanted == self._wanted.get(vip):
                continue
            if wanted is None:
                del self._wanted[vip]
            else:
                self._wanted[vip] = wanted
            self._mark()

    def begin(self) -> None:
        """Every Service was read: from now on what is not wanted goes. Until then a former daemon's rules stay. Called at each turn."""
        if self._leaving:
            self.update(())
        if not self._begun:
            self._begun = True
            self._mark()

    def doubt(self) -> None:
        """Someone else may have changed the table, or the NICs changed."""
        self._doubted = True
        self._wake.set()

    def audit(self) -> None:
        """Judge every VIP anew, also those that only the table still knows, and look at the table."""
        self.update({*self._ledger.vips(), *self._wanted})
        self.doubt()

    def _mark(self) -> None:
        if not self._dirty:
            self._dirty, self._dirty_since = True, self._clock.now()
        self._wake.set()

    # -- the table -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Apply what is wanted, for ever. A start after a failure applies it again: what became of it is not known."""
        if self._begun:
            self._mark()
        while True:
            self._wake.clear()
            if self._begun:
                self._look_for_changes()
                if self._dirty:
                    # What changes meanwhile goes with it.
                    await asyncio.sleep(max(0.0, self._not_before - self._clock.now()))
                    await self._apply()
                    continue
            await self._wake.wait()

    def remove(self) -> None:
        """At the end, once nothing is bound: remove the table. `run` must have ended."""
        if self._table is None:
            return
        try:
            self._table.remove()
        except SwitchError as error:
            log.warning("the rules of service security could not be removed; `kvip sweep` does", extra={"reason": str(error)})

    def _look_for_changes(self) -> None:
        if not self._applied_nics.issuperset(self._nics()):
            self._mark()
        if not self._doubted:
            return
        self._doubted = False
        if not self._intact():
            self._tampered = self._tampered or bool(self._applied)
            self._note_applied({})
            self._mark()
            if self._failing_since is not None:
                self._look_at(tuple(self._wanted))

    def _intact(self) -> bool:
        assert self._table is not None
        try:
            return self._table.intact()
        except SwitchError as error:
            log.warning("the rules of service security cannot be read; keeping what is known", extra={"reason": str(error)})
            return True

    async def _apply(self) -> None:
        assert self._table is not None
        wanted, nics = dict(self._wanted), frozenset(self._nics())
        self._dirty, since = False, self._dirty_since
        began = self._clock.now()
        try:
            self._compiled = compile_rules(wanted, nics=sorted(nics), before=self._compiled)
            await self._table.apply(self._compiled)
        except (SwitchError, ValueError) as error:
            self._dirty, self._dirty_since = True, since
            self._failed(str(error))
            return
        before, self._applied_nics = self._applied, nics
        self._note_applied(wanted)
        self._failing_since, self._failures = None, 0
        self._not_before = began + SPACING_S
        metrics.service_rules_changes_total.labels("applied").inc()
        if self._tampered:
            self._tampered = False
            metrics.service_rules_restored_total.inc()
            log.warning("the rules of service security were put back: someone changed or removed them", extra={"vips": len(wanted)})
        if self._doubted:
            # What was read back as ours may be what someone else made of it meanwhile.
            self._doubted = False
            self._mark()
            self._not_before = self._clock.now() + PUT_BACK_SPACING_S
        self._look_at([vip for vip, allowed in wanted.items() if before.get(vip) != allowed])

    def _note_applied(self, applied: dict[Vip, Restriction]) -> None:
        self._applied = applied
        metrics.service_rules_vips.set(len(applied))

    def _failed(self, problem: str) -> None:
        now = self._clock.now()
        if self._failing_since is None:
            self._failing_since = now
            log.error("the rules of service security cannot be applied; trying again", extra={"reason": problem})
        self._not_before = now + min(LONGEST_RETRY_S, RETRY_S * 2.0 ** min(self._failures, 10))
        self._failures += 1
        metrics.service_rules_changes_total.labels("failed").inc()
        if not self._intact():
            self._note_applied({})
        lacking = [vip for vip, allowed in self._wanted.items() if self._applied.get(vip) != allowed]
        for vip in lacking:
            self._report(vip, problem)
        self._look_at(lacking)


def build_firewall(parts: Parts, *, nics: Callable[[], Collection[str]]) -> Firewall:
    """The firewall of a daemon, which announces on these NICs."""
    return Firewall(
        parts.ports,
        clock=parts.clock,
        ledger=parts.ledger,
        services=lambda: parts.caches.services.store,
        nics=nics,
        bound=parts.facts.is_marked,
        look_at=lambda vips: parts.reconcile.on_vips(vips),
        report=parts.publisher.not_secured,
    )
