"""The latest changes of this daemon's VIPs, for its readers.

Input: changes as they are confirmed. Output: a bounded list, the oldest first. It must not decide, and what it keeps does not grow with
the number of VIPs: what happens to many of them at once is one entry.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice

import msgspec

from kvip.clock import Clock
from kvip.core.ledger import Claimant, Ledger
from kvip.core.model import ServiceKey, Vip
from kvip.observe.state import Change, ChangeView, Instants

MOST = 200
"""Entries that are kept."""
TOGETHER_S = 10.0
"""After the first of them, other VIPs' changes of the same kind and cause belong to the same entry."""
NAMED = 8
"""VIPs of one entry that are named; the others are counted."""
LOOKED_BACK = 8
"""Entries that are looked through for it: a take-over mixes a few kinds."""


class _Entry(msgspec.Struct, kw_only=True):
    change: Change
    at: float
    until: float
    detail: str
    vips: list[Vip] = []
    services: dict[ServiceKey, None] = {}
    more: int = 0


class Chronicle:
    """Owns the list; whoever confirms a change notes it."""

    def __init__(self, clock: Clock, ledger: Ledger) -> None:
        """The ledger says whose a VIP is."""
        self._clock = clock
        self._ledger = ledger
        self._entries: deque[_Entry] = deque(maxlen=MOST)
        self._able = False

    def note(self, change: Change, vip: Vip | None = None, *, former: Iterable[Claimant] = (), detail: str = "") -> None:
        """This happened now to the VIP, None = to the daemon as a whole. `former`: who asked for it, where nobody does any more."""
        now = self._clock.now()
        if vip is None:
            self._entries.append(_Entry(change=change, at=now, until=now, detail=detail))
            return
        entry = self._together(change, vip, detail, now=now)
        if entry is None:
            entry = _Entry(change=change, at=now, until=now, detail=detail)
            self._entries.append(entry)
        entry.until = now
        if len(entry.vips) == NAMED:
            entry.more += 1
            return
        entry.vips.append(vip)
        entry.services |= dict.fromkeys(claimant.service for claimant in former or self._ledger.claimants(vip).values())

    def _together(self, change: Change, vip: Vip, detail: str, *, now: float) -> _Entry | None:
        """The entry that this belongs to: what happened to one VIP, or to the daemon, keeps its order."""
        for entry in islice(reversed(self._entries), LOOKED_BACK):
            if not entry.vips or vip in entry.vips:
                return None
            if entry.change == change and entry.detail == detail:
                return entry if now - entry.at < TOGETHER_S else None
        return None

    def able(self) -> None:
        """This node may hold VIPs; noted where it might not before."""
        if not self._able:
            self._able = True
            self.note("able")

    def fenced(self, reason: str) -> None:
        """Everything was withdrawn."""
        self._able = False
        self.note("fenced", detail=reason)

    def view(self, instants: Instants) -> tuple[ChangeView, ...]:
        """What is kept, for readers."""
        return tuple(
            ChangeView(
                at=instants.text(entry.at),
                until=instants.text(entry.until),
                change=entry.change,
                vips=tuple(entry.vips),
                more=entry.more,
                services=tuple(entry.services),
                detail=entry.detail,
            )
            for entry in self._entries
        )
