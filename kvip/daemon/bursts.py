"""Bursts of announcements that an administrator asks for over the socket, and how far each is.

Input: orders and questions as JSON, the parts of a daemon. Output: calls of the announcer, `BurstView` as JSON. It must not announce
what this node does not announce already, nor what it has no permit for; and the announcer asks for the permit again before each batch.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from kvip.core.model import Vip
from kvip.daemon.announcer import Announcement
from kvip.daemon.parts import Parts
from kvip.errors import UNREADABLE
from kvip.observe.bursts import BurstOrder, BurstView, Refusal, checked

log = logging.getLogger(__name__)

SLICE = 256
"""VIPs handed to the announcer in one go."""
REMEMBERED = 8
"""The latest bursts that can be asked about."""


class _Burst(msgspec.Struct, kw_only=True):
    id: str
    rounds: int
    items: list[Announcement]
    refused: tuple[Refusal, ...]


class Bursts:
    """What was asked for since the daemon started, the latest few."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._known: OrderedDict[str, _Burst] = OrderedDict()

    async def begin(self, order: bytes) -> bytes:
        """Begin a burst; the answer says what it is called. Raises ValueError for an order that cannot be carried out."""
        try:
            wanted = msgspec.json.decode(order, type=BurstOrder)
        except UNREADABLE as error:
            raise ValueError(f"no order of a burst: {error}") from error
        named = checked(wanted)
        burst = _Burst(id=secrets.token_hex(8), rounds=wanted.rounds, items=[], refused=())
        refused: list[Refusal] = []
        vips = named or tuple(self._parts.ledger.vips())
        for start in range(0, len(vips), SLICE):
            self._announce(vips[start : start + SLICE], burst, refused)
            await asyncio.sleep(0)
        burst.refused = tuple(refused) if named else ()
        self._known[burst.id] = burst
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        log.info(
            "announcing anew, an administrator asked for it",
            extra={"vips": len(burst.items), "rounds": burst.rounds, "refused": [refusal.vip for refusal in burst.refused]},
        )
        return self._view(burst)

    def progress(self, name: str) -> bytes | None:
        """How far the burst of this name is; None = it is not known (any more)."""
        burst = self._known.get(name)
        return self._view(burst) if burst is not None else None

    def _announce(self, vips: Sequence[Vip], burst: _Burst, refused: list[Refusal]) -> None:
        for vip in vips:
            objection = self._objection(vip)
            item = None if objection else self._parts.announcer.again(vip, rounds=burst.rounds)
            if item is not None:
                burst.items.append(item)
            else:
                refused.append(Refusal(vip=vip, reason=objection))

    def _objection(self, vip: Vip) -> str:
        """Why the VIP is not announced at an administrator's word; "" = nothing is in the way."""
        parts = self._parts
        if not parts.ledger.claimants(vip):
            return "no Service asks for it"
        if parts.permit(vip) is None:
            holder = parts.elected().holder(vip)
            return f"this node may not hold it now; it is held by {holder}" if holder else "this node may not hold it now"
        mac = parts.disputes.watch.conflicting(vip)
        if mac:
            # RFC 5227 2.4: an address is defended at most once per DEFEND_INTERVAL, which the daemon does by itself.
            return f"another host has it, {mac.hex(':')}; kvip defends it once per 10 s"
        return "" if parts.announcer.announces(vip) else "it is not bound and announced here (yet); kvip status says why"

    def _view(self, burst: _Burst) -> bytes:
        sent = [min(item.number, burst.rounds) for item in burst.items]
        ended = [burst.rounds - left for item, left in zip(burst.items, sent, strict=True) if not self._parts.announcer.under_way(item)]
        return msgspec.json.encode(
            BurstView(
                id=burst.id,
                node=self._parts.settings.node_name,
                rounds=burst.rounds,
                vips=len(burst.items),
                sent=sum(sent),
                ended=sum(ended),
                refused=burst.refused,
            )
        )
