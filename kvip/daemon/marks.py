"""Which VIPs are to be looked at, and since when: what is to go before all else, so that no crowd holds up a withdrawal.

Input: VIPs that may have changed. Output: those to plan now, a turn's worth. It must not plan, nor judge but by the two questions it asks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from kvip.core.model import Vip


class Marks:
    """Each VIP once, with the instant of its first mark."""

    def __init__(self, *, ends: Callable[[Vip], bool], claimed: Callable[[Vip], bool]) -> None:
        """`ends`: is the VIP here although it must not be, as far as is known when it is marked? `claimed`: does a Service ask for it?"""
        self._ends = ends
        self._claimed = claimed
        self._new: OrderedDict[Vip, float] = OrderedDict()
        self._first: OrderedDict[Vip, float] = OrderedDict()
        self._others: OrderedDict[Vip, float] = OrderedDict()
        self._unhurried: OrderedDict[Vip, float] = OrderedDict()
        self._renewals: OrderedDict[Vip, float] = OrderedDict()
        self._aside: dict[Vip, float] = {}

    def __len__(self) -> int:
        """How many may have changed and wait for nothing."""
        return len(self._first) + len(self._others) + len(self._new)

    @property
    def waiting(self) -> bool:
        """Is there anything to plan?"""
        return bool(self._first or self._others or self._unhurried or self._renewals or self._new)

    def add(self, vips: Iterable[Vip], *, now: float) -> None:
        """These may have changed. Quick for any number: what is asked of each is asked by `sort`."""
        for vip in vips:
            self._new.setdefault(vip, now)

    def sort(self, *, most: int) -> bool:
        """Ask of the next ones marked, at most so many, whether they are to go first. Are there more?"""
        for _ in range(min(most, len(self._new))):
            vip, marked_at = self._new.popitem(last=False)
            if vip in self._first:
                continue
            at = self._aside.pop(vip, marked_at) if self._aside else marked_at
            for queue in (self._unhurried, self._renewals):
                if queue:
                    queue.pop(vip, None)
            if self._ends(vip):
                self._first[vip] = self._others.pop(vip, at)
            else:
                self._others.setdefault(vip, at)
        return bool(self._new)

    def add_unhurried(self, vips: Iterable[Vip], *, now: float) -> None:
        """These are to be looked at as well, for an audit: nothing is known to have changed, and they hold up nothing."""
        for vip in vips:
            if not self._hurried(vip):
                self._unhurried.setdefault(vip, now)
                self._renewals.pop(vip, None)

    def add_renewals(self, vips: Iterable[Vip], *, now: float) -> None:
        """The lifetimes of these are to be renewed: as unhurried, and nobody need hear that they were looked at."""
        for vip in vips:
            if not self._hurried(vip) and vip not in self._unhurried:
                self._renewals.setdefault(vip, now)

    def _hurried(self, vip: Vip) -> bool:
        return vip in self._first or vip in self._others or vip in self._aside or vip in self._new

    def take(self, *, most: int, beside: int = 0, reading: bool) -> dict[Vip, float]:
        """The next ones, at most so many, with the instant at which each was marked; `beside` them at most so many unhurried ones.

        What was not sorted yet is now: none of it comes behind what can wait. `reading`: Services are still to be read. What nobody asks
        for waits until they are: one of them may ask for it.
        """
        self.sort(most=len(self._new))
        if not reading:
            self._first.update(self._aside)
            self._aside.clear()
        chosen: dict[Vip, float] = {}
        for queue in (self._first, self._others):
            self._move(queue, chosen, most, reading=reading)
        self._move(self._unhurried, chosen, len(chosen) + beside, reading=reading)
        return chosen

    def take_renewals(self, *, most: int, reading: bool) -> dict[Vip, float]:
        """The next ones of which only the lifetime is to be renewed. To be called after `take`, which sorts."""
        chosen: dict[Vip, float] = {}
        self._move(self._renewals, chosen, most, reading=reading)
        return chosen

    def _move(self, queue: OrderedDict[Vip, float], chosen: dict[Vip, float], most: int, *, reading: bool) -> None:
        while queue and len(chosen) < most:
            vip, at = queue.popitem(last=False)
            if reading and not self._claimed(vip):
                self._aside[vip] = at
            else:
                chosen[vip] = at
