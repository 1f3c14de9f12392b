"""The caches of the API server's objects that this daemon reads: Services, EndpointSlices, Nodes, and Leases.

Input: two API connections. Output: informers, and what all of them have in common. It must not interpret objects.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from kvip import metrics
from kvip.clock import Clock
from kvip.core.objects import EndpointSlice, Lease, Node, Service
from kvip.kube.api import Api
from kvip.kube.decode import ApiObject, ObjectDecoder
from kvip.kube.informer import Informer

T = TypeVar("T", bound=ApiObject)


class Caches:
    """Four informers; the Leases have a connection of their own."""

    def __init__(
        self,
        *,
        api: Api,
        lease_api: Api,
        lease_namespace: str,
        lease_filter: Mapping[str, str],
        services_in: str,
        service_kind: type[Service],
        clock: Clock,
        beat: Callable[[str], None],
        on_service: Callable[[str], None],
        on_slice: Callable[[str], None],
        on_node: Callable[[str], None],
        on_lease: Callable[[str], None],
        on_snapshot: Callable[[], None],
        on_leases: Callable[[], None],
    ) -> None:
        """`lease_namespace` ("" = all) and `lease_filter` (list parameters) choose the Leases. `services_in`: a namespace, "" = all;
        `service_kind`: what of a Service to decode. `on_snapshot`, `on_leases`: a cache is complete (again)."""
        self._clock = clock
        self._counted: dict[str, tuple[int, int]] = {}

        def informer(
            source: Api,
            name: str,
            path: str,
            kind: type[T],
            on_change: Callable[[str], None],
            *,
            complete: Callable[[], None] = on_snapshot,
        ) -> Informer[T]:
            return Informer(
                source,
                path,
                decoder=ObjectDecoder(kind),
                clock=clock,
                on_change=on_change,
                on_snapshot=complete,
                on_turn=lambda: beat(name),
                params=lease_filter if kind is Lease else {},
            )

        scope = f"/namespaces/{services_in}" if services_in else ""
        slices_path = f"/apis/discovery.k8s.io/v1{scope}/endpointslices"
        leases_in = f"/namespaces/{lease_namespace}" if lease_namespace else ""
        leases_path = f"/apis/coordination.k8s.io/v1{leases_in}/leases"
        self.services = informer(api, "informer-services", f"/api/v1{scope}/services", service_kind, on_service)
        self.slices = informer(api, "informer-endpointslices", slices_path, EndpointSlice, on_slice)
        self.nodes = informer(api, "informer-nodes", "/api/v1/nodes", Node, on_node)
        self.leases = informer(lease_api, "lease-watch", leases_path, Lease, on_lease, complete=on_leases)

    def _kinds(self) -> dict[str, Informer[Any]]:
        return {"services": self.services, "endpointslices": self.slices, "nodes": self.nodes, "leases": self.leases}

    def names(self) -> tuple[str, ...]:
        """The informers' names, as in logs and health."""
        return tuple(self._informers())

    def components(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What to run, by name."""
        return {name: informer.run for name, informer in self._informers().items()}

    def _informers(self) -> dict[str, Informer[Any]]:
        return {
            "informer-services": self.services,
            "informer-endpointslices": self.slices,
            "informer-nodes": self.nodes,
            "lease-watch": self.leases,
        }

    def renew(self) -> None:
        """What is known of the objects may be old: read them anew."""
        for informer in (self.services, self.slices, self.nodes):
            informer.renew()

    def retry_now(self) -> None:
        """The API server answers again."""
        for informer in (self.services, self.slices, self.nodes, self.leases):
            informer.retry_now()

    def synced(self) -> dict[str, bool]:
        """Which caches have been complete."""
        return {"services": self.services.synced, "endpointslices": self.slices.synced, "nodes": self.nodes.synced}

    def update_gauges(self) -> None:
        """Bring the metrics about the caches up to date."""
        now = self._clock.now()
        for kind, informer in self._kinds().items():
            relists, broken = self._counted.get(kind, (0, 0))
            metrics.informer_relists_total.labels(kind).inc(informer.relists - relists)
            metrics.informer_unreadable_total.labels(kind).inc(informer.broken - broken)
            self._counted[kind] = (informer.relists, informer.broken)
            metrics.informer_synced.labels(kind).set(informer.synced)
            metrics.informer_heard_seconds.labels(kind).set(now - informer.last_heard if informer.last_heard else -1)
