"""A scripted API server on 127.0.0.1 for faults: each request gets the next answer of the script, every request is recorded."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import yaml
from aiohttp import web

from kvip.clock import ManualClock
from kvip.core.objects import Service
from kvip.kube.api import Api
from kvip.kube.auth import connect
from kvip.kube.decode import ObjectDecoder
from kvip.kube.informer import Informer, Timing

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Seen:
    """One request as it came in."""

    def __init__(self, request: web.Request, body: bytes) -> None:
        self.method = request.method
        self.path = request.raw_path.partition("?")[0]
        self.query = dict(request.query)
        self.headers = dict(request.headers)
        self.body = json.loads(body) if body else None
        self.at = time.monotonic()


class Feed:
    """A watch stream that the test drives."""

    def __init__(self, *first: dict | bytes) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.push(*first)

    def push(self, *events: dict | bytes) -> Feed:
        for event in events:
            self._queue.put_nowait(event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n")
        return self

    def end(self) -> Feed:
        self._queue.put_nowait(None)
        return self

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while (line := await self._queue.get()) is not None:
            await response.write(line)
        return response


class KubeServer:
    def __init__(self) -> None:
        self.script: deque[Answer] = deque()
        self.default: Answer = answer(500, status(500, "InternalError", "end of script"))
        self.seen: list[Seen] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(Seen(request, await request.read()))
        return await (self.script.popleft() if self.script else self.default)(request)


@asynccontextmanager
async def kube_server(*script: Answer):
    server = KubeServer()
    server.script.extend(script)
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", server.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.001)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()


def write_kubeconfig(path, server: str, *, user: dict | None = None, cluster: dict | None = None) -> str:
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": server, **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
    }
    path.write_text(yaml.safe_dump(config))
    return str(path)


@asynccontextmanager
async def api_of(server: KubeServer, tmp_path, **options):
    path = write_kubeconfig(tmp_path / "kubeconfig", server.url)
    with pytest.MonkeyPatch.context() as patch:
        # Without it, OpenSSL reads the system's certificates for 20 ms, which plain HTTP never uses.
        patch.setenv("SSL_CERT_FILE", "/dev/null")
        connection = await connect(kubeconfig=path)
    async with connection:
        yield Api(connection, **options)


def answer(code: int, body: dict | bytes = b"", headers: dict | None = None) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def reply(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, body=raw, headers=headers, content_type="application/json")

    return reply


async def hang(_request: web.Request) -> web.StreamResponse:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


async def hang_up(request: web.Request) -> web.StreamResponse:
    request.transport.abort()
    raise ConnectionResetError


def status(code: int, reason: str, message: str = "", **details) -> dict:
    return {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message, "details": details}


def service(name: str, version: int, *, uid: str = "", spec=None, namespace: str = "default", **meta) -> dict:
    metadata = {"name": name, "namespace": namespace, "uid": uid or f"uid-{name}", "resourceVersion": str(version), **meta}
    return {
        "kind": "Service",
        "metadata": metadata,
        "spec": {"type": "LoadBalancer"} if spec is None else spec,
        "status": {"loadBalancer": {}},
    }


def event(kind: str, item: dict) -> dict:
    return {"type": kind, "object": item}


def bookmark(version: int, *, initial_end: bool = False) -> dict:
    metadata: dict = {"resourceVersion": str(version)}
    if initial_end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    return {"type": "BOOKMARK", "object": {"kind": "Service", "metadata": metadata}}


def listing(version: int, *items: dict, token: str = "") -> dict:
    metadata = {"resourceVersion": str(version), **({"continue": token} if token else {})}
    return {"kind": "ServiceList", "metadata": metadata, "items": list(items)}


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until the condition holds; 3 s at most."""
    async with asyncio.timeout(3):
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def running(*runs: Awaitable[None]):
    """Tasks for as long as the block lasts; a failure of one fails the test."""
    tasks = [asyncio.ensure_future(run) for run in runs]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if result is not None and not isinstance(result, asyncio.CancelledError):
                raise result


QUICK = Timing(
    headers_s=0.2,
    snapshot_s=0.4,
    page_s=0.2,
    watch_list_s=0.2,
    idle_s=5.0,
    backoff_min_s=0.002,
    backoff_max_s=0.02,
    hurry_s=0.002,
    steady_s=0.0,
)
PATH = "/api/v1/services"
GONE = status(410, "Expired", "too old resource version")


@asynccontextmanager
async def informing(tmp_path, *script, timing=QUICK, params=None):
    """A running informer against a script; gives (server, informer, keys told of)."""
    told: list[str] = []
    async with kube_server(*script) as server, api_of(server, tmp_path) as api:
        server.default = hang
        informer = Informer(
            api, PATH, decoder=ObjectDecoder(Service), clock=ManualClock(), on_change=told.append, params=params, timing=timing
        )
        async with running(informer.run()):
            yield server, informer, told


def added(*items) -> list[dict]:
    return [event("ADDED", item) for item in items]


def initial(version, *items) -> Feed:
    return Feed(*added(*items), bookmark(version, initial_end=True))


def uids(informer) -> dict[str, str]:
    return {key: item.metadata.uid for key, item in informer.store.items()}
