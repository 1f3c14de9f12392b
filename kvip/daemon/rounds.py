"""What has to be looked at again and again, because nothing tells when what it waits for has come: some of it at a time, each in its turn.

Input: keys. Output: those to look at now. It must not look itself; what a turn of a loop costs does not grow with how many keys wait.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from itertools import islice
from typing import Generic, TypeVar

from kvip.clock import Clock

Key = TypeVar("Key", bound=Hashable)

PERIOD_S = 0.5
MOST = 256
"""Looked at in each period; some ten microseconds each."""


class Rounds(Generic[Key]):
    """Keys that wait, each once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._queue: OrderedDict[Key, None] = OrderedDict()
        self._next_at = float("-inf")

    def add(self, key: Key) -> None:
        """It waits from now on."""
        self._queue.setdefault(key)

    def drop(self, key: Key) -> None:
        """It waits no more; one that does not is fine."""
        self._queue.pop(key, None)

    def due(self) -> list[Key]:
        """Those whose turn it is: all in each period, or of many the ones that were not looked at for longest."""
        now = self._clock.now()
        if not self._queue or now < self._next_at:
            return []
        self._next_at = now + PERIOD_S
        found = list(islice(self._queue, MOST))
        for key in found:
            self._queue.move_to_end(key)
        return found
