"""Kernel addresses with the facts kept in step: bind, renew, remove, and see what is left.

Input: VIPs and NICs, or addresses. Output: what the kernel confirmed, noted in the facts. It must not ask for permits
or decide; only the executor uses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from concurrent.futures import Executor, Future, wait
from functools import partial
from typing import Literal, TypeVar

import msgspec

from kvip import metrics
from kvip.clock import Clock
from kvip.core.facts import Facts
from kvip.core.model import Address, IfIndex, Link, Vip, is_ipv6
from kvip.errors import KvipError, NetlinkError
from kvip.kernel.batches import AddressOp, AddressSocket, OpResult, vip_address

log = logging.getLogger(__name__)

T = TypeVar("T")

SLICE = 64
"""Addresses per netlink request: below 10 ms of kernel time, so that the event loop is never held for long."""
TAKE_SLICE = 128
"""The same of addresses to add: a take-over of a crowd is quicker by it, and many are added beside the loop (`BESIDE_FROM`)."""
BESIDE_FROM = 32
"""So many IPv4 addresses to add are worth another thread: where thousands are on one NIC already, they take the kernel tens of
milliseconds (docs/performance.md, addresses)."""


class _Request(msgspec.Struct, kw_only=True):
    """A request that another thread makes."""

    operations: list[AddressOp]
    answer: Future[list[OpResult]]
    began_at: float
    judged: list[tuple[OpResult, str]] | None = None
    """None = not taken over into the facts yet."""


class Binding:
    """Owns the address socket. Whoever calls while another thread is at it waits for as long as the kernel takes, and comes after it."""

    def __init__(
        self,
        addresses: AddressSocket,
        facts: Facts,
        *,
        clock: Clock,
        lifetime_s: Callable[[], int],
        dump_beside: Callable[[], Awaitable[list[Address]]] | None = None,
        beside: Executor | None = None,
    ) -> None:
        """`dump_beside`: a dump by another socket, while the event loop goes on; None = by this one, which holds it. `beside`: where large
        requests are made, while the event loop goes on; None = nowhere, they hold it."""
        self._addresses = addresses
        self._facts = facts
        self._clock = clock
        self._lifetime_s = lifetime_s
        self._dump_beside = dump_beside
        self._beside = beside
        self._under_way: _Request | None = None

    def dump(self) -> list[Address]:
        """Every address. Raises NetlinkError when the kernel gives no complete answer."""
        self._settle()
        return self._addresses.dump()

    async def dump_beside(self) -> list[Address]:
        """The same, while the event loop goes on where that can be had."""
        return self.dump() if self._dump_beside is None else await self._dump_beside()

    def marked(self) -> tuple[list[Address], bool]:
        """Every marked address, and whether the kernel itself said so; else by the last facts."""
        self._settle()
        try:
            return [address for address in self._addresses.dump() if address.marked], True
        except KvipError as error:
            metrics.netlink_errors_total.labels("dump").inc()
            log.exception("no complete dump at a fence; going by the last facts", extra={"reason": str(error)})
            return [bound.address for vip in self._facts.marked() for bound in self._facts.bound(vip) if bound.address.marked], False

    async def add(self, targets: Sequence[tuple[Vip, Link]], *, dad: Collection[Vip] = ()) -> list[tuple[OpResult, str]]:
        """Bind what is not there, at most `TAKE_SLICE`; results with what is wrong ("" = confirmed). One that is there already fails, so
        that one without kvip's mark is never changed. `dad`: of these the kernel is to look for duplicates.

        The facts have them as bound from before the request until the kernel says that they are not: what may be there counts as there.
        """
        self._settle()
        operations, now = self._operations("add", targets, dad), self._clock.now()
        for operation in operations:
            self._facts.expect(operation.address, now=now)
        if self._beside is None or len(operations) < BESIDE_FROM or any(is_ipv6(vip) for vip, _ in targets):
            return self._judged(operations, partial(self._addresses.apply, operations), now=now)
        request = _Request(operations=operations, answer=self._beside.submit(self._addresses.apply, operations), began_at=now)
        self._under_way = request
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def tell(_: object) -> None:
            # The loop is closed: nobody waits any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(over.set)

        request.answer.add_done_callback(tell)
        try:
            await over.wait()
        except asyncio.CancelledError:
            self._settle()
            raise
        return self._finish(request)

    def renew(self, targets: Sequence[tuple[Vip, Link]]) -> list[tuple[OpResult, str]]:
        """Lifetimes anew, of what is bound and marked; results as of `add`."""
        self._settle()
        operations = self._operations("replace", targets, ())
        return self._judged(operations, partial(self._addresses.apply, operations), now=self._clock.now())

    def _settle(self) -> None:
        """Nothing is under way on the other thread when this returns. What it raised is for whoever asked."""
        request, self._under_way = self._under_way, None
        if request is not None and wait([request.answer]) and request.answer.exception() is None:
            self._finish(request)

    def _finish(self, request: _Request) -> list[tuple[OpResult, str]]:
        """Take in what became of it; whoever comes first does."""
        if request.judged is None:
            wait([request.answer])
            if self._under_way is request:
                self._under_way = None
            request.judged = self._judged(request.operations, request.answer.result, now=request.began_at)
        return request.judged

    def _operations(self, kind: Literal["add", "replace"], targets: Sequence[tuple[Vip, Link]], dad: Collection[Vip]) -> list[AddressOp]:
        valid_s = self._lifetime_s()
        return [AddressOp(kind=kind, address=vip_address(vip, link.index, valid_s=valid_s, dad=vip in dad)) for vip, link in targets]

    def _judged(self, operations: list[AddressOp], ask: Callable[[], list[OpResult]], *, now: float) -> list[tuple[OpResult, str]]:
        """The answers, taken over into the facts."""
        results, told = self._answered(operations, ask)
        judged: list[tuple[OpResult, str]] = []
        for result in results:
            if result.errno:
                metrics.netlink_errors_total.labels(result.operation.kind).inc()
            if result.seen is not None:
                self._facts.note_bound(result.seen, now=now)
            elif told:
                self._facts.note_gone(result.operation.address)
            judged.append((result, _bind_problem(result)))
        return judged

    def remove(self, addresses: Iterable[Address]) -> list[str]:
        """Delete by value; for each what is wrong ("" = the kernel confirmed that it is gone)."""
        self._settle()
        problems: list[str] = []
        for part in slices(list(addresses)):
            operations = [AddressOp(kind="delete", address=address) for address in part]
            for result in self._answered(operations, partial(self._addresses.apply, operations))[0]:
                if result.gone:
                    self._facts.note_gone(result.operation.address)
                else:
                    metrics.netlink_errors_total.labels("delete").inc()
                problems.append("" if result.gone else result.ext_ack or f"errno {result.errno}")
        return problems

    def _answered(self, operations: list[AddressOp], ask: Callable[[], list[OpResult]]) -> tuple[list[OpResult], bool]:
        """What became of each, and whether the kernel itself said so. Where it does not say, the facts are in doubt."""
        try:
            return (ask() if operations else []), True
        except KvipError as error:
            log.exception("netlink request failed", extra={"reason": str(error)})
            code = (error.errno if isinstance(error, NetlinkError) else 0) or errno.EIO
            there, told = ({}, False) if operations[0].kind == "delete" else self._there()
            return [
                OpResult(operation=operation, errno=code, ext_ack=str(error), seen=there.get(_value(operation.address)))
                for operation in operations
            ], told

    def _there(self) -> tuple[dict[tuple[Vip, int, IfIndex], Address], bool]:
        """What the kernel has after a request whose outcome is unknown, and whether it says so."""
        try:
            return {_value(address): address for address in self._addresses.dump()}, True
        except KvipError as error:
            metrics.netlink_errors_total.labels("dump").inc()
            log.exception("no complete dump after a failed request; reading anew", extra={"reason": str(error)})
            self._facts.doubt()
            return {}, False


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
