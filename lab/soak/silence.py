"""How long a living VIP went unanswered, and whether the faults in force excuse it.

In: answers and questions on the client's wire with their times, and the `World`. Out: `Gap`s that were too long, and a table of the longest
silence per kind of fault. A gap is put down to the fault whose influence it touches; to "overlapping" when there are several:
then, and where no bound is promised, it is reported only.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from lab.soak.model import LEASE_S, Fault
from lab.soak.world import World

NOTED_S = 0.15
"""Gaps below are not worth a line."""
UNASKED_S = 0.15
"""The prober itself was held up for longer than that: not silence."""
CREATE_BOUND_S = 1.0
STEADY_BOUND_S = 0.5
TAKEOVER_BOUND_S = LEASE_S + 1.0
RENEWABLE_S = 1.0
"""An API server that is away for no longer than a retry period costs nobody the lease."""
SETTLE_S = 3.0


class Row(msgspec.Struct, kw_only=True):
    """The silences put down to one cause."""

    gaps: int = 0
    longest_s: float = 0.0
    bound_s: float | None = None
    """None = none is promised."""
    vip: str = ""


class Gap(msgspec.Struct, kw_only=True):
    """A living VIP unanswered from `since_s` on."""

    vip: str
    since_s: float
    created: bool
    """It begins with the VIP's first claim, not with an answer."""
    excused_s: float = 0.0
    asked_s: float = 0.0
    """The last question."""
    told: bool = False

    def length_s(self, at_s: float) -> float:
        return max(at_s - self.since_s - self.excused_s, 0.0)


class Silence:
    """The open gap of each living VIP, and the table."""

    def __init__(self, world: World) -> None:
        self.rows: dict[str, Row] = {}
        self._world = world
        self._gaps: dict[str, Gap] = {}

    def asked(self, vip: str, at_s: float) -> None:
        """The client asked for the VIP."""
        gap = self._gaps.get(vip)
        if gap is not None:
            if gap.asked_s and at_s - gap.asked_s > UNASKED_S:
                gap.excused_s += at_s - gap.asked_s
            gap.asked_s = at_s

    def answered(self, vip: str, at_s: float) -> str:
        """Somebody answered; returns what was too long about the gap that ends here, "" = nothing."""
        gap = self._gaps.get(vip)
        if gap is None or at_s < gap.since_s:
            return ""
        alive_s = self._world.vip(vip).alive_s
        if alive_s is None or alive_s > gap.since_s:
            return ""  # not asked for, or anew: `look` sees to it
        problem = self._judge(gap, at_s)
        self._gaps[vip] = Gap(vip=vip, since_s=at_s, created=False)
        return problem

    def look(self, now_s: float) -> Iterator[tuple[str, str]]:
        """Bring the gaps in line with the world; yields (VIP, problem) for those that are too long and still open."""
        with self._world.lock:
            alive = {vip: state.alive_s for vip in self._world.living() if (state := self._world.vip(vip)).alive_s is not None}
        for vip in [vip for vip in self._gaps if vip not in alive]:
            gap = self._gaps.pop(vip)
            if gap.asked_s and not gap.told:
                self._note(gap, gap.asked_s)
        for vip, since_s in alive.items():
            gap_or_none = self._gaps.get(vip)
            if gap_or_none is None or (since_s is not None and since_s > gap_or_none.since_s):
                self._gaps[vip] = Gap(vip=vip, since_s=since_s if since_s is not None else now_s, created=True)
                continue
            if not gap_or_none.told and gap_or_none.asked_s:
                cause, bound_s = self._cause(gap_or_none, gap_or_none.asked_s)
                length_s = gap_or_none.length_s(gap_or_none.asked_s)
                if bound_s is not None and length_s > bound_s:
                    gap_or_none.told = True
                    yield vip, f"silent for more than {bound_s:g} s ({cause})"

    def _judge(self, gap: Gap, at_s: float) -> str:
        cause, bound_s = self._note(gap, at_s)
        length_s = gap.length_s(at_s)
        if bound_s is not None and length_s > bound_s and not gap.told:
            return f"silent for {length_s:.2f} s, allowed {bound_s:g} s ({cause})"
        return ""

    def _note(self, gap: Gap, at_s: float) -> tuple[str, float | None]:
        length_s = gap.length_s(at_s)
        if length_s < NOTED_S:
            return "", None
        cause, bound_s = self._cause(gap, at_s)
        row = self.rows.setdefault(cause, Row(bound_s=bound_s))
        row.gaps += 1
        if length_s > row.longest_s:
            row.longest_s, row.vip = length_s, gap.vip
        return cause, bound_s

    def _cause(self, gap: Gap, at_s: float) -> tuple[str, float | None]:
        touching = [fault for fault in self._world.recent(gap.since_s - LEASE_S - SETTLE_S) if _touches(fault, gap, at_s)]
        if not touching:
            return ("create", CREATE_BOUND_S) if gap.created else ("no fault", STEADY_BOUND_S)
        if len(touching) > 1:
            return "overlapping", None
        return single_bound(touching[0], created=gap.created)


def single_bound(fault: Fault, *, created: bool) -> tuple[str, float | None]:
    """The name and the bound of a silence under one fault (DESIGN section 7); `created`: the VIP was asked for only meanwhile."""
    match fault.kind:
        case "kill" | "freeze" | "cut":
            return fault.kind, TAKEOVER_BOUND_S
        case "term":
            return ("term, created", CREATE_BOUND_S) if created else ("term", STEADY_BOUND_S)
        case "addr_del" | "flush":
            return fault.kind, 1.0
        case "swallow" | "compact":
            return (f"{fault.kind}, created", None) if created else (fault.kind, STEADY_BOUND_S)
        case "api_down" | "stall":
            brief = fault.ended_s is not None and fault.ended_s - fault.began_s <= RENEWABLE_S
            if brief and not created:
                return f"{fault.kind} up to {RENEWABLE_S:g} s", STEADY_BOUND_S
            return f"{fault.kind}{', created' if created else ''}", None
    return fault.kind, None


def influence_end_s(fault: Fault) -> float | None:
    """Until when a fault may show on the wire; None while it lasts."""
    if fault.ended_s is None:
        return None
    lease_s = fault.began_s + LEASE_S + 2.0 if fault.kind in ("kill", "freeze", "cut") else 0.0
    return max(fault.ended_s + SETTLE_S, lease_s)


def _touches(fault: Fault, gap: Gap, at_s: float) -> bool:
    if fault.kind == "addr_del" and fault.vip != gap.vip:
        return False
    end_s = influence_end_s(fault)
    return fault.began_s - 0.2 <= at_s and (end_s is None or end_s >= gap.since_s)
