"""The ledger: which Service UIDs claim which VIP.

Input: wishes, one Service at a time. Output: for each VIP its claimants, and the VIPs that a change touched.
It must not know who holds a VIP or what is bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from kvip.core.desired import Wish
from kvip.core.model import ServiceKey, Uid, Vip


class Claimant(msgspec.Struct, frozen=True, kw_only=True):
    """One Service that asks for a VIP."""

    uid: Uid
    service: ServiceKey
    generation: int = 0
    since: str = ""
    """When the claim was first seen, RFC 3339, for readers."""
    from_status: bool = False
    """The address was read from the Service's status: the entry there is another's."""


class Ledger:
    """VIP -> {UID: claimant}. Two Services on one VIP are two claimants; the last one to go takes it down."""

    def __init__(self) -> None:
        self._by_vip: dict[Vip, dict[Uid, Claimant]] = {}
        self._by_uid: dict[Uid, frozenset[Vip]] = {}
        self._uid_of: dict[ServiceKey, Uid] = {}
        self._news: set[Vip] = set()

    def claim(self, wish: Wish, *, since: str) -> set[Vip]:
        """Make the wish the Service's only claims; returns the VIPs whose set of claimants changed.

        A Service of the same name under another UID is gone: its claims go with it.
        """
        touched: set[Vip] = set()
        former = self._uid_of.get(wish.key)
        if former is not None and former != wish.uid:
            touched |= self.drop(wish.key)
        before = self._by_uid.get(wish.uid, frozenset())
        after = frozenset(wish.addresses)
        for vip in before - after:
            self._remove(vip, wish.uid)
        for vip in after:
            claimants = self._by_vip.setdefault(vip, {})
            known = claimants.get(wish.uid)
            claimant = claimants[wish.uid] = Claimant(
                uid=wish.uid,
                service=wish.key,
                generation=wish.generation,
                since=known.since if known else since,
                from_status=wish.from_status,
            )
            if claimant != known:
                self._news.add(vip)
        if after:
            self._by_uid[wish.uid] = after
            self._uid_of[wish.key] = wish.uid
        else:
            self._by_uid.pop(wish.uid, None)
            self._uid_of.pop(wish.key, None)
        return touched | (before ^ after)

    def drop(self, key: ServiceKey) -> set[Vip]:
        """The Service of this name is gone: remove its claims; returns the VIPs it claimed."""
        uid = self._uid_of.pop(key, None)
        if uid is None:
            return set()
        vips = self._by_uid.pop(uid, frozenset())
        for vip in vips:
            self._remove(vip, uid)
        return set(vips)

    def news(self) -> set[Vip]:
        """The VIPs of which something that is said of a claimant changed since the last call. For one reader."""
        news, self._news = self._news, set()
        return news

    def claimants(self, vip: Vip) -> Mapping[Uid, Claimant]:
        """The Services that ask for this VIP; empty = nobody."""
        return self._by_vip.get(vip, {})

    def claims_of(self, key: ServiceKey) -> frozenset[Vip]:
        """The VIPs that the Service of this name claims."""
        uid = self._uid_of.get(key)
        return self._by_uid.get(uid, frozenset()) if uid is not None else frozenset()

    def services(self) -> Iterator[ServiceKey]:
        """Every Service with a claim."""
        return iter(tuple(self._uid_of))

    def vips(self) -> Iterator[Vip]:
        """Every VIP with a claimant."""
        return iter(tuple(self._by_vip))

    def __len__(self) -> int:
        return len(self._by_vip)

    def _remove(self, vip: Vip, uid: Uid) -> None:
        claimants = self._by_vip.get(vip)
        if claimants is not None:
            self._news.add(vip)
            claimants.pop(uid, None)
            if not claimants:
                del self._by_vip[vip]
