"""The stray watch: tells of addresses on the VIPs' NICs that look like VIPs and that nobody answers for.

Input: facts, Services, ranges; asked at each audit. Output: metric, log and a report per stray that lasted, and, where the
operator wants it, its removal. Addresses with kvip's mark are the audit's business, not this one's. It must not judge:
`core.strays` does.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from kvip import metrics
from kvip.clock import Clock
from kvip.core.addresses import Network, range_refusal
from kvip.core.desired import Rules
from kvip.core.facts import Facts
from kvip.core.ledger import Claimant, Ledger
from kvip.core.model import Address, IfIndex, Vip
from kvip.core.objects import Service
from kvip.core.strays import Managed, Owner, Stray, addresses_in, find_strays, owner_of, suspects

log = logging.getLogger(__name__)

REMEMBERED_LIMIT = 65_536
"""Addresses of former Services that are remembered; beyond it the oldest are forgotten."""

Place = tuple[Vip, int, IfIndex]


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """What was read from one version of a Service."""

    uid: str
    version: str
    owner: Owner
    vips: frozenset[Vip]


class _Case(msgspec.Struct, kw_only=True):
    """A stray under watch."""

    stray: Stray
    since: float
    told: tuple[str, str] | None = None
    """What was reported last: the reason, and what came of removing it."""


class StrayWatch:
    """Remembers which strays there are, since when, and what was said of them."""

    def __init__(
        self,
        clock: Clock,
        facts: Facts,
        services: Callable[[], Mapping[str, Service]],
        ledger: Ledger,
        node_addresses: Callable[[], Collection[Vip]],
        report: Callable[[Stray], None],
        remove: Callable[[Address], str] | None = None,
        *,
        rules: Rules,
        nics: Callable[[], Collection[str]],
        known: Callable[[], bool],
        ranges: tuple[Network, ...] = (),
        grace_s: float = 60.0,
    ) -> None:
        """`report`: for an Event, once per stray and change. `remove`: only where the operator wants it; returns "" or why not.

        `nics`: the NICs that VIPs are announced on. `known`: are the Services and Nodes complete? Until then nothing is judged,
        for a VIP whose Service was not read yet has an owner. A stray counts once it was there for `grace_s` seconds.
        """
        self._clock = clock
        self._facts = facts
        self._services = services
        self._ledger = ledger
        self._node_addresses = node_addresses
        self._report = report
        self._remove = remove
        self._rules = rules
        self._nics = nics
        self._known = known
        self._ranges = ranges
        self._grace_s = grace_s
        self._read: dict[str, _Known] = {}
        self._former: OrderedDict[Vip, Owner] = OrderedDict()
        self._cases: dict[Place, _Case] = {}

    @property
    def strays(self) -> tuple[Stray, ...]:
        """Those that lasted, for the state view."""
        now = self._clock.now()
        return tuple(case.stray for case in self._cases.values() if now - case.since >= self._grace_s)

    def remember(self, claims: Mapping[Vip, Iterable[Claimant]]) -> None:
        """VIPs that a former daemon knew, by its journal: an address of theirs may have been left by whoever held it."""
        for vip, claimants in claims.items():
            for claimant in claimants:
                self._forget_owner(vip, Owner(service=claimant.service, uid=claimant.uid, ours=True))

    def check(self) -> None:
        """Look once. Costs some milliseconds per 10,000 Services that did not change."""
        if not self._known():
            return
        self._read_services()
        now = self._clock.now()
        found = {(stray.address.ip, stray.address.prefix_len, stray.address.index): stray for stray in self._find()}
        for place in [place for place in self._cases if place not in found]:
            case = self._cases.pop(place)
            if case.told is not None:
                log.info("stray address is gone", extra={"vip": case.stray.address.ip, "nic": case.stray.nic})
        for place, stray in found.items():
            case = self._cases.setdefault(place, _Case(stray=stray, since=now))
            case.stray = stray
            if now - case.since >= self._grace_s:
                self._act(place, case)
        metrics.strays.set(len(self.strays))

    def _find(self) -> list[Stray]:
        names = self._nics()
        nics = {index: link.name for index, link in self._facts.links.items() if link.name in names}
        candidates = suspects(self._facts.unmarked(), nics)
        if not candidates:
            return []
        wanted = {address.ip for address in candidates}
        now: dict[Vip, tuple[Owner, ...]] = {}
        for known in self._read.values():
            for vip in known.vips & wanted:
                now[vip] = (*now.get(vip, ()), self._owner(known.owner, vip))
        for vip in wanted:
            claimants = self._ledger.claimants(vip).values()
            ours = tuple(Owner(service=claimant.service, uid=claimant.uid, ours=True) for claimant in claimants)
            now[vip] = tuple(dict.fromkeys((*now.get(vip, ()), *ours)))
        managed = Managed(now=now, former=self._former, ranges=self._ranges)
        return find_strays(candidates, managed, nics=nics, node_addresses=self._node_addresses())

    def _owner(self, owner: Owner, vip: Vip) -> Owner:
        """A Service gives no right over an address that it may not have: who may edit one could have the host's addresses removed."""
        return owner if range_refusal(vip, self._rules.allowed) is None else msgspec.structs.replace(owner, ours=False)

    def _read_services(self) -> None:
        services = self._services()
        for key in [key for key in self._read if key not in services]:
            gone = self._read.pop(key)
            self._forget(gone, gone.vips)
        for key, service in services.items():
            known, metadata = self._read.get(key), service.metadata
            if known is not None and (known.uid, known.version) == (metadata.uid, metadata.resource_version):
                continue
            fresh = _Known(
                uid=metadata.uid, version=metadata.resource_version, owner=owner_of(service, self._rules), vips=addresses_in(service)
            )
            if known is not None:
                self._forget(known, known.vips - fresh.vips)
            self._read[key] = fresh

    def _forget(self, known: _Known, vips: Iterable[Vip]) -> None:
        for vip in vips:
            self._forget_owner(vip, known.owner)

    def _forget_owner(self, vip: Vip, owner: Owner) -> None:
        self._former[vip] = owner
        self._former.move_to_end(vip)
        while len(self._former) > REMEMBERED_LIMIT:
            self._former.popitem(last=False)

    def _act(self, place: Place, case: _Case) -> None:
        stray = case.stray
        outcome = "reported"
        if self._remove is not None:
            problem = self._remove(stray.address)
            outcome = f"not removed: {problem}" if problem else "removed"
        if (stray.reason, outcome) == case.told:
            return
        case.told = (stray.reason, outcome)
        fields = {
            "vip": stray.address.ip,
            "nic": stray.nic,
            "reason": stray.reason,
            "services": [owner.service for owner in stray.services],
            "outcome": outcome,
        }
        log.warning("stray address: it looks like a VIP, and nobody answers for it", extra=fields)
        metrics.strays_total.labels(outcome.partition(":")[0]).inc()
        self._report(msgspec.structs.replace(stray, outcome=outcome))
        if outcome == "removed":
            del self._cases[place]
