"""Which VIPs are as they are wanted, so that their lifetimes can be renewed without planning them anew.

Input: what each plan found. Output: a renewal, as long as what can be asked at no cost still holds: permit, switch, claim, firewall and
place. It must not decide anything else: whatever changes marks the VIP, and then it is planned; an audit plans all of them (PROTOCOL K9).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kvip.core.diff import Action, Refresh, Wanted
from kvip.core.facts import Facts
from kvip.core.model import IfIndex, Vip
from kvip.daemon.desire import Desire
from kvip.daemon.firewall import Firewall
from kvip.daemon.guard import Guard


class Settled:
    """Remembers of each VIP where the last plan left it, when that was nothing but to renew it."""

    def __init__(self, *, facts: Facts, guard: Guard, firewall: Firewall, desire: Desire, permit: Callable[[Vip], float | None]) -> None:
        self._facts = facts
        self._guard = guard
        self._firewall = firewall
        self._desire = desire
        self._permit = permit
        self._at: dict[Vip, IfIndex] = {}

    def planned(self, wanted: Wanted, actions: Sequence[Action]) -> None:
        """This is what was found to do about a VIP."""
        if (
            wanted.known
            and wanted.link is not None
            and wanted.announced
            and wanted.admitted
            and wanted.eligible
            and not wanted.placeless
            and all(isinstance(action, Refresh) for action in actions)
        ):
            self._at[wanted.vip] = wanted.link.index
        else:
            self._at.pop(wanted.vip, None)

    def renewal(self, vip: Vip) -> Refresh | None:
        """What renews the VIP where it is; None = it has to be planned."""
        index = self._at.get(vip)
        link = self._facts.links.get(index) if index is not None else None
        bound = self._facts.bound(vip)
        if link is None or len(bound) != 1 or not bound[0].address.marked or bound[0].address.index != index:
            return None
        # What is not known to be asked for is not kept alive: it runs out (PROTOCOL K9).
        if not self._desire.known or not self._desire.ledger.claimants(vip):
            return None
        if self._permit(vip) is None or not self._guard.admitted(vip) or self._firewall.exposed(vip):
            return None
        return Refresh(vip=vip, link=link)
