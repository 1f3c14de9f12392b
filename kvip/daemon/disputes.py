"""What follows when another host claims a VIP: Events, a burst, or a question to the election.

Input: the conflict watch's findings. Output: calls of the executor, the elector and the publisher. It must not judge claims
(core.conflict does) and never defends before the election was asked when the claim is a peer's (PROTOCOL F1, F2).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from kvip.clock import Clock
from kvip.core.diff import Announce
from kvip.core.facts import Facts
from kvip.core.model import Vip
from kvip.daemon.chronicle import Chronicle
from kvip.daemon.conflicts import ConflictWatch
from kvip.daemon.desire import Desire
from kvip.daemon.elector import Elector
from kvip.daemon.executor import Executor
from kvip.daemon.nics import Nics
from kvip.daemon.probing import Probing
from kvip.daemon.publisher import Publisher
from kvip.daemon.supervision import Heartbeats


class Disputes:
    """Owns the conflict watch and the probing."""

    def __init__(
        self,
        *,
        clock: Clock,
        heartbeats: Heartbeats,
        facts: Facts,
        desire: Desire,
        executor: Executor,
        publisher: Publisher,
        elector: Callable[[], Elector],
        look_at: Callable[[Iterable[Vip]], None],
        nics: Nics,
        probes: bool,
        chronicle: Chronicle,
    ) -> None:
        """`probes` False: nobody is asked before a first bind. `look_at`: these VIPs may be bound now, or not any more."""
        self._facts = facts
        self._desire = desire
        self._executor = executor
        self._publisher = publisher
        self._elector = elector
        self._look_at = look_at
        self._nics = nics
        self._chronicle = chronicle
        self._to_announce: set[Vip] = set()
        self.watch = ConflictWatch(
            clock=clock,
            heartbeats=heartbeats,
            links=facts.links,
            nics=nics.announcing,
            belongs=lambda vip, index: nics.placed(vip).index == index,
            own_macs=lambda: {link.mac for link in facts.links.values()},
            peer_macs=lambda: elector().peer_macs(),
            leaving=lambda vip: bool(elector().succeeds(vip)),
            held=executor.announces,
            wanted=self._ours,
            on_conflict=self._conflict,
            on_ended=self._ended,
            on_peer_claim=self._peer_claims,
            defend=self._defend,
        )
        self.probing = Probing(
            self.watch if probes else None,
            had=self._had,
            succeeds=lambda vip: elector().succeeds(vip),
            home=facts.home,
            claimed=lambda vip: not desire.known or bool(desire.ledger.claimants(vip)),
            clock=clock,
            on_answer=look_at,
        )

    def components(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What to run, by name."""
        return {"conflicts": self.watch.run, "probing": self.probing.run}

    def duplicate(self, vip: Vip) -> None:
        """The kernel's duplicate address detection found another host with a VIP of ours, and does not use the address."""
        if self._desire.ledger.claimants(vip):
            self.probing.doubt(vip)
            home = self._facts.home(vip)
            nic = home.name if home is not None else self._nics.placed(vip).nic
            detail = f"another host has it, by the kernel's duplicate address detection ({nic})"
            self._chronicle.note("conflict", vip, detail=detail)
            self._publisher.duplicate(vip, nic=nic)
            self._look_at((vip,))

    def _had(self, vip: Vip) -> bool:
        """Is it known that a kvip held the VIP before? The status tells where nothing better does: anybody may write it."""
        had = self._elector().had(vip)
        return self._desire.shown(vip) if had is None else had

    def _ours(self, vip: Vip) -> bool:
        """Asked for, and permitted or announced here: a conflict that was handed over with the VIP is no longer this node's."""
        here = self._elector().permit(vip) is not None or self._executor.announces(vip)
        return here and bool(self._desire.ledger.claimants(vip))

    def renewed(self) -> None:
        """The election confirmed this node: what a peer claimed is announced again."""
        vips, self._to_announce = self._to_announce, set()
        for vip in vips:
            self._announce(vip)

    def _conflict(self, vip: Vip, mac: bytes, nic: str) -> None:
        self._chronicle.note("conflict", vip, detail=f"the host {mac.hex(':')} has it ({nic})")
        self._publisher.foreign_host(vip, mac, nic=nic)

    def _ended(self, vip: Vip) -> None:
        self._chronicle.note("conflict-over", vip)
        self._look_at((vip,))

    def _peer_claims(self, vip: Vip, _mac: bytes) -> None:
        self._executor.disarm()
        self._to_announce.add(vip)
        self._elector().doubt(vip)

    def _defend(self, vip: Vip) -> None:
        # In mode `global` a peer's MAC is not known: the stranger may be the next holder, so the election is asked here as well.
        self._to_announce.add(vip)
        self._elector().doubt(vip)

    def _announce(self, vip: Vip) -> None:
        link = self._facts.home(vip)
        if link is not None and self._executor.announces(vip):
            self._executor.announce(Announce(vip=vip, link=link))
