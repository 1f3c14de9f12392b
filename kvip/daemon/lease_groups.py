"""Lease groups of the switch for sets of Leases: which group stands for which set, and which addresses may still be let through by it.

Input: sets of Leases, addresses that come and go. Output: groups' names. It must not arm or disarm: `PerServiceElection` has that done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kvip.core.election.services import LeaseKey
from kvip.core.model import Vip

GROUPS = 128
"""As many Leases one node can hold: a write each per retry period, and rules that nft(8) loads within 0.3 s."""

Leases = frozenset[LeaseKey]


def group_names(count: int = GROUPS) -> tuple[str, ...]:
    """The groups that the switch has in the modes with a Lease per Service."""
    return tuple(f"s{number}" for number in range(count))


class LeaseGroups:
    """An address that hangs on several Leases is in the group of just that set, which is valid as long as all of them are."""

    def __init__(self, names: Iterable[str]) -> None:
        self._spare = list(reversed(list(names)))
        self._groups: dict[Leases, str] = {}
        self._vips: dict[Leases, set[Vip]] = {}

    def enter(self, vip: Vip, leases: Leases) -> str:
        """The group for an address held by these Leases; "" = all groups are in use."""
        if leases not in self._groups:
            if not self._spare:
                return ""
            self._groups[leases] = self._spare.pop()
            self._vips[leases] = set()
        self._vips[leases].add(vip)
        return self._groups[leases]

    def group(self, leases: Leases) -> str:
        """The group of this set, "" when it has none."""
        return self._groups.get(leases, "")

    def left(self, vip: Vip, leases: Leases) -> None:
        """The address is not let through by that group any more, for certain."""
        if leases in self._vips:
            self._vips[leases].discard(vip)

    def containing(self, lease: LeaseKey) -> list[tuple[Leases, str]]:
        """The sets with this Lease in them, and their groups."""
        return [(leases, group) for leases, group in self._groups.items() if lease in leases]

    def vips(self, leases: Leases) -> frozenset[Vip]:
        """The addresses that may still be let through by the group of this set."""
        return frozenset(self._vips.get(leases, ()))

    def all_vips(self) -> frozenset[Vip]:
        """The same over all sets."""
        return frozenset[Vip]().union(*self._vips.values())

    def deserted(self, here: Callable[[Vip, Leases], bool]) -> list[tuple[Leases, str]]:
        """Sets without an address: `here` tells whether one that entered is still bound, or held by that set."""
        for leases, vips in self._vips.items():
            vips -= {vip for vip in vips if not here(vip, leases)}
        return [(leases, self._groups[leases]) for leases, vips in self._vips.items() if not vips]

    def free(self, leases: Leases) -> None:
        """The group is disarmed and empty: another set may have it."""
        self._spare.append(self._groups.pop(leases))
        del self._vips[leases]
