"""Writes the shared Lease: hold it, or give it back. Each write is a compare-and-swap on the version and UID that were seen.

Input: the view and an incarnation. Output: the Lease as the server confirmed it. It must not decide whether to write.
"""

from __future__ import annotations

import logging
import math
import secrets
from datetime import datetime

from kvip.clock import Clock
from kvip.core.election import lease as elect
from kvip.core.model import Incarnation
from kvip.core.objects import Lease, LeaseSpec
from kvip.errors import ApiError
from kvip.kube.leases import LeaseClient, micro_time

log = logging.getLogger(__name__)

LABELS = {"app.kubernetes.io/managed-by": "kvip"}


def new_incarnation(node: str) -> Incarnation:
    """A holder identity that nobody used before."""
    return Incarnation(f"{node}_{secrets.token_hex(16)}")


class LeaseWriter:
    """The writes of one Lease. Labels and annotations of others are kept."""

    def __init__(self, client: LeaseClient, name: str, clock: Clock) -> None:
        self._client = client
        self._name = name
        self._clock = clock
        self._acquired_at: datetime | None = None

    async def read(self, *, deadline_s: float) -> Lease | None:
        """A consistent read; None when there is no such Lease. Raises ApiError."""
        return await self._client.get(self._name, deadline_s=deadline_s)

    async def hold(self, election: elect.Election, decision: elect.Take | elect.Renew, *, succeeds: str, deadline_s: float) -> Lease:
        """Write oneself as holder. `succeeds`: see SUCCESSION_ANNOTATION. Raises ApiError: 409 when the Lease changed since it was seen."""
        wall = self._clock.wall()
        if isinstance(decision, elect.Take) or self._acquired_at is None:
            self._acquired_at = wall
        spec = LeaseSpec(
            holder_identity=election.incarnation,
            lease_duration_seconds=math.ceil(election.timers.lease_duration_s),
            acquire_time=micro_time(self._acquired_at),
            renew_time=micro_time(wall),
            lease_transitions=decision.transitions,
        )
        noted = {elect.SUCCESSION_ANNOTATION: succeeds} if succeeds else {}
        view = election.view
        if view is None or not decision.version:
            return await self._client.create(self._name, spec, annotations=noted, labels=LABELS, deadline_s=deadline_s)
        ours = (elect.RELEASED_ANNOTATION, elect.SUCCESSION_ANNOTATION)
        kept = {key: value for key, value in view.annotations.items() if key not in ours} | noted
        return await self._replace(spec, view, version=decision.version, annotations=kept, deadline_s=deadline_s)

    async def release(self, view: elect.View, incarnation: Incarnation, *, deadline_s: float) -> bool:
        """Give the Lease back, as client-go does: no holder, a duration of 1 s. False: it changed since it was seen. Raises ApiError."""
        now = micro_time(self._clock.wall())
        spec = LeaseSpec(holder_identity="", lease_duration_seconds=1, acquire_time=now, renew_time=now, lease_transitions=view.transitions)
        annotations = {**view.annotations, elect.RELEASED_ANNOTATION: f"{incarnation}/{view.transitions}"}
        try:
            await self._replace(spec, view, version=view.version, annotations=annotations, deadline_s=deadline_s)
        except ApiError as error:
            if error.status == 409:
                return False
            raise
        log.info("lease released", extra={"lease": self._name})
        return True

    async def _replace(self, spec: LeaseSpec, view: elect.View, *, version: str, annotations: dict[str, str], deadline_s: float) -> Lease:
        return await self._client.replace(
            self._name,
            spec,
            resource_version=version,
            uid=view.uid,
            annotations=annotations,
            labels={**view.labels, **LABELS},
            deadline_s=deadline_s,
        )
