"""Several Services on one address: who has it, when two of them want the same port of it.

Input: wishes. Output: which VIPs each Service may claim, and with whom it clashes. The order is creation time, then UID: it is the same on
every node and after every restart. It must not know who holds a VIP or what is bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from kvip.core.desired import Port, Wish
from kvip.core.model import ServiceKey, Vip


class Clash(msgspec.Struct, frozen=True, kw_only=True):
    """Why a Service does not get a VIP: an older one has a port of it that this one wants too."""

    older: ServiceKey
    port: Port


def by_age(wishes: Iterable[Wish]) -> list[Wish]:
    """Oldest first; without a creation time last."""
    return sorted(wishes, key=lambda wish: (wish.created or "~", wish.uid))


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """Who gets a VIP, oldest first, and who does not."""

    granted: tuple[Wish, ...] = ()
    refused: dict[ServiceKey, Clash] = {}


def split(wishes: Iterable[Wish]) -> Split:
    """The Services that ask for one VIP, by whether they get it. Who does not get it takes no port from anybody."""
    taken: dict[Port, ServiceKey] = {}
    granted: list[Wish] = []
    refused: dict[ServiceKey, Clash] = {}
    for wish in by_age(wishes):
        both = min((port for port in wish.ports if port in taken), default=None)
        if both is not None:
            refused[wish.key] = Clash(older=taken[both], port=both)
            continue
        granted.append(wish)
        taken.update(dict.fromkeys(wish.ports, wish.key))
    return Split(granted=tuple(granted), refused=refused)


NOBODY = Split()


class Sharing:
    """Who asks for which VIP. `ask` and `drop` note; `settle` decides, once for many of them."""

    def __init__(self) -> None:
        self._asking: dict[Vip, dict[ServiceKey, Wish]] = {}
        self._wishes: dict[ServiceKey, Wish] = {}
        self._split: dict[Vip, Split] = {}
        self._open: set[Vip] = set()

    def ask(self, wish: Wish) -> None:
        """The Service's wish now, in place of its former one."""
        self.drop(wish.key)
        self._wishes[wish.key] = wish
        for vip in wish.addresses:
            self._asking.setdefault(vip, {})[wish.key] = wish
            self._open.add(vip)

    def drop(self, key: ServiceKey) -> None:
        """The Service of this name asks for nothing any more."""
        former = self._wishes.pop(key, None)
        for vip in former.addresses if former is not None else ():
            self._asking[vip].pop(key)
            if not self._asking[vip]:
                del self._asking[vip]
            self._open.add(vip)

    def settle(self) -> set[ServiceKey]:
        """Decide about what was noted since the last time; returns the Services that gained or lost a VIP by what others ask for."""
        changed: set[ServiceKey] = set()
        for vip in self._open:
            before = self._split.pop(vip, NOBODY).refused
            asking = self._asking.get(vip)
            if asking is None:
                continue
            self._split[vip] = split(asking.values())
            after = self._split[vip].refused
            changed |= {key for key in before.keys() | after.keys() if before.get(key) != after.get(key) and key in self._wishes}
        self._open.clear()
        return changed

    def wish(self, key: ServiceKey) -> Wish | None:
        """What the Service of this name asks for."""
        return self._wishes.get(key)

    def wishes(self) -> Iterator[Wish]:
        """What every Service that was noted asks for."""
        return iter(tuple(self._wishes.values()))

    def asking(self, vip: Vip) -> tuple[Wish, ...]:
        """The Services that ask for it, whether they may claim it or not."""
        return tuple(self._asking.get(vip, {}).values())

    def granted(self, wish: Wish) -> tuple[Vip, ...]:
        """The VIPs that it may claim."""
        return tuple(vip for vip in wish.addresses if wish.key not in self._split[vip].refused)

    def clashes_of(self, wish: Wish) -> Mapping[Vip, Clash]:
        """The VIPs that it may not claim."""
        found = {vip: self._split[vip].refused.get(wish.key) for vip in wish.addresses}
        return {vip: clash for vip, clash in found.items() if clash is not None}

    def claimants(self, vip: Vip) -> tuple[Wish, ...]:
        """The Services that may claim it, oldest first."""
        return self._split.get(vip, NOBODY).granted
