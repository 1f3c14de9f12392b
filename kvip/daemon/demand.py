"""What this node could hold: the election's question to the caches and the kernel.

Input: claims, endpoints, the Node, NICs, the switch. Output: the answers of `Demand`, and a call when the node or a
NIC of it became able or unable. It must not decide who holds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from kvip.clock import Clock
from kvip.core.election.placement import Leaning
from kvip.core.election.services import LeaseKey
from kvip.core.facts import Facts
from kvip.core.model import Link, Vip
from kvip.daemon.desire import Desire
from kvip.daemon.firewall import Firewall
from kvip.daemon.guard import Guard
from kvip.daemon.nics import Nics

log = logging.getLogger(__name__)

CARRIER_DEBOUNCE_S = 0.5
"""A carrier that is lost for less than this (a switch port that renegotiates) moves no VIP."""
NEVER = float("-inf")
"""When the carrier was lost of a NIC that was never seen with one."""


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
        unasked: Callable[[Vip, Link], bool],
        on_node_changed: Callable[[], None],
        nics: Nics,
    ) -> None:
        self._clock = clock
        self._desire = desire
        self._facts = facts
        self._guard = guard
        self._firewall = firewall
        self._announces = announces
        self._unasked = unasked
        self._on_node_changed = on_node_changed
        self._nics = nics
        self._lost_at: dict[str, float | None] = {}
        self._obstacles: dict[str, str] = {}
        self._banned = False

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
        if not self.asked(vip) or self._ban():
            return False
        if any(not bound.address.marked for bound in self._facts.bound(vip)) or self._firewall.exposed(vip):
            return False
        placed = self._nics.placed(vip)
        if not placed.known:
            return None
        return self._desire.eligible(vip) if placed.nic and self._works(placed.nic) else False

    def held(self, vip: Vip) -> bool:
        """Is it still bound or announced here?"""
        return self._announces(vip) or self._facts.is_marked(vip)

    def unconfirmed(self, vip: Vip) -> bool:
        """Is it held only as far as is known: has the kernel not said yet whether it is bound?"""
        return self._facts.unconfirmed(vip)

    def leases(self, vip: Vip) -> tuple[LeaseKey, ...] | None:
        """The Leases that all have to be held before the VIP is, in the order in which to take them; None = not known yet."""
        return self._desire.leases(vip) if self._desire.known else None

    def shown(self, vip: Vip) -> bool:
        """Does a Service's status show an earlier holder, or is that not known yet?"""
        return self._desire.shown(vip)

    def unasked(self, vip: Vip) -> bool:
        """Has the segment to be asked for it here, although a kvip held it before?"""
        link = self._nics.link(vip)
        return link is not None and self._unasked(vip, link)

    def leaning(self, vip: Vip) -> Leaning:
        """Which nodes are to take the VIP first."""
        return self._desire.leaning(vip)

    def node_able(self) -> bool:
        """Can anything be announced from here, and may it? One NIC that works will do."""
        nics = self._nics.announcing()
        return not self._ban() and (not nics or any(map(self._works, nics)))

    def holder_able(self) -> bool:
        """Is this node fit to hold all VIPs? The NIC of the settings decides, as long as VIPs go there or nowhere."""
        main, used = self._nics.main(), self._nics.used()
        if main and (main in used or not used):
            return not self._ban() and self._works(main)
        return self.node_able()

    def _ban(self) -> str:
        """What keeps this node from holding anything: the switch is broken, or its Node says so."""
        return self._guard.problem or self._desire.whereabouts.exclusion()

    def nic_changed(self) -> None:
        """The kernel reported a NIC: note whose carrier was lost, and when."""
        now, before, self._lost_at = self._clock.now(), self._lost_at, {}
        for nic in self._nics.announcing():
            lost_at = before.get(nic, NEVER)
            self._lost_at[nic] = None if self._usable(nic) else now if lost_at is None else lost_at

    def tick(self) -> None:
        """Called at least twice a second."""
        self.nic_changed()
        ban = self._ban()
        obstacles = {nic: ban or ("" if self._works(nic) else "no carrier") for nic in self._lost_at}
        changed = [nic for nic, obstacle in obstacles.items() if bool(obstacle) != bool(self._obstacles.get(nic, ""))]
        if bool(ban) != self._banned:
            changed = list(obstacles) or [""]
        self._obstacles, self._banned = obstacles, bool(ban)
        for nic in changed:
            obstacle = obstacles.get(nic, ban)
            log.log(
                logging.WARNING if obstacle else logging.INFO,
                "nothing can be announced on this NIC; handing over" if obstacle else "VIPs can be announced on this NIC again",
                extra={"nic": nic, "reason": obstacle},
            )
        if changed:
            self._on_node_changed()

    def _works(self, nic: str) -> bool:
        """There with carrier, or lost it only just now."""
        lost_at = self._lost_at.get(nic, NEVER)
        return self._usable(nic) or lost_at is None or self._clock.now() - lost_at < CARRIER_DEBOUNCE_S

    def _usable(self, nic: str) -> bool:
        link = self._facts.link(nic)
        return link is not None and link.up and link.carrier
