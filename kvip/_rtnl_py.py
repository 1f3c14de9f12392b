"""The twin of `kvip._rtnl` in plain Python, for machines without a compiler: same names, same results, same errors.

In: address changes, a netlink socket, the bytes that the kernel sent. Out: request bytes, and what the kernel said filed in the batch.
Must not differ from `_rtnl.pyx` in anything but speed and in how many datagrams one call takes; must not hold policy.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")

MAX_DATAGRAMS = 1

_HEAD_BYTES = 16
_SEQUENCE = struct.Struct("=8xI")


class Datagrams(Protocol):
    """A netlink socket."""

    def fileno(self) -> int: ...
    def recvfrom_into(self, buffer: bytearray, nbytes: int, flags: int, /) -> tuple[int, tuple[int, int]]: ...


class Batch(Protocol):
    """What is under way. The extension also uses `request`, `start`, `seen` and `heard` of `kvip.kernel.answers.Batch`."""

    first: int
    """Sequence number of the first operation: number n has `first + 2n` and the one behind it; that of the end is behind all."""
    count: int
    """Operations that were sent."""

    def look_into(self, datagram: bytes | memoryview) -> None: ...


def encode_changes(operations: Sequence[T], start: int, stop: int, sequence: int, encode: Callable[[T, int], bytes]) -> bytes:
    """What `encode` makes of each of `operations[start:stop]`; each takes two sequence numbers, the first ones from `sequence` on."""
    return b"".join([encode(operations[number], sequence + 2 * (number - start)) for number in range(start, stop)])


def receive(sock: Datagrams, buffer: bytearray, slot: int) -> list[int]:
    """Read datagrams that wait, each at its own `slot` bytes of `buffer`; returns their lengths.

    0 = not from the kernel (netlink(7)): another process wrote to our port. More than `slot` = cut short. Never blocks: raises
    BlockingIOError when nothing waits, and any other OSError (ENOBUFS when the kernel dropped answers) before a datagram behind it is read.
    """
    size, (port, _groups) = sock.recvfrom_into(buffer, slot, socket.MSG_TRUNC | socket.MSG_DONTWAIT)
    return [0 if port else size]


def match(batch: Batch, buffer: bytearray, slot: int, lengths: list[int]) -> None:
    """Have the batch look into each datagram that `receive` found.

    Raises OSError (EMSGSIZE) for an answer of this batch that was cut short; a stale one is dropped.
    """
    view = memoryview(buffer)
    for number, length in enumerate(lengths):
        at = number * slot
        if length > slot:
            (sequence,) = _SEQUENCE.unpack_from(view, at)
            if 0 <= sequence - batch.first <= 2 * batch.count:
                raise OSError(errno.EMSGSIZE, "datagram cut short")
        elif length:
            batch.look_into(view[at : at + length])
