"""The only writer to the kernel: takes VIPs, lets go of them, renews their lifetimes, and fences.

Input: ordered actions. Output: results that the kernel confirmed. It must not decide what is wanted; it asks
`permit` again right before it acts, and everything it began before a fence is void after it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeVar

import msgspec

from kvip import metrics
from kvip.clock import Clock
from kvip.core.diff import Announce, LetGo, Refresh, Take
from kvip.core.facts import Facts
from kvip.core.model import Address, Link, Vip
from kvip.daemon.announcer import Announcer
from kvip.errors import KvipError, NetlinkError
from kvip.kernel.batches import AddressOp, AddressSocket, OpResult, vip_address

log = logging.getLogger(__name__)

T = TypeVar("T")

SLICE = 64
"""Addresses per netlink request: below 10 ms of kernel time, so that the event loop is never held for long."""


IN_DOUBT = "the kernel announced a change; reading anew"


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one action, in the kernel's own words. `problem` "" = confirmed."""

    action: Take | LetGo | Refresh
    problem: str = ""


class Executor:
    """Owns the address socket and the announcer."""

    def __init__(
        self,
        addresses: AddressSocket,
        announcer: Announcer,
        facts: Facts,
        *,
        clock: Clock,
        permit: Callable[[Vip], float | None],
        progress: Callable[[], None],
        catch_up: Callable[[], None],
        lifetime_s: int,
    ) -> None:
        """`progress` is called after each slice: long work that goes on is not a stuck loop. `catch_up` reads what the kernel announced."""
        self._catch_up = catch_up
        self._progress = progress
        self._addresses = addresses
        self._announcer = announcer
        self._facts = facts
        self._clock = clock
        self._permit = permit
        self._lifetime_s = lifetime_s
        self._epoch = 0

    def resync(self, cause: str) -> set[Vip]:
        """Read every address anew; returns the VIPs whose facts changed.

        Raises NetlinkError when the kernel gives no complete answer; the facts then stay as they were.
        """
        dump = self._addresses.dump()
        metrics.netlink_resyncs_total.labels(cause).inc()
        return self._facts.replace_all(dump, now=self._clock.now())

    @property
    def epoch(self) -> int:
        """Grows with each fence: what was planned before one is void after it."""
        return self._epoch

    def announces(self, vip: Vip) -> bool:
        """Is the VIP being announced from here?"""
        return self._announcer.announces(vip)

    def hush(self, vip: Vip) -> None:
        """No further frame for a VIP that is not bound any more."""
        self._announcer.stop(vip)

    def announce(self, action: Announce) -> None:
        """Begin a burst for a VIP that is bound already."""
        if self._permit(action.vip) is not None:
            self._announcer.start(action.vip, action.link)

    async def let_go(self, actions: Sequence[LetGo], *, epoch: int) -> list[Done]:
        """Stop the frames, remove the addresses, and read back that they are gone."""
        done: list[Done] = []
        for part in _slices(actions):
            if epoch != self._epoch:
                break
            for action in part:
                if not action.keeps:
                    self._announcer.stop(action.vip)
            if self._in_doubt():
                done += [Done(action=action, problem=IN_DOUBT) for action in part]
            else:
                results = self._apply([AddressOp(kind="delete", address=action.address) for action in part])
                done += [self._let_go_result(action, result) for action, result in zip(part, results, strict=True)]
            self._progress()
            await asyncio.sleep(0)
        return done

    async def take(self, actions: Sequence[Take], *, epoch: int) -> list[Done]:
        """Bind, read back, ask for the permit again, and start announcing."""
        done: list[Done] = []
        for part in _slices(actions):
            allowed = [action for action in part if self._permit(action.vip) is not None]
            if epoch != self._epoch:
                break
            done += [Done(action=action, problem="no permit") for action in part if action not in allowed]
            results = self._bind("add", [(action.vip, action.link) for action in allowed])
            for action, result in zip(allowed, results, strict=True):
                problem = _bind_problem(result)
                if not problem and self._permit(action.vip) is None:
                    self._remove([result.operation.address])
                    problem = "permit ended while binding"
                if not problem:
                    self._announcer.start(action.vip, action.link)
                metrics.actions_total.labels("take", "failed" if problem else "done").inc()
                done.append(Done(action=action, problem=problem))
            self._progress()
            await asyncio.sleep(0)
        return done

    async def refresh(self, actions: Sequence[Refresh], *, epoch: int) -> list[Done]:
        """Renew lifetimes in slices; nothing is announced."""
        done: list[Done] = []
        for part in _slices(actions):
            allowed = [action for action in part if self._permit(action.vip) is not None]
            if epoch != self._epoch:
                break
            if self._in_doubt():
                done += [Done(action=action, problem=IN_DOUBT) for action in allowed]
                continue
            results = self._bind("replace", [(action.vip, action.link) for action in allowed])
            for action, result in zip(allowed, results, strict=True):
                problem = _bind_problem(result)
                metrics.actions_total.labels("refresh", "failed" if problem else "done").inc()
                done.append(Done(action=action, problem=problem))
            self._progress()
            await asyncio.sleep(0)
        return done

    def _in_doubt(self) -> bool:
        """Has the kernel announced something else than the facts? Deleting and replacing go by value, and must not hit
        an address that lost kvip's mark meanwhile, so they wait for a dump."""
        self._catch_up()
        return self._facts.doubted

    def fence(self) -> bool:
        """Withdraw everything at once, without waiting for anything: frames first, then every marked address.

        True = the kernel confirms that nothing marked is left.

        What the kernel holds counts, not what was believed: the addresses come from a dump; should that fail, from the facts.
        """
        self._epoch += 1
        self._announcer.stop_all()
        found, _ = self._marked()
        self._remove(found)
        left, seen = self._marked()
        if left:
            self._remove(left)
            log.error("addresses left after a fence; removed again", extra={"vips": [address.ip for address in left]})
            left, seen = self._marked()
        return seen and not left

    def silence(self) -> list[Address]:
        """At start: remove every marked address, since no permit exists yet; returns what was found.

        Raises NetlinkError when the kernel cannot be read: a daemon that does not know what is bound must not start.
        """
        found = [address for address in self._addresses.dump() if address.marked]
        self._remove(found)
        left = [address.ip for address in self._addresses.dump() if address.marked]
        if left:
            raise NetlinkError(errno.EBUSY, "remove at start", ", ".join(left))
        return found

    # -- requests ------------------------------------------------------------------------------------------------------

    def _marked(self) -> tuple[list[Address], bool]:
        """Every marked address, and whether the kernel itself said so."""
        try:
            return [address for address in self._addresses.dump() if address.marked], True
        except KvipError as error:
            log.exception("no complete dump at a fence; going by the last facts", extra={"reason": str(error)})
            return [bound.address for vip in self._facts.marked() for bound in self._facts.bound(vip) if bound.address.marked], False

    def _remove(self, addresses: Iterable[Address]) -> None:
        for part in _slices(list(addresses)):
            for result in self._apply([AddressOp(kind="delete", address=address) for address in part]):
                self._note_removal(result)

    def _bind(self, kind: Literal["add", "replace"], targets: list[tuple[Vip, Link]]) -> list[OpResult]:
        """`add` fails where the address is already there, so that one without kvip's mark is never changed."""
        operations = [AddressOp(kind=kind, address=vip_address(vip, link.index, valid_s=self._lifetime_s)) for vip, link in targets]
        results = self._apply(operations)
        now = self._clock.now()
        for result in results:
            if not _bind_problem(result) and result.seen is not None:
                self._facts.note_bound(result.seen, now=now)
        return results

    def _apply(self, operations: list[AddressOp]) -> list[OpResult]:
        if not operations:
            return []
        try:
            return self._addresses.apply(operations)
        except NetlinkError as error:
            log.exception("netlink request failed", extra={"reason": str(error)})
            return [
                OpResult(operation=operation, errno=error.errno or errno.EIO, ext_ack=str(error), seen=None) for operation in operations
            ]

    def _let_go_result(self, action: LetGo, result: OpResult) -> Done:
        problem = self._note_removal(result)
        metrics.actions_total.labels("let_go", "failed" if problem else "done").inc()
        return Done(action=action, problem=problem)

    def _note_removal(self, result: OpResult) -> str:
        address = result.operation.address
        if result.gone:
            self._facts.note_gone(address)
            return ""
        return result.ext_ack or f"errno {result.errno}"


def _bind_problem(result: OpResult) -> str:
    if result.errno:
        return result.ext_ack or f"errno {result.errno}"
    if result.seen is None:
        return "the kernel accepted the address but does not show it"
    return "" if result.seen.marked else "the address is there without kvip's mark"


def _slices(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[start : start + SLICE] for start in range(0, len(items), SLICE)]
