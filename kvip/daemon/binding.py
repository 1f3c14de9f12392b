"""Kernel addresses with the facts kept in step: bind, renew, remove, and see what is left.

Input: VIPs and NICs, or addresses. Output: what the kernel confirmed, noted in the facts. It must not ask for permits
or decide; only the executor uses it.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Literal, TypeVar

from kvip import metrics
from kvip.clock import Clock
from kvip.core.facts import Facts
from kvip.core.model import Address, IfIndex, Link, Vip
from kvip.errors import KvipError, NetlinkError
from kvip.kernel.batches import AddressOp, AddressSocket, OpResult, vip_address

log = logging.getLogger(__name__)

T = TypeVar("T")

SLICE = 64
"""Addresses per netlink request: below 10 ms of kernel time, so that the event loop is never held for long."""
TAKE_SLICE = 128
"""The same of addresses to add: a take-over of a crowd is quicker by it. Where thousands are on one NIC already, such a request holds the
loop for longer, and a heartbeat comes as much later (docs/performance.md, takeover)."""


class Binding:
    """Owns the address socket."""

    def __init__(
        self,
        addresses: AddressSocket,
        facts: Facts,
        *,
        clock: Clock,
        lifetime_s: Callable[[], int],
        dump_beside: Callable[[], Awaitable[list[Address]]] | None = None,
    ) -> None:
        """`dump_beside`: a dump by another socket, while the event loop goes on; None = by this one, which holds it."""
        self._addresses = addresses
        self._facts = facts
        self._clock = clock
        self._lifetime_s = lifetime_s
        self.unknown = False
        """Did the last request fail as a whole? Then only a dump tells what the kernel did of it."""
        self._dump_beside = dump_beside

    def dump(self) -> list[Address]:
        """Every address. Raises NetlinkError when the kernel gives no complete answer."""
        return self._addresses.dump()

    async def dump_beside(self) -> list[Address]:
        """The same, while the event loop goes on where that can be had."""
        return self.dump() if self._dump_beside is None else await self._dump_beside()

    def marked(self) -> tuple[list[Address], bool]:
        """Every marked address, and whether the kernel itself said so; else by the last facts."""
        try:
            return [address for address in self._addresses.dump() if address.marked], True
        except KvipError as error:
            metrics.netlink_errors_total.labels("dump").inc()
            log.exception("no complete dump at a fence; going by the last facts", extra={"reason": str(error)})
            return [bound.address for vip in self._facts.marked() for bound in self._facts.bound(vip) if bound.address.marked], False

    def bind(
        self, kind: Literal["add", "replace"], targets: Sequence[tuple[Vip, Link]], *, dad: Collection[Vip] = ()
    ) -> list[tuple[OpResult, str]]:
        """Results with what is wrong ("" = confirmed). `add` fails where the address is already there, so that one without
        kvip's mark is never changed. `dad`: of these the kernel is to look for duplicates."""
        valid_s = self._lifetime_s()
        operations = [AddressOp(kind=kind, address=vip_address(vip, link.index, valid_s=valid_s, dad=vip in dad)) for vip, link in targets]
        now = self._clock.now()
        judged: list[tuple[OpResult, str]] = []
        for result in self._apply(operations):
            problem = _bind_problem(result)
            if result.errno:
                metrics.netlink_errors_total.labels(kind).inc()
            if result.seen is not None and result.seen.marked:
                self._facts.note_bound(result.seen, now=now)
            judged.append((result, problem))
        return judged

    def remove(self, addresses: Iterable[Address]) -> list[str]:
        """Delete by value; for each what is wrong ("" = the kernel confirmed that it is gone)."""
        problems: list[str] = []
        for part in slices(list(addresses)):
            for result in self._apply([AddressOp(kind="delete", address=address) for address in part]):
                if result.gone:
                    self._facts.note_gone(result.operation.address)
                else:
                    metrics.netlink_errors_total.labels("delete").inc()
                problems.append("" if result.gone else result.ext_ack or f"errno {result.errno}")
        return problems

    def _apply(self, operations: list[AddressOp]) -> list[OpResult]:
        self.unknown = False
        if not operations:
            return []
        try:
            return self._addresses.apply(operations)
        except KvipError as error:
            self.unknown = True
            log.exception("netlink request failed", extra={"reason": str(error)})
            code = (error.errno if isinstance(error, NetlinkError) else 0) or errno.EIO
            there = {} if operations[0].kind == "delete" else self._there()
            return [
                OpResult(operation=operation, errno=code, ext_ack=str(error), seen=there.get(_value(operation.address)))
                for operation in operations
            ]

    def _there(self) -> dict[tuple[Vip, int, IfIndex], Address]:
        """What the kernel has after a request whose outcome is unknown; where it does not say, the facts are in doubt."""
        try:
            return {_value(address): address for address in self._addresses.dump()}
        except KvipError as error:
            metrics.netlink_errors_total.labels("dump").inc()
            log.exception("no complete dump after a failed request; reading anew", extra={"reason": str(error)})
            self._facts.doubt()
            return {}


def _value(address: Address) -> tuple[Vip, int, IfIndex]:
    return address.ip, address.prefix_len, address.index


def _bind_problem(result: OpResult) -> str:
    if result.errno:
        return result.ext_ack or f"errno {result.errno}"
    if result.seen is None:
        return "the kernel accepted the address but does not show it"
    return "" if result.seen.marked else "the address is there without kvip's mark"


def slices(items: Sequence[T], size: int = SLICE) -> list[Sequence[T]]:
    """The items in parts of one request's size."""
    return [items[start : start + size] for start in range(0, len(items), size)]
