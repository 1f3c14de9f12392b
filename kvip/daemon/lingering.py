"""Keeps the former address of a Service until its new one is up: new up before old down.

Input: per Service, addresses that it no longer names and new ones that are not up yet. Output: which of the former are still to be
claimed, and until when. It must not keep anything for a Service that is gone, or that asks for nothing new.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

import msgspec

from kvip.core.model import ServiceKey, Vip

LINGER_S = 0.7
"""A probe takes 0.15 s, a claim some milliseconds; a Service that names an address no more is to be rid of it within 1 s."""


class _Kept(msgspec.Struct, frozen=True):
    coming: frozenset[Vip]
    until: dict[Vip, float]


class Lingering:
    """The addresses that are kept, by Service."""

    def __init__(self) -> None:
        self._kept: dict[ServiceKey, _Kept] = {}

    def keep(self, key: ServiceKey, leaving: Iterable[Vip], *, coming: Iterable[Vip], new: Set[Vip], now: float) -> list[Vip]:
        """Which of the addresses that a Service is `leaving` are claimed for it still.

        `coming`: what it asks for that is not up; `new`: what it asks for only now. An address is kept while something is coming
        that was new when it was given up, and never for longer than `LINGER_S`.
        """
        before = self._kept.pop(key, None)
        awaited = (before.coming if before is not None else frozenset()) | new
        awaited = awaited.intersection(coming)
        if not awaited:
            return []
        known = before.until if before is not None else {}
        until = {vip: known.get(vip, now + LINGER_S) for vip in leaving}
        until = {vip: end for vip, end in until.items() if now < end}
        if until:
            self._kept[key] = _Kept(awaited, until)
        return list(until)

    def forget(self, key: ServiceKey) -> None:
        """The Service is gone, or another one of its name came."""
        self._kept.pop(key, None)

    @property
    def until(self) -> float:
        """When the next one has to go; infinity = none is kept."""
        return min((end for kept in self._kept.values() for end in kept.until.values()), default=float("inf"))

    def over(self, now: float) -> list[ServiceKey]:
        """The Services of which something has to go now."""
        return [key for key, kept in self._kept.items() if any(end <= now for end in kept.until.values())]
