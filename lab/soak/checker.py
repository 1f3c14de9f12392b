"""Judges what the client's wire and the kernels show against what ought to be true: invariants I1, I2, I4, I5, I6.

In: frames in the order of the wire, address dumps, seconds with two answers, and the `World`. Out: `Violations`. It has no clock, no
thread and no socket of its own: times come with what is observed (CLOCK_BOOTTIME seconds).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from kvip.core.model import Address
from lab.sniffer import Frame
from lab.soak.model import ALL_VIPS, FOREIGN, FOREIGN6, Violation
from lab.soak.silence import Silence
from lab.soak.world import World

NEVER_TWICE_S = 5.0
"""The same violation within this time is the same one going on."""
BESIDE_S = 0.12
"""An answer this close to a frame tells who held the VIP at the frame; the prober asks every 30 ms."""
_RECENT = 24


class Violations:
    """What was broken so far, each kind of break once with a count."""

    def __init__(self, world: World, context: Callable[[], list[str]]) -> None:
        """`context`: lines that help to understand a violation, asked when one is new."""
        self.found: list[Violation] = []
        self._world = world
        self._context = context

    def add(self, invariant: str, what: str, *, at_s: float, vip: str = "", details: Iterable[str] = ()) -> None:
        """Note one; `what` without times, so that it can be recognised, also about another VIP."""
        since_s = at_s - self._world.began_s
        for known in reversed(self.found):
            same = _general(known.what, known.vips) == _general(what, [vip])
            if same and known.invariant == invariant and since_s - known.last_s < NEVER_TWICE_S:
                known.count += 1
                known.vips.extend({vip} - {"", *known.vips})
                known.last_s = since_s
                return
        lines = [*details, *self._context()]
        vips = [vip] if vip else []
        self.found.append(Violation(invariant=invariant, what=what, vips=vips, at_s=since_s, last_s=since_s, details=lines))


def _general(what: str, vips: Sequence[str]) -> str:
    """The sentence without the VIP that it is about."""
    return what.replace(vips[0], "*") if vips and vips[0] else what


class _Claim(msgspec.Struct, frozen=True, kw_only=True):
    """An announcement that came while another node answered."""

    at_s: float
    by: str
    other: str


class Checker:
    """See the module; `node_of` maps MACs to nodes."""

    def __init__(self, world: World, violations: Violations, *, node_of: Mapping[str, str], vips: Sequence[str] = ALL_VIPS) -> None:
        self.silence = Silence(world)
        self.two_answers_s: dict[str, float] = {}
        self.left_over: set[tuple[str, str]] = set()
        """(node, VIP) that were bound or answered longer than allowed."""
        self.bound: dict[str, frozenset[str]] = {}
        """Node -> VIPs with kvip's mark, by the last dump."""
        self.seen_bound_s: dict[tuple[str, str], float] = {}
        """(node, VIP) -> when it was last announced, or may last have been bound: at the first look that no longer showed it."""
        self.holders: dict[str, tuple[str, float]] = {}
        """VIP -> who answered last, and when."""
        self._world = world
        self._violations = violations
        self._node_of = node_of
        self._vips = frozenset(vips)
        self._claims: dict[str, _Claim] = {}
        self._history: dict[str, deque[str]] = {vip: deque(maxlen=_RECENT) for vip in vips}

    # -- the wire --------------------------------------------------------------------------------------------------------

    def frames(self, frames: Iterable[Frame]) -> None:
        """Frames on the client's NIC, in order, the client's own questions included."""
        for frame in frames:
            if frame.outgoing:
                if frame.target_ip in self._vips:
                    self.silence.asked(frame.target_ip, frame.at_s)
                continue
            vip, node = frame.claimed, self._node_of.get(frame.sender_mac or frame.eth_src, "")
            if vip not in self._vips or not node:
                continue
            if frame.announcement:
                self._announced(vip, node, frame.at_s)
            elif frame.kind == "na" or frame.op == 2:
                self._answered(vip, node, frame.at_s)

    def two_answers(self, vip: str, total_s: float, *, now_s: float) -> None:
        """The prober's total of seconds with two answers for a VIP (I1)."""
        before_s, self.two_answers_s[vip] = self.two_answers_s.get(vip, 0.0), total_s
        if total_s > before_s:
            self._violate("I1", vip, f"{vip} was answered by two nodes at once", now_s)

    def _answered(self, vip: str, node: str, at_s: float) -> None:
        former, _ = self.holders.get(vip, ("", 0.0))
        self.holders[vip] = (node, at_s)
        if former != node:
            self._remember(vip, at_s, f"answered by {node}")
        claim = self._claims.pop(vip, None)
        if claim is not None and node == claim.other and at_s - claim.at_s < BESIDE_S:
            self._violate("I4", vip, f"{claim.by} announced {vip} while {node} answered for it", claim.at_s)
        if problem := self.silence.answered(vip, at_s):
            self._violate("I5", vip, f"{vip} was {problem}", at_s)
        self._fenced("I1", vip, node, at_s, "answered for")
        orphan_s = self._world.vip(vip).orphan_s
        by_s = at_s if orphan_s is None else self._world.silent_by(orphan_s, node)
        if at_s > by_s:
            self.left_over.add((node, vip))
            self._violate("I2", vip, f"{node} answered for {vip}, which no Service asks for", at_s, since_s=by_s)

    def _announced(self, vip: str, node: str, at_s: float) -> None:
        self._remember(vip, at_s, f"announced by {node}")
        self.seen_bound_s[node, vip] = at_s
        holder, answered_s = self.holders.get(vip, ("", 0.0))
        if holder not in ("", node) and at_s - answered_s < BESIDE_S:
            self._claims[vip] = _Claim(at_s=at_s, by=node, other=holder)
        off = self._world.off(node, at_s)
        if off is not None:
            self._violate("I4", vip, f"{node} announced {vip} although its daemon was off ({off.kind})", at_s)
        self._fenced("I4", vip, node, at_s, "announced")
        orphan_s = self._world.vip(vip).orphan_s
        by_s = at_s if orphan_s is None else self._world.silent_by(orphan_s, node)
        if at_s > by_s:
            self._violate("I2", vip, f"{node} announced {vip}, which no Service asks for", at_s, since_s=by_s)

    def _fenced(self, invariant: str, vip: str, node: str, at_s: float, verb: str) -> None:
        fenced_s = self._world.fenced_s(node, at_s)
        if fenced_s is not None and at_s > fenced_s:
            off = [fault for fault in self._world.recent(at_s) if fault.hits(node) and fault.began_s < fenced_s]
            kinds = ", ".join(sorted({fault.kind for fault in off}))
            self._violate(invariant, vip, f"{node} {verb} {vip} after its time was over ({kinds})", at_s, since_s=fenced_s)

    # -- the kernels -----------------------------------------------------------------------------------------------------

    def kernel(self, node: str, addresses: Sequence[Address], *, at_s: float) -> None:
        """A complete dump of one node."""
        marked = frozenset(str(address.ip) for address in addresses if address.marked)
        self._changes(node, marked, at_s)
        plain = {str(address.ip) for address in addresses if not address.marked}
        for ip in (*FOREIGN, FOREIGN6):
            if ip in marked or ip not in plain:
                self._violate("I6", ip, f"the unmarked address {ip} of {node} was changed", at_s)
        for vip in marked:
            self.seen_bound_s[node, vip] = at_s
            orphan_s = self._world.vip(vip).orphan_s
            by_s = at_s if orphan_s is None else self._world.unbound_by(orphan_s, node)
            if at_s > by_s:
                self.left_over.add((node, vip))
                self._violate("I2", vip, f"{vip}, which no Service asks for, is bound on {node}", at_s, since_s=by_s)

    def look(self, now_s: float) -> None:
        """What shows only by nothing happening: silence."""
        for vip, problem in self.silence.look(now_s):
            self._violate("I5", vip, f"{vip} was {problem}", now_s)

    def _changes(self, node: str, marked: frozenset[str], at_s: float) -> None:
        before, self.bound[node] = self.bound.get(node, frozenset()), marked
        for vip in marked - before:
            self._remember(vip, at_s, f"bound on {node} (seen)")
        for vip in before - marked:
            self.seen_bound_s[node, vip] = at_s
            self._remember(vip, at_s, f"gone from {node} (seen)")

    # -- help ------------------------------------------------------------------------------------------------------------

    def _remember(self, vip: str, at_s: float, what: str) -> None:
        if vip in self._history:
            self._history[vip].append(f"{at_s - self._world.began_s:9.3f}  {what}")

    def _violate(self, invariant: str, vip: str, what: str, at_s: float, *, since_s: float | None = None) -> None:
        state = self._world.vip(vip)
        asked = f"asked for by {', '.join(sorted(state.claimants)) or 'nobody'}"
        verb = "hold" if invariant == "I2" else "act"
        since = f"; the time to {verb} was over at {since_s - self._world.began_s:.3f}" if since_s is not None else ""
        bound = ", ".join(node for node, vips in self.bound.items() if vip in vips) or "nowhere"
        faults = [
            f"{fault.began_s - self._world.began_s:9.3f}  {fault.kind} {fault.node or fault.vip}"
            + (f", over {fault.ended_s - self._world.began_s:.3f}" if fault.ended_s is not None else ", lasts")
            for fault in self._world.recent(at_s - 10.0)
        ]
        details = [
            f"{asked}; bound on {bound}{since}",
            "faults of the last 10 s:", *faults,
            f"{vip} on the wire and in the kernels:", *self._history.get(vip, ()),
        ]  # fmt: skip
        self._violations.add(invariant, what, at_s=at_s, vip=vip, details=details)
