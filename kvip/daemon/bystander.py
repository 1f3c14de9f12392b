"""The elector of a node that may not hold VIPs (`members`): it holds nothing, and its daemon only cleans up.

Output: the answers of `Elector`, all of them no. It must not read or write a Lease, so that it costs the others nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable

from kvip.core.election.services import LeaseKey
from kvip.core.model import Incarnation, Uid, Vip
from kvip.core.objects import Lease
from kvip.daemon.guard import GROUP
from kvip.daemon.lease_writer import new_incarnation
from kvip.daemon.supervision import Heartbeats

log = logging.getLogger(__name__)

TURN_S = 1.0


class Bystander:
    """Implements `Elector`."""

    observed = True
    valid_until = None
    blocked = ""
    """It is so by choice."""

    def __init__(self, node: str, heartbeats: Heartbeats) -> None:
        self.incarnation: Incarnation = new_incarnation(node)
        self._heartbeats = heartbeats
        log.info("this node is none of the members: it holds nothing, and cleans up", extra={"node": node})

    def group(self, vip: Vip) -> str:
        """All VIPs hang on one."""
        return GROUP

    def permit(self, vip: Vip) -> float | None:
        """Never."""
        return None

    def covers(self, vip: Vip, lease: LeaseKey) -> bool:
        """Nothing is held here."""
        return False

    def elsewhere(self, vip: Vip) -> bool:
        """If anybody holds it, another one."""
        return True

    def succeeds(self, vip: Vip) -> str:
        """Nothing is bound here."""
        return ""

    def had(self, vip: Vip) -> bool | None:
        """Nothing is bound here."""
        return None

    def holder(self, vip: Vip) -> str:
        """Not known: no Lease is read."""
        return ""

    def peer_macs(self) -> Collection[bytes]:
        """Nothing is held, so nobody's claims matter."""
        return ()

    def speaks(self, uid: Uid) -> bool:
        """The members do."""
        return False

    def refuse(self, vip: Vip) -> None:
        """Nothing is bound here."""

    def doubt(self, vip: Vip) -> None:
        """Nothing is held here."""

    def fence(self, reason: str) -> None:
        """Nothing is held here."""

    def lease_changed(self, key: str, lease: Lease | None) -> None:
        """No Lease matters."""

    def leases_synced(self) -> None:
        """No Lease matters."""

    def demand_changed(self, vips: Iterable[Vip]) -> None:
        """No demand matters."""

    def trust_predecessor(self, incarnation: Incarnation, *, lately: bool) -> None:
        """Its VIPs are the members' now."""

    async def run(self) -> None:
        """Turn until cancelled."""
        while True:
            self._heartbeats.beat("election")
            await asyncio.sleep(TURN_S)

    async def release(self) -> None:
        """Nothing to give back."""
