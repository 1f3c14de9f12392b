"""Mode `global`: one shared Lease, with kube-vip's name, permits every VIP.

Input: the Lease's loop, the interlock with mode `claims`. Output: the answers of `Elector`. It must not run requests itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from kvip import metrics
from kvip.clock import Clock
from kvip.core.election.lease import Timers, held_elsewhere, observed
from kvip.core.election.services import LeaseKey
from kvip.core.model import Incarnation, Uid, Vip
from kvip.core.objects import Lease
from kvip.daemon.elector import Wires
from kvip.daemon.guard import GROUP
from kvip.daemon.interlock import Interlock
from kvip.daemon.lease_loop import LeaseLoop
from kvip.daemon.lease_writer import new_incarnation
from kvip.daemon.stakes import Stakes
from kvip.daemon.supervision import Heartbeats
from kvip.daemon.validity import Footing
from kvip.kube.leases import LeaseClient


class GlobalElection:
    """Implements `Elector` by one `LeaseLoop`."""

    def __init__(
        self,
        client: LeaseClient,
        *,
        name: str,
        node: str,
        timers: Timers,
        clock: Clock,
        heartbeats: Heartbeats,
        wires: Wires,
        able: Callable[[], bool],
        earlier_holder: Callable[[], bool],
        proven: Callable[[], bool],
    ) -> None:
        """`name`: of the Lease. `able`: can this node announce anything? `earlier_holder`: may somebody have held before? `proven`: is
        every VIP bound here?"""
        self._name = name
        self._clock = clock
        self._wires = wires
        self._interlock = Interlock(client, clock=clock, timers=timers)
        self._loop = LeaseLoop(
            client,
            name=name,
            timers=timers,
            footing=Footing(clock, heartbeats, on_heard=wires.heard),
            draw=lambda: new_incarnation(node),
            stakes=Stakes(
                on_won=self._won,
                on_fence=self._fenced,
                on_renewed=wires.renewed,
                able=able,
                earlier_holder=earlier_holder,
                proven=proven,
                in_the_way=self._look_for_claims,
            ),
        )

    def _won(self) -> None:
        metrics.lease_holding.set(1)
        self._wires.won(None)

    def _fenced(self, reason: str) -> None:
        metrics.lease_holding.set(0)
        self._wires.fenced(reason)

    async def _look_for_claims(self, deadline_s: float) -> str:
        election = self._loop.election
        return await self._interlock.look(election.incarnation, retired=election.retired, deadline_s=deadline_s)

    @property
    def incarnation(self) -> Incarnation:
        """The identity of this life; a new one after each fence."""
        return self._loop.election.incarnation

    @property
    def observed(self) -> bool:
        """Has the Lease been read within its duration?"""
        return observed(self._loop.election, now=self._clock.now())

    @property
    def blocked(self) -> str:
        """What of mode `claims` is in the way."""
        return "" if self._loop.election.holding else self._interlock.reason

    @property
    def valid_until(self) -> float | None:
        """Until when this node may act; None = not now."""
        return self._loop.valid_until

    def group(self, vip: Vip) -> str:
        """All VIPs hang on one."""
        return GROUP

    def permit(self, vip: Vip) -> float | None:
        """The Lease covers every VIP, so `vip` only names what is asked."""
        return self._loop.valid_until

    def covers(self, vip: Vip, lease: LeaseKey) -> bool:
        """Services have none."""
        return False

    def elsewhere(self, vip: Vip) -> bool:
        """Does another node hold the Lease?"""
        return held_elsewhere(self._loop.election)

    def succeeds(self, vip: Vip) -> str:
        """Who is no kvip and held the Lease before."""
        return self._loop.succeeds

    def had(self, vip: Vip) -> bool | None:
        """The Lease says nothing of single VIPs."""
        return None

    def holder(self, vip: Vip) -> str:
        """Who holds the Lease."""
        view = self._loop.election.view
        return view.holder if view is not None else ""

    def peer_macs(self) -> Collection[bytes]:
        """The shared Lease says nothing of NICs."""
        return ()

    def speaks(self, uid: Uid) -> bool:
        """The holder speaks for every Service."""
        return self._loop.valid_until is not None

    def demand_changed(self, vips: Iterable[Vip]) -> None:
        """What is asked for changes nothing: the holder holds all."""

    def refuse(self, vip: Vip) -> None:
        """One VIP cannot be left to others; binding is tried again, ever more rarely."""

    def doubt(self, vip: Vip) -> None:
        """A peer announced a VIP of ours: read the Lease before anything is answered again."""
        self._loop.verify()

    def fence(self, reason: str) -> None:
        """Withdraw everything now, and start a new incarnation."""
        self._loop.fence(reason)

    def lease_changed(self, key: str, lease: Lease | None) -> None:
        """The watch delivered a Lease."""
        if key.rpartition("/")[2] == self._name:
            self._loop.changed(lease)

    def leases_synced(self) -> None:
        """Nothing hangs on it: each decision to take reads the Lease itself."""

    def trust_predecessor(self, incarnation: Incarnation, *, lately: bool) -> None:
        """A former daemon of this node, known dead (PROTOCOL R7)."""
        self._loop.trust_predecessor(incarnation)

    async def run(self) -> None:
        """Elect and renew until cancelled."""
        await self._loop.run()

    async def release(self) -> None:
        """Give the Lease back."""
        metrics.lease_holding.set(0)
        await self._loop.release()
