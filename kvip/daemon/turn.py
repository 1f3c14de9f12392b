"""One turn of reconciliation: dirty VIPs in, actions planned, executed and reported.

Input: the VIPs that may have changed. Output: what must be looked at again, and when. It must not watch anything:
`ReconcileLoop` says which VIPs are dirty, `core.diff` decides, the executor acts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from kvip.clock import Clock
from kvip.core import diff
from kvip.core.facts import Facts
from kvip.core.model import Address, Link, Vip, is_ipv6
from kvip.daemon.binding import SLICE
from kvip.daemon.desire import Desire
from kvip.daemon.executor import IN_DOUBT, NO_PERMIT, PERMIT_ENDED, Done, Executor
from kvip.daemon.firewall import Firewall
from kvip.daemon.guard import Guard
from kvip.daemon.nics import Nics
from kvip.daemon.outcome import Outcome
from kvip.daemon.settled import Settled

RETRY_S = 1.0
DOUBT_RETRY_S = 0.02
"""A dump, which ends the doubt, takes some milliseconds."""
LONGEST_RETRY_S = 60.0
NONE: Mapping[Vip, float] = {}
REFUSED_AFTER = 3
"""Failures in a row after which this node leaves a VIP to others (PROTOCOL T5)."""


class Asking(Protocol):
    """What is known of a VIP from the segment itself."""

    def look(self, vip: Vip, link: Link) -> None:
        """Take in where the VIP is bound now, and that it is to go to this NIC."""

    def bound(self, vip: Vip, link: Link) -> None:
        """The VIP was bound on this NIC: it did not have to be asked for, or nobody answered."""

    def left(self, vip: Vip) -> None:
        """The VIP is being let go of."""

    def unprobed(self, vip: Vip, link: Link) -> bool:
        """Must the segment be asked before this VIP is bound on this NIC?"""

    def contested(self, vip: Vip) -> bool:
        """Does another host have this address?"""

    def first(self, vip: Vip) -> bool:
        """Is the next bind the first of this assignment?"""

    def forget(self, vip: Vip) -> None:
        """Nobody asks for the VIP any more."""

    def ask(self, vips: Iterable[Vip], link: Link) -> None:
        """Ask; the VIPs are marked dirty when the answer is known."""


class Again(Protocol):
    """Where a turn leaves what it could not finish."""

    def at(self, vip: Vip, when: float) -> None:
        """Look at the VIP again then."""

    def doubt(self) -> None:
        """The facts may be wrong: read them anew."""


class Turn:
    """Plans and executes; keeps count of the failures of each VIP."""

    def __init__(
        self,
        *,
        clock: Clock,
        desire: Desire,
        facts: Facts,
        executor: Executor,
        guard: Guard,
        firewall: Firewall,
        outcome: Outcome,
        asking: Asking,
        permit: Callable[[Vip], float | None],
        on_refused: Callable[[Vip, str], None],
        on_duplicate: Callable[[Vip], None],
        dad: bool,
        nics: Nics,
        lifetime_s: Callable[[], int],
    ) -> None:
        """`on_refused`: binding failed too often, and how. `on_duplicate`: the kernel
        found another host with it. `dad`: the kernel looks for duplicates of an IPv6 address at its first bind."""
        self._clock = clock
        self._desire = desire
        self._facts = facts
        self._executor = executor
        self._guard = guard
        self._firewall = firewall
        self._outcome = outcome
        self._asking = asking
        self._permit = permit
        self._on_refused = on_refused
        self._on_duplicate = on_duplicate
        self._dad = dad
        self._nics = nics
        self._lifetime_s = lifetime_s
        self._settled = Settled(facts=facts, guard=guard, firewall=firewall, desire=desire, permit=permit)
        self._failures: dict[Vip, tuple[int, str]] = {}

    def failure(self, vip: Vip) -> str:
        """How the last try to bind or unbind the VIP failed, in the kernel's own words; "" = it did not."""
        return self._failures.get(vip, (0, ""))[1]

    async def act(self, dirty: Mapping[Vip, float], again: Again, *, renewals: Mapping[Vip, float] = NONE) -> set[Vip]:
        """Bring these VIPs (with the instant at which each was marked) in line with what is wanted. `renewals`: nothing is known to have
        changed, but their lifetimes are to be renewed. Returns those that only had to be bound, and are."""
        epoch, now, lifetime_s = self._executor.epoch, self._clock.now(), self._lifetime_s()
        let_gos: list[diff.LetGo] = []
        takes: list[diff.Take] = []
        merely: set[Vip] = set()
        adopts: list[diff.Adopt] = []
        settled = {vip: self._settled.renewal(vip) for vip in renewals}
        dirty = {**dirty, **{vip: renewals[vip] for vip, renewal in settled.items() if renewal is None}}
        refreshes = [renewal for renewal in settled.values() if renewal is not None]
        probes: dict[Link, list[Vip]] = {}
        for vip, marked_at in dirty.items():
            conflict: Address | None = None
            actions = self._plan(vip, now=now, lifetime_s=lifetime_s)
            if len(actions) == 1 and isinstance(actions[0], diff.Take):
                merely.add(vip)
            ends = any(isinstance(action, diff.LetGo) and not action.keeps for action in actions)
            self._outcome.ending(vip, marked_at if ends else None)
            if not actions and not self._facts.is_marked(vip):
                self._outcome.unasked(vip)
            for action in actions:
                match action:
                    case diff.LetGo():
                        let_gos.append(action)
                        if not action.keeps:
                            self._asking.left(vip)
                        if action.reason == diff.DUPLICATE:
                            self._on_duplicate(vip)
                    case diff.Take():
                        takes.append(action)
                        self._outcome.asked(vip, marked_at)
                    case diff.Adopt():
                        adopts.append(action)
                        self._outcome.asked(vip, marked_at)
                    case diff.Probe():
                        probes.setdefault(action.link, []).append(vip)
                        self._outcome.asked(vip, marked_at)
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
        for link, vips in probes.items():
            self._asking.ask(vips, link)
        self._outcome.leaving(let_gos)
        done = await self._executor.let_go(let_gos, epoch=epoch) if let_gos else []
        if len(dirty) >= SLICE:
            # Planning many takes its time; withdrawals did not wait for it.
            await asyncio.sleep(0)
        done += await self._executor.adopt(adopts, epoch=epoch) if adopts else []
        # On its new NIC only once it has left the old one.
        stuck = {result.action.vip for result in done if result.problem}
        takes = [action for action in takes if action.vip not in stuck]
        done += await self._executor.take(takes, epoch=epoch) if takes else []
        done += await self._executor.refresh(refreshes, epoch=epoch) if refreshes else []
        for number, result in enumerate(done, 1):
            self._judge(result, again)
            if number % SLICE == 0:
                await asyncio.sleep(0)
        return merely & {result.action.vip for result in done if not result.problem}

    def _plan(self, vip: Vip, *, now: float, lifetime_s: int) -> tuple[diff.Action, ...]:
        permitted = self._permit(vip) is not None
        bound, placed = self._facts.bound(vip), self._nics.placed(vip)
        link = self._nics.link(vip, placed)
        if link is not None:
            self._asking.look(vip, link)
        wanted = self._desire.wanted(
            vip,
            placed=placed,
            link=link,
            permitted=permitted,
            announced=self._executor.announces(vip),
            admitted=self._guard.admitted(vip),
            guarded=self._guard.guards(vip),
            unprobed=link is not None and self._asking.unprobed(vip, link),
            contested=self._asking.contested(vip),
            dad=self._dad and is_ipv6(vip) and self._asking.first(vip),
            secured=self._firewall.secured(vip),
            exposed=self._firewall.exposed(vip),
        )
        if wanted.known and not wanted.claimed:
            self._failures.pop(vip, None)
            self._asking.forget(vip)
        actions = diff.plan(wanted, bound, now=now, lifetime_s=lifetime_s)
        self._settled.planned(wanted, actions)
        return actions

    def _judge(self, result: Done, again: Again) -> None:
        vip = result.action.vip
        if result.problem == IN_DOUBT:
            again.at(vip, self._clock.now() + DOUBT_RETRY_S)
            return
        if isinstance(result.action, diff.Refresh) and result.problem and not self._facts.is_marked(vip):
            # It is gone, which renewing it showed.
            again.at(vip, self._clock.now())
            return
        if result.problem in (NO_PERMIT, PERMIT_ENDED):
            # Nothing is wrong with binding here; a permit that is won again marks the VIP again.
            return
        if self._outcome.confirmed(result):
            self._failures.pop(vip, None)
            if isinstance(result.action, diff.Take) and self._facts.is_marked(vip):
                self._asking.bound(vip, result.action.link)
            return
        count = self._failures.get(vip, (0, ""))[0] + 1
        self._failures[vip] = (count, result.problem)
        again.at(vip, self._clock.now() + min(LONGEST_RETRY_S, RETRY_S * 2 ** min(count - 1, 6)))
        again.doubt()
        if count >= REFUSED_AFTER and isinstance(result.action, diff.Take | diff.Adopt):
            self._on_refused(vip, result.problem)
