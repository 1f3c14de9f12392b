"""One watch: the initial events, then changes, bookmarks and the end.

Inputs: the store, what the client selected, the faults. Outputs: lines of JSON on a chunked response. Semantics: the API concepts
document of Kubernetes ("Efficient detection of changes", "Streaming lists"), tried against v1.34.4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from aiohttp import web

from lab.apiserver.faults import Faults
from lab.apiserver.resources import Resource
from lab.apiserver.selectors import Predicate
from lab.apiserver.status import Obj, StatusError
from lab.apiserver.store import EVERYONE, Change, Store

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_BATCH = 256


class WatchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a watch asks for."""

    resource: Resource
    namespace: str
    matches: Predicate
    since: int | None
    """Resume after this version; None = from the present."""
    initial: bool
    """Begin with an ADDED for all that exists."""
    initial_bookmark: bool
    """End the initial events with the bookmark of WatchList."""
    bookmarks: bool
    timeout_s: float
    bookmark_period_s: float


def change_event(options: WatchOptions, change: Change, client: str) -> tuple[str, Obj] | None:
    """What this watch sees of a change: leaving the selection is DELETED, entering it ADDED."""
    if change.version <= (options.since or 0):  # a version of the future, as after a restore of etcd
        return None
    if change.resource != options.resource.plural or not change.hidden_from.isdisjoint({client, EVERYONE}):
        return None

    def selected(obj: Obj | None) -> bool:
        return obj is not None and options.namespace in {"", obj["metadata"].get("namespace", "")} and options.matches(obj)

    before, after = selected(change.old), selected(change.new)
    if after and change.new is not None:
        return ("MODIFIED" if before else "ADDED", change.new)
    if before and change.old is not None:
        gone = change.gone or change.old | {"metadata": change.old["metadata"] | {"resourceVersion": str(change.version)}}
        return ("DELETED", gone)
    return None


def bookmark(resource: Resource, version: int, *, initial: bool) -> Obj:
    """The object of a BOOKMARK event: nothing but a version."""
    metadata: Obj = {"resourceVersion": str(version)}
    if initial:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    return {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}


async def serve_watch(
    request: web.Request, store: Store, faults: Faults, options: WatchOptions, *, started: Callable[[], None]
) -> web.StreamResponse:
    """Stream until the timeout, the client's leaving, or a cut. Errors: StatusError 410 before anything was sent, when so asked."""
    client = request.remote or ""
    queue: asyncio.Queue[Change] = asyncio.Queue()
    unsubscribe = store.subscribe(queue.put_nowait)
    try:
        lines, failed = _first_lines(store, faults, options, client)
        sent = store.version
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"})
        await response.prepare(request)
        started()
        await _send(response, faults, client, lines)
        loop = asyncio.get_running_loop()
        end_at = loop.time() + options.timeout_s
        bookmark_at = loop.time() + options.bookmark_period_s if options.bookmarks else end_at
        while not failed and loop.time() < end_at:
            try:
                async with asyncio.timeout_at(min(end_at, bookmark_at)):
                    changes = [await queue.get()]
            except TimeoutError:
                if options.bookmarks and loop.time() >= bookmark_at:
                    bookmark_at = loop.time() + options.bookmark_period_s
                    await _send(response, faults, client, [_line("BOOKMARK", bookmark(options.resource, sent, initial=False))])
                continue
            while len(changes) < _BATCH and not queue.empty():
                changes.append(queue.get_nowait())
            sent = changes[-1].version
            events = [event for change in changes if (event := change_event(options, change, client))]
            await _send(response, faults, client, [_line(*event) for event in events])
        await response.write_eof()
        return response
    finally:
        unsubscribe()


def _first_lines(store: Store, faults: Faults, options: WatchOptions, client: str) -> tuple[list[bytes], bool]:
    """The lines that a watch begins with, and whether they end it."""
    lines: list[bytes] = []
    if options.initial:
        lines += [_line("ADDED", obj) for obj in store.list(options.resource, options.namespace) if options.matches(obj)]
        if options.initial_bookmark:
            lines.append(_line("BOOKMARK", bookmark(options.resource, store.version, initial=True)))
    elif options.since is not None:
        try:
            changes = list(store.changes_since(options.since))
        except StatusError as error:
            if faults.on(client, "http_410"):
                raise
            return [_line("ERROR", error.body())], True
        lines += [_line(*event) for change in changes if (event := change_event(options, change, client))]
    return lines, False


def _line(kind: str, obj: Obj) -> bytes:
    return msgspec.json.encode({"type": kind, "object": obj}) + b"\n"


async def _send(response: web.StreamResponse, faults: Faults, client: str, lines: list[bytes]) -> None:
    await faults.until_awake(client)
    for start in range(0, len(lines), _BATCH):
        await response.write(b"".join(lines[start : start + _BATCH]))
