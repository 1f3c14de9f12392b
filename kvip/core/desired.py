"""What a Service asks for: is it ours, which addresses, and what is wrong with them.

Input: one Service, the rules of this daemon, and its surroundings (addresses and networks that are taken).
Output: a `Wish`. It must not look at what is bound or who holds what.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator

import msgspec

from kvip.core.model import ServiceKey, Uid, Vip, canonical
from kvip.core.objects import EndpointSlice, Node, Service
from kvip.core.service_rules import faults

ADDRESSES_ANNOTATION = "kube-vip.io/loadbalancerIPs"
IGNORE_ANNOTATION = "kube-vip.io/ignore"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Which Services this daemon serves."""

    load_balancer_class: str
    class_only: bool = False
    """True: a Service without a class is not ours."""
    service_security: bool = False
    """True: only a Service's ports are let through to its VIPs."""


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What is taken already: no VIP may equal any of it."""

    local_addresses: frozenset[Vip] = frozenset()
    """Addresses of this node that do not carry kvip's mark."""
    node_addresses: frozenset[Vip] = frozenset()
    """status.addresses of every Node object."""
    gateways: frozenset[Vip] = frozenset()
    """Next hops of this node's default routes."""
    api_servers: frozenset[Vip] = frozenset()
    """Where this daemon reaches the API server."""
    networks: tuple[Network, ...] = ()
    """Subnets of this node's NICs: their network and broadcast addresses are no host's."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why an address that a Service asks for is not bound; becomes a Warning Event."""

    reason: str
    message: str


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What one Service asks of kvip."""

    uid: Uid
    key: ServiceKey
    generation: int = 0
    addresses: tuple[Vip, ...] = ()
    problems: tuple[Problem, ...] = ()
    local_only: bool = False
    """externalTrafficPolicy: Local."""


def service_key(service: Service) -> ServiceKey:
    """namespace/name."""
    return ServiceKey(f"{service.metadata.namespace}/{service.metadata.name}")


def is_ours(service: Service, rules: Rules) -> bool:
    """True when this daemon serves the Service: type, class, the ignore annotation, and not being deleted."""
    if service.spec.type != "LoadBalancer" or service.metadata.deletion_timestamp:
        return False
    if (service.metadata.annotations or {}).get(IGNORE_ANNOTATION, "").strip().lower() == "true":
        return False
    wanted = service.spec.load_balancer_class
    return wanted == rules.load_balancer_class if wanted else not rules.class_only


def interpret(service: Service, rules: Rules, surroundings: Surroundings) -> Wish:
    """The Service's wish; empty addresses when it is not ours or asks for none that can be bound.

    Addresses come from the annotation `kube-vip.io/loadbalancerIPs` (comma-separated), else from
    spec.loadBalancerIP. A value that cannot be bound is named in `problems`; the others go on.
    """
    uid, key = Uid(service.metadata.uid), service_key(service)
    if not is_ours(service, rules):
        return Wish(uid=uid, key=key, generation=service.metadata.generation)
    addresses: dict[Vip, None] = {}
    problems: list[Problem] = []
    repeated: set[Vip] = set()
    source, values = _requested(service)
    for value in values:
        try:
            vip = _parse(value)
        except ValueError as error:
            problems.append(_problem(source, value, str(error)))
            continue
        fault = _refusal(vip, surroundings)
        if fault:
            problems.append(_problem(source, value, fault))
        elif vip in addresses:
            repeated.add(vip)
        else:
            addresses[vip] = None
    for vip in repeated:
        del addresses[vip]
        problems.append(_problem(source, vip, "is listed more than once; list it once"))
    if source and not values:
        problems.append(_problem(source, (service.metadata.annotations or {}).get(ADDRESSES_ANNOTATION, ""), "lists no address"))
    if rules.service_security:
        problems += [Problem(reason="ServiceSecurity", message=fault) for fault in faults(service)]
    return Wish(
        uid=uid,
        key=key,
        generation=service.metadata.generation,
        addresses=tuple(addresses),
        problems=tuple(problems),
        local_only=service.spec.external_traffic_policy == "Local",
    )


def serves_here(slices: Iterator[EndpointSlice], node: str) -> bool:
    """For externalTrafficPolicy Local: does this node have an endpoint that takes traffic?

    Ready, or serving while terminating (KEP-1672). A slice's endpoint without a nodeName cannot be placed, so the
    Service is then treated as with policy Cluster.
    """
    for piece in slices:
        for endpoint in piece.endpoints or ():
            conditions = endpoint.conditions
            usable = conditions is None or conditions.ready is not False or (conditions.serving is True and conditions.terminating is True)
            if usable and (endpoint.node_name is None or endpoint.node_name == node):
                return True
    return False


def addresses_of(node: Node) -> Iterator[Vip]:
    """The IP addresses in a Node's status, in canonical spelling; what is no IP there is left out."""
    for entry in node.status.addresses or ():
        with contextlib.suppress(ValueError):
            yield canonical(ipaddress.ip_address(entry.address))


def _requested(service: Service) -> tuple[str, list[str]]:
    annotations = service.metadata.annotations or {}
    if ADDRESSES_ANNOTATION in annotations:
        text = annotations[ADDRESSES_ANNOTATION]
        return f"annotation {ADDRESSES_ANNOTATION}", [part.strip() for part in text.split(",") if part.strip()]
    if service.spec.load_balancer_ip:
        return "spec.loadBalancerIP", [service.spec.load_balancer_ip.strip()]
    return "", []


def _problem(source: str, value: str, fault: str) -> Problem:
    shown = value if len(value) <= 64 else f"{value[:61]}... ({len(value)} characters)"
    return Problem(reason="InvalidAddress", message=f"{source}: {shown!r} {fault}; not bound")


def _parse(value: str) -> Vip:
    if len(value) > 64:
        raise ValueError("is too long to be an IP address")
    if "%" in value:
        raise ValueError("has a zone; a VIP is written without one")
    try:
        return canonical(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("is not an IP address") from None


def _refusal(vip: Vip, surroundings: Surroundings) -> str | None:
    ip = ipaddress.ip_address(vip)
    fault = _never_a_vip(ip)
    if fault:
        return fault
    if vip in surroundings.local_addresses:
        return "is an address of this node that kvip did not add; choose a free one"
    if vip in surroundings.node_addresses:
        return "is the address of a Node; choose a free one"
    if vip in surroundings.gateways:
        return "is the default gateway of this node; choose a free one"
    if vip in surroundings.api_servers:
        return "is the address of the API server; choose a free one"
    for network in surroundings.networks:
        if network.version == ip.version and network.prefixlen < network.max_prefixlen - 1:
            if ip == network.network_address:
                return f"is the network address of {network}"
            if network.version == 4 and ip == network.broadcast_address:
                return f"is the broadcast address of {network}"
    return None


_RESERVED_V4 = ipaddress.IPv4Network("240.0.0.0/4")
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")


def _never_a_vip(ip: Ip) -> str | None:
    if ip.is_unspecified or (ip.version == 4 and ip in _THIS_NETWORK):
        return "is not a host's address (0.0.0.0/8 and ::; kvip does not ask DHCP for one)"
    if ip.is_loopback:
        return "is a loopback address"
    if ip.is_multicast:
        return "is a multicast address"
    if ip.is_link_local:
        return "is a link-local address"
    if ip.version == 4 and ip in _RESERVED_V4:
        return "is a broadcast or reserved address (240.0.0.0/4)"
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return "is an IPv4-mapped IPv6 address; write the IPv4 address itself"
    return None
