"""Which NIC each VIP goes to now, and which NICs are in use.

Input: the kernel's NICs and addresses, what the Services that ask for a VIP say of its NIC, the settings. Output: what `core.placing` makes
of that. It must not bind or move anything, nor judge a NIC's carrier.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from kvip.clock import Clock
from kvip.core import placing
from kvip.core.facts import Facts
from kvip.core.ledger import Ledger
from kvip.core.model import Address, IfIndex, Link, Vip, host_prefix
from kvip.core.placing import AUTO, Ground, NicChoice, Placed

log = logging.getLogger(__name__)

SUBNET_GRACE_S = 2.0
"""A network manager that is restarted takes a NIC's addresses away and puts them back: no VIP is moved for that."""
SPARE = 64
"""Answers beyond twice those that were needed, before it is looked which still are."""

Claims = Sequence[NicChoice | None]
_Place = tuple[Vip, int, IfIndex]
_ANY = Vip("")
"""In place of a VIP where the choice does not depend on it."""


class Nics:
    """Keeps each answer until the NICs or subnets change. `settle` says whether they did."""

    def __init__(
        self,
        default: NicChoice,
        *,
        preferred: str,
        facts: Facts,
        clock: Clock,
        ledger: Ledger,
        claims: Callable[[Vip], Claims],
    ) -> None:
        """`default`: what counts where no Service says anything; `preferred`: which NIC wins where two have the same subnet.

        `claims`: what the Services that ask for a VIP say, oldest first.
        """
        self.default = default
        self._preferred = preferred
        self._facts = facts
        self._clock = clock
        self._ledger = ledger
        self._claims = claims
        self._ground: Ground | None = None
        self._doubted = False
        self._placed: dict[tuple[NicChoice, Vip], Placed] = {}
        self._needed = 0
        """How many answers Services asked for when that was last looked at."""
        self._seen: dict[_Place, Address] = {}
        self._lost_at: dict[_Place, float] = {}
        self._used_by: dict[str, set[Vip]] = {}
        self._used_at: dict[Vip, str] = {}
        self._uncounted: set[Vip] = set()
        self._watched = frozenset({default.nic}) - {AUTO}
        self._moved = True

    # -- what may have changed ------------------------------------------------------------------------------------------

    def doubt(self) -> None:
        """NICs or addresses may have changed."""
        self._doubted = True

    def claims_changed(self, vips: Iterable[Vip]) -> None:
        """What is asked for these VIPs may have changed."""
        self._uncounted.update(vips)

    def settle(self) -> bool:
        """Take in what changed; True when VIPs may go elsewhere than at the last call."""
        if any(self._clock.now() - at >= SUBNET_GRACE_S for at in self._lost_at.values()):
            self.doubt()
        self.announcing()
        moved, self._moved = self._moved, False
        return moved

    def _survey(self) -> Ground:
        """The ground as it is now, with every answer that hangs on it."""
        if self._ground is not None and not self._doubted:
            return self._ground
        self._doubted = False
        before, ground = self._ground, placing.survey(self._facts.links.values(), self._own_addresses(), preferred=self._preferred)
        self._ground = ground
        if len(self._placed) > 2 * self._needed + SPARE:
            self._forget_unasked()
        same_subnets = before is not None and before.table == ground.table
        for (choice, vip), placed in self._placed.items():
            if choice.by_subnet and same_subnets:
                continue
            now = self._placed[choice, vip] = placing.place(choice, vip, ground)
            if now != placed:
                self._moved = True
                if not choice.by_subnet:
                    log.info("NIC chosen anew", extra={"value": choice.value, "nic": now.nic, "reason": now.fault})
        if self._moved:
            self._uncounted.update(self._ledger.vips())
        return ground

    def _forget_unasked(self) -> None:
        """Addresses come and go, and so does what Services say of NICs."""
        asked = {_key(self.default, _ANY)}
        for vip in self._ledger.vips():
            asked.update(_key(choice, vip) for choice in (self.default, *self._claims(vip)) if choice is not None)
        self._placed = {key: placed for key, placed in self._placed.items() if key in asked}
        self._needed = len(self._placed)

    def _own_addresses(self) -> list[Address]:
        """The node's own addresses with a subnet; one that went is kept for a moment, as long as its NIC is there."""
        now = self._clock.now()
        there = {
            (address.ip, address.prefix_len, address.index): address
            for address in self._facts.unmarked()
            if address.prefix_len != host_prefix(address.ip)
        }
        for place, address in self._seen.items():
            if place not in there and address.index in self._facts.links:
                self._lost_at.setdefault(place, now)
        self._lost_at = {place: at for place, at in self._lost_at.items() if place not in there and now - at < SUBNET_GRACE_S}
        self._seen = {**there, **{place: self._seen[place] for place in self._lost_at}}
        return list(self._seen.values())

    # -- answers --------------------------------------------------------------------------------------------------------

    def choice(self, vip: Vip) -> NicChoice:
        """What counts for a VIP."""
        return placing.decide(self._claims(vip), self.default)

    def placed(self, vip: Vip) -> Placed:
        """Where a VIP goes. One that nobody asks for any more stays where it is."""
        claims = self._claims(vip)
        if not claims:
            home = self._facts.home(vip)
            if home is not None:
                return Placed(nic=home.name, index=home.index)
        return self.place(placing.decide(claims, self.default), vip)

    def place(self, choice: NicChoice, vip: Vip) -> Placed:
        """Where a VIP would go by this choice."""
        ground = self._survey()
        key = _key(choice, vip)
        placed = self._placed.get(key)
        if placed is None:
            placed = self._placed[key] = placing.place(choice, vip, ground)
        return placed

    def link(self, vip: Vip, placed: Placed | None = None) -> Link | None:
        """The NIC that a VIP goes to, as it is now; where that is not known, the one it is on. `placed`: where it goes, if known."""
        placed = self.placed(vip) if placed is None else placed
        if not placed.known:
            return self._facts.home(vip)
        return self._facts.links.get(placed.index) if placed.nic else None

    def main(self) -> str:
        """The NIC of the settings; "" when it hangs on the address."""
        if self.default.nic == AUTO:
            return ""
        return self.place(self.default, _ANY).nic or self.default.nic

    def used(self) -> frozenset[str]:
        """The NICs that VIPs go to from here."""
        self._survey()
        uncounted, self._uncounted = self._uncounted, set()
        for vip in uncounted:
            before, now = self._used_at.pop(vip, ""), self.placed(vip).nic if self._ledger.claimants(vip) else ""
            if before:
                self._used_by[before].discard(vip)
            if now:
                self._used_at[vip] = now
                self._used_by.setdefault(now, set()).add(vip)
        return frozenset(nic for nic, vips in self._used_by.items() if vips)

    def announcing(self) -> frozenset[str]:
        """The NICs that VIPs go to, and that of the settings."""
        main = self.main()
        self._watched = self.used() | {main} if main else self.used()
        return self._watched

    def concern(self, name: str) -> bool:
        """Was that one of the NICs in use when they were last looked at?"""
        return name in self._watched


def _key(choice: NicChoice, vip: Vip) -> tuple[NicChoice, Vip]:
    return choice, vip if choice.by_subnet else _ANY
