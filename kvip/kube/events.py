"""Posts Events: what happened to a VIP on its Service, for `kubectl describe service`, and what concerns all of them on the Node.

In: `post()` and `post_on_node()`, synchronous and never blocking. Out: core/v1 Events, deduplicated and rate-limited. Must not hold up:
the queue is bounded, the oldest is dropped and counted; an Event that cannot be posted is given up after a few tries.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from datetime import UTC

import msgspec

from kvip.clock import Clock
from kvip.core.model import ServiceKey, Uid
from kvip.errors import ApiError
from kvip.kube.api import Api, path_of

log = logging.getLogger(__name__)

QUEUE_LIMIT = 2_048
WORKERS = 4
DEADLINE_S = 5.0
TRIES = 4
RETRY_MIN_S = 0.25
RATE_PER_S = 20.0
BURST = 100
REPEAT_S = 600.0
SEEN_LIMIT = 8_192
MESSAGE_LIMIT_BYTES = 1_024
"""The API server refuses more (validation of core/v1 Event)."""
NAME_LIMIT = 253


class _ObjectReference(msgspec.Struct, rename="camel"):
    name: str
    namespace: str
    uid: str
    kind: str = "Service"
    api_version: str = "v1"


class _Source(msgspec.Struct):
    host: str
    component: str = "kvip"


class _Metadata(msgspec.Struct):
    name: str
    namespace: str


class _Event(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    metadata: _Metadata
    involved_object: _ObjectReference
    reason: str
    message: str
    type: str
    source: _Source
    first_timestamp: str
    last_timestamp: str
    reporting_instance: str
    reporting_component: str = "kvip"
    count: int = 1
    api_version: str = "v1"
    kind: str = "Event"


class TokenBucket:
    """Lets a burst through, then a steady rate."""

    def __init__(self, clock: Clock, *, rate_per_s: float, burst: int) -> None:
        self._clock = clock
        self._rate = rate_per_s
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at = clock.now()

    def take(self) -> float:
        """Take one token; the seconds to wait until it is really there, 0 = now."""
        now = self._clock.now()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        self._tokens -= 1
        return max(0.0, -self._tokens / self._rate)


class EventWriter:
    """A bounded queue of Events; give `run` a task, and `drain` a moment at the end.

    Counters: `posted`, `repeated` (left out as known), `overflowed` (dropped from a full queue), `failures`.
    """

    def __init__(
        self,
        api: Api,
        *,
        node: str,
        clock: Clock,
        on_posted: Callable[[str], None] = lambda _: None,
        turn: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`on_posted` hears the reason of each Event that the server took. `turn`: awaited before each."""
        self._turn = turn
        self._on_posted = on_posted
        self.posted = 0
        self.repeated = 0
        self.overflowed = 0
        self.failures = 0
        self._api = api
        self._node = node
        self._clock = clock
        self._bucket = TokenBucket(clock, rate_per_s=RATE_PER_S, burst=BURST)
        self._queue: deque[_Event] = deque()
        self._filled = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._flying = 0
        self._seen: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._failing = False

    @property
    def pending(self) -> int:
        """Events not yet posted or given up."""
        return len(self._queue) + self._flying

    def post(self, service: ServiceKey, uid: Uid, *, reason: str, message: str, warning: bool = False) -> None:
        """Queue an Event on a Service; the same one within 10 minutes is left out."""
        namespace, _, name = service.partition("/")
        self._queue_up(_ObjectReference(name=name, namespace=namespace, uid=uid), reason=reason, message=message, warning=warning)

    def post_on_node(self, *, reason: str, message: str) -> None:
        """Queue a Warning Event on this node's Node object; the kubelet gives the Node's name for its UID, and so does this."""
        # Events on objects without a namespace live in "default" (validation of core/v1 Event).
        reference = _ObjectReference(name=self._node, namespace="", uid=self._node, kind="Node")
        self._queue_up(reference, reason=reason, message=message, warning=True)

    def _queue_up(self, about: _ObjectReference, *, reason: str, message: str, warning: bool) -> None:
        message = cut(message, limit_bytes=MESSAGE_LIMIT_BYTES)
        if self._is_repeat((about.uid, reason, message)):
            self.repeated += 1
            return
        if len(self._queue) >= QUEUE_LIMIT:
            self._queue.popleft()
            self.overflowed += 1
        suffix = uuid.uuid4().hex[:16]
        # metav1.Time has no fractions.
        moment = self._clock.wall().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = _Event(
            metadata=_Metadata(name=f"{about.name[: NAME_LIMIT - len(suffix) - 1]}.{suffix}", namespace=about.namespace or "default"),
            involved_object=about,
            reason=reason,
            message=message,
            type="Warning" if warning else "Normal",
            source=_Source(host=self._node),
            first_timestamp=moment,
            last_timestamp=moment,
            reporting_instance=self._node,
        )
        self._queue.append(event)
        self._filled.set()
        self._settled.clear()

    async def run(self) -> None:
        """Post what is queued, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                group.create_task(self._work(), name=f"event-writer-{number}")

    async def drain(self, *, timeout_s: float) -> int:
        """Wait until `run` has posted all; returns how many were left after `timeout_s`. The rate limit stays in force."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._settled.wait()
        except TimeoutError:
            log.warning("events not posted before the end", extra={"count": self.pending})
        return self.pending

    async def _work(self) -> None:
        while True:
            while not self._queue:
                self._filled.clear()
                await self._filled.wait()
            event = self._queue.popleft()
            self._flying += 1
            try:
                await asyncio.sleep(self._bucket.take())
                if self._turn is not None:
                    await self._turn()
                await self._deliver(event)
            finally:
                self._flying -= 1
                if not self._queue and not self._flying:
                    self._settled.set()

    async def _deliver(self, event: _Event) -> None:
        """One Event, with a few tries while the server does not answer or is busy; then it is given up."""
        path = path_of("api", "v1", "namespaces", event.metadata.namespace, "events")
        body = msgspec.json.encode(event)
        for attempt in range(1, TRIES + 1):
            try:
                await self._api.post(path, params={"fieldManager": "kvip"}, body=body, deadline_s=DEADLINE_S)
            except ApiError as error:
                if error.status == 409:
                    # The name is random: an earlier try arrived although its answer did not.
                    break
                self.failures += 1
                if error.status == 404:
                    # The namespace is gone, and the Service with it.
                    return
                if not self._failing:
                    self._failing = True
                    log.warning("events cannot be posted", extra={"error": str(error), "namespace": event.metadata.namespace})
                if attempt == TRIES or not (error.status in (0, 429) or error.status >= 500):
                    return
                await asyncio.sleep(max(RETRY_MIN_S * 4.0 ** (attempt - 1), min(error.retry_after_s, 10.0)))
            else:
                break
        self.posted += 1
        self._on_posted(event.reason)
        if self._failing:
            self._failing = False
            log.info("events are posted again")

    def _is_repeat(self, identity: tuple[str, str, str]) -> bool:
        now = self._clock.now()
        while self._seen and (len(self._seen) > SEEN_LIMIT or next(iter(self._seen.values())) <= now - REPEAT_S):
            self._seen.popitem(last=False)
        if identity in self._seen:
            return True
        self._seen[identity] = now
        return False


def cut(text: str, *, limit_bytes: int) -> str:
    """`text` in at most `limit_bytes` of UTF-8, no character halved, with "..." where something is missing."""
    encoded = text.encode()
    if len(encoded) <= limit_bytes:
        return text
    return encoded[: limit_bytes - 3].decode(errors="ignore") + "..."
