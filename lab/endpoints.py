"""The endpoints of a Service, made by hand: no controller runs beside the lab's API servers.

In: a `Cluster`, a Service's name, nodes. Out: one EndpointSlice that follows, and is gone afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lab.cluster import Cluster
from lab.slices import SLICES, endpoint_slice


class ServiceEndpoints:
    """The one slice of a Service."""

    def __init__(self, cluster: Cluster, service: str) -> None:
        self._cluster = cluster
        self._service = service
        self._name = f"{service}-lab"

    def put(self, *nodes: str | None, ready: bool = True) -> None:
        """The endpoints are on these nodes now."""
        self._cluster.request("PATCH", f"{SLICES}/{self._name}", endpoint_slice(self._name, self._service, *nodes, ready=ready))

    def create(self, *nodes: str | None) -> None:
        """The slice appears."""
        self._cluster.request("POST", SLICES, endpoint_slice(self._name, self._service, *nodes))

    def delete(self) -> None:
        """The slice goes."""
        self._cluster.request("DELETE", f"{SLICES}/{self._name}")


@contextmanager
def endpoints_of(cluster: Cluster, service: str, *nodes: str | None) -> Iterator[ServiceEndpoints]:
    """Endpoints of a Service on these nodes, for as long as the block lasts."""
    endpoints = ServiceEndpoints(cluster, service)
    endpoints.create(*nodes)
    try:
        yield endpoints
    finally:
        endpoints.delete()
