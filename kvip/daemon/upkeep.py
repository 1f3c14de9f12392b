"""Keeps the facts in line with the kernel: addresses, NICs and the switch's rules, by messages, on demand and by audit.

Input: netlink messages and causes for doubt. Output: facts read anew, and the VIPs that they changed. It must not plan.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable

from kvip import metrics
from kvip.clock import Clock
from kvip.core.diff import DADFAILED
from kvip.core.facts import Facts
from kvip.core.model import Address, IfIndex, Link, Vip
from kvip.daemon.executor import Executor
from kvip.daemon.nics import Nics
from kvip.errors import KvipError

log = logging.getLogger(__name__)

RETRY_S = 1.0
WITH_LINKS = frozenset({"start", "overrun", "audit"})
"""Causes for which messages about NICs may have been missed as well."""


class Upkeep:
    """Owns the doubt about the facts; `refresh` ends it."""

    def __init__(
        self,
        *,
        clock: Clock,
        facts: Facts,
        executor: Executor,
        read_links: Callable[[], Awaitable[list[Link]]],
        restart_announcements: Callable[[Link], None],
        check_rules: Callable[[], None],
        audited: Callable[[], Awaitable[None]],
        on_nic: Callable[[], None],
        on_duplicate: Callable[[Vip], None],
        wake: Callable[[], None],
        nics: Nics,
        audit_interval_s: float,
    ) -> None:
        """`check_rules`: someone may have changed the switch; `on_nic`: a NIC of VIPs changed; `audited`: after each audit.
        `on_duplicate`: the kernel found another host with a VIP."""
        self._clock = clock
        self._facts = facts
        self._executor = executor
        self._read_links = read_links
        self._restart_announcements = restart_announcements
        self._check_rules = check_rules
        self._audited = audited
        self._on_nic = on_nic
        self._on_duplicate = on_duplicate
        self._wake = wake
        self._nics = nics
        self._audit_interval_s = audit_interval_s
        self._audited_at = clock.now()
        self._cause = ""
        self._not_before = 0.0
        self._rules_doubted = False
        self._link_messages = 0

    def on_address(self, address: Address, present: bool) -> None:
        """The kernel reported an address; only what contradicts the facts matters."""
        if address.marked and address.flags & DADFAILED:
            # One with a lifetime is removed at once (net/ipv6/addrconf.c, addrconf_dad_stop): only this message tells why.
            self._on_duplicate(address.ip)
        self._facts.hear(address, present=present)
        if self._facts.contradicted_by(address, present=present):
            self._facts.doubt()
            self.doubt("event")

    def doubt(self, cause: str) -> None:
        """The facts may be wrong: read them anew. After an overrun nothing goes by them before that."""
        if cause == "overrun":
            self._facts.doubt()
        if not self._cause or cause in WITH_LINKS:
            self._cause = cause
        self._wake()

    def doubt_rules(self, *, wake: bool = True) -> None:
        """Someone may have changed the switch's rules; `wake` False = look at the next turn."""
        self._rules_doubted = True
        if wake:
            self._wake()

    def on_link(self, link: Link | None, index: IfIndex, present: bool) -> None:
        """A NIC appeared, changed or vanished."""
        self._link_messages += 1
        known = self._facts.links.get(index)
        if not present or link is None:
            self._facts.links.pop(index, None)
        else:
            self._facts.links[index] = link
            came_up = known is not None and link.up and link.carrier and not (known.up and known.carrier)
            if known is not None and (came_up or known.mac != link.mac):
                self._restart_announcements(link)
        if known != link:
            self._nics.doubt()
            self._wake()
        if known != link and any(self._nics.concern(each.name) for each in (known, link) if each is not None):
            self._on_nic()
            self.doubt("link")
            self.doubt_rules()

    async def refresh(self) -> tuple[set[Vip], set[Vip]]:
        """Read what is in doubt. Returns the VIPs to look at again, and those that someone else removed."""
        now = self._clock.now()
        if now - self._audited_at >= self._audit_interval_s:
            self._cause = self._cause or "audit"
        if self._rules_doubted or self._cause == "audit":
            self._rules_doubted = False
            self._check_rules()
        if not self._cause or now < self._not_before:
            return set(), set()
        cause, self._cause = self._cause, ""
        try:
            if cause in WITH_LINKS:
                await self._refresh_links(cause)
            had = {vip for vip in self._facts.marked() if not self._facts.unconfirmed(vip)}
            changed = await self._executor.resync(cause)
            if self._facts.doubted:
                self.doubt("event")
            self._nics.doubt()
        except (KvipError, OSError) as error:
            if not self._cause or cause in WITH_LINKS:
                self._cause = cause
            self._not_before = now + RETRY_S
            metrics.netlink_errors_total.labels("dump").inc()
            log.warning("the kernel's addresses cannot be read; keeping what is known", extra={"reason": str(error)})
            return set(), set()
        if cause == "audit":
            self._audited_at = now
            await self._audited()
        return changed, (had & changed) - set(self._facts.marked())

    async def _refresh_links(self, cause: str) -> None:
        heard = self._link_messages
        links = await self._read_links()
        if heard != self._link_messages:
            # A message that came during the dump may be newer than the dump.
            self.doubt(cause)
            return
        self._take(links)

    def _take(self, links: Iterable[Link]) -> None:
        found = {link.index: link for link in links}
        for index in [index for index in self._facts.links if index not in found]:
            self.on_link(None, index, False)
        for index, link in found.items():
            self.on_link(link, index, True)
