"""Keeps a copy of one kind of object in step with the API server: snapshot, then changes, for ever.

In: a list path, a decoder, limits. Out: `store`, `synced`, and `on_change(key)` for each key that appeared, changed or
vanished. Must not decide anything, and must not drop an object because something is unknown: until a complete snapshot
says otherwise, the old one stays.

The order of things is the API's own: WatchList streaming (KEP-3157) where the server has it, else a paged list and a
watch; bookmarks; 410 Gone as an HTTP status and as an event of a running stream (kubernetes.io, "API Concepts").

Over 300 lines: the order of snapshot, watch and relist is one story.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping
from typing import Generic

from kvip.clock import Clock
from kvip.errors import ApiError, KvipError
from kvip.kube.api import Api
from kvip.kube.decode import Bookmark, Change, DecodeError, Failure, ObjectDecoder, Removal, T, object_key
from kvip.kube.snapshot import Snapshot, differs
from kvip.kube.timing import Timing

log = logging.getLogger(__name__)

BATCH = 200
"""Events handled before other tasks get a turn: about 3 ms."""
UNSUPPORTED = (400, 422)
"""What a server without WatchList answers to sendInitialEvents."""
EXPIRED = (400, 410, 422, 504)
"""Answers to a resumed watch that no waiting cures: Expired, Invalid, and 504 "Too large resource version" (a restored etcd)."""


class _Restart(KvipError):
    """The resourceVersion in hand is of no use: take a new snapshot."""


class Informer(Generic[T]):
    """One kind under one path. Give `run` a task; read `store` (always through the informer: a snapshot replaces it).

    `last_heard` is `clock.now()` when the server last said anything; `relists` counts tries to take a snapshot
    after the first success, `broken` objects that could not be decoded.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        *,
        decoder: ObjectDecoder[T],
        clock: Clock,
        on_change: Callable[[str], None],
        on_snapshot: Callable[[], None] = lambda: None,
        on_turn: Callable[[], None] = lambda: None,
        params: Mapping[str, str] | None = None,
        timing: Timing | None = None,
    ) -> None:
        self.store: dict[str, T] = {}
        self.synced = False
        self.last_heard = 0.0
        self.relists = 0
        self.broken = 0
        self._api = api
        self._path = path
        self._decoder = decoder
        self._clock = clock
        self._on_change = on_change
        self._on_snapshot = on_snapshot
        self._on_turn = on_turn
        self._params = dict(params or {})
        self._timing = timing or Timing()
        self._version = ""
        self._watch_list = True
        self._page_size = self._timing.page_size
        self._lost = False
        self._failures = 0
        self._hurry = asyncio.Event()
        self._hurried_at = float("-inf")
        self._opened_at: float | None = None
        self._unreachable = False
        self._scope: asyncio.Timeout | None = None
        self._outdated = False
        self.current = False

    def renew(self) -> None:
        """What is known may be old: drop the connection and read a snapshot anew; `current` is False until it is complete."""
        self.current = False
        self._outdated = True
        self._hurry.set()
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())

    def retry_now(self) -> None:
        """Cut a pause short, unless the server asked for it (Retry-After): it was just heard elsewhere. Not again within `hurry_s`."""
        self._hurry.set()

    async def run(self) -> None:
        """Follow the server until cancelled. Every failure of the server is survived; only a bug gets out."""
        loop = asyncio.get_running_loop()
        while True:
            self._on_turn()
            self._opened_at = None
            if self._outdated:
                self._outdated, self._version = False, ""
            problem: KvipError | None = None
            try:
                async with asyncio.timeout(None) as self._scope:
                    await self._follow()
            except KvipError as error:
                problem = error
            except TimeoutError:
                if self._scope is None or not self._scope.expired():
                    raise
                continue
            finally:
                self._scope = None
            if self._opened_at is not None and loop.time() - self._opened_at >= self._timing.steady_s:
                self._failures = 0
            await self._pause(problem)

    async def _follow(self) -> None:
        """One snapshot if needed, and one watch."""
        if self._version:
            return await self._watch()
        self.relists += self.synced
        if self._watch_list and await self._watch_from_snapshot():
            return None
        await self._list()
        return await self._watch()

    async def _pause(self, problem: KvipError | None) -> None:
        loop = asyncio.get_running_loop()
        unreachable = isinstance(problem, ApiError) and not problem.status
        if unreachable != self._unreachable:
            # A server that is heard again after an outage, if only to say 410, is asked soon, however long the outage was.
            self._unreachable = unreachable
            self._failures = 0
        self._failures += 1
        if problem is not None and not isinstance(problem, ApiError):
            self._version = ""
        # The first reconnect is immediate: streams end in the normal course of things. A snapshot that failed is no such case.
        steps = self._failures - (2 if self._version else 1)
        delay_s = 0.0
        if steps >= 0:
            delay_s = min(self._timing.backoff_max_s, self._timing.backoff_min_s * 2 ** min(steps, 16)) * random.uniform(0.75, 1.0)
        if isinstance(problem, ApiError):
            delay_s = max(delay_s, min(problem.retry_after_s, self._timing.retry_after_max_s))
        if problem is not None and not self._lost:
            self._lost = True
            extra = {"path": self._path, "error": str(problem), "relist": not self._version, "retry_s": round(delay_s, 3)}
            log.warning("watch lost", extra=extra)
        if delay_s <= 0 or (isinstance(problem, ApiError) and problem.retry_after_s):
            await asyncio.sleep(delay_s)
            return
        self._hurry.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._hurry.wait()
                await asyncio.sleep(self._hurried_at + self._timing.hurry_s - loop.time())
                self._hurried_at = loop.time()

    async def _watch(self) -> None:
        """Apply changes from `_version` on, until the server ends the stream."""
        try:
            await self._stream(self._watch_params({"resourceVersion": self._version}), snapshot=None, patience=None)
        except ApiError as error:
            if error.status in EXPIRED:
                raise _Restart(str(error)) from error
            raise

    async def _watch_from_snapshot(self) -> bool:
        """WatchList: snapshot and changes in one stream. False = this server does not do that."""
        params = self._watch_params({"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"})
        try:
            async with asyncio.timeout(None) as patience:
                await self._stream(params, snapshot=Snapshot(), patience=patience)
        except TimeoutError:
            why = "no end of initial events"
        except ApiError as error:
            if error.status not in UNSUPPORTED:
                raise
            why = str(error)
        else:
            return True
        self._watch_list = False
        self._opened_at = None
        log.info("no watch list, paging instead", extra={"path": self._path, "reason": why})
        return False

    def _watch_params(self, more: Mapping[str, str]) -> dict[str, str]:
        life_s = random.randint(*self._timing.life_s)
        return {**self._params, "watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(life_s), **more}

    async def _stream(self, params: Mapping[str, str], *, snapshot: Snapshot[T] | None, patience: asyncio.Timeout | None) -> None:
        """Apply a stream's events: to `snapshot` until its end is marked, then to the store."""
        loop = asyncio.get_running_loop()
        timing = self._timing
        async with self._api.stream(self._path, params=params, headers_s=timing.headers_s, idle_s=timing.idle_s) as lines:
            self._heard()
            self._opened_at = loop.time()
            if self._lost:
                self._lost = False
                log.info("watch open again", extra={"path": self._path, "from_snapshot": snapshot is not None})
            if patience is not None:
                patience.reschedule(loop.time() + timing.watch_list_s)
            count = 0
            async for line in lines:
                self._heard()
                count += 1
                if count % BATCH == 0:
                    await asyncio.sleep(0)
                try:
                    event = self._decoder.event(line)
                except DecodeError as error:
                    self._report(error)
                    if snapshot is not None:
                        snapshot.broken.append(error)
                    continue
                if isinstance(event, Failure):
                    raise _Restart(f"{self._path}: {event.code} {event.reason}: {event.message}")
                if snapshot is None:
                    self._apply(event)
                    continue
                snapshot.apply(event)
                if isinstance(event, Bookmark) and event.initial_end:
                    if patience is not None:
                        patience.reschedule(None)
                    self._replace(snapshot, event.resource_version)
                    snapshot = None
        if snapshot is not None:
            raise ApiError("WATCH", self._path, status=0, reason="StreamEnded", message="before the initial events were complete")

    async def _list(self) -> None:
        """A snapshot page by page, consistent (no resourceVersion), all within one deadline."""
        loop = asyncio.get_running_loop()
        timing = self._timing
        until = loop.time() + timing.snapshot_s
        snapshot: Snapshot[T] = Snapshot()
        params = self._params | ({"limit": str(self._page_size)} if self._page_size else {})
        while True:
            try:
                left_s = max(0.0, until - loop.time())
                raw = await self._api.get(self._path, params=params, deadline_s=min(left_s, timing.page_s) if self._page_size else left_s)
            except ApiError as error:
                if error.status == 410:
                    # The pages' common version was compacted away meanwhile: the next try asks for all in one, as client-go does.
                    self._page_size = 0
                    raise _Restart(str(error)) from error
                raise
            self._heard()
            page = self._decoder.page(raw)
            for item in page.items:
                snapshot.items[object_key(item)] = item
            for bad in page.broken:
                self._report(bad)
            snapshot.broken.extend(page.broken)
            if not page.token:
                break
            params["continue"] = page.token
            await asyncio.sleep(0)
        self._page_size = timing.page_size
        self._replace(snapshot, page.resource_version)

    def _apply(self, event: Change[T] | Removal | Bookmark) -> None:
        match event:
            case Bookmark():
                self._version = event.resource_version or self._version
            case Removal():
                self._version = event.resource_version or self._version
                if self.store.pop(event.key, None) is not None:
                    self._on_change(event.key)
            case Change():
                self._version = event.item.metadata.resource_version or self._version
                key = object_key(event.item)
                before = self.store.get(key)
                self.store[key] = event.item
                if before is None or differs(before, event.item):
                    self._on_change(key)

    def _replace(self, snapshot: Snapshot[T], version: str) -> None:
        """Put a complete snapshot in the place of the store and tell what is different: what vanished first, so that no key
        told shows a later state than an absence that is still to be told."""
        before, after = self.store, snapshot.settle(self.store)
        changed = [key for key in before if key not in after]
        changed += [key for key, item in after.items() if key not in before or differs(before[key], item)]
        self.store = after
        self._version = version
        first, self.synced, self.current = not self.synced, True, not self._outdated
        counts = {"objects": len(after), "changed": len(changed), "unreadable": len(snapshot.broken)}
        log.info("synced" if first else "relisted", extra={"path": self._path, **counts})
        for key in changed:
            self._on_change(key)
        self._on_snapshot()

    def _report(self, error: DecodeError) -> None:
        self.broken += 1
        log.warning("object not understood", extra={"path": self._path, "key": error.key, "error": str(error)})

    def _heard(self) -> None:
        self.last_heard = self._clock.now()
        self._on_turn()
