"""The caches of the API server's objects that this daemon reads: Services, EndpointSlices, Nodes, and Leases.

Input: two API connections. Output: informers, and what all of them have in common. It must not interpret objects.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

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
        namespace: str,
        lease_filter: Mapping[str, str],
        clock: Clock,
        on_service: Callable[[str], None],
        on_slice: Callable[[str], None],
        on_node: Callable[[str], None],
        on_lease: Callable[[str], None],
        on_snapshot: Callable[[], None],
        on_leases: Callable[[], None],
    ) -> None:
        """`lease_filter`: list parameters that choose the Leases. `on_snapshot`, `on_leases`: a cache is complete (again)."""
        self._clock = clock

        def informer(source: Api, path: str, kind: type[T], on_change: Callable[[str], None], complete: Callable[[], None],
                     params: Mapping[str, str] | None = None) -> Informer[T]:  # fmt: skip
            return Informer(
                source, path, decoder=ObjectDecoder(kind), clock=clock, on_change=on_change, on_snapshot=complete, params=dict(params or {})
            )

        self.services = informer(api, "/api/v1/services", Service, on_service, on_snapshot)
        self.slices = informer(api, "/apis/discovery.k8s.io/v1/endpointslices", EndpointSlice, on_slice, on_snapshot)
        self.nodes = informer(api, "/api/v1/nodes", Node, on_node, on_snapshot)
        leases_path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self.leases = informer(lease_api, leases_path, Lease, on_lease, on_leases, lease_filter)

    def components(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What to run, by name."""
        return {
            "informer-services": self.services.run,
            "informer-endpointslices": self.slices.run,
            "informer-nodes": self.nodes.run,
            "lease-watch": self.leases.run,
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
        for kind, informer in (("services", self.services), ("endpointslices", self.slices), ("nodes", self.nodes)):
            metrics.informer_synced.labels(kind).set(informer.synced)
            metrics.informer_heard_seconds.labels(kind).set(now - informer.last_heard if informer.last_heard else -1)
