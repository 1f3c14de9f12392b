"""The words that every part of kvip shares: addresses, Services, NICs, and what the kernel says of them.

Frozen data only: no clock, no I/O, no decision.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import NewType

import msgspec

Vip = NewType("Vip", str)
"""An address in canonical text (`ipaddress`'s form): "192.0.2.7", "2001:db8::7". The unit of ownership."""
Uid = NewType("Uid", str)
"""metadata.uid of a Service: tells a re-created Service from its predecessor of the same name."""
ServiceKey = NewType("ServiceKey", str)
"""namespace/name of a Service."""
IfIndex = NewType("IfIndex", int)
"""A NIC's index in this network namespace; the kernel may reuse it after the NIC is gone."""
Incarnation = NewType("Incarnation", str)
"""`<node>_<32 hex digits>`: one life of one daemon between two fences; what a Lease names as holder."""

MARK_PROTO = 0x6B
"""IFA_PROTO of every address that kvip adds (linux/if_addr.h, kernel >= 5.18; 0-3 are the kernel's own)."""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A NIC as the kernel reports it (RTM_NEWLINK)."""

    index: IfIndex
    name: str
    mac: bytes
    """Hardware address: 6 bytes on Ethernet, the first 6 of 20 on IPoIB, empty on some tunnels."""
    up: bool
    """IFF_UP."""
    carrier: bool
    """IFF_LOWER_UP."""
    arp_type: int = 1
    """ARPHRD_*: 1 = Ethernet, 32 = InfiniBand, 772 = loopback."""
    mtu: int = 1500
    master: IfIndex | None = None
    """Index of the bridge or bond that this NIC is a port of."""
    kind: str = ""
    """IFLA_INFO_KIND: "veth", "bridge", "vlan", "" for a physical NIC."""
    parent: IfIndex | None = None
    """IFLA_LINK: the NIC that a VLAN or macvlan device is on; None also where that is in another network namespace."""
    vlan_id: int | None = None
    """IFLA_VLAN_ID of a VLAN device."""
    arp: bool = True
    """False: IFF_NOARP."""


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """An address as the kernel reports it (RTM_NEWADDR). Lifetimes in seconds, None = forever."""

    ip: Vip
    prefix_len: int
    index: IfIndex
    proto: int = 0
    """IFA_PROTO; `MARK_PROTO` = added by kvip."""
    flags: int = 0
    """IFA_FLAGS (linux/if_addr.h): 0x80 permanent, 0x20 deprecated, 0x08 dadfailed, 0x40 tentative, ..."""
    scope: int = 0
    label: str = ""
    valid_s: int | None = None
    preferred_s: int | None = None
    peer: str = ""
    """IFA_ADDRESS when it differs from IFA_LOCAL (point-to-point)."""

    @property
    def marked(self) -> bool:
        """True when kvip added this address."""
        return self.proto == MARK_PROTO


class _Packed(dict[Vip, bytes]):
    """Addresses in both forms. A plain look-up: `lru_cache` moves its entries about with each."""

    def __missing__(self, vip: Vip) -> bytes:
        if len(self) >= _MOST_PACKED:
            self.clear()
        found = self[vip] = socket.inet_pton(socket.AF_INET6 if ":" in vip else socket.AF_INET, vip)
        return found


_MOST_PACKED = 65_536
_packed = _Packed()


def packed(vip: Vip) -> bytes:
    """Network-order bytes of an address: 4 or 16."""
    return _packed[vip]


def is_ipv6(vip: Vip) -> bool:
    """True for an IPv6 address."""
    return ":" in vip


def host_prefix(vip: Vip) -> int:
    """The prefix length that kvip binds with: 32 or 128, always."""
    return 128 if ":" in vip else 32


def canonical(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Vip:
    """The one spelling of an address that kvip uses as a key."""
    return Vip(str(ip))
