"""Carries out the requests of mode `claims`: list, read, and compare-and-swap writes of Leases; and the last of them, the release.

Input: an `Op` of the pure core. Output: an `Answer`, never an exception of the API's. It must not decide or retry.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from kvip import metrics
from kvip.clock import Clock
from kvip.core.election import claims, renewal
from kvip.core.election.claims import Answer
from kvip.core.election.heartbeat import LABELS
from kvip.core.election.state import Op, State, own_name, replace
from kvip.errors import ApiError, KvipError
from kvip.kube.leases import LeaseClient, micro_time

log = logging.getLogger(__name__)

RELEASE_DEADLINE_S = 1.0
MOST_CLAIM_WRITES = 8
"""Under way at once: a take-over writes every record, and no heartbeat is to stand in that queue."""
SELECTOR = ",".join(f"{key}={value}" for key, value in LABELS.items())


class ClaimsRequests:
    """The API server as mode `claims` sees it."""

    def __init__(self, client: LeaseClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._claim_writes = asyncio.Semaphore(MOST_CLAIM_WRITES)

    async def do(self, op: Op) -> Answer:
        """One request, within its own deadline, which begins when it is sent."""
        try:
            if op.purpose != "claim":
                return await self._do(op)
            async with self._claim_writes:
                return await self._do(op)
        except ApiError as error:
            if op.purpose == "renew":
                metrics.lease_renewal_failures_total.inc()
            return Answer(
                ok=False,
                status=error.status,
                problem=str(error),
                # admission/plugin/namespace/lifecycle: "... because it is being terminated", with cause NamespaceTerminating.
                terminating=error.status == 403 and "terminat" in f"{error.reason} {error.message}".lower(),
                retry_after_s=error.retry_after_s,
            )
        except (KvipError, TimeoutError) as error:
            # An answer that cannot be read is none: the request may have been carried out.
            return Answer(ok=False, problem=str(error) or f"no answer within {op.deadline_s:g} s")

    async def _do(self, op: Op) -> Answer:
        client, deadline_s = self._client, op.deadline_s
        if op.kind == "list":
            leases, version = await client.list_all(labels=SELECTOR, deadline_s=deadline_s)
            return Answer(ok=True, leases=leases, version=version)
        if op.kind == "read":
            return Answer(ok=True, lease=await client.get(op.name, deadline_s=deadline_s))
        now = micro_time(self._clock.wall())
        spec = msgspec.structs.replace(op.spec, renew_time=now)
        if not op.version:
            lease = await client.create(op.name, spec, annotations=op.annotations, labels=op.labels, deadline_s=deadline_s)
            return Answer(ok=True, lease=lease)
        lease = await client.replace(
            op.name,
            spec,
            resource_version=op.version,
            uid=op.uid,
            annotations=op.annotations,
            labels=op.labels,
            deadline_s=deadline_s,
        )
        return Answer(ok=True, lease=lease)

    async def give_back(self, state: State) -> None:
        """Give the heartbeat back; when that fails it runs out by itself."""
        name, tried = own_name(state), False
        try:
            async with asyncio.timeout(RELEASE_DEADLINE_S):
                for _ in range(3):
                    # A renewal that was under way may have changed it: read first.
                    now = self._clock.now()
                    read = Op(kind="read", name=name, incarnation=state.incarnation, sent_at=now, deadline_s=RELEASE_DEADLINE_S)
                    answer = await self.do(read)
                    if not answer.ok:
                        break
                    state = claims.answered(replace(state, flights={}), read, answer, now=self._clock.now())
                    op = renewal.release(state, self._clock.now())
                    if op is None and not tried:
                        return  # it names another
                    if op is None or (await self.do(op)).ok:
                        log.info("heartbeat given back", extra={"lease": name})
                        return
                    tried = True
        except TimeoutError:
            pass
        log.warning("the heartbeat could not be given back; it runs out by itself", extra={"lease": name})
