"""Keeps a node of mode `global` from holding anything beside living holders of mode `claims` (PROTOCOL G5).

Input: consistent lists of the Leases of `claims`. Output: what is in the way. It must not take or release anything; a heartbeat that
is dead it ends, as `claims` itself does before it takes (PROTOCOL T2).
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from kvip.clock import Clock
from kvip.core.election import heartbeat, interlock
from kvip.core.election.heartbeat import Heartbeat
from kvip.core.election.lease import Timers
from kvip.core.model import Incarnation
from kvip.daemon.claims_requests import SELECTOR
from kvip.kube.leases import LeaseClient, micro_time

log = logging.getLogger(__name__)


class Interlock:
    """`look` before each taking, and again right after the Lease was written."""

    def __init__(self, client: LeaseClient, *, clock: Clock, timers: Timers) -> None:
        self._client = client
        self._clock = clock
        self._sight = interlock.Sight(own_s=timers.lease_duration_s, gap_s=2 * timers.retry_period_s)
        self._was = ""
        self._begun = 0
        self._done = 0
        self._turn = asyncio.Lock()

    async def look_once(self, me: Incarnation, *, retired: frozenset[str], deadline_s: float) -> str:
        """As `look`, for many Leases at a time: who asks while a look is under way shares the next one, which begins after he asked."""
        asked_at = self._begun
        async with asyncio.timeout(deadline_s), self._turn:
            if self._done <= asked_at:
                self._begun = mine = self._begun + 1
                await self.look(me, retired=retired, deadline_s=deadline_s)
                self._done = mine
            return self._was

    async def look(self, me: Incarnation, *, retired: frozenset[str], deadline_s: float) -> str:
        """What is in the way now, "" = nothing. Raises ApiError, TimeoutError: not known."""
        leases, _ = await self._client.list_all(labels=SELECTOR, deadline_s=deadline_s)
        now = self._clock.now()
        self._sight = interlock.look(self._sight, leases, now=now, retired=retired)
        living = sorted(key for key, holder in self._sight.holders.items() if now < holder.since + holder.silence_s)
        reason = f"mode claims still holds VIPs ({', '.join(living)}); nothing is taken beside another mode" if living else ""
        if reason != self._was:
            self._was = reason
            log.warning(reason or "nothing is in the way any more: VIPs may be taken")
        if not living:
            for beat in interlock.dead(self._sight, now=now):
                await self._end(beat, me, deadline_s=deadline_s)
        return reason

    @property
    def reason(self) -> str:
        """What was in the way at the last look, if that is not long ago: who follows another holder looks no more."""
        return self._was if self._clock.now() - self._sight.looked_at <= self._sight.own_s else ""

    async def _end(self, beat: Heartbeat, me: Incarnation, *, deadline_s: float) -> None:
        spec, notes = heartbeat.ending(me, f"killed by {me}", sequence=beat.sequence + 1, before=beat)
        spec = msgspec.structs.replace(spec, renew_time=micro_time(self._clock.wall()))
        labels = {**beat.labels, **heartbeat.LABELS}
        name = heartbeat.name_of(beat.node)
        await self._client.replace(
            name, spec, resource_version=beat.version, uid=beat.uid, annotations=notes, labels=labels, deadline_s=deadline_s
        )
        log.info("ended the heartbeat of a dead node of mode claims", extra={"lease": name, "holder": beat.holder})
