"""EndpointSlices as scenarios make them: which nodes have ready endpoints of a Service.

In: names. Out: objects and the path of their collection. It must not talk to the API server.
"""

from __future__ import annotations

from lab.admin import Json

SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"


def endpoint_slice(name: str, service: str, *nodes: str) -> Json:
    """A slice of a Service with one ready endpoint on each of these nodes."""
    metadata = {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": service}}
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    body = {"addressType": "IPv4", "endpoints": endpoints(*nodes), "ports": ports}
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, **body}


def endpoints(*nodes: str) -> list[Json]:
    """Ready endpoints, one on each of these nodes."""
    return [{"addresses": [f"10.244.0.{n}"], "nodeName": node, "conditions": {"ready": True}} for n, node in enumerate(nodes, 5)]
