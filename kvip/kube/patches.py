"""Writes merge patches to Services: coalesced per Service, at most eight at a time, retried.

In: a patch computed from a snapshot. Out: requests bound to that snapshot by uid and resourceVersion. Must not write over what another
controller wrote meanwhile: on a conflict the change is dropped and the caller asked for a new one.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import msgspec

from kvip.core.model import ServiceKey
from kvip.core.objects import Service
from kvip.errors import ApiError
from kvip.kube.api import Api, path_of

log = logging.getLogger(__name__)

WORKERS = 8
DEADLINE_S = 5.0
BACKOFF_MIN_S = 0.1
BACKOFF_MAX_S = 30.0
HOPELESS = (400, 422)
"""The server refuses what was written, so it would refuse it again."""


class Precondition(msgspec.Struct, frozen=True, rename="camel"):
    """The metadata of a patch: the snapshot that it was computed from."""

    uid: str
    resource_version: str


def precondition(service: Service) -> Precondition:
    """Binds a patch to this snapshot of the Service."""
    return Precondition(service.metadata.uid, service.metadata.resource_version)


class _Change(msgspec.Struct, frozen=True):
    namespace: str
    name: str
    body: bytes


class PatchWriter:
    """A queue with room for one change per Service; give `run` a task.

    `what` is written, for the log; `subresource` of the Service, "" = the Service itself.
    `turn`: awaited before each request; what is more urgent may go first.
    `on_conflict(key)`: the snapshot was outdated, compute anew. `on_written(key)`: the server has stored it.
    Counters: `written`, `failures` (tries that failed), `conflicts`, `dropped` (Service gone, or the change refused).
    """

    def __init__(
        self,
        api: Api,
        *,
        on_conflict: Callable[[ServiceKey], None],
        on_written: Callable[[ServiceKey], None] | None = None,
        what: str,
        subresource: str = "",
        turn: Callable[[], Awaitable[None]] | None = None,
        deadline_s: float = DEADLINE_S,
        backoff_min_s: float = BACKOFF_MIN_S,
    ) -> None:
        self.written = 0
        self.failures = 0
        self.conflicts = 0
        self.dropped = 0
        self._api = api
        self._on_conflict = on_conflict
        self._on_written = on_written
        self._what = what
        self._turn = turn
        self._subresource = subresource
        self._deadline_s = deadline_s
        self._backoff_min_s = backoff_min_s
        self._wanted: dict[ServiceKey, _Change] = {}
        self._ready: asyncio.Queue[ServiceKey] = asyncio.Queue()
        self._queued: set[ServiceKey] = set()
        self._busy: set[ServiceKey] = set()
        self._waiting: dict[ServiceKey, asyncio.TimerHandle] = {}
        self._tries: dict[ServiceKey, int] = {}

    @property
    def pending(self) -> int:
        """Services whose change is not settled yet."""
        return len(self._wanted.keys() | self._busy)

    def put(self, service: Service, patch: msgspec.Struct) -> None:
        """Ask for this patch of `service`, whose snapshot it names; replaces an earlier one that is not sent yet."""
        metadata = service.metadata
        key = ServiceKey(f"{metadata.namespace}/{metadata.name}")
        self._wanted[key] = _Change(metadata.namespace, metadata.name, msgspec.json.encode(patch))
        self._enqueue(key)

    async def run(self) -> None:
        """Send what is asked for, until cancelled; what is pending stays for the next run."""
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(WORKERS):
                    group.create_task(self._work(), name=f"{self._what}-writer-{number}")
        finally:
            for timer in self._waiting.values():
                timer.cancel()
            self._waiting.clear()
            for key in self._wanted:
                self._enqueue(key)

    def _enqueue(self, key: ServiceKey) -> None:
        if key not in self._queued and key not in self._busy and key not in self._waiting:
            self._queued.add(key)
            self._ready.put_nowait(key)

    async def _work(self) -> None:
        while True:
            key = await self._ready.get()
            await self._wait_for_turn(key)
            self._queued.discard(key)
            change = self._wanted.pop(key, None)
            if change is None:
                continue
            self._busy.add(key)
            delay_s = 0.0
            try:
                delay_s = await self._send(key, change)
            except asyncio.CancelledError:
                self._wanted.setdefault(key, change)
                raise
            finally:
                self._busy.discard(key)
                self._settle(key, delay_s)

    async def _wait_for_turn(self, key: ServiceKey) -> None:
        if self._turn is None:
            return
        try:
            await self._turn()
        except asyncio.CancelledError:
            self._ready.put_nowait(key)
            raise

    def _settle(self, key: ServiceKey, delay_s: float) -> None:
        """After a failure or conflict the Service rests for a while, whatever is asked meanwhile: no loop at the speed of the network."""
        if delay_s > 0:
            self._waiting[key] = asyncio.get_running_loop().call_later(delay_s, self._wake, key)
        elif key in self._wanted:
            self._enqueue(key)

    def _wake(self, key: ServiceKey) -> None:
        del self._waiting[key]
        if key in self._wanted:
            self._enqueue(key)
        else:
            self._tries.pop(key, None)

    async def _send(self, key: ServiceKey, change: _Change) -> float:
        """Seconds until this Service may be tried again."""
        path = path_of("api", "v1", "namespaces", change.namespace, "services", change.name, *filter(None, (self._subresource,)))
        try:
            await self._api.patch(path, params={"fieldManager": "kvip"}, body=change.body, deadline_s=self._deadline_s)
        except ApiError as error:
            return self._failed(key, change, error)
        self._tries.pop(key, None)
        self.written += 1
        if self._on_written is not None:
            self._on_written(key)
        return 0.0

    def _failed(self, key: ServiceKey, change: _Change, error: ApiError) -> float:
        self.failures += 1
        if error.status == 404 or error.status in HOPELESS:
            self._tries.pop(key, None)
            self.dropped += 1
            # 422 on metadata.uid: re-created under the same name; the informer tells the caller of the new one.
            if error.status != 404 and "metadata.uid" not in error.message:
                log.warning(f"{self._what} refused, not written", extra={"service": key, "error": str(error)})
            return 0.0
        tries = self._tries[key] = self._tries.get(key, 0) + 1
        delay_s = min(BACKOFF_MAX_S, self._backoff_min_s * 2.0 ** min(tries - 1, 16)) * random.uniform(0.75, 1.0)
        if error.status == 409:
            self.conflicts += 1
            self._on_conflict(key)
            return delay_s
        if tries == 1:
            log.warning(f"{self._what} not written, trying on", extra={"service": key, "error": str(error)})
        self._wanted.setdefault(key, change)
        return max(delay_s, min(error.retry_after_s, BACKOFF_MAX_S))
