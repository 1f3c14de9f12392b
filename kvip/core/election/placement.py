"""Who goes first where several nodes may take a VIP, and for how long a node refuses one.

Input: the candidates and what they hold. Output: an order, and waiting times. It must not exclude anybody: a candidate
that does not take lets the next one have its turn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import lru_cache

import msgspec

from kvip.core.model import Vip

STEP_S = 0.15
FULL_STEPS = 10
"""Candidates beyond these follow at a tenth of the step, so that a VIP which few nodes can hold is not long without a holder."""
REFUSAL_S, LONGEST_REFUSAL_S = 60.0, 300.0


def order(record: int, nodes: Iterable[str], loads: Mapping[str, int], *, total: int) -> list[str]:
    """The candidates for a record, first turn first: rendezvous hashing, those that hold their share already last.

    Rendezvous hashing (Thaler and Ravishankar, "A Name-Based Mapping Scheme for Rendezvous"): when a node goes, only what it held moves,
    and it moves to all the others alike.
    """
    candidates = list(nodes)
    share = total / max(1, len(candidates))
    return sorted(candidates, key=lambda node: (loads.get(node, 0) > 0 and loads.get(node, 0) >= share, _weight(record, node)))


class Leaning(msgspec.Struct, frozen=True, kw_only=True):
    """What sets the candidates for one VIP apart; by itself, nothing."""

    fit: frozenset[str] | None = None
    """The nodes that could hold it; None = all alike."""
    tiers: tuple[frozenset[str], ...] = ()
    """The nodes that are to hold it rather than others, best first."""


ALIKE = Leaning()


def lean(turn: Iterable[str], leaning: Leaning, *, former: str) -> list[str]:
    """The candidates for one VIP, first turn first: those that could hold it, then as is preferred, then who had it before.

    Who is last here may still have its turn: what this node knows of the others may be old.
    """

    def place(node: str) -> tuple[bool, int, bool]:
        unfit = leaning.fit is not None and node not in leaning.fit
        tier = next((number for number, tier in enumerate(leaning.tiers) if node in tier), len(leaning.tiers))
        return unfit, tier, node != former

    return sorted(turn, key=place)


class Turns:
    """The candidates for the VIPs of one record; for VIPs that are alike they are ranked once."""

    def __init__(self, order: Sequence[str], refused: Mapping[str, Set[Vip]]) -> None:
        """`order`: the candidates, first turn first. `refused`: what nodes say they could not bind."""
        self._order = order
        self._refused = refused
        self._known: dict[tuple[Leaning, str, tuple[str, ...]], list[str]] = {}

    def of(self, vip: Vip, leaning: Leaning, *, former: str) -> list[str]:
        """Those that do not refuse this VIP, as `lean` has them."""
        refusing = tuple(node for node, vips in self._refused.items() if vip in vips)
        key = (leaning, former, refusing)
        turn = self._known.get(key)
        if turn is None:
            turn = self._known[key] = lean((node for node in self._order if node not in refusing), leaning, former=former)
        return turn


def delay_s(rank: int) -> float:
    """How long the candidate of this rank leaves the VIP to those before it."""
    return STEP_S * min(rank, FULL_STEPS) + STEP_S / 10 * max(0, rank - FULL_STEPS)


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A VIP that could not be bound here."""

    until: float
    length_s: float


def refuse(before: Refusal | None, *, now: float) -> Refusal:
    """Refuse a VIP for a while: one minute at first, doubled up to five when it fails again."""
    length_s = REFUSAL_S if before is None else min(LONGEST_REFUSAL_S, 2 * before.length_s)
    return Refusal(until=now + length_s, length_s=length_s)


def refusing(refusals: Mapping[Vip, Refusal], *, now: float) -> frozenset[Vip]:
    """What is refused now."""
    return frozenset(vip for vip, refusal in refusals.items() if now < refusal.until)


def forgive(refusals: Mapping[Vip, Refusal], *, now: float) -> dict[Vip, Refusal]:
    """Drop what was last refused so long ago that a new failure is a new story."""
    return {vip: refusal for vip, refusal in refusals.items() if now < refusal.until + 2 * LONGEST_REFUSAL_S}


@lru_cache(maxsize=131_072)
def _weight(record: int, node: str) -> bytes:
    return hashlib.sha256(f"{record}/{node}".encode()).digest()
