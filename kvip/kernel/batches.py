"""Batches of address changes, and whole dumps, on a netlink socket of their own.

In: operations on addresses. Out: for each the kernel's answer and its read-back. Synchronous: rtnetlink works in the
sender's context, so the answers are in the receive buffer when sendmsg(2) returns; the wait for them is bounded.
It decides nothing and never retries a change. The socket is shared with nobody: acknowledgements of a prebuilt batch
end a later pyroute2 dump on the same socket with no rows.
"""

from __future__ import annotations

import errno
import logging
import select
import socket
from collections.abc import Sequence
from typing import Final

from kvip import _rtnl_py
from kvip.core.model import MARK_PROTO, Address, IfIndex, Vip, host_prefix, is_ipv6
from kvip.errors import NetlinkError
from kvip.kernel import codec
from kvip.kernel.answers import AddressOp as AddressOp
from kvip.kernel.answers import Batch, encode_operation
from kvip.kernel.answers import OpResult as OpResult
from kvip.kernel.extensions import extension
from kvip.kernel.recurring import decode_address

log = logging.getLogger(__name__)

encode_changes, receive, match = _rtnl_py.encode_changes, _rtnl_py.receive, _rtnl_py.match
_compiled = extension("kvip._rtnl", "encode_changes", "receive", "match")
if _compiled is not None:
    encode_changes, receive, match = _compiled.encode_changes, _compiled.receive, _compiled.match

SOL_NETLINK: Final = 270
NETLINK_CAP_ACK: Final = 10
NETLINK_EXT_ACK: Final = 11
NETLINK_GET_STRICT_CHK: Final = 12
SO_RCVBUFFORCE: Final = 33

_SLICE_OPERATIONS: Final = 128
_ANSWER_BYTES: Final = 512
"""Room for one answer: an address message, or an error with its text; the kernel's have less than 200."""
_REPLY_WAIT_MS: Final = 1000
_DUMP_ATTEMPTS: Final = 5
_DATAGRAM_BYTES: Final = 65_536


class DumpInterrupted(NetlinkError):
    """Addresses changed during each attempt to dump them: what was read is no answer, nothing may be concluded from it."""


class AddressSocket:
    """An AF_NETLINK socket for batches of addresses and dumps. Use as a context manager or `close()` it.

    Any `NetlinkError` means that the outcome of that call is unknown; the next call works and a dump tells.
    """

    def __init__(self, *, receive_buffer: int = 8 << 20) -> None:
        """`receive_buffer` in bytes; forced above net.core.rmem_max where CAP_NET_ADMIN allows."""
        self._sequence = 0
        self._buffer = bytearray(_DATAGRAM_BYTES)
        self._view = memoryview(self._buffer)
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        except OSError as error:
            raise NetlinkError(error.errno or errno.EIO, "open", "an rtnetlink socket") from error
        try:
            self._socket.setblocking(False)
            self._socket.bind((0, 0))
            for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
                self._socket.setsockopt(SOL_NETLINK, option, 1)
            set_receive_buffer(self._socket, receive_buffer)
        except OSError as error:
            self._socket.close()
            raise NetlinkError(error.errno or errno.EIO, "set up", "an rtnetlink socket") from error
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def __enter__(self) -> AddressSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; idempotent."""
        self._socket.close()

    @property
    def port(self) -> int:
        """The port by which the kernel tells this socket from others (netlink(7))."""
        return int(self._socket.getsockname()[0])

    def apply(self, operations: Sequence[AddressOp]) -> list[OpResult]:
        """Do `operations` in order, and read each back; a refusal is in its result, never raised.

        Blocks for the kernel's own time. Read-back: IPv4 by the change's echo, IPv6 by a question behind each change
        (`answers.encode_operation`); what neither shows, as an IPv4 address that was there already, by one dump. A change that was not
        refused and is not seen is no success. Raises `NetlinkError` when the socket fails.
        """
        batch = Batch(operations)
        try:
            done = 0
            while done < len(operations):
                done = self._apply_slice(batch, done)
        except OSError as error:
            self._drain()
            raise NetlinkError(error.errno or errno.EIO, "apply", f"{len(operations)} address changes") from error
        except (codec.DecodeError, NetlinkError):
            self._drain()
            raise
        unseen = batch.unseen
        if unseen:
            there = {(address.ip, address.prefix_len, address.index): address for address in self.dump()}
            for number in unseen:
                wanted = operations[number].address
                batch.seen[number] = there.get((wanted.ip, wanted.prefix_len, wanted.index))
        return batch.results()

    def dump(self) -> list[Address]:
        """All addresses of this network namespace, IPv4 and IPv6.

        Raises `DumpInterrupted` when addresses changed during each of 5 attempts (NLM_F_DUMP_INTR), `NetlinkError` when the socket fails.
        """
        for attempt in range(1, _DUMP_ATTEMPTS + 1):
            try:
                found = self._dump_once()
            except OSError as error:
                self._drain()
                raise NetlinkError(error.errno or errno.EIO, "dump", "all addresses") from error
            except (codec.DecodeError, NetlinkError):
                self._drain()
                raise
            if found is not None:
                return found
            log.debug("address dump interrupted", extra={"attempt": attempt})
        raise DumpInterrupted(errno.EINTR, "dump", "all addresses", ext_ack=f"interrupted {_DUMP_ATTEMPTS} times, keeping what is known")

    def _apply_slice(self, batch: Batch, start: int) -> int:
        """Send a slice of the operations from `start` on and collect the answers; the index of the next one."""
        stop = min(start + _SLICE_OPERATIONS, len(batch.operations))
        first = self._numbers(2 * (stop - start) + 1)
        changes = encode_changes(batch.operations, start, stop, first, encode_operation)
        request = changes + codec.encode_end(sequence=first + 2 * (stop - start))
        batch.begin(start, stop - start, first, request)
        self._socket.send(request)
        while batch.waiting:
            try:
                lengths = receive(self._socket, self._buffer, _ANSWER_BYTES)
            except BlockingIOError:
                self._wait()
            else:
                match(batch, self._buffer, _ANSWER_BYTES, lengths)
        return stop

    def _dump_once(self) -> list[Address] | None:
        sequence = self._numbers(1)
        self._socket.send(codec.encode_dump(sequence=sequence))
        found: list[Address] = []
        interrupted = False
        while True:
            for message in codec.messages(self._receive()):
                if message.sequence != sequence:
                    continue
                interrupted = interrupted or bool(message.flags & codec.NLM_F_DUMP_INTR)
                if message.type == codec.RTM_NEWADDR:
                    address = decode_address(message)
                    if address is not None:
                        found.append(address)
                elif message.type in (codec.NLMSG_DONE, codec.NLMSG_ERROR):
                    ack = codec.decode_ack(message)
                    if ack.errno:
                        raise NetlinkError(ack.errno, "dump", "all addresses", ext_ack=ack.ext_ack)
                    return None if interrupted else found

    def _numbers(self, count: int) -> int:
        """The first of so many fresh sequence numbers in a row. 0 is left to notifications."""
        if self._sequence + count > 0xFFFFFFFF:
            self._sequence = 0
        self._sequence += count
        return self._sequence - count + 1

    def _wait(self) -> None:
        """Until something can be read. Raises ETIMEDOUT after 1 s of silence."""
        if not self._poll.poll(_REPLY_WAIT_MS):
            raise TimeoutError(errno.ETIMEDOUT, "no answer from the kernel")

    def _receive(self) -> memoryview:
        """One datagram of the kernel's. Raises OSError (ENOBUFS when the kernel dropped some), ETIMEDOUT after 1 s of silence."""
        while True:
            try:
                size, (port, _groups) = self._socket.recvfrom_into(self._buffer, _DATAGRAM_BYTES, socket.MSG_TRUNC)
            except BlockingIOError:
                self._wait()
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
                self._socket.recvfrom_into(self._buffer, _DATAGRAM_BYTES, socket.MSG_TRUNC)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    return  # Closed or broken: the next call reports it.


def set_receive_buffer(sock: socket.socket, size: int) -> None:
    """Ask for `size` bytes of receive buffer, above net.core.rmem_max with CAP_NET_ADMIN, else up to it (socket(7))."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def vip_address(vip: Vip, index: IfIndex, *, valid_s: int | None, label: str = "", dad: bool = False) -> Address:
    """The address that kvip binds for `vip`: host prefix, marked, no prefix route, and `preferred_s` 0: not chosen as a source.

    `dad`: the kernel looks for duplicates of an IPv6 address, which is tentative meanwhile.
    """
    return Address(
        ip=vip,
        prefix_len=host_prefix(vip),
        index=index,
        proto=MARK_PROTO,
        flags=codec.IFA_F_NOPREFIXROUTE | (codec.IFA_F_NODAD if is_ipv6(vip) and not dad else 0),
        label=label,
        valid_s=valid_s,
        preferred_s=0,
    )
