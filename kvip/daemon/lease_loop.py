"""Runs the election on one shared Lease: reads, writes, renews, and fences when validity ends.

Input: the Lease (by watch and by consistent GET) and the clock. Output: until when it is held, a callback when it
was won, and the fence. It must not touch addresses or frames: the fence callback does, at once and without waiting.

Over 300 lines: one loop on one Lease, whose doubts, renewals and release share its state.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

import msgspec

from kvip import metrics
from kvip.core.election import lease as elect
from kvip.core.model import Incarnation
from kvip.core.objects import Lease
from kvip.daemon.lease_writer import LeaseWriter
from kvip.daemon.stakes import Stakes
from kvip.daemon.validity import Footing, ValidityTimer
from kvip.daemon.waking import woken
from kvip.errors import ApiError, KvipError
from kvip.kube.leases import LeaseClient

log = logging.getLogger(__name__)

RELEASE_DEADLINE_S = 1.0
QUIET_S = 30.0
REFUSED_PAUSE_S = 0.05


class LeaseLoop:
    """One node's part in the election for one Lease."""

    def __init__(
        self,
        client: LeaseClient,
        *,
        name: str,
        timers: elect.Timers,
        footing: Footing,
        draw: Callable[[], Incarnation],
        stakes: Stakes,
    ) -> None:
        """`draw`: an identity that nobody used before. `stakes`: what hangs on the Lease."""
        self._stakes = stakes
        self._footing = footing
        self._slept = footing.slept()
        self._writer = LeaseWriter(client, name, footing.clock)
        self._name = name
        self._draw = draw
        self._clock = footing.clock
        self._renewed_at = 0.0
        self._wake = asyncio.Event()
        self._timer = ValidityTimer(footing.clock, lambda: self.fence("renew deadline"))
        self._unanswered = False
        self._doubts = self._settled = 0
        self._rest_until = 0.0
        self.election = elect.Election(incarnation=draw(), timers=timers, mark=stakes.mark)

    @property
    def valid_until(self) -> float | None:
        """Until when this node holds the Lease (CLOCK_BOOTTIME seconds); None = it does not. Checked against the clock at every call."""
        self._check_suspend()
        until = self.election.valid_until
        return until if until is not None and self._clock.now() < until else None

    @property
    def succeeds(self) -> str:
        """Who held the Lease before kvip did, and may still be answered for by its kernel; "" = nobody (PROTOCOL G1)."""
        view = self.election.view
        return elect.succession(view) if view is not None and self.election.holding else ""

    def verify(self) -> None:
        """It may be lost already: read the Lease before anything is answered again."""
        self._doubts += 1
        self._wake.set()

    def changed(self, lease: Lease | None) -> None:
        """The watch delivered the Lease; None = it is gone."""
        if lease is None:
            # The message has no version to compare: it may speak of a Lease before ours. A consistent read decides.
            self.verify()
            return
        before = elect.free_at(self.election)
        self._observe(lease)
        after = elect.free_at(self.election)
        # While it is renewed by another it only becomes free later, which is noticed when the former time has come.
        if self.election.holding or before is None or after is None or after < before or not lease.spec.holder_identity:
            self._wake.set()

    def let_go(self) -> bool:
        """Has whoever held the Lease given up what hangs on it? That it stands still only a read tells."""
        free, view = elect.free_at(self.election), self.election.view
        if free is None or view is None or self._clock.now() < free:
            return free is None
        if view.seen_at < free and self._settled == self._doubts:
            self.verify()
        return view.seen_at >= free

    def look(self) -> None:
        """What `able` answers may have changed."""
        self._wake.set()

    def trust_predecessor(self, incarnation: Incarnation) -> None:
        """What a former daemon of this node held is free at once: it is dead, since this daemon has the namespace's lock."""
        self.election = msgspec.structs.replace(self.election, retired=self.election.retired | {str(incarnation)})

    async def run(self) -> None:
        """Elect and renew until cancelled."""
        backoff_s = 0.0
        while True:
            self._footing.heartbeats.beat("election")
            self._check_suspend()
            self._wake.clear()
            try:
                pause_s = await self._turn()
                backoff_s = 0.0
                self._footing.reach.outcome(None, lease=self._name)
            except (KvipError, TimeoutError) as error:
                metrics.lease_renewal_failures_total.inc()
                self._footing.reach.outcome(error, lease=self._name)
                backoff_s = min(self.election.timers.retry_period_s, backoff_s * 2 or 0.1)
                retry_after_s = error.retry_after_s if isinstance(error, ApiError) else 0.0
                pause_s = max(backoff_s, min(retry_after_s, self.election.timers.retry_period_s)) * random.uniform(0.8, 1.2)
            await woken(self._wake, within_s=max(0.001, pause_s))

    async def _turn(self) -> float:
        now = self._clock.now()
        view = self.election.view
        timers = self.election.timers
        old = view is None or (self._stakes.polls and now - view.seen_at > 2 * timers.retry_period_s)
        unseen = old and not self.election.holding
        if unseen or self._settled < self._doubts:
            await self._read()
            self._report_renewed()
        decision = elect.decide(self.election, now=self._clock.now(), renewed_at=self._renewed_at)
        match decision:
            case elect.Lost(reason=reason):
                self.fence(reason)
                return 0.0
            case elect.Wait(until=until):
                if self.election.holding and not self._stakes.able():
                    return await self._hand_over()
                limit = timers.retry_period_s if self.election.holding else 2 * timers.retry_period_s if self._stakes.polls else QUIET_S
                return min(max(0.0, until - self._clock.now()), limit)
            case elect.Take(version=version):
                if now < self._rest_until:
                    return self._rest_until - now
                if not self._stakes.able():
                    return 2 * timers.retry_period_s
                await self._read()
                fresh = elect.decide(self.election, now=self._clock.now())
                absent_may_be_held = not version and not elect.may_create(
                    self.election, earlier_holder=self._stakes.earlier_holder(), now=self._clock.now()
                )
                if absent_may_be_held:
                    await self._blocked()  # the silence of another mode is counted from now on, not only from the end of this wait
                if self._footing.progress.stuck(within_s=elect.deadline_s(self.election)) or absent_may_be_held:
                    return 0.2
                if not isinstance(fresh, elect.Take) or fresh.version != version:
                    return 0.0
                return timers.retry_period_s if await self._blocked() else await self._write(fresh)
            case elect.Renew():
                if self._footing.progress.stuck(within_s=elect.deadline_s(self.election)):
                    return 0.1
                if not self._stakes.able():
                    return await self._hand_over()
                return await self._write(decision)

    def _report_renewed(self) -> bool:
        """Valid as long as known; False when that led to a fence."""
        until = self.election.valid_until
        problem = self._stakes.on_renewed(until) if until is not None else ""
        if problem:
            self.fence(problem)
            self._rest_until = self._clock.now() + self.election.timers.retry_period_s
        return not problem

    async def _hand_over(self) -> float:
        """This node cannot announce: let go of everything, then give the Lease to another."""
        former = self.election.incarnation
        self.fence("nothing can be announced here")
        if self.election.view is not None and self.election.view.holder == former:
            await self._write_release(former)
        return 0.0

    async def _blocked(self) -> bool:
        ask = self._stakes.in_the_way
        return ask is not None and bool(await ask(elect.attempt_s(self.election, now=self._clock.now())))

    async def _read(self) -> None:
        version, doubts = self.election.view.version if self.election.view is not None else "", self._doubts
        lease = await self._writer.read(deadline_s=elect.attempt_s(self.election, now=self._clock.now()))
        self._settled = doubts
        self._observe(lease, asked_at_version=version)

    def _observe(self, lease: Lease | None, *, asked_at_version: str = "") -> None:
        holder = lease.spec.holder_identity if lease is not None else None
        if holder and holder not in (self.election.incarnation, *self.election.retired) and self._stakes.dead(holder):
            self.trust_predecessor(Incarnation(holder))
        self._learn(elect.observe(self.election, lease, now=self._clock.now(), asked_at_version=asked_at_version))

    def _learn(self, election: elect.Election) -> None:
        """Take over what was learnt; should it say that the Lease is lost, fence in the same instant."""
        self.election = election
        decision = elect.decide(election, now=self._clock.now(), renewed_at=self._renewed_at)
        if isinstance(decision, elect.Lost):
            self.fence(decision.reason)

    async def _write(self, decision: elect.Take | elect.Renew) -> float:
        """Returns the seconds to wait before the next decision."""
        me = self.election.incarnation
        sent_at = self._clock.now()
        self._unanswered = True
        try:
            lease = await self._writer.hold(
                self.election, decision, succeeds=self._succession(), deadline_s=elect.attempt_s(self.election, now=self._clock.now())
            )
        except ApiError as error:
            self._unanswered = error.status == 0
            if error.status not in (404, 409) or (error.status == 404 and not decision.version) or self.election.incarnation != me:
                raise
            await self._read_after_refusal()
            return REFUSED_PAUSE_S
        self._unanswered = False
        if self.election.incarnation != me:
            return 0.0
        won = not self.election.holding
        if won and await self._blocked():
            await self._step_back(lease)
            return self.election.timers.retry_period_s
        if self.election.incarnation != me:
            return 0.0
        before = self.election.valid_until
        self.election = elect.confirmed(self.election, lease, sent_at=sent_at, now=self._clock.now())
        self._learn(self.election)
        if self.election.valid_until == before:
            metrics.lease_renewal_failures_total.inc()
            return 0.0
        self._renewed_at = sent_at
        self._timer.set(self.election.valid_until)
        if not self._report_renewed():
            return 0.0
        if won and self.election.holding:
            log.info("lease won", extra={"lease": self._name, "incarnation": me, "transitions": decision.transitions})
            self._stakes.on_won()
        return 0.0

    def _succession(self) -> str:
        view = self.election.view
        if self.election.mark:
            return self.election.mark
        if view is None or not view.version:
            return "unknown/0" if self._stakes.earlier_holder() else ""
        return "" if self.election.holding and self._stakes.proven() else elect.succession(view)

    async def _read_after_refusal(self) -> None:
        """Was it a write of our own whose answer was lost, or another's? A holder that cannot find out does not hold."""
        try:
            await self._read()
        except (KvipError, TimeoutError):
            self.fence("lease changed by another")
            raise

    async def _step_back(self, lease: Lease) -> None:
        """Written, but nothing was done by it: another mode came at the same time."""
        self.election = elect.observe(self.election, lease, now=self._clock.now())
        await self._write_release(self.election.incarnation)

    def _check_suspend(self) -> None:
        slept, self._slept = self._slept, self._footing.slept()
        if slept != self._slept and self.election.holding:
            self.fence("suspend")

    def fence(self, reason: str) -> None:
        """Withdraw everything, then start a new incarnation. Synchronous: nothing can come between."""
        self._timer.set(None)
        if not self.election.holding:
            return
        former = self.election.incarnation
        self.election = elect.fenced(self.election, self._draw())
        metrics.fences_total.labels(reason).inc()
        log.warning("fence: letting go of every VIP of the Lease", extra={"lease": self._name, "reason": reason, "incarnation": former})
        self._stakes.on_fence(reason)
        self._wake.set()

    async def release(self) -> None:
        """Give the Lease back, so that another node takes it at once. Call only after `run` ended and every VIP was let go of."""
        self._timer.set(None)
        if not self.election.holding and not self._unanswered:
            return
        me, self.election = self.election.incarnation, msgspec.structs.replace(self.election, valid_until=None)
        try:
            async with asyncio.timeout(RELEASE_DEADLINE_S):
                if self._unanswered or not await self._write_release(me):
                    await self._read()
                    await self._write_release(me)
        except (KvipError, TimeoutError) as error:
            log.warning("the lease could not be released; it runs out by itself", extra={"lease": self._name, "reason": str(error)})

    async def _write_release(self, me: Incarnation) -> bool:
        """False when a write of ours that was under way changed the Lease in between."""
        view = self.election.view
        return view is None or view.holder != me or await self._writer.release(view, me, deadline_s=RELEASE_DEADLINE_S)
