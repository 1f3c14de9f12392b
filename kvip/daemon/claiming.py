"""Keeps the ledger in line with what Services wish: their claims, what is kept for them a moment longer, and who claimed what is leaving.

Input: wishes, who gets which VIP, what is bound. Output: the ledger, and the VIPs that a change touched. It must not judge a wish, nor
bind or let go of anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from kvip.clock import Clock
from kvip.core.desired import Wish
from kvip.core.facts import Facts
from kvip.core.ledger import Claimant, Ledger
from kvip.core.model import ServiceKey, Uid, Vip
from kvip.core.objects import Service
from kvip.core.sharing import Sharing
from kvip.daemon.lingering import Lingering
from kvip.daemon.publisher import Publisher
from kvip.kube.informer import Informer


class Claiming:
    """Owns the ledger's content."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        sharing: Sharing,
        services: Informer[Service],
        facts: Facts,
        clock: Clock,
        publisher: Publisher,
        on_gone: Callable[[Uid], None],
        on_changed: Callable[[], None],
    ) -> None:
        """`on_gone`: the Service of this UID is there no more. `on_changed`: the ledger is another one."""
        self._ledger = ledger
        self._sharing = sharing
        self._services = services
        self._facts = facts
        self._clock = clock
        self._publisher = publisher
        self._on_gone = on_gone
        self._on_changed = on_changed
        self._lingering = Lingering()
        self._claimed_for: dict[ServiceKey, Wish] = {}
        self._former: dict[Vip, tuple[Claimant, ...]] = {}

    def claim(self, key: ServiceKey) -> set[Vip]:
        """The claims of one Service; returns the VIPs to look at again."""
        wish = self._sharing.wish(key)
        before = {vip: tuple(self._ledger.claimants(vip).values()) for vip in self._ledger.claims_of(key)}
        former = self._claimed_for.pop(key, None)
        if former is not None and (wish is None or wish.uid != former.uid):
            self._lingering.forget(key)
            self._on_gone(former.uid)
            former = None
        touched = self._ledger.drop(key) if wish is None else self._claim_for(key, wish, former, before)
        for vip, claimants in before.items():
            if not self._ledger.claimants(vip) and self._facts.is_marked(vip):
                self._former[vip] = claimants
        for vip in self._ledger.claims_of(key):
            self._former.pop(vip, None)
        if touched:
            self._on_changed()
        return touched | set(before) | set(self._ledger.claims_of(key))

    def _claim_for(self, key: ServiceKey, wish: Wish, former: Wish | None, claimed: Iterable[Vip]) -> set[Vip]:
        """`former`: what this very Service wished before, and `claimed` by it."""
        had = set(claimed) if former is not None else set()
        granted = self._sharing.granted(wish)
        # Whose entry in the status an address is hangs on where it came from: one is not kept over a change of that.
        movable = had if former is None or former.from_status == wish.from_status else set()
        leaving = [
            vip for vip in movable if vip not in wish.listed and len(self._ledger.claimants(vip)) == 1 and self._facts.is_marked(vip)
        ]
        coming = [vip for vip in granted if not self._is_up(wish, vip)]
        kept = self._lingering.keep(key, leaving, coming=coming, new=set(granted) - had, now=self._clock.now())
        claims = msgspec.structs.replace(wish, addresses=(*granted, *kept))
        touched = self._ledger.claim(claims, since=self._clock.wall().isoformat(timespec="seconds"))
        if former is not None and not former.from_status:
            self._publisher.withdrawn(key, wish.uid, had - set(claims.addresses))
        self._claimed_for[key] = wish
        return touched

    def _is_up(self, wish: Wish, vip: Vip) -> bool:
        """Is the VIP announced, here or elsewhere as the Service's status shows (where a holder wrote that)?"""
        service = self._services.store.get(wish.key) if not wish.from_status else None
        return self._publisher.announces_for(vip, wish.key) or (service is not None and any(entry.ip == vip for entry in service.ingress))

    def lingers_until(self) -> float:
        """When the next address that is kept until its successor is up has to go."""
        return self._lingering.until

    def lingered(self) -> list[ServiceKey]:
        """The Services of which an address was kept for long enough."""
        return self._lingering.over(self._clock.now())

    def former_claimants(self, vip: Vip) -> tuple[Claimant, ...]:
        """Who asked for a VIP that nobody asks for any more; each answer is given once."""
        return self._former.pop(vip, ())

    def tidy(self) -> None:
        """What a fence or somebody else took away is not let go of any more: nobody will ask who wanted it."""
        if self._former:
            self._former = {vip: claimants for vip, claimants in self._former.items() if self._facts.is_marked(vip)}
