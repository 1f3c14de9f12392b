"""What the kernel said last: addresses and NICs.

Input: complete dumps, confirmed results of kvip's own requests, link messages. Output: the facts of one VIP.
An address message that contradicts the facts does not change them: it calls for a dump, because messages of
kvip's own changes arrive late and out of step with its requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from itertools import islice

import msgspec

from kvip.core.addresses import Network, network_of
from kvip.core.deadlines import Deadlines
from kvip.core.model import Address, IfIndex, Link, Vip

KUBE_PROXY_NIC = "kube-ipvs0"
"""kube-proxy in mode ipvs binds every Service's addresses to this device on every node (pkg/proxy/ipvs)."""

ROUNDING_S = 1.0
"""Of a lifetime that the kernel reports."""


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """An address on a NIC, with the instant at which the kernel will drop it."""

    address: Address
    expires_at: float | None
    """CLOCK_BOOTTIME seconds; None = never."""


Place = tuple[IfIndex, int]
"""NIC and prefix length: the kernel allows the same IPv4 address with two prefixes on one NIC."""


class Facts:
    """The kernel's addresses by value, and its NICs by index."""

    def __init__(self) -> None:
        self._bound: dict[Vip, dict[Place, Bound]] = {}
        self._marked: dict[Vip, None] = {}
        self._expiry = Deadlines()
        """Of what is marked."""
        self._unconfirmed: dict[Vip, Place] = {}
        """Where a VIP may be bound, though the kernel has not said that it is."""
        self._strange: dict[Vip, None] = {}
        """Addresses that are there without kvip's mark: each event asks for them, and must not look through all VIPs."""
        self.strangers = 0
        """Grows whenever those may be others than before."""
        self.links: dict[IfIndex, Link] = {}
        self.doubted = False
        """The kernel announced something else than the facts; a dump is due."""
        self._doubted_anew = False
        self._newer: set[tuple[Vip, Place]] | None = None
        """What kvip itself changed since a dump was begun; None = none is."""
        self._heard: dict[tuple[Vip, Place], tuple[Address, bool]] = {}
        """What the kernel announced last of each address since a dump was begun: what the dump shows of it may be older."""

    def doubt(self) -> None:
        """The kernel announced something else than the facts: they may be wrong until a dump that is begun later is taken over."""
        self.doubted = self._doubted_anew = True

    def expect_dump(self) -> None:
        """A dump is about to be read. What kvip itself does to an address from here on is newer than what the dump will show of it."""
        self._newer = set()
        self._heard = {}
        self._doubted_anew = False

    def replace_all(self, addresses: Iterable[Address], *, now: float) -> set[Vip]:
        """Take over a complete dump, just read; returns the VIPs of which it changed what a decision can depend on (not lifetimes)."""
        self.expect_dump()
        return set[Vip]().union(*self.take_over(addresses, now=now))

    def take_over(self, addresses: Iterable[Address], *, now: float, part: int = 512) -> Iterator[set[Vip]]:
        """The same of a dump that was expected, in parts of so many addresses, each giving the VIPs that it changed. Between two parts the
        facts may change and be asked. Once the last one was taken they are no longer in doubt, unless the kernel announced something else
        meanwhile."""
        shown: set[tuple[Vip, Place]] = set()
        rest = iter(addresses)
        while some := list(islice(rest, part)):
            yield self._compare(some, shown, now=now)
        known = iter(tuple(self._bound))
        while vips := list(islice(known, part)):
            yield self._forget_missing(vips, shown)
        outdated = any(self.contradicted_by(address, present=present) for address, present in self._heard.values())
        self.doubted, self._newer, self._heard = self._doubted_anew or outdated, None, {}

    def _compare(self, addresses: Iterable[Address], shown: set[tuple[Vip, Place]], *, now: float) -> set[Vip]:
        changed: set[Vip] = set()
        newer = self._newer or ()
        for address in addresses:
            vip, place = address.ip, (address.index, address.prefix_len)
            shown.add((vip, place))
            if (vip, place) in newer:
                continue
            known = None if self._unconfirmed.get(vip) == place else self._bound.get(vip, {}).get(place)
            if known is None or (known.address.marked, known.address.flags) != (address.marked, address.flags):
                changed.add(vip)
            if known is None or not _says_the_same(known, address, now=now):
                self._note(address, now=now)
        return changed

    def _forget_missing(self, vips: Iterable[Vip], shown: Set[tuple[Vip, Place]]) -> set[Vip]:
        changed: set[Vip] = set()
        newer = self._newer or ()
        for vip in vips:
            for place in [place for place in self._bound.get(vip, ()) if (vip, place) not in shown and (vip, place) not in newer]:
                changed.add(vip)
                self._forget(vip, place)
        return changed

    def expect(self, address: Address, *, now: float) -> None:
        """The kernel is being asked for this address: from here on it may be there, and counts as bound until the kernel says otherwise."""
        self.note_bound(address, now=now)
        self._unconfirmed[address.ip] = address.index, address.prefix_len

    def note_bound(self, address: Address, *, now: float) -> None:
        """The kernel confirmed that this address is there."""
        self._note_own(address)
        self._note(address, now=now)

    def _note(self, address: Address, *, now: float) -> None:
        expires_at = None if address.valid_s is None else now + address.valid_s
        place = (address.index, address.prefix_len)
        self._confirm(address.ip, place)
        self._bound.setdefault(address.ip, {})[place] = Bound(address=address, expires_at=expires_at)
        self._note_mark(address.ip)

    def note_gone(self, address: Address) -> None:
        """The kernel confirmed that this address is not there."""
        self._note_own(address)
        self._forget(address.ip, (address.index, address.prefix_len))

    def _note_own(self, address: Address) -> None:
        if self._newer is not None:
            key = address.ip, (address.index, address.prefix_len)
            self._newer.add(key)
            self._heard.pop(key, None)

    def _confirm(self, vip: Vip, place: Place) -> None:
        if self._unconfirmed.get(vip) == place:
            del self._unconfirmed[vip]

    def _forget(self, vip: Vip, place: Place) -> None:
        self._confirm(vip, place)
        places = self._bound.get(vip)
        if places is None:
            return
        places.pop(place, None)
        if not places:
            del self._bound[vip]
        self._note_mark(vip)

    def _note_mark(self, vip: Vip) -> None:
        places = self._bound.get(vip, {}).values()
        ends = [bound.expires_at for bound in places if bound.address.marked]
        if ends:
            self._marked[vip] = None
            self._expiry.set(vip, min(float("-inf") if end is None else end for end in ends))
        else:
            self._marked.pop(vip, None)
            self._expiry.drop(vip)
        if len(ends) < len(places):
            self._strange[vip] = None
            self.strangers += 1
        elif vip in self._strange:
            del self._strange[vip]
            self.strangers += 1

    def hear(self, address: Address, *, present: bool) -> None:
        """An address message. While a dump is under way it may agree with the facts and not with the dump, which was read before it."""
        if self._newer is not None:
            self._heard[address.ip, (address.index, address.prefix_len)] = address, present

    def contradicted_by(self, address: Address, *, present: bool) -> bool:
        """Does an address message say something else than the facts?"""
        known = self._bound.get(address.ip, {}).get((address.index, address.prefix_len))
        if not present:
            return known is not None
        return known is None or known.address.marked != address.marked or known.address.flags != address.flags

    def bound(self, vip: Vip) -> tuple[Bound, ...]:
        """Everywhere this address is, marked or not, except where kube-proxy put it."""
        places = self._bound.get(vip)
        if places is None:
            return ()
        return tuple([bound for bound in places.values() if bound.address.marked or not self._is_proxys(bound.address)])

    def proxied(self) -> set[Vip]:
        """Addresses that kube-proxy (mode ipvs) made local, whoever holds them."""
        return {vip for vip in self._strange if any(self._is_proxys(bound.address) for bound in self._bound[vip].values())}

    def _is_proxys(self, address: Address) -> bool:
        link = self.links.get(address.index)
        return not address.marked and link is not None and link.name == KUBE_PROXY_NIC

    def marked(self) -> tuple[Vip, ...]:
        """Every VIP that kvip has bound, or may have."""
        return tuple(self._marked)

    def is_marked(self, vip: Vip) -> bool:
        """Has kvip bound this VIP, or may it have?"""
        return vip in self._marked

    def unconfirmed(self, vip: Vip) -> bool:
        """May the VIP be bound, though the kernel has not said that it is?"""
        return vip in self._unconfirmed

    def expiring(self, by: float, *, most: int) -> list[Vip]:
        """What kvip has bound and the kernel will drop by then, soonest first, at most so many; what has no lifetime before all else."""
        return self._expiry.due(by, most=most)

    def marked_count(self) -> int:
        """How many VIPs kvip has bound, or may have."""
        return len(self._marked)

    def confirmed_count(self) -> int:
        """How many VIPs kvip has bound."""
        return len(self._marked) - len(self._unconfirmed)

    def unmarked(self) -> list[Address]:
        """Every address that is not kvip's."""
        addresses = (bound.address for vip in self._strange for bound in self._bound[vip].values())
        return [address for address in addresses if not address.marked and not self._is_proxys(address)]

    def networks(self) -> tuple[Network, ...]:
        """The subnets of this node's own addresses, without host routes."""
        found = {network_of(address.ip, address.prefix_len) for address in self.unmarked()}
        return tuple(sorted((net for net in found if net.num_addresses > 1), key=str))

    def home(self, vip: Vip) -> Link | None:
        """The NIC that kvip has the VIP bound on; None when on none."""
        places = (bound.address.index for bound in self._bound.get(vip, {}).values() if bound.address.marked)
        return next((self.links[index] for index in places if index in self.links), None)

    def link(self, name: str) -> Link | None:
        """The NIC of this name, None when it is not there."""
        return next((link for link in self.links.values() if link.name == name), None)


def _says_the_same(known: Bound, address: Address, *, now: float) -> bool:
    """Is this what is known already? The kernel tells what is left of a lifetime in whole seconds."""
    before = known.address
    if (before.proto, before.flags, before.scope, before.label, before.peer) != (
        address.proto,
        address.flags,
        address.scope,
        address.label,
        address.peer,
    ):
        return False
    if known.expires_at is None or address.valid_s is None:
        return known.expires_at is None and address.valid_s is None
    return abs(now + address.valid_s - known.expires_at) <= ROUNDING_S
