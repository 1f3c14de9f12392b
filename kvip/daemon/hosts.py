"""Keeps the annotation `kube-vip.io/vipHost` of Services: which node holds the first of the VIPs.

Input: what is announced here, what the election says of others, the Services. Output: patches, queued. It must not take the annotation for
a fact about anything but itself. Removed only when nobody holds the VIPs, and not at a hand-over, a fence or a stop.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from kvip.clock import Clock
from kvip.core.annotations import VIP_HOST
from kvip.core.model import ServiceKey, Uid, Vip, is_ipv6
from kvip.core.objects import Service
from kvip.daemon.rounds import Rounds
from kvip.kube.status import HostWriter

if TYPE_CHECKING:
    from kvip.daemon.parts import Parts

SETTLE_S = 1.0
"""A hand-over takes less: nothing is removed before."""


class HostNotes:
    """`look` at a Service when it or its VIPs changed; `due` says which are to be looked at again."""

    def __init__(
        self,
        writer: HostWriter,
        *,
        node: str,
        clock: Clock,
        announces: Callable[[Vip], bool],
        elsewhere: Callable[[Vip], bool],
        speaks: Callable[[Uid], bool],
    ) -> None:
        self._writer = writer
        self._node = node
        self._clock = clock
        self._announces = announces
        self._elsewhere = elsewhere
        self._speaks = speaks
        self._unheld: dict[ServiceKey, float] = {}
        self._waiting: Rounds[ServiceKey] = Rounds(clock)

    def look(self, key: ServiceKey, service: Service, vips: Collection[Vip]) -> None:
        """Bring the annotation in line with who holds `vips`, all that this Service claims."""
        shown = (service.metadata.annotations or {}).get(VIP_HOST)
        mine = self._holds_first(vips)
        if mine:
            self.forget(key)
            if shown != self._node:
                self._writer.set_host(service, self._node)
            return
        concerns_us = shown == self._node or self._speaks(Uid(service.metadata.uid))
        if shown is None or not concerns_us or any(self._announces(vip) or self._elsewhere(vip) for vip in vips):
            self.forget(key)
            return
        since = self._unheld.setdefault(key, self._clock.now())
        self._waiting.add(key)
        if self._clock.now() - since >= SETTLE_S:
            self._unheld[key] = self._clock.now()
            self._writer.set_host(service, None)

    def due(self) -> Iterable[ServiceKey]:
        """Services that nobody held at the last look, a while ago."""
        now = self._clock.now()
        return [key for key in self._waiting.due() if now - self._unheld[key] >= SETTLE_S]

    def forget(self, key: ServiceKey) -> None:
        """Nothing is to be removed from the Service: somebody holds it, or it is gone."""
        self._unheld.pop(key, None)
        self._waiting.drop(key)

    def _holds_first(self, vips: Collection[Vip]) -> bool:
        """Several nodes may hold VIPs of one Service: only the holder of the first that is held writes."""
        for vip in sorted(vips, key=lambda vip: (is_ipv6(vip), vip)):
            if self._announces(vip):
                return True
            if self._elsewhere(vip):
                return False
        return False


def build_host_notes(parts: Parts) -> HostNotes | None:
    """What keeps the annotation, where it is to be written."""
    settings = parts.settings
    if settings.disable_service_updates or not settings.vip_host_annotation:
        return None
    return HostNotes(
        parts.hosts,
        node=settings.node_name,
        clock=parts.clock,
        announces=lambda vip: parts.publisher.announces(vip),
        elsewhere=lambda vip: parts.elected().elsewhere(vip),
        speaks=parts.wires.speaks,
    )
