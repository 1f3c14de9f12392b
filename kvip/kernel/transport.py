"""pyroute2 on any event loop: netlink datagrams by `add_reader`.

uvloop refuses to make a datagram endpoint of an AF_NETLINK socket ("cannot open a UDP handle, invalid family 16"), while
its `add_reader` takes any descriptor; so does asyncio's. In: a running loop. Out: an `AsyncIPRoute` that works on both.
It adds nothing else to pyroute2. `setup_endpoint`, `local` and `CoreDatagramProtocol` are not public there: hence the upper
bound on its version and the contract test on both loops. Sockets made here are for requests; events are `kernel.monitor`'s.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final, Protocol

from pyroute2.iproute.linux import AsyncIPRoute
from pyroute2.netlink.core import CoreDatagramProtocol

_DATAGRAM_BYTES: Final = 262_144
_DATAGRAMS_PER_TURN: Final = 64


class _Receiver(Protocol):
    """What the transport calls: the part of `asyncio.DatagramProtocol` that pyroute2 fills."""

    def datagram_received(self, data: bytes, addr: object) -> None: ...

    def error_received(self, exc: OSError) -> None: ...


class ReaderTransport:
    """The receiving half of a datagram transport. pyroute2 sends on the socket itself, and closes it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, receiver: _Receiver) -> None:
        self._loop = loop
        self._socket = sock
        self._receiver = receiver
        self._closed = False
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._read)

    def _read(self) -> None:
        for _ in range(_DATAGRAMS_PER_TURN):
            try:
                data, address = self._socket.recvfrom(_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                # ENOBUFS: from here on pyroute2 refuses every call on the object, so nothing reads its data any more.
                self.close()
                self._receiver.error_received(error)
                return
            self._receiver.datagram_received(data, address)

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Stop reading; idempotent. The socket stays with its owner."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._socket.fileno())

    def abort(self) -> None:
        """As `close`: nothing is buffered."""
        self.close()


class LoopIPRoute(AsyncIPRoute):  # type: ignore[misc]  # pyroute2 has no types
    """`AsyncIPRoute` for asyncio and uvloop. Use as an async context manager; every request needs a deadline of the caller's.

    Hold `dump_lock` during a dump: the kernel runs one per socket and answers a second one with EBUSY (__netlink_dump_start).
    """

    def __init__(self, **options: int | bool) -> None:
        super().__init__(**options)
        self.dump_lock = asyncio.Lock()

    async def setup_endpoint(self) -> None:
        if getattr(self.local, "transport", None) is not None:
            return
        protocol = CoreDatagramProtocol(self.connection_lost, self.enqueue, self._error_event, self.status)
        self.local.transport = ReaderTransport(self.event_loop, self.socket, protocol)
        self.local.protocol = protocol
