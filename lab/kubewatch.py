"""Watches and refusals, in the form that tests ask about them.

Inputs: a `KubeApi`. Outputs: events one by one, each within a deadline; the `ApiError` of a call that must fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from kvip.errors import ApiError
from lab.kubeapi import KubeApi, Obj

EVENT_TIMEOUT_S = 2.0


class Watch:
    """An open watch. Made by `watching`."""

    def __init__(self, events: AsyncIterator[tuple[str, Obj]]) -> None:
        self._events = events

    async def next(self, *, timeout_s: float = EVENT_TIMEOUT_S) -> tuple[str, Obj]:
        """The next (type, object). Errors: TimeoutError, StopAsyncIteration at the end, what `KubeApi.watch` raises."""
        async with asyncio.timeout(timeout_s):
            return await anext(self._events)

    async def seen(self, count: int) -> list[tuple[str, str]]:
        """(type, name) of the next `count` events."""
        events = [await self.next() for _ in range(count)]
        return [(kind, obj["metadata"].get("name", "")) for kind, obj in events]


@asynccontextmanager
async def watching(api: KubeApi, resource: str, *, namespace: str = "", **query: str) -> AsyncIterator[Watch]:
    """Watch a resource inside the block; `query` are the options of the API. The request goes out with the first `next`."""
    events = api.watch(resource, namespace=namespace, query=query)
    try:
        yield Watch(events)
    finally:
        await events.aclose()


async def refused(call: Awaitable[object]) -> ApiError:
    """The error of a call that must be refused. Errors: AssertionError when it was not."""
    try:
        answer = await call
    except ApiError as error:
        return error
    raise AssertionError(f"not refused: {answer!r}")
