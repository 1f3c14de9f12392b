"""What the rest of the daemon asks of an election, whatever its mode, and what an election asks of the daemon.

Types only. One node's daemon has one elector; it answers who may hold what, until when, and it calls back. It must
not touch addresses, frames or rules: the callbacks do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

from kvip.core.election.placement import Leaning
from kvip.core.election.services import LeaseKey
from kvip.core.model import Incarnation, Uid, Vip
from kvip.core.objects import Lease
from kvip.daemon.guard import GROUP


class Demand(Protocol):
    """What this node could hold, as the caches and the kernel say. Asked from the event loop; never waits."""

    def vips(self) -> Iterable[Vip]:
        """Every VIP that some Service of ours asks for."""

    def asked(self, vip: Vip) -> bool:
        """Does any Service ask for it, as far as is known?"""

    def able(self, vip: Vip) -> bool | None:
        """May this node hold it: claimed, eligible here, NIC present with carrier, not in conflict? None = not known yet."""

    def held(self, vip: Vip) -> bool:
        """Is it still bound, announced or let through by the switch here, or may it be? A claim is written off only when not."""

    def unconfirmed(self, vip: Vip) -> bool:
        """Is it held only as far as is known: has the kernel not said yet whether it is bound?"""

    def shown(self, vip: Vip) -> bool:
        """Does the status of some Service show that somebody held it before, or is that not known yet (unsynced)?"""

    def unasked(self, vip: Vip) -> bool:
        """Has the segment to be asked for it here, although a kvip held it before?"""

    def leaning(self, vip: Vip) -> Leaning:
        """Which nodes could hold it, and which are to hold it rather than others: for the order of taking, never to exclude."""


class Wires(Protocol):
    """What an elector reports. Each call is synchronous and complete when it returns."""

    def renewed(self, until: float, group: str = GROUP) -> str:
        """The validity of this lease group now ends at `until` (CLOCK_BOOTTIME seconds): re-arm the dead-man's switch.

        Returns "" or why its VIPs must be let go of (the kernel's own timer ran out, or the switch cannot be armed).
        """

    def won(self, vips: Iterable[Vip] | None) -> None:
        """Permission for these VIPs was won (None = for all), or is about to be given up: reconcile them."""

    def fenced(self, reason: str) -> None:
        """Withdraw everything before this returns: disarm, stop frames, delete addresses (PROTOCOL R2)."""

    def withdrawn(self, vips: Collection[Vip], groups: Collection[str], *, stale: bool) -> bool:
        """Withdraw these VIPs, and all that hangs on these lease groups, before this returns: as complete for them as a fence.

        `stale`: what is known of the Services may be old, and is read anew. True = the kernel confirms that nothing of them is left.
        """

    def regrouped(self, vip: Vip) -> str:
        """A VIP that is held hangs on another lease group now, already armed. Returns "" or why it must be withdrawn."""

    def heard(self, back: bool) -> None:
        """The API server answers again after an outage (`back`), or a Lease that was refused is granted."""


class Elector(Protocol):
    """One node's part in an election."""

    @property
    def incarnation(self) -> Incarnation:
        """The identity of this life; a new one after each fence."""

    @property
    def observed(self) -> bool:
        """Is what it knows fresh enough to decide by?"""

    @property
    def blocked(self) -> str:
        """Why nothing is taken although this node is alive: a holder of another mode (PROTOCOL G5); "" = nothing in the way."""

    @property
    def valid_until(self) -> float | None:
        """Until when this node may act at all (CLOCK_BOOTTIME seconds); None = not now."""

    def group(self, vip: Vip) -> str:
        """The lease group of the switch that a permitted VIP hangs on."""

    def permit(self, vip: Vip) -> float | None:
        """Until when this node may bind and announce the VIP; None = it may not. Checked against the clock at every call."""

    def covers(self, vip: Vip, lease: LeaseKey) -> bool:
        """Is this one of the Leases of Services by which the VIP is held here?"""

    def elsewhere(self, vip: Vip) -> bool:
        """Does another node hold the VIP, as far as is known?"""

    def succeeds(self, vip: Vip) -> str:
        """Who is no kvip and held this VIP before, so that its kernel may still answer: the segment is asked before the VIP is bound.

        "" = nobody; another value after each such holder (PROTOCOL G1).
        """

    def had(self, vip: Vip) -> bool | None:
        """Did a kvip have the VIP bound before, by what is written of its ownership? None = this election writes nothing of that."""

    def holder(self, vip: Vip) -> str:
        """Who holds the VIP, as far as is known, dead or alive: an identity as the Leases spell it; "" = nobody. For readers."""

    def peer_macs(self) -> Collection[bytes]:
        """MACs of other nodes' NICs, as they publish them."""

    def speaks(self, uid: Uid) -> bool:
        """Is it this node that tells the Service of this UID what concerns no holder? One live node does."""

    def refuse(self, vip: Vip) -> None:
        """The VIP could not be bound here several times: others are to hold it for a while (PROTOCOL T5)."""

    def doubt(self, vip: Vip) -> None:
        """A peer announced this VIP of ours: read again who holds it before anything is answered (PROTOCOL F2)."""

    def fence(self, reason: str) -> None:
        """Withdraw everything now, and start a new incarnation: the daemon found out that it must not act."""

    def lease_changed(self, key: str, lease: Lease | None) -> None:
        """The watch delivered a Lease, by its namespace/name; None = it is gone."""

    def leases_synced(self) -> None:
        """A consistent List of the Leases was read."""

    def demand_changed(self, vips: Iterable[Vip]) -> None:
        """What `Demand` says of these VIPs may have changed."""

    def trust_predecessor(self, incarnation: Incarnation, *, lately: bool) -> None:
        """A former daemon of this node, known dead: the lock is held, and boot-id and incarnation match the journal (PROTOCOL R7).
        `lately`: addresses that it bound were there still at the start: it is dead for their lifetime at most."""

    async def run(self) -> None:
        """Elect and renew until cancelled."""

    async def release(self) -> None:
        """Give everything back, so that others take it at once. Call only after `run` ended and every VIP was let go of."""
