"""The documents of `kvip announce`: what an administrator asks for, and how far it is.

Input: JSON, or what the daemon counted. Output: `BurstOrder`, `BurstView`. Pure. docs/announce.md lists the fields.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kvip.core.addresses import parse
from kvip.core.model import Vip

MOST_ROUNDS = 60
"""Of one burst: a minute or so."""


class BurstOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Announce these VIPs anew, as far as they are held here."""

    rounds: int
    vips: tuple[str, ...] = ()
    """Empty: all."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A VIP that was named and is not announced."""

    vip: Vip
    reason: str


class BurstView(msgspec.Struct, frozen=True, kw_only=True):
    """How far a burst is. A VIP's round is one ARP request and one reply, or one neighbour advertisement."""

    id: str
    node: str
    rounds: int
    """Of each VIP."""
    vips: int
    """How many are announced."""
    sent: int
    """Rounds that left, over all VIPs."""
    ended: int
    """Rounds that will not leave: their VIP was let go of meanwhile, or its announcement began anew for another reason."""
    refused: tuple[Refusal, ...] = ()

    @property
    def asked(self) -> int:
        """Rounds that were to leave."""
        return self.rounds * self.vips

    @property
    def done(self) -> bool:
        """Is there nothing to wait for any more?"""
        return self.sent + self.ended >= self.asked


def checked(order: BurstOrder) -> tuple[Vip, ...]:
    """The VIPs of an order in canonical form, each once. Raises ValueError naming what cannot be used."""
    if not 1 <= order.rounds <= MOST_ROUNDS:
        raise ValueError(f"burst: 1 to {MOST_ROUNDS} rounds, not {order.rounds}")
    return tuple(dict.fromkeys(_vips(order.vips)))


def _vips(texts: Iterable[str]) -> Iterable[Vip]:
    for text in texts:
        try:
            yield parse(text)
        except ValueError as error:
            raise ValueError(f"vip: {text[:80]!r} {error}") from None
