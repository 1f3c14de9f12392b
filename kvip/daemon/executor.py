"""The only writer to the kernel: takes VIPs, lets go of them, renews lifetimes, arms and disarms the switch, and fences.

Input: ordered actions. Output: results that the kernel confirmed. It must not decide what is wanted; it asks
`permit` again right before it acts, and everything it began before a fence is void after it.
Order (PROTOCOL K5): into the switch -> address -> permit again -> frames; and back: frames -> address -> out of the switch.

Over 300 lines: the order of PROTOCOL K5 and the fence are read against each other, in one place.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from kvip import metrics
from kvip.clock import Clock
from kvip.core.diff import TENTATIVE, Adopt, Announce, LetGo, Refresh, Take
from kvip.core.facts import Facts
from kvip.core.model import Address, Vip, is_ipv6
from kvip.daemon.announcer import Announcer
from kvip.daemon.binding import SLICE, TAKE_SLICE, Binding, slices
from kvip.daemon.guard import GROUP, Guard
from kvip.errors import NetlinkError, SwitchError

log = logging.getLogger(__name__)

TakeOrAdopt = TypeVar("TakeOrAdopt", Take, Adopt)

YIELD_FROM = 32
"""From so many VIPs on, others get their turn between the transaction of the switch and the request that binds them."""
IN_DOUBT = "the kernel announced a change; reading anew"


NO_PERMIT = "no permit"
PERMIT_ENDED = "permit ended while binding"
SHUT_OUT = "the switch does not let it through any more"


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one action, in the kernel's own words. `problem` "" = confirmed."""

    action: Take | Adopt | LetGo | Refresh
    problem: str = ""


class Executor:
    """Owns the addresses, the switch and the announcer."""

    def __init__(
        self,
        binding: Binding,
        guard: Guard,
        announcer: Announcer,
        facts: Facts,
        *,
        clock: Clock,
        permit: Callable[[Vip], float | None],
        group: Callable[[Vip], str] = lambda _: GROUP,
        progress: Callable[[], None],
        catch_up: Callable[[], None],
    ) -> None:
        """`group`: the lease group that a permitted VIP hangs on.

        `progress` is called after each slice: long work that goes on is not a stuck loop. `catch_up` reads what the kernel announced."""
        self._binding = binding
        self._guard = guard
        self._announcer = announcer
        self._facts = facts
        self._clock = clock
        self._permit = permit
        self._group = group
        self._progress = progress
        self._catch_up = catch_up
        self._epoch = 0

    async def resync(self, cause: str) -> set[Vip]:
        """Read every address anew; returns the VIPs whose facts changed. Others get their turn meanwhile.

        Raises NetlinkError when the kernel gives no complete answer; the facts then stay as they were.
        """
        self._facts.expect_dump()
        began = self._clock.now()
        dump = await self._binding.dump_beside()
        metrics.netlink_resyncs_total.labels(cause).inc()
        changed: set[Vip] = set()
        for part in self._facts.take_over(dump, now=began):
            changed |= part
            self._progress()
            await asyncio.sleep(0)
        return changed

    @property
    def epoch(self) -> int:
        """Grows with each fence: what was planned before one is void after it."""
        return self._epoch

    def announces(self, vip: Vip) -> bool:
        """Is the VIP being announced from here?"""
        return self._announcer.announces(vip)

    def hush(self, vip: Vip) -> None:
        """No further frame, and no place in the switch, for a VIP that is not bound any more."""
        self._announcer.stop(vip)
        self._take_out([vip])

    def announce(self, action: Announce) -> None:
        """Begin a burst for a VIP that is bound already."""
        if self._permit(action.vip) is not None:
            self._announcer.start(action.vip, action.link)

    async def let_go(self, actions: Sequence[LetGo], *, epoch: int) -> list[Done]:
        """Stop the frames, remove the addresses, read back that they are gone, and take them out of the switch."""
        done: list[Done] = []
        for part in slices(actions):
            if epoch != self._epoch:
                break
            for action in part:
                if not action.keeps:
                    self._announcer.stop(action.vip)
            if self._in_doubt():
                done += [Done(action=action, problem=IN_DOUBT) for action in part]
            else:
                problems = self._binding.remove([action.address for action in part])
                self._take_out([action.vip for action in part if not action.keeps])
                results = [Done(action=action, problem=problem) for action, problem in zip(part, problems, strict=True)]
                _count("let_go", results)
                done += results
            self._progress()
            await asyncio.sleep(0)
        return done

    async def take(self, actions: Sequence[Take], *, epoch: int) -> list[Done]:
        """Into the switch, bind, read back, ask for the permit again, and start announcing."""
        done: list[Done] = []
        # An IPv6 address takes the kernel far longer where there are many (docs/performance.md).
        size = SLICE if any(is_ipv6(action.vip) for action in actions) else TAKE_SLICE
        for part in slices(actions, size):
            if epoch != self._epoch:
                break
            allowed, refused = self._admit(part, epoch)
            done += refused
            if len(part) >= YIELD_FROM:
                await asyncio.sleep(0)
            results = await self._bind(allowed, epoch)
            _count("take", results)
            done += results
            self._progress()
            await asyncio.sleep(0)
        return done

    async def _bind(self, actions: Sequence[Take], epoch: int) -> list[Done]:
        """Of those that the switch lets through by now: bind what is permitted still, and start announcing it."""
        ended = [(action, self._ended(action.vip, epoch)) for action in actions]
        if epoch != self._epoch:
            # The question for a permit may have begun a fence: none of what was said before it counts.
            ended = [(action, PERMIT_ENDED) for action in actions]
        results = [Done(action=action, problem=problem) for action, problem in ended if problem]
        # One that is silent already, as after a fence that could not remove it, stays so.
        admitted = [result.action.vip for result in results if self._guard.admitted(result.action.vip)]
        if admitted:
            self._take_out(admitted)
        permitted = [action for action, problem in ended if not problem]
        if not permitted:
            return results
        answers = await self._binding.add([(a.vip, a.link) for a in permitted], dad={a.vip for a in permitted if a.dad})
        begun: list[Done] = []
        removed: set[Vip] = set()
        for action, (_, problem) in zip(permitted, answers, strict=True):
            if not problem:
                # Others got their turn meanwhile: a permit may have ended, a fence removed what was bound.
                problem = self._ended(action.vip, epoch) if self._facts.is_marked(action.vip) else PERMIT_ENDED
                if problem and self._facts.is_marked(action.vip):
                    removed.add(action.vip)
            begun.append(Done(action=action, problem=problem))
        if removed:
            # By value, and so only what has kvip's mark still.
            self._binding.remove(self._marked(removed.__contains__)[0])
        self._take_out([result.action.vip for result in begun if result.problem])
        for action, result, (answer, _) in zip(permitted, begun, answers, strict=True):
            # RFC 4862 5.4: a tentative address is not advertised; the kernel reports its end, and the next turn announces it.
            there = answer.seen is not None and not answer.seen.flags & TENTATIVE
            if there and not result.problem and epoch == self._epoch and self._facts.is_marked(action.vip):
                self._announcer.start(action.vip, action.link)
        return results + begun

    def _ended(self, vip: Vip, epoch: int) -> str:
        """Why the VIP that is being taken must not be bound after all; "" = it may."""
        if epoch != self._epoch or self._permit(vip) is None:
            return PERMIT_ENDED
        return "" if self._guard.lets_through(vip, self._group(vip)) else SHUT_OUT

    async def adopt(self, actions: Sequence[Adopt], *, epoch: int) -> list[Done]:
        """Let through and announce what is bound, silent, and ours again."""
        done: list[Done] = []
        for part in slices(actions):
            if epoch != self._epoch:
                break
            if self._in_doubt():
                # It may not be there: so it is after a request whose outcome nobody could read.
                done += [Done(action=action, problem=IN_DOUBT) for action in part]
                continue
            allowed, refused = self._admit(part, epoch)
            done += refused
            for action in allowed:
                self._announcer.start(action.vip, action.link)
            results = [Done(action=action) for action in allowed]
            _count("adopt", results)
            done += results
            self._progress()
            await asyncio.sleep(0)
        return done

    async def refresh(self, actions: Sequence[Refresh], *, epoch: int) -> list[Done]:
        """Renew lifetimes in slices; nothing is announced. What was withdrawn since it was planned is not there to be renewed: the request
        would put it back, outside the switch."""
        done: list[Done] = []
        for part in slices(actions):
            allowed = [action for action in part if self._permit(action.vip) is not None and self._facts.is_marked(action.vip)]
            if epoch != self._epoch:
                break
            if self._in_doubt():
                done += [Done(action=action, problem=IN_DOUBT) for action in allowed]
                continue
            renewed = self._binding.renew([(action.vip, action.link) for action in allowed])
            results = [Done(action=action, problem=problem) for action, (_, problem) in zip(allowed, renewed, strict=True)]
            _count("refresh", results)
            done += results
            self._progress()
            await asyncio.sleep(0)
        return done

    def arm(self, until: float, group: str = GROUP) -> str:
        """The group is valid until then. Returns "" or why its VIPs must be withdrawn."""
        return self._guard.arm(until, group)

    def remove_stray(self, address: Address) -> str:
        """Remove an address that kvip did not add, because the operator asked for it; returns "" or why it is still there."""
        (problem,) = self._binding.remove([address])
        return problem

    def disarm(self) -> None:
        """Nothing answers until the next `arm`; what is bound stays."""
        self._guard.disarm()

    def regroup(self, vip: Vip) -> str:
        """The VIP hangs on another lease group from now on; nothing else changes. Returns "" or why it must be withdrawn."""
        try:
            self._guard.move(vip, self._group(vip))
        except SwitchError as error:
            return f"the switch does not take it: {error}"
        return ""

    def fence(self) -> bool:
        """Withdraw everything at once, without waiting for anything: the switch, the frames, then every marked address.

        True = the kernel confirms that nothing marked is left. What was planned before is void.
        """
        self._epoch += 1
        self._guard.disarm()
        self._announcer.stop_all()
        return self._remove_all(lambda _: True)

    def withdraw(self, vips: Iterable[Vip], groups: Iterable[str]) -> bool:
        """As `fence`, for these VIPs and what hangs on these lease groups. What was planned for others goes on: it is permitted."""
        chosen = set(vips).union(*(self._guard.members(group) for group in groups))
        for group in groups:
            self._guard.disarm(group)
        for vip in chosen:
            self._announcer.stop(vip)
        return self._remove_all(chosen.__contains__)

    def _remove_all(self, chosen: Callable[[Vip], bool]) -> bool:
        """Every marked address of these VIPs. What the kernel holds counts, not what was believed: the addresses come from a dump; should
        that fail, from the facts."""
        found, _ = self._marked(chosen)
        problems = self._binding.remove(found)
        unconfirmed = [address for address, problem in zip(found, problems, strict=True) if problem]
        left, seen = self._marked(chosen)
        if left:
            self._binding.remove(left)
            log.error("addresses left after a fence; removed again", extra={"vips": [address.ip for address in left]})
            left, seen = self._marked(chosen)
        if not seen:
            # The facts need not know of what the first dump showed.
            left += [address for address in unconfirmed if address not in left]
        self._guard.silence(self._places(left))
        self._guard.remove({address.ip for address in found} - {address.ip for address in left})
        return seen and not left

    def _marked(self, chosen: Callable[[Vip], bool]) -> tuple[list[Address], bool]:
        found, seen = self._binding.marked()
        return [address for address in found if chosen(address.ip)], seen

    def clear(self, nics: Iterable[str]) -> list[Address]:
        """At start: what is marked is silent in the switch, then removed. Returns what was found.

        A node without a permit needs no address, and one that only the rules keep silent would answer when someone flushes them.
        Raises NetlinkError or SwitchError: a daemon that does not know what is bound, or cannot silence it, must not start.
        """
        found = self._left_behind()
        places = self._places(found)
        problems: list[str] = []
        try:
            self._guard.install([*nics, *places.values()], places)
        finally:
            # What cannot be silenced must not stay either. Read again: one may have lost the mark while the rules were loaded.
            if found:
                problems = self._binding.remove(self._left_behind())
        left = self._left_behind() if found else []
        gone = {address.ip for address in found} - {address.ip for address in left}
        self._guard.remove(gone)
        if gone:
            log.warning("addresses of a former daemon removed at start", extra={"vips": sorted(gone)})
        if left:
            why = "; ".join(sorted({problem for problem in problems if problem}))
            if self._guard.weak:
                raise NetlinkError(errno.EBUSY, "remove at start", f"{', '.join(address.ip for address in left)} ({why})")
            log.error(
                "addresses of a former daemon cannot be removed; silent until they can",
                extra={"vips": [address.ip for address in left], "reason": why},
            )
        return found

    def _left_behind(self) -> list[Address]:
        return [address for address in self._binding.dump() if address.marked]

    def _admit(self, part: Sequence[TakeOrAdopt], epoch: int) -> tuple[list[TakeOrAdopt], list[Done]]:
        """Those that are permitted, let through by the switch; and the others with the reason."""
        permitted = [self._permit(action.vip) is not None for action in part]
        if epoch != self._epoch:
            permitted = [False] * len(part)
        allowed = [action for action, permit in zip(part, permitted, strict=True) if permit]
        refused = [Done(action=action, problem=NO_PERMIT) for action, permit in zip(part, permitted, strict=True) if not permit]
        groups: dict[str, list[TakeOrAdopt]] = {}
        for action in allowed:
            groups.setdefault(self._group(action.vip), []).append(action)
        admitted: list[TakeOrAdopt] = []
        for group, members in groups.items():
            try:
                self._guard.admit({action.vip: action.link.name for action in members}, group)
                admitted += members
            except SwitchError as error:
                refused += [Done(action=action, problem=f"the switch does not let it through: {error}") for action in members]
        return admitted, refused

    def _take_out(self, vips: Iterable[Vip]) -> None:
        """Out of the switch what is bound nowhere any more; what is still there, or may be, stays silent."""
        vips = tuple(vips)
        left = self._places([bound.address for vip in vips for bound in self._facts.bound(vip) if bound.address.marked])
        self._guard.silence(left)
        self._guard.remove(vip for vip in vips if vip not in left)

    def _places(self, addresses: Iterable[Address]) -> dict[Vip, str]:
        """VIP -> NIC name."""
        links = self._facts.links
        return {address.ip: links[address.index].name if address.index in links else "" for address in addresses}

    def _in_doubt(self) -> bool:
        """Has the kernel announced something else than the facts? Deleting and replacing go by value, and must not hit
        an address that lost kvip's mark meanwhile, so they wait for a dump."""
        self._catch_up()
        return self._facts.doubted


def _count(kind: str, results: Sequence[Done]) -> None:
    failed = sum(bool(result.problem) for result in results)
    for outcome, number in (("failed", failed), ("done", len(results) - failed)):
        if number:
            metrics.actions_total.labels(kind, outcome).inc(number)
