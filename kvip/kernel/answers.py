"""Address changes, and the kernel's answers matched to them.

In: operations, the sequence numbers under which they were sent, messages of the kernel. Out: for each operation what became of it. No
socket; it decides nothing.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Final

import msgspec

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


class Batch:
    """The answers to one `apply`, matched to the operations by sequence number."""

    def __init__(self, operations: Sequence[AddressOp]) -> None:
        self.operations = operations
        self.changes: dict[int, int] = {}
        self.gets: dict[int, int] = {}
        self.acks: list[codec.Ack] = [codec.Ack(0, "")] * len(operations)
        self.seen: list[Address | None] = [None] * len(operations)
        self.unseen: list[int] = []
        self._echoed: set[int] = set()

    def succeed(self, sequence: int) -> None:
        """The kernel did it."""
        number = self.changes.pop(sequence, None)
        if number is not None:
            self._look_for(number)

    def take(self, message: codec.Message) -> None:
        """File one message; one that answers nothing that is pending is stale and dropped."""
        number = self.changes.get(message.sequence)
        if number is not None:
            if message.type == codec.NLMSG_ERROR:
                del self.changes[message.sequence]
                self._acknowledge(number, codec.decode_ack(message))
            elif message.type in (codec.RTM_NEWADDR, codec.RTM_DELADDR):
                self._echo(number, message)
            return
        number = self.gets.pop(message.sequence, None)
        if number is not None and message.type == codec.RTM_NEWADDR:
            address = decode_address(message)
            # With an unknown NIC index the kernel looks on all NICs (inet6_rtm_getaddr -> ipv6_get_ifaddr, dev NULL).
            if address is not None and address.index == self.operations[number].address.index:
                self.seen[number] = address

    def _echo(self, number: int, message: codec.Message) -> None:
        """A delete also echoes the secondaries that went or were promoted with it (__inet_del_ifa): only its own value counts."""
        address = decode_address(message)
        wanted = self.operations[number].address
        if address is not None and (address.ip, address.prefix_len, address.index) == (wanted.ip, wanted.prefix_len, wanted.index):
            self._echoed.add(number)
            self.seen[number] = address if message.type == codec.RTM_NEWADDR else None

    def _acknowledge(self, number: int, ack: codec.Ack) -> None:
        self.acks[number] = ack
        if ack.errno not in (errno.EADDRNOTAVAIL, errno.ENODEV):
            self._look_for(number)

    def _look_for(self, number: int) -> None:
        """What was not echoed has to be looked for, but for IPv6, which is asked for."""
        if number not in self._echoed and not is_ipv6(self.operations[number].address.ip):
            self.unseen.append(number)

    def results(self) -> list[OpResult]:
        return [
            OpResult(operation=operation, errno=ack.errno, ext_ack=ack.ext_ack, seen=seen)
            for operation, ack, seen in zip(self.operations, self.acks, self.seen, strict=True)
        ]
