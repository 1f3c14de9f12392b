"""Opens the connections to the API server: TCP that reports a silent peer, and no socket object beside the transport.

Input: where to connect (aiohttp's affair). Output: connected transports. It must not know of requests.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from asyncio.staggered import staggered_race
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from ssl import SSLContext
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    from aiohappyeyeballs import AddrInfoType

CONNECTION_LIMIT = 256
"""Sockets per connection pool; beyond it requests queue, each against its own deadline."""
NEXT_ADDRESS_S = 0.25
"""An address that does not answer holds up the next one for so long (RFC 8305, section 5, "Connection Attempt Delay")."""
_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5_000),
)
"""A silent peer is reported within 5 s. Idle: keepalive after 2 s, each 1 s, 3 times. With unacknowledged data the keepalive timer does
not run, so TCP_USER_TIMEOUT bounds that case (tcp(7))."""


_Opened = tuple[asyncio.Transport, ResponseHandler]
_Attempt = Callable[[], Awaitable[_Opened]]


class Connector(aiohttp.TCPConnector):
    """aiohttp's connector, but that the event loop makes the sockets.

    aiohttp connects a socket object and gives it to `create_connection(sock=...)`. uvloop 0.23 attaches that object to the transport after
    the connection is made; when the peer resets it in the same turn, as an API server does that is about to end, the transport has closed
    the descriptor already, and the object closes it a second time, whosever it is by then: that connection is dead without knowing, and
    every socket that gets the number later is refused ("File descriptor 22 is used by transport").
    """

    def __init__(self, *, ssl: SSLContext | bool) -> None:
        super().__init__(limit=CONNECTION_LIMIT, ssl=ssl)

    async def _wrap_create_connection(
        self,
        *args: Any,  # noqa: ANN401 - passed on as it came
        addr_infos: list[AddrInfoType],
        req: aiohttp.ClientRequest,
        **kwargs: Any,  # noqa: ANN401
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        """To the first of these addresses that takes it. aiohttp would strike off one of each family when that fails, and ask for the rest:
        nothing is left to ask for."""
        asked: list[_Attempt] = [
            partial(self._open, *args, req=req, host=info[4][0], port=info[4][1], family=info[0], **kwargs) for info in addr_infos
        ]
        try:
            return await (asked[0]() if len(asked) == 1 else _first(asked))
        except aiohttp.ClientConnectorError:
            addr_infos.clear()
            raise

    async def _open(
        self,
        *args: Any,  # noqa: ANN401
        req: aiohttp.ClientRequest,
        **kwargs: Any,  # noqa: ANN401
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        transport, protocol = await self._wrap_existing_connection(*args, req=req, **kwargs)
        opened = transport.get_extra_info("socket")
        try:
            for option in _OPTIONS:
                opened.setsockopt(*option)
        except (OSError, ValueError) as error:
            # It was reset and closed already.
            transport.abort()
            raise aiohttp.ClientConnectorError(req.connection_key, OSError(errno.ECONNRESET, str(error))) from error
        return transport, protocol


async def _first(asked: Sequence[_Attempt]) -> _Opened:
    """The first connection that is made; those that come too late are dropped."""
    made: list[_Opened] = []

    async def ask(attempt: _Attempt) -> _Opened:
        opened = await attempt()
        if made:
            # It was made in the same turn as another.
            opened[0].abort()
            raise ConnectionAbortedError(errno.ECONNABORTED, "another connection was made first")
        made.append(opened)
        return opened

    try:
        _, winner, errors = await staggered_race([partial(ask, attempt) for attempt in asked], NEXT_ADDRESS_S)
    except asyncio.CancelledError:
        for transport, _ in made:
            transport.abort()
        raise
    if winner is not None:
        return made[0]
    raise next(error for error in reversed(errors) if error is not None)
