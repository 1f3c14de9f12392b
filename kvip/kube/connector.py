"""Opens the connections to the API server: TCP that reports a silent peer, and no socket object beside the transport.

Input: where to connect (aiohttp's affair). Output: connected transports. It must not know of requests.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from ssl import SSLContext
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    from aiohappyeyeballs import AddrInfoType

CONNECTION_LIMIT = 256
"""Sockets per connection pool; beyond it requests queue, each against its own deadline."""
_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5_000),
)
"""A silent peer is reported within 5 s. Idle: keepalive after 2 s, each 1 s, 3 times. With unacknowledged data the keepalive timer does
not run, so TCP_USER_TIMEOUT bounds that case (tcp(7))."""


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
        """To the first of these addresses that takes it. Those that did not are struck off: upon a ClientConnectorError aiohttp would
        strike off one of each family and ask for the rest."""
        while True:
            family, _kind, _proto, _name, address = addr_infos[0]
            try:
                return await self._open(*args, req=req, host=address[0], port=address[1], family=family, **kwargs)
            except aiohttp.ClientConnectorError:
                del addr_infos[0]
                if not addr_infos:
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
