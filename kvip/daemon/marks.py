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
        self._first: OrderedDict[Vip, float] = OrderedDict()
        self._others: OrderedDict[Vip, float] = OrderedDict()
        self._aside: dict[Vip, float] = {}

    def __len__(self) -> int:
        """How many there are to plan that wait for nothing."""
        return len(self._first) + len(self._others)

    def add(self, vips: Iterable[Vip], *, now: float) -> None:
        """These may have changed."""
        for vip in vips:
            if vip in self._first:
                continue
            at = self._aside.pop(vip, now) if self._aside else now
            if self._ends(vip):
                self._first[vip] = self._others.pop(vip, at)
            else:
                self._others.setdefault(vip, at)

    def take(self, *, most: int, reading: bool) -> dict[Vip, float]:
        """The next ones, at most so many, with the instant at which each was marked.

        `reading`: Services are still to be read. What nobody asks for waits until they are: one of them may ask for it.
        """
        if not reading:
            self._first.update(self._aside)
            self._aside.clear()
        chosen: dict[Vip, float] = {}
        for queue in (self._first, self._others):
            while queue and len(chosen) < most:
                vip, at = queue.popitem(last=False)
                if reading and not self._claimed(vip):
                    self._aside[vip] = at
                else:
                    chosen[vip] = at
        return chosen
