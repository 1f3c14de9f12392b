"""When the election is told of a VIP that was looked at: at once, or, of one that was merely bound, when the crowd it came with is through.

Input: VIPs, a portion at each pass of the reconcile loop. Output: calls of `demand_changed`. It must not judge what a VIP's state means.

Nothing is decided by the lack of this news: a record already says who holds the VIP, who is to let go of one is asked for its state then,
and only what is known to be bound is given away (`core.election.rebalancing`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import islice

from kvip.clock import Clock
from kvip.core.model import Vip
from kvip.daemon.rush import LONGEST_S


class News:
    """VIPs of which is still to be told, since when."""

    def __init__(self, clock: Clock, demand_changed: Callable[[Iterable[Vip]], None]) -> None:
        self._clock = clock
        self._demand_changed = demand_changed
        self._waiting: dict[Vip, float] = {}

    def note(self, vips: Iterable[Vip], *, bound: Collection[Vip]) -> list[Vip]:
        """These were looked at; `bound`: all that came of it for those was that they were bound. Returns the ones told of at once."""
        at_once: list[Vip] = []
        now = self._clock.now()
        for vip in vips:
            if vip in bound:
                self._waiting.setdefault(vip, now)
            else:
                self._waiting.pop(vip, None)
                at_once.append(vip)
        if at_once:
            self._demand_changed(at_once)
        return at_once

    def tell(self, *, most: int, idle: bool) -> bool:
        """Tell of so many at most. Not `idle`: only of what has waited for `LONGEST_S`. Is there more to be told now?"""
        by = self._clock.now() - (0.0 if idle else LONGEST_S)
        due = [vip for vip, at in islice(self._waiting.items(), most) if at <= by]
        for vip in due:
            del self._waiting[vip]
        if due:
            self._demand_changed(due)
        return len(due) == most and bool(self._waiting)
