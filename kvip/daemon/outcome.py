"""What the executor's results mean for people: logs, metrics, Events and status, and what must be tried again.

Input: confirmed results, frames that left, conflicts and left-overs. Output: log lines, counters, calls of the
publisher. It must not decide or act.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import NamedTuple

from kvip import metrics
from kvip.clock import Clock
from kvip.core import diff
from kvip.core.facts import Facts
from kvip.core.ledger import Claimant
from kvip.core.model import Address, IfIndex, ServiceKey, Vip
from kvip.daemon.chronicle import Chronicle
from kvip.daemon.desire import Desire
from kvip.daemon.executor import Done
from kvip.daemon.publisher import Publisher
from kvip.daemon.rush import CALM_S, LONGEST_S

log = logging.getLogger(__name__)


class _Bound(NamedTuple):
    """What there is to say of a VIP that was bound."""

    adopted: bool
    nic: str
    services: tuple[ServiceKey, ...]
    at: float


class Outcome:
    """Turns results into words, and remembers what was said so that it is said once."""

    def __init__(self, *, clock: Clock, desire: Desire, facts: Facts, publisher: Publisher, chronicle: Chronicle) -> None:
        self._clock = clock
        self._desire = desire
        self._facts = facts
        self._publisher = publisher
        self._chronicle = chronicle
        self._asked_at: dict[Vip, float] = {}
        self._announced_at: dict[Vip, float] = {}
        self._bound_at: dict[Vip, float] = {}
        self._untold: dict[Vip, _Bound] = {}
        """Confirmed and not said yet, in the order in which it was."""
        self._ending_at: dict[Vip, float] = {}
        self._conflicts: set[Vip] = set()
        self._left_over: dict[Vip, tuple[Claimant, ...]] = {}

    def asked(self, vip: Vip, at: float) -> None:
        """A change that asks for this VIP was read; the time to its first frame counts from here."""
        self._asked_at.setdefault(vip, at)

    def unasked(self, vip: Vip) -> None:
        """Nothing of the VIP is here, nor about to be: no frame is awaited any more."""
        self._asked_at.pop(vip, None)

    def ending(self, vip: Vip, at: float | None) -> None:
        """The VIP is not to be here any more, by a change that was read then: the time until it is gone counts. None = it is to stay."""
        if at is None:
            self._ending_at.pop(vip, None)
        else:
            self._ending_at.setdefault(vip, at)

    def announced(self, vip: Vip, at: float) -> None:
        """The first frame of a burst left."""
        asked_at = self._asked_at.pop(vip, None)
        if asked_at is not None:
            metrics.take_seconds.observe(at - asked_at)
        home = self._facts.home(vip)
        nic = home.name if home is not None else ""
        if vip not in self._announced_at:
            self._announced_at[vip] = at
            self._chronicle.note("announced", vip, detail=nic)
        self._publisher.announced(vip, nic)

    def announced_since(self, vip: Vip) -> float | None:
        """When the first frame of the VIP left since it was last taken; None = it is not announced."""
        return self._announced_at.get(vip)

    def announced_count(self) -> int:
        """How many VIPs are announced from here."""
        return len(self._announced_at)

    def leaving(self, actions: Iterable[diff.LetGo]) -> None:
        """These are let go of now: from here on nothing is said of them as bound."""
        for action in actions:
            if not action.keeps:
                self._stopped(action.vip)

    def bound_since(self, vip: Vip) -> float | None:
        """When the kernel confirmed the VIP since it was last taken; None = it is not bound, or that is not known."""
        return self._bound_at.get(vip)

    def hushed(self, vip: Vip) -> None:
        """The VIP is not bound by kvip any more, so nothing is said of it."""
        self._untold.pop(vip, None)
        self._asked_at.pop(vip, None)
        self._ending_at.pop(vip, None)
        self._stopped(vip)

    def _stopped(self, vip: Vip) -> None:
        self._announced_at.pop(vip, None)
        self._bound_at.pop(vip, None)
        self._publisher.stopped(vip)

    def withdrawn(self) -> None:
        """A fence withdrew everything."""
        self._publisher.stopped_all()
        self._announced_at.clear()
        self._bound_at.clear()
        if self._untold:
            log.info("withdrawn before it was said that they were bound", extra={"vips": len(self._untold)})
        self._untold.clear()
        self._asked_at.clear()
        self._ending_at.clear()
        self._conflicts.clear()

    def confirmed(self, done: Done) -> bool:
        """Report one result; False when it has to be tried again."""
        action = done.action
        vip = action.vip
        if done.problem:
            log.warning(
                "address change not confirmed; trying again",
                extra={"action": type(action).__name__, "vip": vip, "nic": self._nic(action), "reason": done.problem},
            )
            return False
        if isinstance(action, diff.LetGo):
            self._released(action)
        elif not isinstance(action, diff.Refresh) and self._facts.is_marked(vip):  # else withdrawn by a fence meanwhile
            claimants = self._desire.ledger.claimants(vip).values()
            at = self._bound_at[vip] = self._clock.now()
            self._untold[vip] = _Bound(isinstance(action, diff.Adopt), action.link.name, tuple(c.service for c in claimants), at)
        return True

    def tell(self, *, most: int, idle: bool) -> bool:
        """Say what was bound and still is, of so many VIPs at most. Not `idle`: a crowd of others is on its way, and only what waited
        for `LONGEST_S` is said. Is there more to be said now?"""
        now = self._clock.now()
        said_by = now if idle else now - LONGEST_S
        due = [vip for vip, bound in islice(self._untold.items(), most) if bound.at <= said_by]
        for vip in due:
            if self._facts.is_marked(vip):
                self._say(vip)
            else:
                del self._untold[vip]
        return len(due) == most and bool(self._untold)

    def _say(self, vip: Vip, *, past: bool = False) -> None:
        """`past`: it is not bound any more."""
        bound = self._untold.pop(vip, None)
        if bound is None:
            return
        ago_s = self._clock.now() - bound.at
        late = {"bound_s_ago": round(ago_s, 1)} if ago_s >= CALM_S else {}
        if bound.adopted:
            log.info("vip adopted", extra={"vip": vip, "nic": bound.nic, **late})
            self._chronicle.note("adopted", vip, detail=bound.nic)
            return
        log.info("vip bound", extra={"vip": vip, "nic": bound.nic, "services": list(bound.services), **late})
        if not past and vip not in self._announced_at:
            self._chronicle.note("bound", vip, detail=bound.nic)

    def _released(self, action: diff.LetGo) -> None:
        vip = action.vip
        if action.keeps:
            log.info("stray place of a vip removed", extra={"vip": vip, "reason": action.reason})
            return
        ending_at = self._ending_at.pop(vip, None)
        if ending_at is not None:
            metrics.let_go_seconds.observe(self._clock.now() - ending_at)
        self._asked_at.pop(vip, None)
        self._say(vip, past=True)
        self._stopped(vip)
        former = self._desire.claiming.former_claimants(vip)
        if action.reason == "no claimant" and vip in self._left_over:
            self._swept(vip, self._left_over.pop(vip))
            return
        if action.reason == "no claimant" and not former:
            metrics.swept_total.inc()
            log.warning("a marked address without an owner was removed", extra={"vip": vip})
            self._chronicle.note("swept", vip, detail="nobody is known to have asked for it")
            return
        fields = {"vip": vip, "nic": self._nic(action), "reason": action.reason, "services": [c.service for c in former]}
        log.info("vip released", extra=fields)
        self._chronicle.note("released", vip, former=former, detail=action.reason)
        if action.reason == "no claimant":
            self._publisher.released(vip, former, reason="no Service asks for it")

    def _nic(self, action: diff.Take | diff.Adopt | diff.LetGo | diff.Refresh) -> str:
        if not isinstance(action, diff.LetGo):
            return action.link.name
        return self._name(action.address.index)

    def _name(self, index: IfIndex) -> str:
        link = self._facts.links.get(index)
        return link.name if link is not None else str(index)

    def conflict(self, vip: Vip, address: Address) -> None:
        """The VIP is on this node without kvip's mark; told once until it ends."""
        if vip in self._conflicts:
            return
        self._conflicts.add(vip)
        metrics.conflicts_total.inc()
        nic = self._name(address.index)
        log.warning("the VIP is bound on this node without kvip's mark; left alone", extra={"vip": vip, "nic": nic})
        self._chronicle.note("conflict", vip, detail=f"on {nic} of this node without kvip's mark")
        self._publisher.conflict(vip, self._desire.ledger.claimants(vip).values(), nic=nic)

    def no_conflict(self, vip: Vip) -> None:
        """Planned without finding a conflict."""
        self._conflicts.discard(vip)

    def found_at_start(self, found: Mapping[Vip, tuple[Claimant, ...]]) -> None:
        """Addresses of a former daemon, removed at start where the kernel let them, with their claimants by the journal."""
        self._left_over = dict(found)

    def report_left_over(self) -> None:
        """Once every Service has been read: what was removed and nobody asks for was swept; what the kernel kept is not yet."""
        for vip, former in list(self._left_over.items()):
            claimed = bool(self._desire.ledger.claimants(vip))
            if claimed or not self._facts.is_marked(vip):
                del self._left_over[vip]
                if not claimed:
                    self._swept(vip, former)

    def _swept(self, vip: Vip, former: tuple[Claimant, ...]) -> None:
        metrics.swept_total.inc()
        self._chronicle.note("swept", vip, former=former, detail="left behind by a former daemon")
        log.warning(
            "swept: a former daemon's address whose Service is gone",
            extra={"vip": vip, "services": [c.service for c in former], "uids": [c.uid for c in former]},
        )
        self._publisher.swept(vip, former)
