"""Transactions and dumps of nf_tables on a netlink socket of their own.

In: requests. Out: nothing, when the kernel has committed all of them; or what a dump says. Synchronous: nfnetlink works in the
sender's context, so the answers are in the receive buffer when sendmsg(2) returns. It may wait inside the kernel for another
program's transaction (commit_mutex). It decides nothing and never retries a change.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Sequence
from typing import Final

from kvip.errors import NetlinkError
from kvip.kernel import codec, nft
from kvip.kernel.batches import NETLINK_CAP_ACK, NETLINK_EXT_ACK, SOL_NETLINK, set_receive_buffer

NETLINK_NETFILTER: Final = 12
_SO_SNDBUFFORCE: Final = 32
_BUFFER_BYTES: Final = 16 << 20
"""A batch is one datagram: 10,000 VIPs are 1.5 MB of elements, and netlink_sendmsg refuses what exceeds the send buffer."""
_DATAGRAM_BYTES: Final = 262_144
_REPLY_WAIT_MS: Final = 1000
_DUMP_ATTEMPTS: Final = 5


class NftSocket:
    """An AF_NETLINK socket for nf_tables in the network namespace of its maker. `close()` it.

    A `NetlinkError` of a transaction that carries the kernel's errno means that nothing of it was done; ETIMEDOUT and errors of
    the socket itself mean that the outcome is unknown.
    """

    def __init__(self) -> None:
        self._sequence = 0
        self._view = memoryview(bytearray(_DATAGRAM_BYTES))
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        except OSError as error:
            raise NetlinkError(error.errno or errno.EIO, "open", "an nf_tables socket") from error
        try:
            self._socket.setblocking(False)
            self._socket.bind((0, 0))
            for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK):
                self._socket.setsockopt(SOL_NETLINK, option, 1)
            set_receive_buffer(self._socket, _BUFFER_BYTES)
            self._set_send_buffer()
        except OSError as error:
            self._socket.close()
            raise NetlinkError(error.errno or errno.EIO, "set up", "an nf_tables socket") from error
        self.port: int = self._socket.getsockname()[0]
        """Its netlink port: the sender that the kernel names in notifications of what this socket did."""
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def _set_send_buffer(self) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER_BYTES)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)

    def close(self) -> None:
        """Close the socket; idempotent."""
        self._socket.close()

    def transact(self, requests: Sequence[nft.Request], operation: str, target: str) -> None:
        """All or nothing, in order. Raises NetlinkError with the first refusal of the kernel."""
        if not requests:
            return
        first = self._reserve(len(requests) + 2)
        pending = set(range(first, first + len(requests) + 2))
        wanted = set(range(first + 1, first + len(requests) + 1))
        refused: codec.Ack | None = None
        try:
            self._socket.send(nft.batch(requests, first_sequence=first))
            while wanted and (refused is None or self._ready()):
                for message in codec.messages(self._receive()):
                    if message.type == codec.NLMSG_ERROR and message.sequence in pending:
                        ack = codec.decode_ack(message)
                        wanted.discard(message.sequence)
                        if ack.errno and refused is None:
                            refused = ack
        except OSError as error:
            self._drain()
            raise NetlinkError(error.errno or errno.EIO, operation, target) from error
        if refused is not None:
            self._drain()
            raise NetlinkError(refused.errno, operation, target, ext_ack=refused.ext_ack)

    def dump(self, request: nft.Request, target: str) -> list[codec.Message]:
        """Every message of one dump, consistent. Raises NetlinkError; EINTR when it was interrupted in each of 5 attempts."""
        for _ in range(_DUMP_ATTEMPTS):
            try:
                found = self._ask(request, target)
            except OSError as error:
                self._drain()
                raise NetlinkError(error.errno or errno.EIO, "dump", target) from error
            if found is not None:
                return found
        raise NetlinkError(errno.EINTR, "dump", target, ext_ack=f"interrupted {_DUMP_ATTEMPTS} times")

    def generation(self) -> int:
        """The number of the last transaction in this network namespace, whoever made it."""
        try:
            found = self._ask(nft.generation(), "the generation")
        except OSError as error:
            self._drain()
            raise NetlinkError(error.errno or errno.EIO, "read", "the generation of nf_tables") from error
        for message in found or ():
            return nft.decode_generation(message)
        raise NetlinkError(errno.EIO, "read", "the generation of nf_tables", ext_ack="no answer")

    def _ask(self, request: nft.Request, target: str) -> list[codec.Message] | None:
        """Answers up to the acknowledgement or the end of the dump; None when something changed in between."""
        sequence = self._reserve(1)
        self._socket.send(nft.message(request, sequence=sequence))
        found: list[codec.Message] = []
        interrupted = False
        while True:
            data = bytes(self._receive())
            for message in codec.messages(data):
                if message.sequence != sequence:
                    continue
                interrupted = interrupted or bool(message.flags & codec.NLM_F_DUMP_INTR)
                if message.type in (codec.NLMSG_DONE, codec.NLMSG_ERROR):
                    ack = codec.decode_ack(message)
                    if ack.errno:
                        raise NetlinkError(ack.errno, "dump", target, ext_ack=ack.ext_ack)
                    return None if interrupted else found
                if nft.is_nftables(message):
                    found.append(message)

    def _reserve(self, count: int) -> int:
        """The first of `count` fresh sequence numbers; never 0, which notifications have."""
        if self._sequence + count > 0x7FFFFFFF:
            self._sequence = 0
        first = self._sequence + 1
        self._sequence += count
        return first

    def _ready(self) -> bool:
        return bool(self._poll.poll(0))

    def _receive(self) -> memoryview:
        """One datagram of the kernel's. Raises OSError (ENOBUFS when the kernel dropped some), ETIMEDOUT after 1 s of silence."""
        while True:
            try:
                size, (port, _groups) = self._socket.recvfrom_into(self._view, _DATAGRAM_BYTES, socket.MSG_TRUNC)
            except BlockingIOError:
                if not self._poll.poll(_REPLY_WAIT_MS):
                    raise TimeoutError(errno.ETIMEDOUT, "no answer from the kernel") from None
                continue
            if port != 0:
                continue  # Not from the kernel (netlink(7)): another process wrote to our port.
            if size > _DATAGRAM_BYTES:
                raise OSError(errno.EMSGSIZE, "datagram cut short")
            return self._view[:size]

    def _drain(self) -> None:
        """Throw away what is queued; a leftover is told by its sequence number anyway."""
        while True:
            try:
                self._socket.recvfrom_into(self._view, _DATAGRAM_BYTES, socket.MSG_TRUNC)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    return  # Closed or broken: the next call reports it.
