"""Address changes, and the kernel's answers matched to them.

In: operations, the sequence numbers under which they were sent, messages of the kernel. Out: for each operation what became of it. No
socket; it decides nothing.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from kvip.core.model import Address, is_ipv6
from kvip.kernel import codec
from kvip.kernel.recurring import decode_address

_GONE: Final = frozenset({0, errno.EADDRNOTAVAIL, errno.ENODEV})


class AddressOp(msgspec.Struct, frozen=True, kw_only=True):
    """One change. "add" fails with EEXIST where the address is there already, whoever put it there.

    "replace" also takes an address that is not ours: lifetimes and, observed on 6.18 for both families, the mark with them.
    So it is for addresses seen to be marked only.
    """

    kind: codec.Kind
    address: Address


class OpResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel said to one operation. `errno` 0 = done."""

    operation: AddressOp
    errno: int
    ext_ack: str
    seen: Address | None
    """The address as the kernel has it after the operation, on that NIC; None = not there."""

    @property
    def gone(self) -> bool:
        """True when the kernel confirmed that the address is not (or no longer) on the NIC."""
        return self.seen is None and self.errno in _GONE


def encode_operation(operation: AddressOp, sequence: int) -> bytes:
    """The requests of one operation: a change that only a failure answers, and what shows its result.

    IPv4: the change's notification comes back as its echo, from within the change (rtmsg_ifa, net/ipv4/devinet.c). IPv6 echoes none
    (inet6_ifa_notify, net/ipv6/addrconf.c, has no request to answer), so the kernel is asked for the address, under the next number.
    """
    six = is_ipv6(operation.address.ip)
    change = codec.encode_change(operation.kind, operation.address, sequence=sequence, ack=False, echo=not six)
    return change + codec.encode_get(operation.address, sequence=sequence + 1) if six else change


class Batch:
    """The answers to one `apply`, matched to the operations by sequence number.

    The operations are sent in slices. Number n of a slice has two sequence numbers, `first + 2n` for the change and the next one for the
    question behind it; the one behind all of them is that of the end.
    """

    def __init__(self, operations: Sequence[AddressOp]) -> None:
        self.operations = operations
        self.seen: list[Address | None] = [None] * len(operations)
        """What the kernel has after each, or the address of another operation that differs from it in `ip` only."""
        self.heard = bytearray(len(operations))
        """1 = the kernel said what it has after this operation, and `seen` is that."""
        self.refused: dict[int, codec.Ack] = {}
        self.start = self.count = self.first = 0
        self.request = b""
        self.waiting = False
        """The end of the slice was not acknowledged yet."""

    def begin(self, start: int, count: int, first: int, request: bytes) -> None:
        """The slice that is being sent."""
        self.start, self.count, self.first, self.request, self.waiting = start, count, first, request, True

    def look_into(self, datagram: bytes | memoryview) -> None:
        """File the messages of one datagram; one that answers nothing of this slice is stale and dropped."""
        for message in codec.messages(datagram):
            number, question = divmod(message.sequence - self.first, 2)
            if 0 <= number < self.count:
                self._take(self.start + number, message, asked=bool(question))
            elif number == self.count and not question and message.type == codec.NLMSG_ERROR:
                self.waiting = False

    def _take(self, number: int, message: codec.Message, *, asked: bool) -> None:
        if message.type == codec.NLMSG_ERROR:
            ack = codec.decode_ack(message)
            if not asked:
                self.refused[number] = ack
            elif ack.errno == errno.EADDRNOTAVAIL:
                self.heard[number] = 1
        elif message.type in (codec.RTM_NEWADDR, codec.RTM_DELADDR):
            address = decode_address(message)
            wanted = self.operations[number].address
            if address is None:
                return
            if asked:
                self.heard[number] = 1
                # With an unknown NIC index the kernel looks on all NICs (inet6_rtm_getaddr -> ipv6_get_ifaddr, dev NULL).
                self.seen[number] = address if address.index == wanted.index else None
            elif (address.ip, address.prefix_len, address.index) == (wanted.ip, wanted.prefix_len, wanted.index):
                # A delete also echoes the secondaries that went or were promoted with it (__inet_del_ifa): only its own value counts.
                self.heard[number] = 1
                self.seen[number] = address if message.type == codec.RTM_NEWADDR else None

    @property
    def unseen(self) -> list[int]:
        """Operations after which the kernel has not said what it has: they have to be looked for."""
        if 0 not in self.heard:
            return []
        return [number for number, heard in enumerate(self.heard) if not heard and not self._surely_gone(number)]

    def _surely_gone(self, number: int) -> bool:
        ack = self.refused.get(number)
        return ack is not None and ack.errno in (errno.EADDRNOTAVAIL, errno.ENODEV)

    def results(self) -> list[OpResult]:
        """One per operation, in their order."""
        found = [
            OpResult(operation=operation, errno=0, ext_ack="", seen=seen and replace(seen, ip=operation.address.ip))
            for operation, seen in zip(self.operations, self.seen, strict=True)
        ]
        for number, ack in self.refused.items():
            found[number] = replace(found[number], errno=ack.errno, ext_ack=ack.ext_ack)
        return found
