"""What kvip writes to Services: `status.loadBalancer.ingress`, and the annotation that names the holder.

In: what a Service should show, computed from a snapshot. Out: merge patches. Must not compute entries from what it wrote.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address

import msgspec

from kvip.core.annotations import VIP_HOST
from kvip.core.model import ServiceKey, Vip, canonical
from kvip.core.objects import Ingress, Service
from kvip.kube.api import Api
from kvip.kube.patches import BACKOFF_MIN_S, DEADLINE_S, PatchWriter, Precondition, precondition


class _Balancer(msgspec.Struct, frozen=True):
    ingress: tuple[Ingress, ...]


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    load_balancer: _Balancer


class _StatusPatch(msgspec.Struct, frozen=True):
    metadata: Precondition
    status: _Status


class _Annotations(msgspec.Struct, frozen=True, rename="camel"):
    uid: str
    resource_version: str
    annotations: dict[str, str | None]


class _AnnotationPatch(msgspec.Struct, frozen=True):
    metadata: _Annotations


class StatusWriter(PatchWriter):
    """Writes the entries of the status."""

    def __init__(
        self,
        api: Api,
        *,
        on_conflict: Callable[[ServiceKey], None],
        on_written: Callable[[ServiceKey], None] | None = None,
        deadline_s: float = DEADLINE_S,
        backoff_min_s: float = BACKOFF_MIN_S,
        turn: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(
            api,
            on_conflict=on_conflict,
            on_written=on_written,
            what="status",
            subresource="status",
            deadline_s=deadline_s,
            backoff_min_s=backoff_min_s,
            turn=turn,
        )

    def set_ingress(self, service: Service, entries: tuple[Ingress, ...]) -> None:
        """Ask that `service`, as seen in this snapshot, show `entries`; replaces an earlier wish that is not sent yet."""
        self.put(service, _StatusPatch(precondition(service), _Status(_Balancer(entries))))


class HostWriter(PatchWriter):
    """Writes the annotation `kube-vip.io/vipHost`."""

    def __init__(self, api: Api, *, on_conflict: Callable[[ServiceKey], None], turn: Callable[[], Awaitable[None]] | None = None) -> None:
        super().__init__(api, on_conflict=on_conflict, what="annotation", turn=turn)

    def set_host(self, service: Service, node: str | None) -> None:
        """Ask that `service`, as seen in this snapshot, name this node; None = that it has no such annotation."""
        metadata = service.metadata
        self.put(service, _AnnotationPatch(_Annotations(metadata.uid, metadata.resource_version, {VIP_HOST: node})))


def merge_ingress(current: tuple[Ingress, ...], *, add: Sequence[Vip], remove: Sequence[Vip]) -> tuple[Ingress, ...] | None:
    """The entries with `add` in and `remove` out; None = they are so already. `add` wins; entries of others stay as they are.

    ipMode "VIP": packets arrive at the node with the address as their destination (KEP-1860).
    """
    missing = list(dict.fromkeys(add))
    gone = set(remove).difference(missing)
    merged: list[Ingress] = []
    for entry in current:
        vip = _vip_of(entry)
        if vip in gone:
            continue
        if vip in add:
            if vip not in missing:
                continue
            missing.remove(vip)
            entry = Ingress(ip=vip, ip_mode="VIP")
        merged.append(entry)
    merged.extend(Ingress(ip=vip, ip_mode="VIP") for vip in missing)
    result = tuple(merged)
    return None if result == current else result


def _vip_of(entry: Ingress) -> Vip | None:
    try:
        return canonical(ip_address(entry.ip))
    except ValueError:
        return None
