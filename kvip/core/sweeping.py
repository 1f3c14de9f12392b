"""What a sweep by hand takes and what it leaves.

Input: this host's addresses and NICs, and the words of an administrator. Output: which addresses go, which are refused and
why. Pure: no clock, no I/O. An address without kvip's mark is taken only when it was named, or is a named VIP to adopt.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping

import msgspec

from kvip.core.addresses import network_of
from kvip.core.model import Address, IfIndex, Link, Vip, canonical, host_prefix, is_ipv6
from kvip.core.ruleset import FAMILIES, TABLE
from kvip.core.service_rules import FAMILY as SERVICE_FAMILY
from kvip.core.service_rules import TABLE as SERVICE_TABLE

KUBE_VIP_IPTABLES = "kube-vip-iptables"
"""Word for kube-vip's rules and chains in the tables filter, nat and mangle, whatever tool wrote them."""
TABLE_WORD = "nft:"
"""A table of nf_tables is named `nft:FAMILY:NAME`."""

_LOOPBACK = 772
"""ARPHRD_LOOPBACK (linux/if_arp.h)."""
_SECONDARY = 0x01
"""IFA_F_SECONDARY (linux/if_addr.h): IPv4, in the subnet of an address that was there first."""
_DEPRECATED = 0x20
"""IFA_F_DEPRECATED: preferred lifetime over."""
_TABLE = re.compile(r"nft:(ip|ip6|inet|arp|bridge|netdev):\S+")
OWN_TABLES = {TABLE: FAMILIES, SERVICE_TABLE: (SERVICE_FAMILY,)}
"""kvip's tables in nf_tables, and their families: the dead-man's switch, and the Services' ports."""
_OWN_WORDS = frozenset(f"{TABLE_WORD}{family}:{table}" for table, families in OWN_TABLES.items() for family in families)


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """An address as named: ADDR, ADDR/PREFIX, ADDR@NIC or ADDR/PREFIX@NIC."""

    ip: Vip
    prefix_len: int | None = None
    nic: str = ""

    @property
    def text(self) -> str:
        """As it was named, in canonical spelling."""
        prefix = "" if self.prefix_len is None else f"/{self.prefix_len}"
        return f"{self.ip}{prefix}{'@' if self.nic else ''}{self.nic}"


class Also(msgspec.Struct, frozen=True, kw_only=True):
    """What goes besides kvip's own, one by one."""

    addresses: tuple[Named, ...] = ()
    words: frozenset[str] = frozenset()


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel says of this network namespace."""

    addresses: tuple[Address, ...]
    """In the kernel's order: an IPv4 primary comes before its secondaries."""
    links: Mapping[IfIndex, Link] = {}
    default_nic: str = ""
    """The NIC of the default route, empty when there is none."""
    promoting: frozenset[IfIndex] = frozenset()
    """NICs on which a secondary outlives its primary (sysctl promote_secondaries)."""

    def nic(self, address: Address) -> str:
        """The name of the NIC that an address is on, its index when it has none."""
        link = self.links.get(address.index)
        return link.name if link is not None else str(address.index)

    def word(self, address: Address) -> str:
        """The address named so that it can be no other."""
        return f"{address.ip}/{address.prefix_len}@{self.nic(address)}"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One address: taken when `refusal` is empty. Without an address: what was named is not here."""

    address: Address | None = None
    refusal: str = ""


def parse_also(text: str) -> Also:
    """The list of `--also`, comma-separated. Raises ValueError naming the word that cannot be used."""
    addresses: list[Named] = []
    words: set[str] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        if part in _OWN_WORDS:
            raise ValueError(f"{part!r} is kvip's own table: it goes without being named")
        if part == KUBE_VIP_IPTABLES or _TABLE.fullmatch(part):
            words.add(part)
        else:
            addresses.append(_named(part))
    return Also(addresses=tuple(dict.fromkeys(addresses)), words=frozenset(words))


def parse_vips(text: str) -> frozenset[Vip]:
    """A comma-separated list of addresses. Raises ValueError naming the one that is none."""
    return frozenset(_address(part) for part in filter(None, (part.strip() for part in text.split(","))))


def judge_named(named: Named, host: Host) -> Verdict:
    """The address that was named, or why it stays. One with kvip's mark goes anyway and is no matter of this."""
    here = [address for address in host.addresses if address.ip == named.ip]
    found = [
        address
        for address in here
        if named.prefix_len in (None, address.prefix_len) and (not named.nic or host.nic(address) == named.nic) and not address.marked
    ]
    if not found:
        others = ", ".join(host.word(address) for address in here if not address.marked)
        return Verdict(refusal=f"not so here; there is {others}" if others else "")
    if len(found) > 1:
        return Verdict(refusal=f"more than one is called so; name one of {', '.join(host.word(address) for address in found)}")
    return Verdict(address=found[0], refusal=_refusal(found[0], named, host))


def judge_adoption(host: Host, vips: Iterable[Vip]) -> list[Verdict]:
    """Every address without the mark whose value is one of these VIPs, and whether it can be taken over."""
    wanted = frozenset(vips)
    return [
        Verdict(address=address, refusal=_not_adoptable(address, host))
        for address in host.addresses
        if address.ip in wanted and not address.marked
    ]


def leftovers(host: Host) -> list[Address]:
    """Addresses without the mark that look like another daemon's VIPs; listed only.

    kube-vip adds a host prefix, or the subnet's on request, valid for ever and with a preferred lifetime of 0. An overlay
    NIC's or a /32 node's own address stands alone on its NIC, a VIP beside another one.
    """
    return [address for address in host.addresses if not address.marked and _on_a_nic(address, host) and _looks_left(address, host)]


def taken_along(address: Address, host: Host) -> list[Address]:
    """The addresses that the kernel deletes with this one: IPv4 secondaries in its subnet, unless the NIC promotes them (devinet.c)."""
    if is_ipv6(address.ip) or address.prefix_len == 32 or address.flags & _SECONDARY or address.index in host.promoting:
        return []
    subnet = network_of(address.ip, address.prefix_len)
    return [
        other
        for other in host.addresses
        if other.index == address.index
        and other.prefix_len == address.prefix_len
        and other.flags & _SECONDARY
        and not is_ipv6(other.ip)
        and ipaddress.ip_address(other.ip) in subnet
    ]


def _refusal(address: Address, named: Named, host: Host) -> str:
    if not _on_a_nic(address, host):
        return f"{host.nic(address)} is the loopback NIC, or the address is loopback or link-local: no daemon's VIP"
    named_in_full = f"it may be this node's own; if it is to go, name it in full: {address.ip}/{address.prefix_len}"
    if named.prefix_len is None and address.prefix_len != host_prefix(address.ip):
        return f"it has the prefix /{address.prefix_len}: {named_in_full}"
    if named.prefix_len is None and host.nic(address) == host.default_nic and _alone(address, host):
        return f"it is the only address of {host.default_nic}, the NIC of the default route: {named_in_full}"
    along = taken_along(address, host)
    if along:
        names = ", ".join(f"{other.ip}/{other.prefix_len}" for other in along)
        nic = host.nic(address)
        return f"the kernel would delete {names} with it; first set net.ipv4.conf.{nic}.promote_secondaries=1"
    return ""


def _not_adoptable(address: Address, host: Host) -> str:
    link = host.links.get(address.index)
    if address.prefix_len != host_prefix(address.ip):
        return (
            f"its prefix is /{address.prefix_len}; kvip holds VIPs with /{host_prefix(address.ip)} only: bound first, one with a subnet's \
prefix takes the node's own address with it when deleted"
        )
    if address.peer:
        return f"it is point-to-point (peer {address.peer}), which kvip never binds"
    if not _on_a_nic(address, host):
        return f"{host.nic(address)} is no NIC that VIPs are announced on"
    if link is not None and link.kind == "dummy":
        return f"{link.name} is a dummy NIC, as kube-proxy's kube-ipvs0; what is on it was not announced"
    if host.nic(address) == host.default_nic and _alone(address, host):
        return f"it is the only address of {host.default_nic}, the NIC of the default route: this node's own"
    return ""


def _on_a_nic(address: Address, host: Host) -> bool:
    """Neither on the loopback NIC nor an address that is never a VIP."""
    link = host.links.get(address.index)
    ip = ipaddress.ip_address(address.ip)
    return not (ip.is_loopback or ip.is_link_local or (link is not None and link.arp_type == _LOOPBACK))


def _looks_left(address: Address, host: Host) -> bool:
    link = host.links.get(address.index)
    if link is not None and link.kind == "dummy":
        return False
    if address.flags & _DEPRECATED and address.valid_s is None:
        return True
    return address.prefix_len == host_prefix(address.ip) and not address.peer and not _alone(address, host)


def _alone(address: Address, host: Host) -> bool:
    """Is it the only address of its family on its NIC that is not link-local and not kvip's?"""
    return not any(
        other.index == address.index
        and is_ipv6(other.ip) == is_ipv6(address.ip)
        and not other.marked
        and (other.ip, other.prefix_len) != (address.ip, address.prefix_len)
        and not ipaddress.ip_address(other.ip).is_link_local
        for other in host.addresses
    )


def _named(part: str) -> Named:
    text, _, nic = part.partition("@")
    value, slash, prefix = text.partition("/")
    try:
        ip = _address(value)
    except ValueError:
        raise ValueError(
            f"{part[:80]!r} is neither an address (ADDR, ADDR/PREFIX, ADDR@NIC) nor one of the words {KUBE_VIP_IPTABLES}, nft:FAMILY:NAME"
        ) from None
    if slash and not (prefix.isascii() and prefix.isdecimal() and int(prefix) <= host_prefix(ip)):
        raise ValueError(f"{part[:80]!r}: the prefix is a number from 0 to {host_prefix(ip)}")
    return Named(ip=ip, prefix_len=int(prefix) if slash else None, nic=nic)


def _address(text: str) -> Vip:
    if len(text) > 64 or "%" in text:
        raise ValueError(f"{text[:64]!r} is not an address")
    try:
        return canonical(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"{text!r} is not an address") from None
