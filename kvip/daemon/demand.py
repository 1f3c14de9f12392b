"""What this node could hold: the election's question to the caches and the kernel.

Input: claims, endpoints, the Node, the NIC, the switch. Output: the answers of `Demand`, and a call when the node as a
whole became able or unable. It must not decide who holds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from kvip.clock import Clock
from kvip.core.election.placement import Leaning
from kvip.core.election.services import LeaseKey
from kvip.core.facts import Facts
from kvip.core.model import Vip
from kvip.daemon.desire import Desire
from kvip.daemon.firewall import Firewall
from kvip.daemon.guard import Guard

log = logging.getLogger(__name__)

CARRIER_DEBOUNCE_S = 0.5
"""A carrier that is lost for less than this (a switch port that renegotiates) moves no VIP."""


class NodeDemand:
    """Implements `Demand`; `tick` notices a NIC that went or came."""

    def __init__(
        self,
        *,
        clock: Clock,
        desire: Desire,
        facts: Facts,
        guard: Guard,
        firewall: Firewall,
        announces: Callable[[Vip], bool],
        on_node_changed: Callable[[], None],
        nic: str,
    ) -> None:
        self._clock = clock
        self._desire = desire
        self._facts = facts
        self._guard = guard
        self._firewall = firewall
        self._announces = announces
        self._on_node_changed = on_node_changed
        self._nic = nic
        self._lost_at: float | None = None
        self._was_able = True

    def vips(self) -> Iterable[Vip]:
        """Every VIP that some Service of ours asks for."""
        return self._desire.ledger.vips()

    def asked(self, vip: Vip) -> bool:
        """Does any Service ask for it, as far as is known?"""
        return bool(self._desire.ledger.claimants(vip))

    def able(self, vip: Vip) -> bool | None:
        """May this node hold it? None = not known yet."""
        if not self._desire.known:
            return None
        if not self.asked(vip) or not self.node_able():
            return False
        if any(not bound.address.marked for bound in self._facts.bound(vip)) or self._firewall.exposed(vip):
            return False
        return self._desire.eligible(vip)

    def held(self, vip: Vip) -> bool:
        """Is it still bound or announced here?"""
        return self._announces(vip) or any(bound.address.marked for bound in self._facts.bound(vip))

    def leases(self, vip: Vip) -> tuple[LeaseKey, ...] | None:
        """The Leases that all have to be held before the VIP is, in the order in which to take them; None = not known yet."""
        return self._desire.leases(vip) if self._desire.known else None

    def shown(self, vip: Vip) -> bool:
        """Does a Service's status show an earlier holder, or is that not known yet?"""
        return self._desire.shown(vip)

    def leaning(self, vip: Vip) -> Leaning:
        """Which nodes are to take the VIP first."""
        return self._desire.leaning(vip)

    def node_able(self) -> bool:
        """Can anything be announced from here, and may it?"""
        return not self._obstacle()

    def _obstacle(self) -> str:
        """What keeps this node from holding anything: the switch is broken, the NIC lost its carrier a while ago, or its Node says so."""
        briefly = self._lost_at is None or self._clock.now() - self._lost_at < CARRIER_DEBOUNCE_S
        return self._guard.problem or ("" if self._usable() or briefly else "no carrier") or self._desire.whereabouts.exclusion()

    def nic_changed(self) -> None:
        """The kernel reported the NIC: note when its carrier was lost."""
        if self._usable():
            self._lost_at = None
        elif self._lost_at is None:
            self._lost_at = self._clock.now()

    def tick(self) -> None:
        """Called at least twice a second."""
        self.nic_changed()
        obstacle = self._obstacle()
        able = not obstacle
        if able != self._was_able:
            self._was_able = able
            log.log(
                logging.INFO if able else logging.WARNING,
                "VIPs can be announced from this node again" if able else "nothing can be announced from this node; handing over",
                extra={"nic": self._nic, "reason": obstacle},
            )
            self._on_node_changed()

    def _usable(self) -> bool:
        link = self._facts.link(self._nic)
        return link is not None and link.up and link.carrier
