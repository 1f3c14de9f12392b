"""What ought to be true: which Services ask for which VIP since when, and which faults are in force.

In: what the operator did, with times before and after. Out: questions with an answer for a VIP, a node and an instant: the
deadlines of DESIGN section 7. Knows nothing of what is observed. Thread-safe: the operator writes, the checker reads.
Times are seconds on CLOCK_BOOTTIME.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable

import msgspec

from lab.soak.model import LEASE_S, LIFETIME_S, RENEW_S, Fault, FaultKind

HEARD_S = 1.0
"""From a change of a Service until it shows, where the API server is heard (I2)."""
RESYNC_S = 10.0
"""The same after a fault of the watch."""
SLACK_S = 0.5
"""What DESIGN allows beyond the renew deadline."""
OFF_SLACK_S = 0.05
"""A frame that was sent before may be received that much later."""
SWEEP_S = 3.0
"""From exec to swept: the 2 s of DESIGN, and 1 s for a busy machine."""
STOP_S = 3.0
_UNREACHED: tuple[FaultKind, ...] = ("cut", "api_down", "stall")
_KEEP_S = 180.0


class VipState(msgspec.Struct, kw_only=True):
    """One VIP, as far as Services go."""

    claimants: set[str]
    """Names of the Services that ask for it, by the last confirmed write."""
    alive_s: float | None = None
    """Asked for without a break since then (confirmed); None = not, or not known."""
    orphan_s: float | None = None
    """Asked for by nobody since then (confirmed); None = asked for, or not known."""


class World:
    """The picture; see the module."""

    def __init__(self, now_s: float) -> None:
        self.lock = threading.RLock()
        self.began_s = now_s
        self.faults: list[Fault] = []
        self.asked_s: dict[tuple[str, str], float] = {}
        """(UID, VIP) -> since when the Service has asked for it; kept after it stopped."""
        self._vips: dict[str, VipState] = {}
        self._asks: dict[str, tuple[str, ...]] = {}
        self._unknown: dict[str, frozenset[str]] = {}

    # -- Services --------------------------------------------------------------------------------------------------------

    def changing(self, name: str, vips: Iterable[str]) -> None:
        """A write about this Service is about to leave; until it is settled nothing is known about these VIPs and its former ones."""
        with self.lock:
            touched = frozenset((*vips, *self._asks.get(name, ()), *self._unknown.get(name, ())))
            self._unknown[name] = touched
            for vip in touched:
                state = self.vip(vip)
                state.orphan_s = None
                if not state.claimants - {name}:
                    state.alive_s = None

    def settled(self, name: str, vips: tuple[str, ...], *, at_s: float) -> None:
        """The Service now asks for exactly these (empty: gone, or not ours), confirmed at `at_s`."""
        with self.lock:
            touched = self._unknown.pop(name, frozenset()) | set(vips)
            self._asks[name] = vips
            for vip in touched:
                state = self.vip(vip)
                (state.claimants.add if vip in vips else state.claimants.discard)(name)
                if any(vip in others for others in self._unknown.values()):
                    continue
                if state.claimants:
                    state.orphan_s = None
                    state.alive_s = at_s if state.alive_s is None else state.alive_s
                else:
                    state.alive_s, state.orphan_s = None, at_s

    def asked(self, uid: str, vips: Iterable[str], *, at_s: float) -> None:
        """The Service of this UID asks for these from `at_s` on (before the write is confirmed)."""
        with self.lock:
            for vip in vips:
                self.asked_s.setdefault((uid, vip), at_s)

    def vip(self, vip: str) -> VipState:
        with self.lock:
            return self._vips.setdefault(vip, VipState(claimants=set(), orphan_s=self.began_s))

    def asks(self, name: str) -> tuple[str, ...]:
        return self._asks.get(name, ())

    def unknown(self) -> list[str]:
        """Services about which a write failed without an answer."""
        with self.lock:
            return sorted(self._unknown)

    def living(self) -> dict[str, set[str]]:
        """VIP -> names of its Services."""
        with self.lock:
            return {vip: set(state.claimants) for vip, state in self._vips.items() if state.claimants}

    # -- faults ----------------------------------------------------------------------------------------------------------

    def begin(self, kind: FaultKind, node: str, *, at_s: float, vip: str = "") -> Fault:
        """A fault is in force from `at_s` on."""
        fault = Fault(kind=kind, node=node, vip=vip, began_s=at_s)
        with self.lock:
            self.faults.append(fault)
        return fault

    def recent(self, since_s: float) -> list[Fault]:
        """Faults that were in force at or after `since_s`."""
        with self.lock:
            return [fault for fault in self.faults if fault.ended_s is None or fault.ended_s >= since_s]

    def in_force(self, node: str) -> list[Fault]:
        """Faults on a node, or on every node, now."""
        with self.lock:
            return [fault for fault in self.faults if fault.ended_s is None and fault.hits(node)]

    # -- deadlines -------------------------------------------------------------------------------------------------------

    def fenced_s(self, node: str, at_s: float) -> float | None:
        """Since when the node's time is over at `at_s`, because its daemon is off or does not reach the API server; None = it is not."""
        found = [
            fault.began_s + RENEW_S + SLACK_S
            for fault in self.recent(at_s)
            if fault.hits(node) and fault.kind in ("kill", "freeze", *_UNREACHED) and (fault.ending_s is None or at_s < fault.ending_s)
        ]
        return min(found, default=None)

    def off(self, node: str, at_s: float) -> Fault | None:
        """The fault because of which the node's daemon cannot run at `at_s`, nor could some moments before."""
        for fault in self.recent(at_s):
            lasting = fault.ending_s is None or at_s < fault.ending_s
            if lasting and fault.hits(node) and fault.kind in ("kill", "freeze") and fault.began_s < at_s - OFF_SLACK_S:
                return fault
        return None

    def silent_by(self, orphan_s: float, node: str) -> float:
        """When the wire must be silent about a VIP of this node that nobody has asked for since `orphan_s` (I2)."""
        deadline_s = orphan_s + HEARD_S
        for fault in self._touching(node, orphan_s):
            match fault.kind:
                case "kill":
                    own_s = fault.began_s + RENEW_S + SLACK_S
                case "freeze" | "cut" | "api_down" | "stall":
                    own_s = fault.began_s + RENEW_S + SLACK_S
                    if fault.ended_s is not None:
                        own_s = fault.ended_s + (HEARD_S if fault.kind == "freeze" else RESYNC_S)
                case "swallow" | "compact":
                    own_s = math.inf if fault.ended_s is None else fault.ended_s + RESYNC_S
                case "term":
                    own_s = fault.began_s + STOP_S
                case _:
                    continue
            if fault.began_s <= deadline_s:
                deadline_s = max(deadline_s, own_s)
        return deadline_s

    def unbound_by(self, orphan_s: float, node: str) -> float:
        """When the node's kernel must not have such a VIP any more."""
        deadline_s = orphan_s + HEARD_S
        for fault in self._touching(node, orphan_s):
            forever_s = max(orphan_s, fault.began_s) + LIFETIME_S + 5.0
            match fault.kind:
                case "kill":
                    own_s = forever_s if fault.ended_s is None else fault.ended_s + SWEEP_S
                case "freeze":
                    own_s = forever_s if fault.ended_s is None else fault.ended_s + HEARD_S
                case "cut" | "api_down" | "stall":
                    own_s = fault.began_s + RENEW_S + SLACK_S if fault.ended_s is None else fault.ended_s + RESYNC_S
                case "swallow" | "compact":
                    own_s = math.inf if fault.ended_s is None else fault.ended_s + RESYNC_S
                case "term":
                    own_s = fault.began_s + STOP_S
                case _:
                    continue
            if fault.began_s <= deadline_s:
                deadline_s = max(deadline_s, own_s)
        return deadline_s

    def _touching(self, node: str, since_s: float) -> list[Fault]:
        found = [fault for fault in self.recent(since_s - RESYNC_S - LEASE_S) if fault.hits(node)]
        return sorted(found, key=lambda fault: fault.began_s)

    def prune(self, now_s: float) -> None:
        """Forget faults whose influence is long over."""
        with self.lock:
            self.faults = [fault for fault in self.faults if fault.ended_s is None or fault.ended_s > now_s - _KEEP_S]
