"""Strays: addresses on the VIPs' NICs that look like VIPs, but that kvip did not add and that nobody can answer for.

Input: addresses without kvip's mark, the Services, the ranges that an operator named. Output: the strays among them. Pure: no
clock, no I/O. What may be this node's own address is never a stray.

A Service of ours gets its addresses from kvip, with the mark: the same value without it is a stray. A Service that is not
ours may have another daemon, which binds as it likes: its addresses have an owner.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec

from kvip.core.addresses import LONGEST_ADDRESS, Ip, Network
from kvip.core.annotations import ADDRESSES
from kvip.core.desired import MOST_ADDRESSES, Rules, is_ours, parts_of, service_key
from kvip.core.model import Address, IfIndex, ServiceKey, Uid, Vip, canonical, host_prefix, is_ipv6
from kvip.core.objects import Service


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """A Service that has, or had, an address."""

    service: ServiceKey
    uid: Uid
    ours: bool = False
    """Is it this daemon's to serve?"""


class Stray(msgspec.Struct, frozen=True, kw_only=True):
    """An address that nobody answers for."""

    address: Address
    nic: str
    reason: str
    """Why it is one, in words that follow the address."""
    services: tuple[Owner, ...] = ()
    """The Services that ask for it, or the last that did."""
    outcome: str = ""
    """"reported", "removed" or "not removed: why"; empty before it was acted on."""

    @property
    def message(self) -> str:
        """One sentence for an Event."""
        done = {"removed": "removed", "reported": "left alone"}.get(self.outcome, self.outcome)
        return f"{self.address.ip} on {self.nic} {self.reason}{'; ' + done if done else ''}"


class Managed(msgspec.Struct, frozen=True, kw_only=True):
    """The addresses that are managed: by a Service now, by one that was seen before, or by an operator's range."""

    now: Mapping[Vip, tuple[Owner, ...]] = {}
    former: Mapping[Vip, Owner] = {}
    ranges: tuple[Network, ...] = ()


def parse_ranges(text: str) -> tuple[Network, ...]:
    """Comma-separated CIDRs; empty for none. Raises ValueError naming the one that cannot be used."""
    return tuple(_range(part) for part in filter(None, (part.strip() for part in text.split(","))))


def addresses_in(service: Service) -> frozenset[Vip]:
    """Every address that a Service of type LoadBalancer names, wherever: annotation, spec.loadBalancerIP, status."""
    if service.spec.type != "LoadBalancer":
        return frozenset()
    texts = [
        *parts_of((service.metadata.annotations or {}).get(ADDRESSES, ""))[:MOST_ADDRESSES],
        service.spec.load_balancer_ip,
        *(entry.ip for entry in service.ingress),
    ]
    return frozenset(_addresses(texts))


def owner_of(service: Service, rules: Rules) -> Owner:
    """The Service as an owner."""
    return Owner(service=service_key(service), uid=Uid(service.metadata.uid), ours=is_ours(service, rules))


def suspects(unmarked: Iterable[Address], nics: Mapping[IfIndex, str]) -> list[Address]:
    """Addresses on the VIPs' NICs that are not the node's own by their form; the cheap question, asked first.

    A VIP has a host prefix. So may a node's own address: the first one on a NIC that has no other of that family.
    """
    here = [address for address in unmarked if address.index in nics and _routable(address)]
    own = _primaries(here)
    return [address for address in here if address.prefix_len == host_prefix(address.ip) and not address.peer and address not in own]


def find_strays(
    candidates: Iterable[Address], managed: Managed, *, nics: Mapping[IfIndex, str], node_addresses: Collection[Vip]
) -> list[Stray]:
    """The strays among `suspects`."""
    found: list[Stray] = []
    for address in candidates:
        if address.ip in node_addresses:
            continue
        judged = _judge(address.ip, managed)
        if judged is not None:
            reason, owners = judged
            found.append(Stray(address=address, nic=nics[address.index], reason=reason, services=owners))
    return found


def _judge(vip: Vip, managed: Managed) -> tuple[str, tuple[Owner, ...]] | None:
    owners = managed.now.get(vip, ())
    ours = tuple(owner for owner in owners if owner.ours)
    if ours:
        return f"is the VIP of {_names(ours)}, but was not bound by kvip", ours
    if owners:
        return None
    former = managed.former.get(vip)
    if former is not None:
        return f"was the VIP of {former.service}, which no longer has it", (former,)
    ip = ipaddress.ip_address(vip)
    inside = next((network for network in managed.ranges if network.version == ip.version and ip in network), None)
    return None if inside is None else (f"lies in {inside}, and no Service has it", ())


def _names(owners: Iterable[Owner]) -> str:
    return ", ".join(sorted(owner.service for owner in owners))


def _routable(address: Address) -> bool:
    ip = ipaddress.ip_address(address.ip)
    return not (ip.is_link_local or ip.is_loopback or ip.is_multicast)


def _primaries(addresses: Iterable[Address]) -> list[Address]:
    """The address of each NIC and family that is the node's own: the first with a subnet's prefix, else the first of all."""
    first: dict[tuple[IfIndex, bool], Address] = {}
    for address in addresses:
        key = (address.index, is_ipv6(address.ip))
        known = first.get(key)
        if known is None or (known.prefix_len == host_prefix(known.ip) and address.prefix_len < host_prefix(address.ip)):
            first[key] = address
    return list(first.values())


def _addresses(texts: Iterable[str]) -> Iterator[Vip]:
    for text in texts:
        stripped = text.strip()
        if stripped and len(stripped) <= LONGEST_ADDRESS and "%" not in stripped:
            with contextlib.suppress(ValueError):
                yield canonical(ipaddress.ip_address(stripped))


def _range(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text[:LONGEST_ADDRESS])
    except ValueError as error:
        raise ValueError(f"{text[:LONGEST_ADDRESS]!r} is not a range such as 192.0.2.0/24: {error}") from None
    first: Ip = network.network_address
    if network.prefixlen == 0 or first.is_multicast or first.is_loopback or first.is_link_local:
        raise ValueError(f"{text!r}: holds addresses that are never VIPs, or all there are; name the ranges that VIPs come from")
    return network
