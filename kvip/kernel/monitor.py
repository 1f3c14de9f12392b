"""What changes in this network namespace: addresses and NICs, as the kernel announces them.

In: rtnetlink's multicast groups. Out: calls of `on_address`, `on_link` and `on_resync`. They are hints that mark something as dirty:
`on_resync` says that events may have been missed and everything must be read again.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from kvip.core.model import Address, IfIndex, Link
from kvip.kernel import codec
from kvip.kernel.filters import BYTE, DROP, EQUAL, HALF, WHOLE, WORD, Check, attach
from kvip.kernel.follower import Follower
from kvip.kernel.links import decode_link
from kvip.kernel.recurring import decode_address

# RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR (linux/rtnetlink.h).
_GROUPS: Final = 0x1 | 0x10 | 0x100
_HEADER_BYTES: Final = 16


class Monitor(Follower):
    """Follows addresses and NICs until cancelled."""

    what = "addresses and NICs"
    protocol = socket.NETLINK_ROUTE
    datagrams_per_turn = 256

    def __init__(
        self,
        *,
        on_address: Callable[[Address, bool], None],
        on_link: Callable[[Link | None, IfIndex, bool], None],
        on_resync: Callable[[], None],
        answered: int = 0,
        receive_buffer: int = 4 << 20,
    ) -> None:
        """`on_address(address, present)`; `on_link(link, index, present)`, with the link None when it is gone.

        `answered`: the netlink port of a socket whose IPv4 host addresses need no report, because each is read back there."""
        super().__init__(receive_buffer=receive_buffer)
        self._on_address = on_address
        self._on_link = on_link
        self._on_resync = on_resync
        self._answered = answered

    def catch_up(self) -> None:
        """Handle at once what the kernel has announced already and the event loop has not read yet."""
        if self._socket is not None and not self._read_some(self._socket):
            self._on_resync()

    def _join(self, sock: socket.socket) -> None:
        if self._answered:
            attach(sock, _added_by(self._answered), matched=DROP, others=WHOLE)
        sock.bind((0, _GROUPS))

    def _missed(self) -> None:
        self._on_resync()

    def _turned(self) -> None:
        """Each message was passed on by itself."""

    def _take(self, data: memoryview) -> None:
        for message in codec.messages(data):
            self._handle(message)

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


def _added_by(port: int) -> tuple[Check, ...]:
    """RTM_NEWADDR of an IPv4 host address by a request from this port (rtmsg_ifa, net/ipv4/devinet.c: nlmsg_pid). Fields of netlink are in
    host order, a filter loads them in network order."""
    return (
        (HALF, 4, EQUAL, socket.htons(codec.RTM_NEWADDR), True),
        (WORD, 12, EQUAL, socket.htonl(port), True),
        (BYTE, 16, EQUAL, socket.AF_INET, True),
        (BYTE, 17, EQUAL, 32, True),
    )
