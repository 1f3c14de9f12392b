"""Notices when someone else changes tables of one name, the dead-man's switch unless told otherwise, as the kernel announces it.

In: nf_tables' multicast group. Out: calls of `on_changed`, which are hints: whoever is called asks `Switch.intact` or
`ServiceRules.intact`. It reads no rules.

`nft flush ruleset` is announced as one NFT_MSG_DELTABLE per table. Elements whose time is up go unannounced.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Final

from kvip.core.ruleset import TABLE
from kvip.kernel import codec, nft
from kvip.kernel.batches import SOL_NETLINK
from kvip.kernel.follower import Follower
from kvip.kernel.nft_socket import NETLINK_NETFILTER

_NFNLGRP_NFTABLES: Final = 7
_NETLINK_ADD_MEMBERSHIP: Final = 1


class RulesetMonitor(Follower):
    """Follows nf_tables until cancelled."""

    what = "nf_tables"
    protocol = NETLINK_NETFILTER
    datagrams_per_turn = 64

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
        """
        super().__init__(receive_buffer=receive_buffer)
        self._on_changed = on_changed
        self._owns = owns
        self._table = table
        self._changed = False

    def _join(self, sock: socket.socket) -> None:
        sock.bind((0, 0))
        sock.setsockopt(SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)

    def _missed(self) -> None:
        self._changed = True

    def _turned(self) -> None:
        changed, self._changed = self._changed, False
        if changed:
            self._on_changed()

    def _take(self, data: memoryview) -> None:
        """Does it tell of a change to a table of ours that we did not make? Once is enough for a turn."""
        # A header ends with the port of whoever asked for the change, and a datagram tells of one transaction (nft_commit_notify).
        if self._changed or self._owns(int.from_bytes(data[12:16], sys.byteorder)):
            return
        for message in codec.messages(data):
            if nft.is_nftables(message) and nft.family_of(message) and nft.table_of(message) == self._table:
                self._changed = True
                return
