"""What the soak does and when: a pure function of seed, length and API server.

In: a seed, seconds, whether the API server is the embedded one. Out: `Round`s of operations. The plan keeps its own picture of which
Services exist, so that operations make sense; it knows nothing of what really happens. The first part of a round injects
one fault at a time, so that bounds can be asserted; in the rest faults overlap.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from lab.soak.model import (
    DAEMON_OFF,
    EMBEDDED_ONLY,
    ENDING,
    FAULT_KINDS,
    FOREIGN_VIP,
    INSTANT,
    LASTING_NODE,
    LEASE_S,
    NODES,
    SLOTS,
    VIPS,
    VIPS6,
    FaultKind,
    Operation,
    Round,
    ServiceKind,
)

ROUND_S = 60.0
HEAL_S = 7.0
"""Of a round, left for healing and convergence."""
CALM_S = 2.0
"""Services only, at the begin of a round."""
SERVICE_GAP_S = (0.15, 0.75)
SINGLE_REST_S = 3.5
"""Between the end of one fault and the begin of the next in the first part: the influence of a fault is over by then."""
TAKEOVER_S = LEASE_S + 2.5
BUSIEST = 0.6
"""How often the node with most VIPs is hit rather than any."""
STORM_PAUSE_S = 2.0
"""Between the halves."""
STORM_GAP_S = (1.5, 7.0)
"""Between faults of one node in the second part."""
API_STORM_GAP_S = (3.0, 14.0)
"""The same for the API server, which hurts all nodes at once."""
REAL_RESTART_S = 7.0
"""What the real API server takes to start, beyond the time that it is left down."""
SINGLES = 0.65
"""The part of a round with one fault at a time."""
SLOW: tuple[FaultKind, ...] = ("kill", "freeze", "cut")
QUICK: tuple[FaultKind, ...] = ("term", "addr_del", "flush", "swallow", "compact", "nic_down", "api_down", "stall")


def make_plan(seed: int, seconds: float, *, embedded: bool, kinds: Sequence[FaultKind] = FAULT_KINDS) -> tuple[Round, ...]:
    """The whole soak: rounds of about a minute. `kinds` limits the faults."""
    dice = random.Random(f"kvip soak {seed}")
    allowed = [kind for kind in kinds if embedded or kind not in EMBEDDED_ONLY]
    count = max(1, round(seconds / ROUND_S))
    lasts_s = max(seconds / count - HEAL_S, 5.0)
    services, deck = _Services(dice), _Deck(dice, allowed)
    rounds = []
    for number in range(count):
        half_s = CALM_S + (lasts_s - CALM_S) * SINGLES
        operations = [*services.until(lasts_s), *_singles(dice, deck, CALM_S, half_s, restart_s=0.0 if embedded else REAL_RESTART_S)]
        operations += _storm(dice, allowed, half_s + STORM_PAUSE_S, lasts_s)
        operations.sort(key=lambda operation: operation.at_s)
        rounds.append(Round(number=number, lasts_s=lasts_s, operations=tuple(operations)))
    return tuple(rounds)


class _Services:
    """The Services that exist according to the plan, over all rounds."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._asks: dict[str, tuple[str, ...]] = {}
        self._off: set[str] = set()

    def until(self, end_s: float) -> list[Operation]:
        """Operations on Services in one round."""
        found = []
        at_s = self._dice.uniform(*SERVICE_GAP_S)
        while at_s < end_s:
            found.append(self._next(at_s))
            # Now and then a burst: what comes close together is what goes wrong.
            at_s += 0.005 if self._dice.random() < 0.15 else self._dice.uniform(*SERVICE_GAP_S)
        return found

    def _next(self, at_s: float) -> Operation:
        kind = self._kind()
        if kind == "create":
            name = self._dice.choice([slot for slot in SLOTS if slot not in self._asks])
            self._asks[name] = self._addresses()
            return Operation(at_s=at_s, kind=kind, service=name, vips=self._asks[name])
        name = self._dice.choice(sorted(self._off if kind == "restore" else self._asks))
        match kind:
            case "delete":
                self._off.discard(name)
                return Operation(at_s=at_s, kind=kind, service=name, vips=self._asks.pop(name))
            case "recreate":
                self._off.discard(name)
                self._asks[name] = self._asks[name] if self._dice.random() < 0.6 else self._addresses()
            case "move":
                self._asks[name] = self._addresses()
            case "retype" | "reclass" | "ignore":
                self._off.add(name)
            case "restore":
                self._off.discard(name)
        return Operation(at_s=at_s, kind=kind, service=name, vips=self._asks[name])

    def _kind(self) -> ServiceKind:
        existing = len(self._asks)
        weights: dict[ServiceKind, float] = {
            "create": 0.0 if existing == len(SLOTS) else 6.0 if existing < len(SLOTS) * 2 // 3 else 1.5,
            "delete": 2.5 if existing > 4 else 0.0,
            "recreate": 2.0 if existing > 4 else 0.0,
            "move": 1.5 if existing > 4 else 0.0,
            "retype": 0.5 if existing > 4 else 0.0,
            "reclass": 0.3 if existing > 4 else 0.0,
            "ignore": 0.3 if existing > 4 else 0.0,
            "restore": 1.0 * len(self._off),
        }
        return self._dice.choices(list(weights), list(weights.values()))[0]

    def _addresses(self) -> tuple[str, ...]:
        """Mostly a free address, sometimes one that others ask for as well, two of them, or one that must be refused."""
        draw = self._dice.random()
        if draw < 0.03:
            return (FOREIGN_VIP,)
        taken = sorted({vip for vips in self._asks.values() for vip in vips if vip != FOREIGN_VIP})
        if draw < 0.20 and taken:
            return (self._dice.choice(taken),)
        free = [vip for vip in VIPS if vip not in taken]
        found = (self._dice.choice(free or list(VIPS)),)
        return found if draw < 0.75 else (*found, self._dice.choice(VIPS6))


class _Deck:
    """Deals kinds of faults so that each comes up before one comes again, a slow one first, then two quick ones."""

    def __init__(self, dice: random.Random, allowed: Sequence[FaultKind]) -> None:
        self._dice = dice
        self._kinds = ([kind for kind in allowed if kind in SLOW], [kind for kind in allowed if kind in QUICK])
        self._left: tuple[list[FaultKind], list[FaultKind]] = ([], [])
        self._dealt = 0

    def __bool__(self) -> bool:
        return any(self._kinds)

    def deal(self) -> FaultKind:
        which = 0 if self._dealt % 3 == 0 else 1
        which = which if self._kinds[which] else 1 - which
        self._dealt += 1
        if not self._left[which]:
            self._left[which].extend(self._dice.sample(self._kinds[which], len(self._kinds[which])))
        return self._left[which].pop()


def _singles(dice: random.Random, deck: _Deck, begin_s: float, end_s: float, *, restart_s: float) -> list[Operation]:
    found = []
    at_s = begin_s
    while deck:
        fault = _fault(dice, deck.deal(), at_s)
        if fault.at_s + fault.lasts_s > end_s:
            break
        found.append(fault)
        lasts_s = fault.lasts_s + (restart_s if fault.kind == "api_down" else 0.0)
        over_s = max(lasts_s + SINGLE_REST_S, TAKEOVER_S if fault.kind in SLOW else 0.0)
        at_s = fault.at_s + over_s + dice.uniform(0, 1)
    return found


def _storm(dice: random.Random, allowed: Sequence[FaultKind], begin_s: float, end_s: float) -> list[Operation]:
    """Each node and the API server are hurt independently of each other."""
    found: list[Operation] = []
    for node in (*NODES, ""):
        free_s = dict.fromkeys(allowed, begin_s)
        gap_s = STORM_GAP_S if node else API_STORM_GAP_S
        at_s = begin_s + dice.uniform(0, gap_s[1])
        while at_s < end_s:
            fitting = [kind for kind in allowed if (kind in ("api_down", "stall", "compact", "addr_del")) == (node == "")]
            fitting = [kind for kind in fitting if free_s[kind] <= at_s and not (node == LASTING_NODE and kind in ENDING)]
            if fitting:
                fault = msgspec.structs.replace(_fault(dice, dice.choice(fitting), at_s), node=node)
                found.append(fault)
                over_s = at_s + fault.lasts_s + 0.5
                for kind in allowed:
                    off = fault.kind in DAEMON_OFF and (kind in DAEMON_OFF or kind == "flush")
                    # Rules flushed and the daemon gone before it put them back: only the lifetime of addresses would be left.
                    flushed = fault.kind == "flush" and kind in DAEMON_OFF
                    api = node == "" and kind != "addr_del"
                    if kind == fault.kind or off or flushed or api:
                        free_s[kind] = max(free_s[kind], over_s + (1.5 if flushed else 0.0))
            at_s += dice.uniform(*gap_s)
    return found


def _fault(dice: random.Random, kind: FaultKind, at_s: float) -> Operation:
    """A fault of this kind on a node that it may hit."""
    nodes = [node for node in NODES if not (node == LASTING_NODE and kind in ENDING)]
    node = "" if kind in ("api_down", "stall", "compact", "addr_del") else dice.choice(nodes)
    vips = tuple(dice.sample(VIPS, 3)) if kind == "addr_del" else ()
    # Short and long: below the renew deadline, between it and the lease duration, and beyond both.
    draw = dice.random()
    lasts_s = dice.uniform(0.4, 2.5) if draw < 0.25 else dice.uniform(2.5, 5.5) if draw < 0.5 else dice.uniform(6.5, 9.0)
    match kind:
        case "term":
            lasts_s = dice.uniform(0.5, 3.0)
        case "api_down" | "stall":
            lasts_s = dice.uniform(0.2, 1.0) if draw < 0.6 else dice.uniform(2.0, 4.5)
        case "swallow" | "nic_down":
            lasts_s = dice.uniform(0.5, 3.0)
    busiest = node != "" and dice.random() < BUSIEST
    return Operation(at_s=at_s, kind=kind, node=node, busiest=busiest, vips=vips, lasts_s=0.0 if kind in INSTANT else lasts_s)
