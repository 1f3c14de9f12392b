"""What changes in this network namespace: addresses and NICs, as the kernel announces them.

In: rtnetlink's multicast groups, on a socket of its own. Out: calls of `on_address`, `on_link` and `on_resync`. They are
hints that mark something as dirty: `on_resync` says that events may have been missed and everything must be read again.
It reads nothing by itself, decides nothing and changes nothing. Callbacks run in the loop and must not block.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from kvip.core.model import Address, IfIndex, Link
from kvip.errors import NetlinkError
from kvip.kernel import codec
from kvip.kernel.batches import set_receive_buffer
from kvip.kernel.links import decode_link
from kvip.kernel.recurring import decode_address

log = logging.getLogger(__name__)

# RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR (linux/rtnetlink.h).
_GROUPS: Final = 0x1 | 0x10 | 0x100
_DATAGRAM_BYTES: Final = 65_536
_DATAGRAMS_PER_TURN: Final = 256
_LARGEST_BUFFER: Final = 64 << 20
_REOPEN_DELAY_S: Final = 0.05
_HEADER_BYTES: Final = 16


class Monitor:
    """Follows addresses and NICs until cancelled. `overruns` and `undecodable` count what was missed."""

    def __init__(
        self,
        *,
        on_address: Callable[[Address, bool], None],
        on_link: Callable[[Link | None, IfIndex, bool], None],
        on_resync: Callable[[], None],
        receive_buffer: int = 4 << 20,
    ) -> None:
        """`on_address(address, present)`; `on_link(link, index, present)`, with the link None when it is gone.

        `receive_buffer` in bytes; it is doubled after each overrun, up to 64 MiB.
        """
        self._on_address = on_address
        self._on_link = on_link
        self._on_resync = on_resync
        self._buffer_bytes = receive_buffer
        self._view = memoryview(bytearray(_DATAGRAM_BYTES))
        self._socket: socket.socket | None = None
        self.overruns = 0
        self.undecodable = 0

    async def run(self) -> None:
        """Follow until cancelled. Raises `NetlinkError` when the socket cannot be opened or breaks other than by an overrun."""
        while True:
            with self._opened() as sock:
                # After bind: what changes from here on is queued, what changed before is found by the resync.
                self._on_resync()
                self._socket = sock
                try:
                    await self._follow(sock)
                finally:
                    self._socket = None
            self.overruns += 1
            self._buffer_bytes = min(self._buffer_bytes * 2, max(_LARGEST_BUFFER, self._buffer_bytes))
            log.warning("netlink events lost, reading everything again", extra={"receive_buffer": self._buffer_bytes})
            await asyncio.sleep(_REOPEN_DELAY_S)

    def catch_up(self) -> None:
        """Handle at once what the kernel has announced already and the event loop has not read yet."""
        if self._socket is not None and not self._read_some(self._socket):
            self._on_resync()

    @contextmanager
    def _opened(self) -> Iterator[socket.socket]:
        try:
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        except OSError as error:
            raise NetlinkError(error.errno or errno.EIO, "open", "the netlink monitor") from error
        with sock:
            try:
                sock.setblocking(False)
                set_receive_buffer(sock, self._buffer_bytes)
                sock.bind((0, _GROUPS))
            except OSError as error:
                raise NetlinkError(error.errno or errno.EIO, "bind", "the netlink monitor") from error
            yield sock

    async def _follow(self, sock: socket.socket) -> None:
        """Read until the kernel says that it dropped events."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(sock.fileno(), readable.set)
        try:
            while True:
                await readable.wait()
                readable.clear()
                if not self._read_some(sock):
                    return
        finally:
            loop.remove_reader(sock.fileno())

    def _read_some(self, sock: socket.socket) -> bool:
        """Handle what is queued, at most one turn's worth; False after an overrun (netlink(7): ENOBUFS)."""
        for _ in range(_DATAGRAMS_PER_TURN):
            try:
                size, (port, _groups) = sock.recvfrom_into(self._view, _DATAGRAM_BYTES, socket.MSG_TRUNC)
            except BlockingIOError:
                return True
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    return False
                raise NetlinkError(error.errno or errno.EIO, "read", "the netlink monitor") from error
            if port != 0:
                continue  # Not from the kernel.
            try:
                if size > _DATAGRAM_BYTES:
                    raise codec.DecodeError(f"netlink datagram of {size} bytes cut short; reading everything again")
                for message in codec.messages(self._view[:size]):
                    self._handle(message)
            except codec.DecodeError as error:
                self.undecodable += 1
                log.warning("netlink event not understood, reading everything again", extra={"error": str(error)})
                self._on_resync()
        return True

    def _handle(self, message: codec.Message) -> None:
        if message.type in (codec.RTM_NEWADDR, codec.RTM_DELADDR):
            address = decode_address(message)
            if address is not None:
                self._on_address(address, message.type == codec.RTM_NEWADDR)
        elif message.type in (codec.RTM_NEWLINK, codec.RTM_DELLINK):
            link = decode_link(bytes(message.data[message.start - _HEADER_BYTES : message.end]))
            if link is not None:
                present = message.type == codec.RTM_NEWLINK
                self._on_link(link if present else None, link.index, present)
