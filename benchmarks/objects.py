"""Services and EndpointSlices as an API server sends them, with the fields that kvip does not read: JSON of realistic size.

In: a number. Out: the body of a list, or records. No randomness: the same for the same number.
"""

from __future__ import annotations

import msgspec

from kvip.core.model import ServiceKey, Vip
from kvip.core.objects import EndpointSlice, Service
from kvip.kube.decode import ObjectDecoder, object_key

_TIME = "2026-01-01T00:00:00Z"


def vip(number: int) -> Vip:
    """The address that Service `number` asks for."""
    return Vip(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")


def key(number: int) -> ServiceKey:
    """namespace/name of Service `number`."""
    return ServiceKey(f"default/web{number}")


def _metadata(kind: str, number: int, version: int) -> dict[str, object]:
    return {
        "name": f"web{number}" if kind == "service" else f"web{number}-abcde",
        "namespace": "default",
        "uid": f"00000000-0000-4000-8000-{number:012x}" if kind == "service" else f"00000000-0000-4000-9000-{number:012x}",
        "resourceVersion": str(1_000_000 + version),
        "creationTimestamp": _TIME,
        "managedFields": [
            {
                "manager": "kubectl-create",
                "operation": "Update",
                "apiVersion": "v1",
                "time": _TIME,
                "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": {"f:ports": {'k:{"port":80,"protocol":"TCP"}': {"f:port": {}, "f:targetPort": {}}}, "f:type": {}}},
            }
        ],
    }


def service(number: int, *, version: int = 1) -> dict[str, object]:
    """One Service, with its address in an annotation and in its status."""
    metadata = _metadata("service", number, version)
    metadata["annotations"] = {"kube-vip.io/loadbalancerIPs": vip(number), "example.com/revision": str(version)}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": f"172.16.{number >> 8 & 255}.{number & 255}",
            "clusterIPs": [f"172.16.{number >> 8 & 255}.{number & 255}"],
            "externalTrafficPolicy": "Cluster",
            "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": 30_000 + number % 2_768}],
            "selector": {"app": f"web{number}"},
            "sessionAffinity": "None",
        },
        "status": {"loadBalancer": {"ingress": [{"ip": vip(number), "ipMode": "VIP"}]}},
    }


def endpoint_slice(number: int) -> dict[str, object]:
    """The EndpointSlice of Service `number`, with three endpoints on three nodes."""
    metadata = _metadata("slice", number, 1)
    metadata["labels"] = {
        "kubernetes.io/service-name": f"web{number}",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller",
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [f"10.244.{node}.{number & 255}"],
                "nodeName": f"n{node}",
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "targetRef": {"kind": "Pod", "namespace": "default", "name": f"web{number}-{node}", "uid": metadata["uid"]},
            }
            for node in (1, 2, 3)
        ],
    }


def list_body(kind: str, count: int) -> bytes:
    """The answer to a list of so many: `kind` is "service" or "slice"."""
    make = service if kind == "service" else endpoint_slice
    return msgspec.json.encode(
        {"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}, "items": [make(n) for n in range(1, count + 1)]}
    )


def services(count: int) -> dict[str, Service]:
    """An informer's store of so many Services."""
    return {object_key(item): item for item in ObjectDecoder(Service).page(list_body("service", count)).items}


def one_service(number: int, *, version: int) -> Service:
    """One Service as a watch shows it."""
    return ObjectDecoder(Service).item(msgspec.json.encode(service(number, version=version)))


def slices(count: int) -> dict[str, EndpointSlice]:
    """An informer's store of so many EndpointSlices."""
    return {object_key(item): item for item in ObjectDecoder(EndpointSlice).page(list_body("slice", count)).items}
