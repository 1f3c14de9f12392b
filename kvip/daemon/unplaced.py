"""Tells Services whose VIPs are held nowhere because this node has no NIC for them.

Input: VIPs whose demand may have changed. Output: Warning Events, one per Service, VIP and cause, once nobody else has taken the VIP. It
must not decide which NIC a VIP goes to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from kvip.clock import Clock
from kvip.core.ledger import Ledger
from kvip.core.model import Uid, Vip
from kvip.core.problem import Problem, about
from kvip.daemon.nics import Nics
from kvip.daemon.publisher import Publisher
from kvip.daemon.rounds import Rounds

log = logging.getLogger(__name__)

SETTLE_S = 2.0
"""A node that has the NIC takes the VIP in less."""


class Unplaced:
    """Keeps which VIPs have no NIC here, since when, and what was said of it."""

    def __init__(
        self,
        *,
        node: str,
        clock: Clock,
        ledger: Ledger,
        nics: Nics,
        publisher: Publisher,
        speaks: Callable[[Uid], bool],
        elsewhere: Callable[[Vip], bool],
    ) -> None:
        self._node = node
        self._clock = clock
        self._ledger = ledger
        self._nics = nics
        self._publisher = publisher
        self._speaks = speaks
        self._elsewhere = elsewhere
        self._since: dict[Vip, float] = {}
        self._told: dict[Vip, dict[Uid, Problem]] = {}
        self._waiting: Rounds[Vip] = Rounds(clock)
        """Of which somebody is still to be told."""

    def note(self, vips: Iterable[Vip]) -> None:
        """What these VIPs ask for, or the NICs, may have changed."""
        for vip in vips:
            placed = self._nics.placed(vip)
            if placed.nic or not placed.known or not self._ledger.claimants(vip):
                self._since.pop(vip, None)
                self._told.pop(vip, None)
                self._waiting.drop(vip)
                continue
            self._waiting.add(vip)
            if vip not in self._since:
                self._since[vip] = self._clock.now()
                log.info("no NIC for the VIP on this node", extra={"vip": vip, "reason": self._problem(vip).message})

    def tick(self) -> None:
        """Say what is to be said by now."""
        now = self._clock.now()
        for vip in self._waiting.due():
            if now - self._since[vip] >= SETTLE_S and not self._elsewhere(vip) and self._tell(vip):
                self._waiting.drop(vip)

    def _tell(self, vip: Vip) -> bool:
        """Tell those that this node speaks for; True = everybody has been told."""
        problem, claimants = self._problem(vip), self._ledger.claimants(vip)
        told = self._told[vip] = {uid: what for uid, what in self._told.get(vip, {}).items() if uid in claimants}
        for uid, claimant in claimants.items():
            if told.get(uid) != problem and self._speaks(uid):
                told[uid] = problem
                self._publisher.unplaced(claimant, problem)
        return all(told.get(uid) == problem for uid in claimants)

    def _problem(self, vip: Vip) -> Problem:
        choice = self._nics.choice(vip)
        return about("NoNic", choice.source, choice.value, f"{self._nics.placed(vip).fault}; {vip} is not bound on {self._node}")
