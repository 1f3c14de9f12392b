"""When what falls due, for any number of VIPs: an instant is set, dropped or found without looking through all of them.

Input: VIPs with instants. Output: the soonest instant, and the VIPs that are due. It must not read a clock.
"""

from __future__ import annotations

import heapq

from kvip.core.model import Vip

_SPARE = 64


class Deadlines:
    """One instant per VIP; a new one replaces the former."""

    def __init__(self) -> None:
        self._at: dict[Vip, float] = {}
        self._heap: list[tuple[float, Vip]] = []
        """May hold entries that are replaced or dropped: `_at` says which count."""

    def set(self, vip: Vip, at: float) -> None:
        """The VIP is due then."""
        if self._at.get(vip) == at:
            return
        self._at[vip] = at
        heapq.heappush(self._heap, (at, vip))
        if len(self._heap) > 2 * len(self._at) + _SPARE:
            self._heap = [(due, each) for each, due in self._at.items()]
            heapq.heapify(self._heap)

    def drop(self, vip: Vip) -> None:
        """Nothing is due for the VIP; nothing was is fine."""
        self._at.pop(vip, None)

    def clear(self) -> None:
        """Nothing is due for any VIP."""
        self._at.clear()
        self._heap.clear()

    @property
    def soonest(self) -> float:
        """When the next one is due; infinity = none is."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else float("inf")

    def due(self, by: float, *, most: int | None = None) -> list[Vip]:
        """The VIPs due by then, soonest first, at most so many. They stay due until they are set anew or dropped."""
        found: dict[Vip, float] = {}
        while self._heap and self._heap[0][0] <= by and (most is None or len(found) < most):
            at, vip = heapq.heappop(self._heap)
            if self._at.get(vip) == at:
                found[vip] = at
        for vip, at in found.items():
            heapq.heappush(self._heap, (at, vip))
        return list(found)
