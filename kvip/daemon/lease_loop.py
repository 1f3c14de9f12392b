"""Runs the election on one shared Lease: reads, writes, renews, and fences when validity ends.

Input: the Lease (by watch and by consistent GET) and the clock. Output: until when it is held, a callback when it
was won, and the fence. It must not touch addresses or frames: the fence callback does, at once and without waiting.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import msgspec

from kvip import metrics
from kvip.clock import Clock, SuspendWatch
from kvip.core.election import lease as elect
from kvip.core.model import Incarnation
from kvip.core.objects import Lease
from kvip.daemon.lease_writer import LeaseWriter, new_incarnation
from kvip.daemon.supervision import Heartbeats
from kvip.daemon.validity import Progress, Reach, ValidityTimer
from kvip.errors import ApiError, KvipError
from kvip.kube.leases import LeaseClient

log = logging.getLogger(__name__)

RELEASE_DEADLINE_S = 1.0
REFUSED_PAUSE_S = 0.05


class LeaseLoop:
    """One node's part in the election for one Lease."""

    def __init__(
        self,
        client: LeaseClient,
        *,
        name: str,
        node: str,
        timers: elect.Timers,
        clock: Clock,
        heartbeats: Heartbeats,
        on_won: Callable[[], None],
        on_fence: Callable[[str], None],
        on_renewed: Callable[[float], str] = lambda _: "",
        on_heard: Callable[[], None] = lambda: None,
        able: Callable[[], bool] = lambda: True,
        earlier_holder: Callable[[], bool] = lambda: False,
        in_the_way: Callable[[float], Awaitable[str]] | None = None,
    ) -> None:
        """`on_fence` must withdraw everything before it returns; `on_heard`: the API server answers again.

        `on_renewed`: valid until then; its answer, unless "", is why to fence. `able`: can this node announce anything?
        `earlier_holder`: does any Service show that somebody held before, or is that not known yet?
        `in_the_way` is asked before the Lease is taken, and again when it is ours and nothing was done by it yet, so that two modes
        which take at the same time see each other; it gets a deadline (seconds), and answers "" for nothing.
        """
        self._in_the_way = in_the_way
        self._earlier_holder = earlier_holder
        self._on_renewed = on_renewed
        self._able = able
        self._reach = Reach(on_heard)
        self._writer = LeaseWriter(client, name, clock)
        self._name = name
        self._node = node
        self._clock = clock
        self._heartbeats = heartbeats
        self._on_won = on_won
        self._on_fence = on_fence
        self._renewed_at = 0.0
        self._suspends = SuspendWatch(clock)
        self._wake = asyncio.Event()
        self._timer = ValidityTimer(clock, lambda: self.fence("renew deadline"))
        self._progress = Progress(heartbeats)
        self._unanswered = False
        self._doubts = self._settled = 0
        self._rest_until = 0.0
        self.election = elect.Election(incarnation=new_incarnation(node), timers=timers)

    # -- what the rest of kvip asks -------------------------------------------------------------------------------

    @property
    def valid_until(self) -> float | None:
        """Until when this node holds the Lease (CLOCK_BOOTTIME seconds); None = it does not. Checked against the clock at every call."""
        self._check_suspend()
        until = self.election.valid_until
        return until if until is not None and self._clock.now() < until else None

    # -- what happens ---------------------------------------------------------------------------------------------

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
        before = self.election.view
        self._learn(elect.observe(self.election, lease, now=self._clock.now()))
        if self.election.view != before:
            self._wake.set()

    def trust_predecessor(self, incarnation: Incarnation) -> None:
        """What a former daemon of this node held is free at once: it is dead, since this daemon has the namespace's lock."""
        self.election = msgspec.structs.replace(self.election, retired=self.election.retired | {str(incarnation)})

    # -- the loop -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Elect and renew until cancelled."""
        backoff_s = 0.0
        while True:
            self._heartbeats.beat("election")
            self._check_suspend()
            self._wake.clear()
            try:
                pause_s = await self._turn()
                backoff_s = 0.0
                self._reach.note(True, lease=self._name)
            except (KvipError, TimeoutError) as error:
                metrics.lease_renewal_failures_total.inc()
                self._reach.note(False, lease=self._name, reason=str(error))
                backoff_s = min(self.election.timers.retry_period_s, backoff_s * 2 or 0.1)
                retry_after_s = error.retry_after_s if isinstance(error, ApiError) else 0.0
                pause_s = max(backoff_s, min(retry_after_s, self.election.timers.retry_period_s)) * random.uniform(0.8, 1.2)
            try:
                async with asyncio.timeout(max(0.001, pause_s)):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _turn(self) -> float:
        """One decision and at most one write; returns the seconds until the next."""
        now = self._clock.now()
        view = self.election.view
        timers = self.election.timers
        unseen = not self.election.holding and (view is None or now - view.seen_at > 2 * timers.retry_period_s)
        if unseen or self._settled < self._doubts:
            await self._read()
            self._report_renewed()
        decision = elect.decide(self.election, now=self._clock.now(), renewed_at=self._renewed_at)
        match decision:
            case elect.Lost(reason=reason):
                self.fence(reason)
                return 0.0
            case elect.Wait(until=until):
                limit = timers.retry_period_s if self.election.holding else 2 * timers.retry_period_s
                return min(max(0.0, until - self._clock.now()), limit)
            case elect.Take(version=version):
                if now < self._rest_until:
                    return self._rest_until - now
                if not self._able():
                    return 2 * timers.retry_period_s
                await self._read()
                fresh = elect.decide(self.election, now=self._clock.now())
                absent_may_be_held = not version and not elect.may_create(
                    self.election, earlier_holder=self._earlier_holder(), now=self._clock.now()
                )
                if absent_may_be_held:
                    await self._blocked()  # the silence of another mode is counted from now on, not only from the end of this wait
                if self._stuck() or absent_may_be_held:
                    return 0.2
                if not isinstance(fresh, elect.Take) or fresh.version != version:
                    return 0.0
                return timers.retry_period_s if await self._blocked() else await self._write(fresh)
            case elect.Renew():
                if self._stuck():
                    return 0.1
                if not self._able():
                    return await self._hand_over()
                return await self._write(decision)

    def _report_renewed(self) -> bool:
        """Valid as long as known; False when that led to a fence."""
        until = self.election.valid_until
        problem = self._on_renewed(until) if until is not None else ""
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

    def _stuck(self) -> bool:
        return self._progress.stuck(within_s=elect.deadline_s(self.election))

    async def _blocked(self) -> bool:
        return self._in_the_way is not None and bool(await self._in_the_way(self._attempt_s()))

    async def _read(self) -> None:
        version, doubts = self.election.view.version if self.election.view is not None else "", self._doubts
        lease = await self._writer.read(deadline_s=self._attempt_s())
        self._settled = doubts
        self._learn(elect.observe(self.election, lease, now=self._clock.now(), asked_at_version=version))

    def _learn(self, election: elect.Election) -> None:
        """Take over what was learnt; should it say that the Lease is lost, fence in the same instant."""
        self.election = election
        decision = elect.decide(election, now=self._clock.now(), renewed_at=self._renewed_at)
        if isinstance(decision, elect.Lost):
            self.fence(decision.reason)

    def _attempt_s(self) -> float:
        return elect.attempt_s(self.election, now=self._clock.now())

    async def _write(self, decision: elect.Take | elect.Renew) -> float:
        """Returns the seconds to wait before the next decision."""
        me = self.election.incarnation
        sent_at = self._clock.now()
        self._unanswered = True
        try:
            lease = await self._writer.hold(self.election, decision, deadline_s=self._attempt_s())
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
            metrics.lease_holding.set(1)
            log.info("lease won", extra={"lease": self._name, "incarnation": me, "transitions": decision.transitions})
            self._on_won()
        return 0.0

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
        if self._suspends.happened() and self.election.holding:
            self.fence("suspend")

    def fence(self, reason: str) -> None:
        """Withdraw everything, then start a new incarnation. Synchronous: nothing can come between."""
        self._timer.set(None)
        if not self.election.holding:
            return
        former = self.election.incarnation
        self.election = elect.fenced(self.election, new_incarnation(self._node))
        metrics.lease_holding.set(0)
        metrics.fences_total.labels(reason).inc()
        log.warning("fence: letting go of every VIP", extra={"lease": self._name, "reason": reason, "incarnation": former})
        self._on_fence(reason)
        self._wake.set()

    async def release(self) -> None:
        """Give the Lease back, so that another node takes it at once. Call only after `run` ended and every VIP was let go of."""
        self._timer.set(None)
        if not self.election.holding and not self._unanswered:
            return
        me, self.election = self.election.incarnation, msgspec.structs.replace(self.election, valid_until=None)
        metrics.lease_holding.set(0)
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
