"""Asks the segment for a VIP before its first bind, and passes on what is heard of it later.

Input: VIPs to ask for, and the conflict watch's findings. Output: whether a VIP may be bound, and VIPs to look at again.
It must not bind, announce or let go. Asked only at a first assignment, never when a kvip is known to have held it before; except
after a holder that was no kvip: nothing silences its kernel when it is killed (PROTOCOL G1); and on another NIC than the one on which
this node had the VIP last: that may be another segment. On which NIC other nodes had it is not known.
That nobody answered counts for the bind that follows, and for as long as the VIP stays bound here: after that it is the claim's to tell.
What left here a moment ago and is asked for again is asked for briefly: its address may have been given to another host at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

import msgspec

from kvip.clock import Clock
from kvip.core.model import Link, Vip
from kvip.daemon.conflicts import ConflictWatch
from kvip.errors import AnnounceError

log = logging.getLogger(__name__)

RETRY_S = 1.0
RECREATED_S = 1.0
"""Asked for again so soon after it left here, a brief question is enough: a Service re-created with its address leaves hardly a gap."""
SILENCE_S = 10.0
"""Silence counts for so long before the VIP is bound: longer than a node that is slow stays permitted, so that it does not ask for ever."""


class _Silence(msgspec.Struct, frozen=True, kw_only=True):
    """Nobody else has the VIP on this NIC; `succeeds`: whom it was to succeed then."""

    succeeds: str
    nic: str
    until: float
    """Infinity = it is bound there."""


class Probing:
    """Keeps which VIPs were found free. `run` is its loop."""

    def __init__(
        self,
        watch: ConflictWatch | None,
        *,
        had: Callable[[Vip], bool],
        succeeds: Callable[[Vip], str],
        home: Callable[[Vip], Link | None],
        claimed: Callable[[Vip], bool],
        clock: Clock,
        on_answer: Callable[[Iterable[Vip]], None],
    ) -> None:
        """`watch` None: probing is switched off. `had`: is a kvip known to have held the VIP; `succeeds`: who held it and was no kvip, see
        `Elector`; `home`: the NIC on which it is bound here now; `claimed`: does a Service ask for it still, or is
        that not known?"""
        self._watch = watch
        self._had = had
        self._succeeds = succeeds
        self._home = home
        self._claimed = claimed
        self._clock = clock
        self._on_answer = on_answer
        self._free: dict[Vip, _Silence] = {}
        self._last: dict[Vip, str] = {}
        """By VIP: the NIC on which it was bound here last."""
        self._doubted: set[Vip] = set()
        self._over: dict[Vip, float] = {}
        """By VIP that nobody asks for any more: when it was bound here last, while that may not be the end of it."""
        self._pending: set[Vip] = set()
        self._batches: asyncio.Queue[tuple[list[Vip], Link, bool]] = asyncio.Queue()

    def remember(self, nics: Mapping[Vip, str]) -> None:
        """On which NIC a former daemon of this node had these VIPs."""
        self._last.update(nics)

    def look(self, vip: Vip, link: Link) -> None:
        """Take in where the VIP is bound now, and that it is to go to this NIC. To be called before each plan."""
        now, home = self._clock.now(), self._home(vip)
        if home is not None and home.name == link.name and self._is_settled(vip, home.name):
            return
        if vip in self._over and self._claimed(vip) and now - self._over.pop(vip) > RECREATED_S:
            self._drop(vip)
        if home is None:
            self.left(vip)
        else:
            self._last[vip] = home.name
            if not self.unprobed(vip, home):
                self.bound(vip, home)
        if self._last.get(vip, link.name) != link.name:
            del self._last[vip]
            self.doubt(vip)

    def _is_settled(self, vip: Vip, nic: str) -> bool:
        """Is all this known of a VIP that is bound on this NIC?"""
        known = self._free.get(vip)
        if known is None or known.until != float("inf") or known.nic != nic or self._last.get(vip) != nic:
            return False
        return vip not in self._over and vip not in self._doubted and known.succeeds == self._succeeds(vip)

    def bound(self, vip: Vip, link: Link) -> None:
        """The VIP was bound on this NIC, because it had not to be asked for. What was doubted since then stays in doubt."""
        self._last[vip] = link.name
        if vip in self._doubted and not self._found_free(vip, link):
            return
        self._doubted.discard(vip)
        self._free[vip] = _Silence(succeeds=self._succeeds(vip), nic=link.name, until=float("inf"))

    def left(self, vip: Vip) -> None:
        """The VIP is not bound here any more, or is being let go of."""
        known = self._free.get(vip)
        if known is not None and known.until == float("inf"):
            self._free[vip] = msgspec.structs.replace(known, until=self._clock.now())

    def unprobed(self, vip: Vip, link: Link) -> bool:
        """Must the segment be asked before this VIP is bound on this NIC?"""
        if self._watch is None or self._found_free(vip, link):
            return False
        return bool(self._succeeds(vip)) or vip in self._doubted or not self._had(vip)

    def in_doubt(self, vip: Vip, link: Link) -> bool:
        """Is the segment to be asked although a kvip held the VIP before?"""
        return self._watch is not None and vip in self._doubted and not self._found_free(vip, link)

    def _found_free(self, vip: Vip, link: Link) -> bool:
        return self._silent(vip, link, for_s=0.0)

    def _silent(self, vip: Vip, link: Link, *, for_s: float) -> bool:
        """Was nobody else there, `for_s` ago at most?"""
        known = self._free.get(vip)
        here = known is not None and (known.succeeds, known.nic) == (self._succeeds(vip), link.name)
        return here and known is not None and self._clock.now() < known.until + for_s

    def first(self, vip: Vip) -> bool:
        """Is the next bind the first of this assignment, and nothing speaks against the address so far?"""
        return not self._had(vip) and vip not in self._doubted

    def doubt(self, vip: Vip) -> None:
        """Ask the segment before it is bound again, whoever held it before: the kernel found another host with this address, or it goes to
        another NIC."""
        self._doubted.add(vip)
        self._free.pop(vip, None)

    def contested(self, vip: Vip) -> bool:
        """Does another host have this address? Then it is not bound."""
        return self._watch is not None and not self._watch.may_bind(vip)

    def ask(self, vips: Iterable[Vip], link: Link) -> None:
        """Ask for these VIPs; `on_answer` is called when the answers are known."""
        fresh = [vip for vip in vips if vip not in self._pending]
        self._pending.update(fresh)
        lately = [vip for vip in fresh if self._silent(vip, link, for_s=RECREATED_S)]
        for batch, brief in ((lately, True), ([vip for vip in fresh if vip not in set(lately)], False)):
            if batch:
                self._batches.put_nowait((batch, link, brief))

    def forget(self, vip: Vip) -> None:
        """Nobody asks for it any more: the next assignment is a first one again, unless it comes at once and was bound here until now."""
        if self._watch is not None:
            self._watch.forget(vip)
        home, now = self._home(vip), self._clock.now()
        if home is not None and not self.unprobed(vip, home):
            self._free[vip] = _Silence(succeeds=self._succeeds(vip), nic=home.name, until=float("inf"))
            self._over[vip] = now
        elif now - self._over.get(vip, float("-inf")) > RECREATED_S:
            self._drop(vip)
        else:
            self.left(vip)

    def _drop(self, vip: Vip) -> None:
        for known in (self._free, self._last, self._over):
            known.pop(vip, None)
        self._doubted.discard(vip)

    def tidy(self) -> None:
        """Forget what nobody asks for any more, should that have been missed."""
        for vip in [vip for vip in {*self._free, *self._last, *self._doubted} if not self._claimed(vip)]:
            self.forget(vip)

    async def run(self) -> None:
        """Ask, each batch at its own time, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                vips, link, brief = await self._batches.get()
                group.create_task(self._ask(vips, link, brief=brief), name="probe")

    async def _ask(self, vips: list[Vip], link: Link, *, brief: bool) -> None:
        assert self._watch is not None
        before = {vip: self._succeeds(vip) for vip in vips}
        try:
            answers = await self._watch.probe(vips, link, brief=brief)
            until = self._clock.now() + SILENCE_S
            silent = [vip for vip in vips if vip not in answers]
            self._free.update((vip, _Silence(succeeds=before[vip], nic=link.name, until=until)) for vip in silent)
        except AnnounceError as error:
            log.warning("addresses cannot be asked for; trying again", extra={"vips": vips, "reason": str(error)})
            await asyncio.sleep(RETRY_S)
        finally:
            self._pending.difference_update(vips)
        self._on_answer(vips)
