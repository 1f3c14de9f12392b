"""Runs this node's part in mode `claims`: the pure core decides, this loop tells it what happens and does what it says.

Input: Leases (watch and answers), demand, the clock. Output: `permit(vip)`, validity for the switch, and fences. It must not decide who
may hold what (`core.election.claims` does), nor touch addresses or frames (`Wires` do).

Over 300 lines: every part of it replaces the one state of the loop, in the same instant with what follows from that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from itertools import islice

from kvip import metrics
from kvip.clock import Clock, SuspendWatch
from kvip.core.election import claims, records
from kvip.core.election.heartbeat import About, node_of
from kvip.core.election.lease import Timers
from kvip.core.election.members import over
from kvip.core.election.services import LeaseKey
from kvip.core.election.state import Op, Slot, State, Want, fresh, own_name, permitted, replace, valid, valid_until
from kvip.core.model import Incarnation, Uid, Vip
from kvip.core.objects import Lease
from kvip.daemon.claims_requests import ClaimsRequests
from kvip.daemon.elector import Demand, Wires
from kvip.daemon.guard import GROUP
from kvip.daemon.lease_writer import new_incarnation
from kvip.daemon.peers import Peers
from kvip.daemon.supervision import Heartbeats
from kvip.daemon.validity import Progress, Reach, ValidityTimer
from kvip.daemon.waking import woken

log = logging.getLogger(__name__)

LONGEST_PAUSE_S = 1.0
STEPS_PER_TURN = 50
WANTS_PER_TURN = 128


class ClaimsLoop:
    """One node's part in the election of mode `claims`; implements `Elector`."""

    def __init__(
        self,
        requests: ClaimsRequests,
        *,
        node: str,
        timers: Timers,
        clock: Clock,
        heartbeats: Heartbeats,
        demand: Demand,
        wires: Wires,
        about: Callable[[], About],
        shared_name: str,
        rebalance: bool = False,
    ) -> None:
        """`about`: what this node says of itself now. `shared_name`: the Lease of mode `global` (PROTOCOL G5). `rebalance`: T5's option."""
        self._requests = requests
        self._node = node
        self._clock = clock
        self._heartbeats = heartbeats
        self._demand = demand
        self._wires = wires
        self._about = about
        self._state = claims.start(node, new_incarnation(node), timers, about=about(), shared_name=shared_name, rebalance=rebalance)
        self._suspends = SuspendWatch(clock)
        self._wake = asyncio.Event()
        self._timer = ValidityTimer(clock, lambda: self.fence("renew deadline"))
        self._progress = Progress(heartbeats)
        self._peers = Peers(node)
        self._dirty: dict[Vip, None] = {}
        self._before_next_step = 0
        """So many of them, the first ones, are to be told before anything is decided."""
        self._permitted: dict[int, tuple[Slot, frozenset[Vip]]] = {}
        self._mine: set[Vip] = set()
        self._until: float | None = None
        self._reach = Reach(wires.heard)
        self._was_blocked = ""
        self._verifying: frozenset[str] = frozenset()
        self._doubted_at = float("-inf")

    # -- what the rest of kvip asks -----------------------------------------------------------------------------------

    @property
    def incarnation(self) -> Incarnation:
        """The identity of this life; a new one after each fence."""
        return self._state.incarnation

    @property
    def observed(self) -> bool:
        """Is the view of all Leases recent?"""
        return self._state.synced_at is not None and fresh(self._state, self._clock.now())

    @property
    def blocked(self) -> str:
        """Why nothing is taken although this node is alive; "" = nothing in the way."""
        return claims.blocked(self._state)

    @property
    def valid_until(self) -> float | None:
        """Until when this node may act at all; None = not now."""
        self._check_suspend()
        until = self._until
        return until if until is not None and self._clock.now() < until else None

    def group(self, vip: Vip) -> str:
        """All VIPs hang on one."""
        return GROUP

    def permit(self, vip: Vip) -> float | None:
        """Until when this node may bind and announce the VIP; None = it may not."""
        return self.valid_until if vip in self._mine else None

    def covers(self, vip: Vip, lease: LeaseKey) -> bool:
        """Services have none."""
        return False

    def elsewhere(self, vip: Vip) -> bool:
        """Does another incarnation that may live hold the VIP, as far as is known?"""
        state = self._state
        holder = self.holder(vip)
        if holder in ("", state.incarnation, *state.retired, *state.dead):
            return False
        member = state.members.get(node_of(holder))
        return member is None or not over(member, holder, now=self._clock.now(), fresh_since=state.fresh_since)

    def holder(self, vip: Vip) -> str:
        """The incarnation that the VIP's record names."""
        record = self._record(vip)
        return record.holder.get(vip, "") if record is not None else ""

    def had(self, vip: Vip) -> bool:
        """By the VIP's record: it goes with the VIP from holder to holder, whoever writes the status."""
        record = self._record(vip)
        return record is not None and record.proves(vip)

    def _record(self, vip: Vip) -> records.Record | None:
        slot = self._state.slots.get(records.number_of(vip, self._state.count)) if self._state.count else None
        return slot.record if slot is not None else None

    def succeeds(self, vip: Vip) -> str:
        """Only kvip has heartbeats."""
        return ""

    def peer_macs(self) -> Collection[bytes]:
        """MACs of other nodes' NICs, from their heartbeats."""
        return self._peers.macs

    def speaks(self, uid: Uid) -> bool:
        """One living node speaks for a Service: the first in the order that its UID gives."""
        return self.valid_until is not None and self._peers.chose_us(uid)

    # -- what happens -----------------------------------------------------------------------------------------------------

    def demand_changed(self, vips: Iterable[Vip]) -> None:
        """What `Demand` says of these VIPs may have changed."""
        self._dirty.update(dict.fromkeys(vips))
        if self._dirty:
            self._wake.set()

    def refuse(self, vip: Vip) -> None:
        """The VIP could not be bound here: others are to hold it for a while (PROTOCOL T5)."""
        self._learn(claims.refused(self._state, frozenset({vip}), now=self._clock.now()))
        log.warning("the VIP could not be bound here; left to other nodes for a while", extra={"vip": vip})

    def trust_predecessor(self, incarnation: Incarnation, *, lately: bool) -> None:
        """A former daemon of this node, known dead (PROTOCOL R7)."""
        self._learn(claims.trust(self._state, incarnation, lately=lately))

    def lease_changed(self, key: str, lease: Lease | None) -> None:
        """The watch delivered a Lease; None = it is gone."""
        self._learn(claims.watched(self._state, key.rpartition("/")[2], lease, now=self._clock.now()))

    def leases_synced(self) -> None:
        """The watch went on from a snapshot. What is in it was told; the core asks for a consistent list of its own."""
        self._learn(claims.bridged(self._state, now=self._clock.now()))

    def doubt(self, vip: Vip) -> None:
        """A peer announced a VIP of ours: read record and heartbeat before anything is answered again (PROTOCOL F2)."""
        count = self._state.count
        names = {own_name(self._state), *([records.name_of(records.number_of(vip, count))] if count else [])}
        self._verifying |= names
        self._doubted_at = self._clock.now()
        self._learn(replace(self._state, verify=self._state.verify | names))

    def fence(self, reason: str) -> None:
        """Withdraw everything, then start a new incarnation. Synchronous: nothing can come between."""
        self._timer.set(None)
        if self._state.renewed_until is None:
            return
        former = self._state.incarnation
        self._state = claims.fenced(self._state, new_incarnation(self._node))
        self._mine.clear()
        self._permitted.clear()
        self._until = None
        self._verifying = frozenset()
        metrics.lease_holding.set(0)
        metrics.fences_total.labels(reason).inc()
        log.warning("fence: letting go of every VIP", extra={"reason": reason, "incarnation": former})
        self._wires.fenced(reason)
        self._wake.set()

    # -- the loop -----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Elect and renew until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._state = replace(self._state, flights={})
            self._dirty.update(dict.fromkeys(self._demand.vips()))
            while True:
                # What wakes this loop at once must not keep the others from their turn.
                await asyncio.sleep(0)
                self._heartbeats.beat("election")
                self._check_suspend()
                self._wake.clear()
                pause_s = min(LONGEST_PAUSE_S, max(0.001, self._turn(group) - self._clock.now()))
                await woken(self._wake, within_s=pause_s)

    def _turn(self, group: asyncio.TaskGroup) -> float:
        """Everything that is to be done now; returns when to look again at the latest."""
        for _ in range(STEPS_PER_TURN):
            self._tell_demand()
            self._learn(claims.described(self._state, self._about()))
            if not self._dirty:
                # What was learnt just now is decided upon here.
                self._wake.clear()
            step = claims.step(self._state, self._clock.now(), stuck=self._stuck())
            self._state = step.state
            if step.fence:
                self.fence(step.fence)
                continue
            for op in step.ops:
                group.create_task(self._do(op), name=f"{op.purpose} {op.name}")
            self._notice()
            return step.wake_at
        log.error("the election did not come to rest; going on in a moment")
        return self._clock.now() + 0.1

    def _tell_demand(self) -> None:
        if self._state.count is None or not self._dirty:
            return
        dirty = list(islice(self._dirty, max(WANTS_PER_TURN, self._before_next_step)))
        wants = {vip: self._want(vip) for vip in dirty}
        self._before_next_step = 0
        for vip in dirty:
            del self._dirty[vip]
        self._learn(claims.demanded(self._state, wants, now=self._clock.now()))
        if self._dirty:
            self._wake.set()

    def _want(self, vip: Vip) -> Want:
        demand = self._demand
        return Want(
            asked=demand.asked(vip),
            able=demand.able(vip),
            shown=demand.shown(vip),
            held=demand.held(vip),
            unconfirmed=demand.unconfirmed(vip),
            unasked=demand.unasked(vip),
            leaning=demand.leaning(vip),
        )

    async def _do(self, op: Op) -> None:
        answer = await self._requests.do(op)
        self._reach.answered(answer.status, lease=op.name, ok=answer.ok or answer.overtaken, reason=answer.problem)
        state = claims.answered(self._state, op, answer, now=self._clock.now())
        if op.name in self._verifying and op.sent_at < self._doubted_at:
            # It was sent before there was a doubt, and may tell of the time before (PROTOCOL F2).
            state = replace(state, verify=state.verify | {op.name})
        self._learn(state)
        self._wake.set()

    def _learn(self, state: State) -> None:
        """Take over what was learnt, with its consequences in the same instant: a longer validity, or a fence."""
        if state is self._state:
            return
        count_known = self._state.count is None and state.count is not None
        self._state = state
        if count_known:
            self._dirty.update(dict.fromkeys(self._demand.vips()))
        now = self._clock.now()
        if state.renewed_until is not None and (state.lost or not valid(state, now)):
            # The reason is the core's to name.
            self.fence(claims.step(state, now).fence)
            return
        until = valid_until(state)
        verified = bool(self._verifying) and not self._verifying & state.verify
        if until is not None and (verified or self._until is None or until > self._until):
            self._verifying &= state.verify
            self._extend(until)
        self._wake.set()

    def _extend(self, until: float) -> None:
        if not self._verifying:
            me = self._state.incarnation
            problem = self._wires.renewed(until)
            if problem:
                self.fence(problem)
                self._rest()
            if self._state.incarnation != me:
                return
        if self._until is None:
            metrics.lease_holding.set(1)
            log.info("heartbeat confirmed: this node may hold VIPs", extra={"incarnation": self._state.incarnation})
        self._until = until
        self._timer.set(until)

    def _rest(self) -> None:
        """A new life would meet the same problem: it begins a period later."""
        again_at = self._clock.now() + self._state.timers.retry_period_s
        self._state = replace(self._state, pauses={**self._state.pauses, own_name(self._state): (1, again_at)})

    def _notice(self) -> None:
        """What changed for the others: VIPs won or to be given up, who lives, what is in the way."""
        state, now = self._state, self._clock.now()
        changed: set[Vip] = set()
        lost: list[Vip] = []
        for number, slot in state.slots.items():
            known = self._permitted.get(number)
            if known is None or known[0] is not slot:
                allowed = permitted(state, slot) if self._until is not None else frozenset[Vip]()
                moved = allowed ^ (known[1] if known is not None else frozenset())
                own = {vip for vip in moved if records.number_of(vip, state.count or 0) == number}
                self._mine -= own
                self._mine |= own & allowed
                changed |= own
                lost += own - allowed
                self._permitted[number] = (slot, allowed)
        if lost:
            # Whether it is bound is asked again before another is named: it may have been since that was told.
            self._dirty = {**dict.fromkeys(lost), **self._dirty}
            self._before_next_step = len(lost)
        if changed:
            metrics.claims_held.set(len(self._mine))
            self._wires.won(changed)
        self._peers.look(state, now=now, valid=self._until is not None)
        blocked = claims.blocked(state)
        if blocked != self._was_blocked:
            self._was_blocked = blocked
            log.warning(blocked or "nothing is in the way any more: VIPs may be taken")

    def _stuck(self) -> bool:
        return self._progress.stuck(within_s=self._state.timers.renew_deadline_s)

    def _check_suspend(self) -> None:
        if self._suspends.happened() and self._state.renewed_until is not None:
            self.fence("suspend")

    async def release(self) -> None:
        """Give the heartbeat back: with it everything of this incarnation is free. Call only after `run` ended and all was let go of."""
        self._timer.set(None)
        # What the watch shows of the release is no loss, and what it shows of the last heartbeat renews nothing.
        self._state = replace(self._state, renewed_until=None, sent={})
        self._until = None
        self._mine.clear()
        self._permitted.clear()
        metrics.lease_holding.set(0)
        await self._requests.give_back(self._state)
