"""Asks the segment for a VIP before its first bind, and passes on what is heard of it later.

Input: VIPs to ask for, and the conflict watch's findings. Output: whether a VIP may be bound, and VIPs to look at again.
It must not bind, announce or let go. Asked only at a first assignment, never when somebody is known to have held it before; except
after a holder that was no kvip: nothing silences its kernel when it is killed (PROTOCOL G1).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from kvip.core.model import Link, Vip
from kvip.daemon.conflicts import ConflictWatch
from kvip.errors import AnnounceError

log = logging.getLogger(__name__)

RETRY_S = 1.0


class Probing:
    """Keeps which VIPs were found free. `run` is its loop."""

    def __init__(
        self,
        watch: ConflictWatch | None,
        *,
        shown: Callable[[Vip], bool],
        succeeds: Callable[[Vip], str],
        claimed: Callable[[Vip], bool],
        on_answer: Callable[[Iterable[Vip]], None],
    ) -> None:
        """`watch` None: probing is switched off. `shown`: had the VIP a holder before; `succeeds`: one that was no kvip, see `Elector`;
        `claimed`: does a Service ask for it still?"""
        self._watch = watch
        self._shown = shown
        self._succeeds = succeeds
        self._claimed = claimed
        self._on_answer = on_answer
        self._free: dict[Vip, str] = {}
        self._doubted: set[Vip] = set()
        self._pending: set[Vip] = set()
        self._batches: asyncio.Queue[tuple[list[Vip], Link]] = asyncio.Queue()

    def unprobed(self, vip: Vip) -> bool:
        """Must the segment be asked before this VIP is bound?"""
        if self._watch is None:
            return False
        before = self._succeeds(vip)
        if before:
            return self._free.get(vip) != before
        return vip not in self._free and (vip in self._doubted or not self._shown(vip))

    def first(self, vip: Vip) -> bool:
        """Is the next bind the first of this assignment, and nothing speaks against the address so far?"""
        return not self._shown(vip) and vip not in self._doubted

    def doubt(self, vip: Vip) -> None:
        """The kernel found another host with this address: ask the segment before it is bound again, whoever held it before."""
        self._doubted.add(vip)
        self._free.pop(vip, None)

    def contested(self, vip: Vip) -> bool:
        """Does another host have this address? Then it is not bound."""
        return self._watch is not None and not self._watch.may_bind(vip)

    def ask(self, vips: Iterable[Vip], link: Link) -> None:
        """Ask for these VIPs; `on_answer` is called when the answers are known."""
        fresh = [vip for vip in vips if vip not in self._pending]
        if fresh:
            self._pending.update(fresh)
            self._batches.put_nowait((fresh, link))

    def tidy(self) -> None:
        """Forget what nobody asks for any more: the next assignment is a first one again."""
        self._free = {vip: after for vip, after in self._free.items() if self._claimed(vip)}
        self._doubted = {vip for vip in self._doubted if self._claimed(vip)}

    async def run(self) -> None:
        """Ask, each batch at its own time, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                vips, link = await self._batches.get()
                group.create_task(self._ask(vips, link), name="probe")

    async def _ask(self, vips: list[Vip], link: Link) -> None:
        assert self._watch is not None
        before = {vip: self._succeeds(vip) for vip in vips}
        try:
            answers = await self._watch.probe(vips, link)
            self._free.update((vip, before[vip]) for vip in vips if vip not in answers)
        except AnnounceError as error:
            log.warning("addresses cannot be asked for; trying again", extra={"vips": vips, "reason": str(error)})
            await asyncio.sleep(RETRY_S)
        finally:
            self._pending.difference_update(vips)
        self._on_answer(vips)
