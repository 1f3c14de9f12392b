"""Defaults and validation of Services that matter to a load balancer. Pure.

From pkg/apis/core/v1/defaults.go, pkg/registry/core/service/{strategy,storage}.go and pkg/apis/core/validation of v1.34.4, each
tried there. Cluster IPs and node ports are made from the UID and never checked for uniqueness.
"""

from __future__ import annotations

import ipaddress
import zlib

from lab.apiserver.status import Obj, StatusError, invalid

_LB_ONLY = ("loadBalancerClass", "allocateLoadBalancerNodePorts")
_EXTERNAL_ONLY = ("externalTrafficPolicy", "healthCheckNodePort")


def fill(new: Obj, old: Obj | None) -> None:
    """Fill in what the server would, and drop what belongs to a type that is no longer, in place."""
    spec: Obj = new.setdefault("spec", {})
    kind = spec.setdefault("type", "ClusterIP")
    balanced, external = kind == "LoadBalancer", kind in {"LoadBalancer", "NodePort"}
    spec.setdefault("sessionAffinity", "None")
    if kind != "ExternalName":
        digest = zlib.crc32(new["metadata"]["uid"].encode())
        earlier = (old or {}).get("spec", {})
        if not spec.get("clusterIP"):
            spec["clusterIP"] = earlier.get("clusterIP") or f"10.96.{digest >> 8 & 255}.{digest & 255}"
        spec.setdefault("clusterIPs", [spec["clusterIP"]])
        policy = spec.setdefault("ipFamilyPolicy", "SingleStack")
        spec.setdefault("ipFamilies", ["IPv4"] if policy == "SingleStack" else ["IPv4", "IPv6"])
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if external:
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if balanced:
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    if old is not None:
        _drop_of_other_type(spec, old["spec"], _LB_ONLY, needed=balanced)
        _drop_of_other_type(spec, old["spec"], _EXTERNAL_ONLY, needed=external)
    for port in spec.get("ports") or []:
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))
        if kind == "ClusterIP":
            port.pop("nodePort", None)
        elif kind == "NodePort" or spec.get("allocateLoadBalancerNodePorts"):
            port.setdefault("nodePort", 30_000 + zlib.crc32(f"{new['metadata']['uid']}{port.get('port')}".encode()) % 2_768)
    status: Obj = new.get("status") or {}
    if old is not None and not balanced and old["spec"].get("type") == "LoadBalancer":
        status = {}  # Strategy.PrepareForUpdate: the status of a balancer goes with the type.
    balancer: Obj = status.get("loadBalancer") or {}
    new["status"] = status | {"loadBalancer": balancer if balancer.get("ingress") else {}}


def _drop_of_other_type(spec: Obj, old_spec: Obj, fields: tuple[str, ...], *, needed: bool) -> None:
    """dropTypeDependentFields: a field that only the former type has goes, unless this very update sets it."""
    for field in fields:
        if not needed and spec.get(field) == old_spec.get(field):
            spec.pop(field, None)


def check(new: Obj, old: Obj | None) -> None:
    """Refuse what the real server refuses. Errors: 400, 422."""
    name, spec = new["metadata"]["name"], new["spec"]
    ports = spec.get("ports") or []
    if not isinstance(ports, list) or not all(isinstance(port, dict) for port in ports):
        raise StatusError(400, 'Service in version "v1" cannot be handled as a Service: spec.ports is no list of objects')
    if not ports and spec["type"] != "ExternalName" and spec.get("clusterIP") != "None":
        raise invalid("Service", "", name, "spec.ports", "Required value")
    for index, port in enumerate(ports):
        if not (isinstance(port.get("port"), int) and 1 <= port["port"] <= 65_535):
            problem = f"Invalid value: {port.get('port')}: must be between 1 and 65535, inclusive"
            raise invalid("Service", "", name, f"spec.ports[{index}].port", problem)
    balanced = spec["type"] == "LoadBalancer"
    if not balanced and spec.get("loadBalancerClass") is not None:
        raise invalid("Service", "", name, "spec.loadBalancerClass", "Forbidden: may only be used when `type` is 'LoadBalancer'")
    if old is not None and balanced and old["spec"].get("type") == "LoadBalancer":
        wanted, former = spec.get("loadBalancerClass"), old["spec"].get("loadBalancerClass")
        if wanted != former:
            problem = f"Invalid value: {'null' if wanted is None else chr(34) + str(wanted) + chr(34)}: may not change once set"
            raise invalid("Service", "", name, "spec.loadBalancerClass", problem)
    ingress = new["status"]["loadBalancer"].get("ingress") or []
    if ingress and not balanced:
        problem = "Forbidden: may only be used when `spec.type` is 'LoadBalancer'"
        raise invalid("Service", "", name, "status.loadBalancer.ingress", problem)
    for index, entry in enumerate(ingress):
        _check_ingress(name, f"status.loadBalancer.ingress[{index}]", entry)


def _check_ingress(name: str, field: str, entry: Obj) -> None:
    address, mode = entry.get("ip"), entry.get("ipMode")
    if address:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            problem = f'Invalid value: "{address}": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'
            raise invalid("Service", "", name, f"{field}.ip", problem) from None
        if mode is None:
            raise invalid("Service", "", name, f"{field}.ipMode", "Required value: must be specified when `ip` is set")
    if mode is not None and not address:
        raise invalid("Service", "", name, f"{field}.ipMode", "Forbidden: may not be specified when `ip` is not set")
    if mode not in {None, "VIP", "Proxy"}:
        raise invalid("Service", "", name, f"{field}.ipMode", f'Unsupported value: "{mode}": supported values: "Proxy", "VIP"')
