"""Serves /healthz, /readyz and /metrics over HTTP, and what else is given.

Input: two callables for the verdicts, further pages. Output: text. It must not know how the daemon works.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from kvip import metrics
from kvip.observe.health import Verdict

log = logging.getLogger(__name__)
requests_log = logging.getLogger("kvip.observe.requests")
"""What aiohttp has to say of single requests."""

RETRY_S = 5.0
Page = Callable[[web.Request], Awaitable[web.Response]]
Pages = Mapping[str, Page]
"""Path -> what answers."""


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """A request that is none tells of its sender alone, and whoever reaches the port could fill the log with them."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


requests_log.addFilter(_is_worth_a_line)


def _text(verdict: Verdict) -> web.Response:
    lines = (["ok"] if verdict.good else []) + list(verdict.reasons)
    return web.Response(text="\n".join(lines) + "\n", status=200 if verdict.good else 503)


async def serve(
    address: tuple[str, int],
    *,
    alive: Callable[[], Verdict],
    ready: Callable[[], Verdict],
    update: Callable[[], None],
    more: Pages,
) -> None:
    """Serve until cancelled. A port that is taken is tried again: VIPs do not depend on it.

    `address` is (host, port), host "" = every address; `update` refreshes gauges right before they are read; `more`: further pages.
    """

    async def healthz(_: web.Request) -> web.Response:
        return _text(alive())

    async def readyz(_: web.Request) -> web.Response:
        return _text(ready())

    async def metrics_page(_: web.Request) -> web.Response:
        update()
        body = await asyncio.to_thread(generate_latest, metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    await _listen(address, {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics_page, **more})


async def serve_health(port: int, alive: Callable[[], Verdict]) -> None:
    """Serve /healthz alone, on every address, until cancelled."""

    async def healthz(_: web.Request) -> web.Response:
        return _text(alive())

    await _listen(("", port), {"/healthz": healthz})


@asynccontextmanager
async def running(pages: Pages, *, orders: Pages = MappingProxyType({})) -> AsyncIterator[web.AppRunner]:
    """A server of these pages (GET) and orders (POST) that listens nowhere yet."""
    app = web.Application()
    for path, page in pages.items():
        app.router.add_get(path, page)
    for path, page in orders.items():
        app.router.add_post(path, page)
    runner = web.AppRunner(app, access_log=None, logger=requests_log, handle_signals=False, shutdown_timeout=0.2)
    await runner.setup()
    try:
        yield runner
    finally:
        await runner.cleanup()


async def _listen(address: tuple[str, int], pages: Pages) -> None:
    host, port = address
    async with running(pages) as runner:
        while True:
            try:
                await web.TCPSite(runner, host or None, port, reuse_address=True).start()
                break
            except OSError as error:
                log.error("an address cannot be listened on; trying again", extra={"host": host, "port": port, "reason": str(error)})
                await asyncio.sleep(RETRY_S)
        await asyncio.Event().wait()
