"""Notices other hosts that have, or claim, the address of a VIP: asks before the first bind, and listens while holding.

Input: claims from the wire, the NICs, and what is held here. Output: answers of probes, and callbacks: conflict, conflict
over, defend, a peer claims. It must not bind, announce or let go: who gets the callbacks does (DESIGN section 5, PROTOCOL F1, F2).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Mapping, Sequence

from kvip import metrics
from kvip.clock import Clock
from kvip.core import conflict
from kvip.core.conflict import NOTHING_KNOWN, Claim, Move, Standing
from kvip.core.model import IfIndex, Link, Vip
from kvip.daemon.segment import Segment
from kvip.daemon.supervision import Heartbeats
from kvip.errors import AnnounceError
from kvip.kernel.listen import ClaimListener

log = logging.getLogger(__name__)

TICK_S = 1.0
BRIEF_S = 0.01
"""A host on the segment answers within a few ms, one that comes up at that moment or sleeps may need more."""


class ConflictWatch:
    """Owns the listeners and what is known of foreign claims. `run` is its loop; `probe` may be called beside it."""

    def __init__(
        self,
        *,
        clock: Clock,
        heartbeats: Heartbeats,
        links: Mapping[IfIndex, Link],
        nics: Callable[[], Collection[str]],
        own_macs: Callable[[], Collection[bytes]],
        peer_macs: Callable[[], Collection[bytes]],
        belongs: Callable[[Vip, IfIndex], bool],
        held: Callable[[Vip], bool],
        wanted: Callable[[Vip], bool],
        on_conflict: Callable[[Vip, bytes, str], None],
        on_ended: Callable[[Vip], None],
        on_peer_claim: Callable[[Vip, bytes], None],
        defend: Callable[[Vip], None],
        leaving: Callable[[Vip], bool] = lambda _: False,
        probe_rounds: int = 3,
        probe_interval_s: float = 0.05,
        retry_s: float = 30.0,
        rate_pps: float = 10_000.0,
        burst: int = 2_048,
        listen: Callable[[Link], ClaimListener] = ClaimListener,
    ) -> None:
        """`links`: the NICs as they are now; `nics`: names of those to listen on. `own_macs`, `peer_macs`: of this node's and of other
        nodes' NICs. `belongs`: does the VIP go to that NIC? What is said on another segment is no claim of it. `held`: is the VIP bound
        here; `wanted`: is it still to be held here, else its conflict is forgotten; `leaving`: did a program other than kvip hold the VIP
        by right before, so that it is looked for again as soon as for a peer.

        Callbacks run in the event loop and must not wait: `on_conflict(vip, mac, nic)` once per conflict and foreign MAC, `on_ended(vip)`,
        `on_peer_claim(vip, mac)` at most once per second and VIP (ask the election first, PROTOCOL F2), `defend(vip)` once per 10 s.
        """
        self._clock = clock
        self._heartbeats = heartbeats
        self._links = links
        self._nics = nics
        self._own_macs = own_macs
        self._peer_macs = peer_macs
        self._leaving = leaving
        self._belongs = belongs
        self._held = held
        self._wanted = wanted
        self._on_conflict = on_conflict
        self._on_ended = on_ended
        self._on_peer_claim = on_peer_claim
        self._defend = defend
        self._probe_rounds = probe_rounds
        self._probe_interval_s = probe_interval_s
        self._retry_s = retry_s
        self._rate_pps = rate_pps
        self._burst = burst
        self._listen = listen
        self._segments: dict[IfIndex, Segment] = {}
        self._standings: dict[Vip, Standing] = {}
        self._deaf: set[IfIndex] = set()

    # -- what the rest of kvip asks -------------------------------------------------------------------------------------

    def conflicting(self, vip: Vip) -> bytes | None:
        """The MAC of the foreign host, while the VIP is in conflict."""
        return self._standings.get(vip, NOTHING_KNOWN).mac or None

    def may_bind(self, vip: Vip) -> bool:
        """False while a host that answered a probe has the address, on the VIP's segment. A conflict that began while holding forbids
        nothing."""
        standing = self._standings.get(vip, NOTHING_KNOWN)
        return not (standing.mac and standing.before_binding and self._belongs(vip, standing.index))

    def forget(self, vip: Vip) -> None:
        """Nobody asks for the VIP any more: the next Service that does is not told of a host that had it once."""
        if vip in self._standings:
            self._standings[vip], _ = conflict.dropped(self._standings[vip])

    async def probe(self, vips: Sequence[Vip], link: Link, *, brief: bool = False) -> dict[Vip, bytes]:
        """Who has, claims, or at the same time asks for these addresses on this NIC: VIP -> MAC; only VIPs with an answer are in it.

        Takes rounds x interval (150 ms; `brief`: 10 ms) for all of them together, less once all are answered, more only where the pace of
        the NIC (10,000 frames/s, 2,048 at once) asks for it. Each answer is a conflict from then on. Raises AnnounceError when
        silence would prove nothing: no carrier, NIC gone or changed, frames refused, answers lost (RFC 5227 2.1).
        """
        if not vips:
            return {}
        self._check(link)
        segment = self._segments.get(link.index)
        if segment is None or segment.failed:
            segment = self._open(link)
        rounds, interval_s = (1, BRIEF_S) if brief else (self._probe_rounds, self._probe_interval_s)
        answers = await segment.ask(vips, link.mac, rounds=rounds, interval_s=interval_s)
        if len(answers) < len(set(vips)):
            self._check(link)
        for vip in vips:
            self._settle(vip, answers.get(vip), link.index)
        return answers

    # -- the loop -----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Listen on the NICs in use, and look at each conflict again every 30 s, until cancelled."""
        try:
            while True:
                self._heartbeats.beat("conflicts")
                self._follow_nics()
                self._tidy()
                await self._look_again()
                await asyncio.sleep(TICK_S)
        finally:
            for segment in self._segments.values():
                segment.close()
            self._segments.clear()

    def _follow_nics(self) -> None:
        names = set(self._nics())
        for index, segment in tuple(self._segments.items()):
            link = self._links.get(index)
            if link is None or segment.failed or not (link.name in names or segment.busy):
                segment.close()
                del self._segments[index]
        for index, link in tuple(self._links.items()):
            if link.name not in names or index in self._segments:
                continue
            try:
                self._open(link)
            except AnnounceError as error:
                if index not in self._deaf:
                    self._deaf.add(index)
                    log.warning("claims of addresses cannot be heard; trying again", extra={"nic": link.name, "reason": str(error)})
        self._deaf &= self._links.keys()

    def _open(self, link: Link) -> Segment:
        former = self._segments.pop(link.index, None)
        if former is not None:
            former.close()
        segment = self._segments[link.index] = Segment(
            link,
            clock=self._clock,
            listen=self._listen,
            own_macs=self._own_macs,
            on_foreign=self._heard,
            rate_pps=self._rate_pps,
            burst=self._burst,
        )
        self._deaf.discard(link.index)
        return segment

    def _check(self, link: Link) -> None:
        """Would silence on this NIC say anything?"""
        now = self._links.get(link.index)
        if now is None:
            raise AnnounceError(link.name, "the NIC is gone")
        if not (now.up and now.carrier):
            raise AnnounceError(link.name, "it has no carrier, so nobody can be asked for an address")
        if now.mac != link.mac:
            raise AnnounceError(link.name, "its MAC changed; asking again later")

    async def _look_again(self) -> None:
        """Is the foreign host still there? VIPs of one NIC are asked for together."""
        now = self._clock.now()
        to_ask: dict[IfIndex, list[Vip]] = {}
        for vip, standing in tuple(self._standings.items()):
            if not conflict.due(standing, now=now):
                continue
            if conflict.needs_probe(vip, held=self._held(vip)):
                to_ask.setdefault(standing.index, []).append(vip)
            else:
                self._conclude(vip, *conflict.listened(standing, now=now, quiet_s=self._retry_s, retry_at=now + self._pause_s()))
        for index, vips in to_ask.items():
            link = self._links.get(index)
            if link is None:
                for vip in vips:
                    self._conclude(vip, *conflict.dropped(self._standings.get(vip, NOTHING_KNOWN)))
                continue
            try:
                await self.probe(vips, link)
            except AnnounceError as error:
                log.debug("a conflict cannot be looked into; trying again", extra={"nic": error.nic, "reason": str(error)})
                for vip in vips:
                    if vip in self._standings:
                        self._standings[vip] = conflict.postponed(self._standings[vip], retry_at=self._clock.now() + self._pause_s())

    def _tidy(self) -> None:
        now = self._clock.now()
        for vip, standing in tuple(self._standings.items()):
            if conflict.idle(standing, now=now):
                del self._standings[vip]
            elif standing.mac and not (self._wanted(vip) and self._belongs(vip, standing.index)):
                self.forget(vip)
        for segment in self._segments.values():
            segment.count_lost()
        metrics.vips_in_conflict.set(sum(1 for standing in self._standings.values() if standing.mac))

    # -- judging --------------------------------------------------------------------------------------------------------------

    def _heard(self, link: Link, claims: list[Claim]) -> None:
        """Foreign claims of one turn; one that concerns no VIP costs two look-ups."""
        for claim in claims:
            held = not claim.probing and self._held(claim.vip)
            if not (held or claim.vip in self._standings) or not self._belongs(claim.vip, link.index):
                continue
            peer = claim.mac in self._peer_macs()
            if held:
                metrics.foreign_claims_total.labels("peer" if peer else "stranger").inc()
            standing = self._standings.get(claim.vip, NOTHING_KNOWN)
            retry_at = self._clock.now() + self._pause_s()
            standing, move = conflict.heard(
                standing, claim, index=link.index, held=held, peer=peer, now=self._clock.now(), retry_at=retry_at
            )
            self._conclude(claim.vip, standing, move)
            if Move.VERIFY in move:
                self._on_peer_claim(claim.vip, claim.mac)

    def _settle(self, vip: Vip, answer: bytes | None, index: IfIndex) -> None:
        standing = self._standings.get(vip, NOTHING_KNOWN)
        if answer is None and not standing.mac:
            return
        now = self._clock.now()
        soon = answer in self._peer_macs() or self._leaving(vip)
        pause_s = conflict.PEER_RETRY_S if soon else self._pause_s()
        held = self._held(vip)
        self._conclude(vip, *conflict.probed(standing, answer, index=index, held=held, now=now, retry_at=now + pause_s))

    def _conclude(self, vip: Vip, standing: Standing, move: Move) -> None:
        self._standings[vip] = standing
        if Move.REPORT in move:
            link = self._links.get(standing.index)
            nic, mac = link.name if link is not None else str(standing.index), standing.mac.hex(":")
            metrics.address_conflicts_total.labels("probe" if standing.before_binding else "holding").inc()
            log.warning("another host has the address of a VIP", extra={"vip": vip, "mac": mac, "nic": nic})
            self._on_conflict(vip, standing.mac, nic)
        if Move.DEFEND in move:
            metrics.defences_total.inc()
            self._defend(vip)
        if Move.ENDED in move:
            log.info("address conflict over", extra={"vip": vip})
            self._on_ended(vip)

    def _pause_s(self) -> float:
        return self._retry_s * random.uniform(0.8, 1.2)
