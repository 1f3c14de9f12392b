"""Follows what the kernel announces to a multicast group of netlink, on a socket of its own, and notices what was lost.

In: which group, and what to do with a datagram (a subclass). Out: its calls, `_missed` whenever something may have been missed: at the
start, after an overrun, and at what cannot be understood. It reads nothing by itself, decides nothing and changes nothing. Calls run in
the loop and must not block.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Final

from kvip.errors import NetlinkError
from kvip.kernel import codec
from kvip.kernel.batches import set_receive_buffer

log = logging.getLogger(__name__)

_DATAGRAM_BYTES: Final = 65_536
_LARGEST_BUFFER: Final = 64 << 20
_REOPEN_DELAY_S: Final = 0.05


class Follower(ABC):
    """Follows until cancelled. `overruns` and `undecodable` count what was missed."""

    what: ClassVar[str]
    """What is followed, for messages."""
    protocol: ClassVar[int]
    """NETLINK_*."""
    datagrams_per_turn: ClassVar[int]

    def __init__(self, *, receive_buffer: int) -> None:
        """`receive_buffer` in bytes; it is doubled after each overrun, up to 64 MiB."""
        self._buffer_bytes = receive_buffer
        self._view = memoryview(bytearray(_DATAGRAM_BYTES))
        self._socket: socket.socket | None = None
        self.overruns = 0
        self.undecodable = 0

    @abstractmethod
    def _join(self, sock: socket.socket) -> None:
        """Bind the socket, and have it hear the group. Raises OSError."""

    @abstractmethod
    def _take(self, data: memoryview) -> None:
        """One datagram of the kernel's. Raises codec.DecodeError where it cannot be understood."""

    @abstractmethod
    def _missed(self) -> None:
        """Something may not have been heard, or not have been understood."""

    @abstractmethod
    def _turned(self) -> None:
        """What was queued was taken, a turn's worth at most."""

    async def run(self) -> None:
        """Follow until cancelled. Raises `NetlinkError` when the socket cannot be opened or breaks other than by an overrun."""
        while True:
            with self._opened() as sock:
                # After joining: what changes from here on is queued, what changed before is found by asking.
                self._missed()
                self._turned()
                self._socket = sock
                try:
                    await self._follow(sock)
                finally:
                    self._socket = None
            self.overruns += 1
            self._buffer_bytes = min(self._buffer_bytes * 2, max(_LARGEST_BUFFER, self._buffer_bytes))
            log.warning("events of the kernel lost, reading anew", extra={"of": self.what, "receive_buffer": self._buffer_bytes})
            await asyncio.sleep(_REOPEN_DELAY_S)

    @contextmanager
    def _opened(self) -> Iterator[socket.socket]:
        try:
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, self.protocol)
        except OSError as error:
            raise NetlinkError(error.errno or errno.EIO, "open", self.what) from error
        with sock:
            try:
                sock.setblocking(False)
                set_receive_buffer(sock, self._buffer_bytes)
                self._join(sock)
            except OSError as error:
                raise NetlinkError(error.errno or errno.EIO, "join", self.what) from error
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
                # Another program's large transaction is thousands of datagrams: the loop's other work goes on in between.
                await asyncio.sleep(0)
        finally:
            loop.remove_reader(sock.fileno())

    def _read_some(self, sock: socket.socket) -> bool:
        """Handle what is queued, at most one turn's worth; False after an overrun (netlink(7): ENOBUFS)."""
        try:
            for _ in range(self.datagrams_per_turn):
                try:
                    size, (port, _groups) = sock.recvfrom_into(self._view, _DATAGRAM_BYTES, socket.MSG_TRUNC)
                except BlockingIOError:
                    return True
                except OSError as error:
                    if error.errno == errno.ENOBUFS:
                        return False
                    raise NetlinkError(error.errno or errno.EIO, "read", self.what) from error
                if port == 0:  # From the kernel.
                    self._judge(size)
        finally:
            self._turned()
        return True

    def _judge(self, size: int) -> None:
        try:
            if size > _DATAGRAM_BYTES:
                raise codec.DecodeError(f"netlink datagram of {size} bytes cut short; reading anew")
            self._take(self._view[:size])
        except codec.DecodeError as error:
            self.undecodable += 1
            log.warning("event of the kernel not understood, reading anew", extra={"of": self.what, "error": str(error)})
            self._missed()
