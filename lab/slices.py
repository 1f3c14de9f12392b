"""EndpointSlices as scenarios make them: which nodes have endpoints of a Service.

In: names. Out: objects and the path of their collection. It must not talk to the API server.
"""

from __future__ import annotations

from lab.admin import Json

SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"


def endpoint_slice(name: str, service: str, *nodes: str | None, ready: bool = True) -> Json:
    """A slice of a Service with one endpoint on each of these nodes; None = one that does not say where it is."""
    metadata = {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": service}}
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    body = {"addressType": "IPv4", "endpoints": endpoints(*nodes, ready=ready), "ports": ports}
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, **body}


def endpoints(*nodes: str | None, ready: bool = True) -> list[Json]:
    """Endpoints, one on each of these nodes."""
    places = [{"nodeName": node} if node else {} for node in nodes]
    return [{"addresses": [f"10.244.0.{n}"], "conditions": {"ready": ready}, **place} for n, place in enumerate(places, 5)]
