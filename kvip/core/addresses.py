"""Which text is an address that may be a VIP.

Input: text, the families of a Service, what is taken already. Output: the canonical address, or why it cannot be bound. It must not know of
other Services: `core.sharing` does.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import msgspec

from kvip.core.model import Vip, canonical, is_ipv6
from kvip.core.objects import Node

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LONGEST_ADDRESS = 64
"""Characters; longer text is no address, and is not tried."""
MOST_NETWORKS_SHOWN = 5
PARSED_LIMIT = 32_768
"""Addresses that are remembered as they were parsed: some MiB. Annotation, spec and status of a Service name the same ones."""


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


@lru_cache(maxsize=4_096)
def network_of(ip: Vip, prefix_len: int) -> Network:
    """The subnet that an address with this prefix length is in. Remembered: it is asked for at each turn of the daemon's loops."""
    return ipaddress.ip_network(f"{ip}/{prefix_len}", strict=False)


@lru_cache(maxsize=PARSED_LIMIT)
def parse(value: str) -> Vip:
    """The address in canonical form, remembered. Raises ValueError with the fault."""
    if len(value) > LONGEST_ADDRESS:
        raise ValueError("is too long to be an IP address")
    if "%" in value:
        raise ValueError("has a zone; a VIP is written without one")
    try:
        return canonical(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("is not an IP address") from None


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """The networks that these texts name. Raises ValueError for one that names none."""
    return tuple(map(ipaddress.ip_network, texts))


def range_refusal(vip: Vip, allowed: Sequence[Network]) -> str | None:
    """Why an address lies where this kvip may take none from; empty `allowed` = it may be any."""
    ip = ipaddress.ip_address(vip)
    if not allowed or any(ip in network for network in allowed):
        return None
    shown = ", ".join(map(str, allowed[:MOST_NETWORKS_SHOWN])) + (" and more" if len(allowed) > MOST_NETWORKS_SHOWN else "")
    return f"is outside allow-cidr ({shown}); choose one inside, or have its network added to allow-cidr on every node"


def family_refusal(vip: Vip, families: tuple[str, ...] | None) -> str | None:
    """Why a Service of these families cannot have the address. `ipFamilies` is what `ipFamilyPolicy` came to (KEP-563)."""
    family = "IPv6" if is_ipv6(vip) else "IPv4"
    if not families or family in families:
        return None
    return f"is {family}, and spec.ipFamilies of the Service is {', '.join(families)[:40]}: nothing would answer; make it dual stack"


def refusal(vip: Vip, surroundings: Surroundings) -> str | None:
    """Why the address cannot be a VIP here; None = it can."""
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


def addresses_of(node: Node) -> Iterator[Vip]:
    """The IP addresses in a Node's status, in canonical spelling; what is no IP there is left out."""
    for entry in node.status.addresses or ():
        with contextlib.suppress(ValueError):
            yield canonical(ipaddress.ip_address(entry.address))


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
