"""Serves the daemon's documents to readers on this host, and takes its owner's orders, over a unix socket that only the owner may open.

Input: a path, and callables that give JSON. Output: GET /state, GET /explain?service=NAMESPACE/NAME, and where bursts are taken
POST /announce (a `BurstOrder`) and GET /announce?id=ID. It must not know how the daemon works;
and what a reader does, hang or flood, must cost nobody else anything: few at a time, a deadline for each, a pace for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from kvip.observe.http import Page, requests_log, running

log = logging.getLogger(__name__)

MOST_READERS = 8
ASK_S = 0.5
"""From the connection to the whole question."""
READER_S = 5.0
"""From the question to the last byte of the answer."""
PACE_S = 0.02
"""Between two readers: 50 a second."""
BACKLOG = 16
RETRY_S = 5.0
LONGEST_NAME = 512
"""Characters; a namespace has at most 63, a name at most 253."""


class Bursts(Protocol):
    """Who takes orders to announce VIPs anew."""

    async def begin(self, order: bytes) -> bytes:
        """Begin; the answer as JSON. Raises ValueError for an order that cannot be carried out."""

    def progress(self, name: str) -> bytes | None:
        """How far it is, as JSON; None = there is no such burst."""


async def serve(
    path: str, *, state: Callable[[], Awaitable[bytes]], explanation: Callable[[str], bytes], bursts: Bursts | None = None
) -> None:
    """Serve until cancelled. A path that cannot be used is a warning and tried again: VIPs do not depend on it. `bursts`: None = none are
    taken."""

    async def state_page(request: web.Request) -> web.Response:
        _asked(request)
        return _json(await state())

    async def explain_page(request: web.Request) -> web.Response:
        _asked(request)
        service = request.query.get("service", "")
        namespace, slash, name = service.partition("/")
        if not (namespace and slash and name) or "/" in name or len(service) > LONGEST_NAME:
            return web.Response(status=400, text="service=NAMESPACE/NAME is expected\n")
        return _json(explanation(service))

    pages: dict[str, Page] = {"/state": state_page, "/explain": explain_page}
    orders: dict[str, Page] = {}
    if bursts is not None:
        orders["/announce"], pages["/announce"] = _pages_of(bursts)
    async with running(pages, orders=orders) as runner:
        told = ""
        while True:
            try:
                listener = open_listener(path)
            except OSError as error:
                if str(error) != told:
                    told = str(error)
                    log.warning("the socket for readers cannot be opened; trying again", extra={"path": path, "reason": told})
                await asyncio.sleep(RETRY_S)
                continue
            if told:
                log.info("the socket for readers is open", extra={"path": path})
                told = ""
            assert runner.server is not None
            try:
                await _accept(listener, runner.server)
            finally:
                _close(listener, path)


def _pages_of(bursts: Bursts) -> tuple[Page, Page]:
    """The page that takes an order, and the one that tells how far it is."""

    async def order_page(request: web.Request) -> web.Response:
        order = await request.read()
        _asked(request)
        try:
            return _json(await bursts.begin(order))
        except ValueError as error:
            return web.Response(status=400, text=f"{error}\n")

    async def progress_page(request: web.Request) -> web.Response:
        _asked(request)
        told = bursts.progress(request.query.get("id", ""))
        return _json(told) if told is not None else web.Response(status=404, text="there is no such burst (any more)\n")

    return order_page, progress_page


def open_listener(path: str) -> socket.socket:
    """The socket at this path, in place of one that a dead daemon left. Raises OSError, also where a living daemon has it."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "there is a file that is no socket", path)
        if _answers(path):
            raise OSError(errno.EADDRINUSE, "another daemon serves it", path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    beside = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        # bind() gives the file the mode of the socket itself, less the umask (net/unix/af_unix.c, unix_bind_bsd).
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(beside)
        listener.listen(BACKLOG)
        os.rename(beside, path)
    except OSError:
        listener.close()
        raise
    return listener


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except BlockingIOError:
            return True
        return True


def _close(listener: socket.socket, path: str) -> None:
    listener.close()
    with contextlib.suppress(OSError):
        if not _answers(path):
            os.unlink(path)


class _Reader(RequestHandler):
    """One connection; says when it is over."""

    __slots__ = ("limit", "over")

    def __init__(self, server: web.Server) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), access_log=None, logger=requests_log)  # type: ignore[arg-type]
        self.over = asyncio.Event()
        self.limit: asyncio.Timeout | None = None

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.over.set()


async def _accept(listener: socket.socket, server: web.Server) -> None:
    loop = asyncio.get_running_loop()
    places = asyncio.Semaphore(MOST_READERS)

    async def attend(connection: socket.socket) -> None:
        try:
            transport, reader = await loop.connect_accepted_socket(lambda: _Reader(server), connection)
            try:
                async with asyncio.timeout(ASK_S) as reader.limit:
                    await reader.over.wait()
            except TimeoutError:
                pass
            finally:
                # A transport of asyncio that is closed has no loop any more to abort on (selector_events.py, _call_connection_lost).
                if not reader.over.is_set():
                    transport.abort()
        except OSError as error:
            connection.close()
            log.debug("a reader was lost", extra={"reason": str(error)})
        finally:
            places.release()

    async with asyncio.TaskGroup() as group:
        while True:
            await places.acquire()
            connection, _ = await loop.sock_accept(listener)
            group.create_task(attend(connection), name="reader")
            await asyncio.sleep(PACE_S)


def _asked(request: web.Request) -> None:
    """The question is here: the time for the answer begins."""
    reader = request.protocol
    if isinstance(reader, _Reader) and reader.limit is not None and not reader.limit.expired():
        reader.limit.reschedule(asyncio.get_running_loop().time() + READER_S)


def _json(document: bytes) -> web.Response:
    response = web.Response(body=document, content_type="application/json")
    response.force_close()
    return response
