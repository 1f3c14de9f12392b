"""Notices when someone else changes tables of one name, the dead-man's switch unless told otherwise, as the kernel announces it.

In: nf_tables' multicast group, on a socket of its own. Out: calls of `on_changed`, which are hints: whoever is called asks
`Switch.intact` or `ServiceRules.intact`. It reads no rules, decides nothing and changes nothing. Callbacks run in the loop and must
not block.

`nft flush ruleset` is announced as one NFT_MSG_DELTABLE per table. Elements whose time is up go unannounced.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from kvip.core.ruleset import TABLE
from kvip.errors import NetlinkError
from kvip.kernel import codec, nft
from kvip.kernel.batches import SOL_NETLINK, set_receive_buffer
from kvip.kernel.nft_socket import NETLINK_NETFILTER

log = logging.getLogger(__name__)

_NFNLGRP_NFTABLES: Final = 7
_NETLINK_ADD_MEMBERSHIP: Final = 1
_DATAGRAM_BYTES: Final = 65_536
_DATAGRAMS_PER_TURN: Final = 64
_LARGEST_BUFFER: Final = 64 << 20
_REOPEN_DELAY_S: Final = 0.05


class RulesetMonitor:
    """Follows nf_tables until cancelled. `overruns` and `undecodable` count what was missed."""

    def __init__(
        self,
        *,
        on_changed: Callable[[], None],
        owns: Callable[[int], bool] = lambda port: False,
        table: str = TABLE,
        receive_buffer: int = 4 << 20,
    ) -> None:
        """`owns(port)`: was the change made by ourselves (`Switch.owns`)? Without it every re-arming is news.

        `on_changed` is called once per batch of news.

        `receive_buffer` in bytes; it is doubled after each overrun, up to 64 MiB.
        """
        self._on_changed = on_changed
        self._owns = owns
        self._table = table
        self._buffer_bytes = receive_buffer
        self._view = memoryview(bytearray(_DATAGRAM_BYTES))
        self.overruns = 0
        self.undecodable = 0

    async def run(self) -> None:
        """Follow until cancelled. Raises `NetlinkError` when the socket cannot be opened or breaks other than by an overrun."""
        while True:
            with self._opened() as sock:
                # After joining: what changes from here on is queued, what changed before is found by asking.
                self._on_changed()
                await self._follow(sock)
            self.overruns += 1
            self._buffer_bytes = min(self._buffer_bytes * 2, max(_LARGEST_BUFFER, self._buffer_bytes))
            log.warning("nf_tables events lost, looking at the rules again", extra={"receive_buffer": self._buffer_bytes})
            await asyncio.sleep(_REOPEN_DELAY_S)

    @contextmanager
    def _opened(self) -> Iterator[socket.socket]:
        try:
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        except OSError as error:
            raise NetlinkError(error.errno or errno.EIO, "open", "the nf_tables monitor") from error
        with sock:
            try:
                sock.setblocking(False)
                set_receive_buffer(sock, self._buffer_bytes)
                sock.bind((0, 0))
                sock.setsockopt(SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
            except OSError as error:
                raise NetlinkError(error.errno or errno.EIO, "join", "the group of nf_tables") from error
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
        changed = False
        try:
            for _ in range(_DATAGRAMS_PER_TURN):
                try:
                    size, (port, _groups) = sock.recvfrom_into(self._view, _DATAGRAM_BYTES, socket.MSG_TRUNC)
                except BlockingIOError:
                    return True
                except OSError as error:
                    if error.errno == errno.ENOBUFS:
                        return False
                    raise NetlinkError(error.errno or errno.EIO, "read", "the nf_tables monitor") from error
                if port == 0 and not changed:
                    changed = self._foreign_change(size)
        finally:
            if changed:
                self._on_changed()
        return True

    def _foreign_change(self, size: int) -> bool:
        """Does this datagram tell of a change to a table of ours that we did not make? What cannot be understood counts as one."""
        try:
            if size > _DATAGRAM_BYTES:
                raise codec.DecodeError(f"netlink datagram of {size} bytes cut short; looking at the rules again")
            data = self._view[:size]
            for message in codec.messages(data):
                # The last word of the header is the port of whoever asked for the change (nf_tables_api.c, nft_ctx.portid).
                port = int.from_bytes(data[message.start - 4 : message.start], sys.byteorder)
                if nft.is_nftables(message) and not self._owns(port) and nft.family_of(message) and nft.table_of(message) == self._table:
                    return True
        except codec.DecodeError as error:
            self.undecodable += 1
            log.warning("nf_tables event not understood, looking at the rules again", extra={"error": str(error)})
            return True
        return False
