"""Which NIC a VIP goes to on this node: by its Services' annotations, else by the settings.

Input: annotations, settings, NICs and subnets as the kernel reports them. Output: a `Placed`: the NIC, or why none. The VIP's NIC is always
the top-most layer-3 device: never a port of a bridge or bond, but its master. It must not look at what is bound, nor make devices.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from kvip.checks import nic_name_fault
from kvip.core import annotations as notes
from kvip.core.addresses import Network, network_of
from kvip.core.model import Address, IfIndex, Link, Vip
from kvip.core.problem import Problem, about
from kvip.core.ruleset import check_nic

AUTO = "auto"
"""The NIC whose subnet contains the address."""
VLAN_IDS = range(1, 4095)
"""0 and 4095 are reserved (IEEE 802.1Q)."""
ETHERNET, INFINIBAND, LOOPBACK = 1, 32, 772
"""ARPHRD_* (linux/if_arp.h)."""
LAYER3_MASTERS = frozenset({"vrf"})
"""A NIC under a master of these kinds keeps its own addresses and neighbours (Documentation/networking/vrf.rst)."""
SWITCH_MASTERS = frozenset({"openvswitch"})
"""Masters that are not themselves the device with the address: Open vSwitch puts each port under its datapath."""
DEEPEST_STACK = 8

Parser = Callable[[str], tuple[str, int]]


class NicChoice(msgspec.Struct, frozen=True, kw_only=True):
    """What one annotation, or the settings, say of the NIC."""

    source: str
    """How a message names where it stands."""
    value: str
    """As it is written there."""
    nic: str = AUTO
    """A NIC's name, or `AUTO`."""
    vlan: int = 0
    """The VLAN device with this id on that NIC is meant; 0 = the NIC itself."""
    readable: bool = True
    """False: it cannot be understood."""

    @property
    def by_subnet(self) -> bool:
        """Does the NIC depend on the address?"""
        return self.readable and self.nic == AUTO


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """Where a VIP goes on this node."""

    nic: str = ""
    """The NIC's name; "" = there is none for it here."""
    index: IfIndex = IfIndex(0)
    fault: str = ""
    """Why there is none, as the rest of a sentence about the value."""
    port: str = ""
    """The NIC that was named, where it is a port and `nic` its master."""
    known: bool = True
    """False: nothing is to be moved for lack of knowledge."""


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """The NICs of this node, and the subnets of its own addresses."""

    by_index: Mapping[IfIndex, Link]
    by_name: Mapping[str, Link]
    children: Mapping[IfIndex, tuple[Link, ...]]
    """VLAN devices by the NIC that they are on."""
    table: tuple[tuple[Network, Placed], ...]
    """For `AUTO`: subnets and the NICs they lead to; usable ones first, then the longest prefix."""


def read_choice(annotations: Mapping[str, str]) -> tuple[NicChoice | None, list[Problem]]:
    """What a Service says of its NIC; None = nothing. `serviceVLAN` wins over `serviceInterface`."""
    nic, vlan = (annotations.get(key, "").strip() for key in (notes.INTERFACE, notes.VLAN))
    if not vlan:
        return _read(notes.INTERFACE, nic, parse_nic) if nic else (None, [])
    choice, problems = _read(notes.VLAN, vlan, parse_vlan)
    if nic and nic not in (AUTO, vlan, choice.nic):
        fault = f"has no effect: {notes.VLAN} names another NIC, and is the one that counts; remove one of them"
        problems.append(notes.invalid(notes.INTERFACE, nic, fault))
    return choice, problems


def parse_nic(text: str) -> tuple[str, int]:
    """A NIC's name or `AUTO`. Raises ValueError with the fault."""
    fault = nic_name_fault(text)
    if fault:
        raise ValueError(fault)
    return text, 0


def parse_vlan(text: str) -> tuple[str, int]:
    """NIC.VLANID. Raises ValueError with the fault."""
    nic, dot, number = text.rpartition(".")
    if not (dot and nic and re.fullmatch(r"[0-9]{1,4}", number)):
        raise ValueError("is not of the form NIC.VLANID, such as eth0.200")
    if int(number) not in VLAN_IDS:
        raise ValueError(f"names VLAN {int(number)}; a VLAN's id is {VLAN_IDS.start} to {VLAN_IDS.stop - 1}")
    if nic == AUTO:
        raise ValueError("does not say on which NIC the VLAN is")
    parse_nic(nic)
    return nic, int(number)


def decide(choices: Sequence[NicChoice | None], default: NicChoice) -> NicChoice:
    """What counts for a VIP whose Services say this, oldest first: the first that says anything.

    One that cannot be understood has no say as long as there are others.
    """
    readable = [choice for choice in choices if choice is None or choice.readable]
    if choices and not readable:
        return next(choice for choice in choices if choice is not None)
    return next((choice for choice in readable if choice is not None), default)


def survey(links: Iterable[Link], own: Iterable[Address], *, preferred: str = "") -> Ground:
    """The ground of these NICs and of the node's own addresses. `preferred`: which NIC wins where two have the same subnet."""
    by_index = {link.index: link for link in links}
    children: dict[IfIndex, tuple[Link, ...]] = {}
    for link in by_index.values():
        if link.kind == "vlan" and link.parent is not None:
            children[link.parent] = (*children.get(link.parent, ()), link)
    found: dict[tuple[Network, IfIndex], None] = {}
    for address in own:
        network = network_of(address.ip, address.prefix_len)
        if address.index in by_index and network.num_addresses > 1 and not network.is_link_local:
            found[network, address.index] = None
    table = [(network, _of_subnet(by_index[index], by_index)) for network, index in found]
    table.sort(key=lambda row: (bool(row[1].fault), -row[0].prefixlen, row[1].nic != preferred, row[1].index))
    by_name = {link.name: link for link in by_index.values()}
    return Ground(by_index=by_index, by_name=by_name, children=children, table=tuple(table))


def place(choice: NicChoice, vip: Vip, ground: Ground) -> Placed:
    """The NIC for a VIP by what counts for it. `vip` matters only for a choice `by_subnet`."""
    if not choice.readable:
        return Placed(known=False)
    if choice.by_subnet:
        return _by_subnet(vip, ground)
    link = ground.by_name.get(choice.nic)
    if choice.vlan:
        device = _vlan(choice, link, ground)
        if device is None:
            return Placed(fault=f"names a VLAN that has no device there; kvip makes none, so make it: {_making(choice)}")
        return _topmost(device, ground.by_index)
    if link is None:
        return Placed(fault="names a NIC that is not there")
    return _topmost(link, ground.by_index)


def refusal(link: Link) -> str:
    """Why VIPs cannot be announced on a NIC, as the rest of a sentence about it; "" = they can."""
    if link.arp_type == LOOPBACK:
        return "is the loopback device, and no other host can reach it; name an Ethernet NIC"
    if link.arp_type == INFINIBAND:
        return "is IPoIB: its hardware addresses have 20 bytes, and kvip announces in Ethernet frames only"
    if link.arp_type != ETHERNET or len(link.mac) != 6:
        return f"is not an Ethernet NIC (hardware type {link.arp_type}), but a tunnel or the like; kvip announces in Ethernet frames only"
    try:
        check_nic(link.name)
    except ValueError:
        return "has a name that cannot be written in the rules of the dead-man's switch; rename it"
    if not link.arp:
        return "does no ARP (its flag NOARP is set, as on a dummy device), so nobody would get an answer"
    return ""


def _read(key: str, text: str, parse: Parser) -> tuple[NicChoice, list[Problem]]:
    source = notes.source_of(key)
    try:
        nic, vlan = parse(text)
    except ValueError as error:
        fault = f"{error}; the VIP stays where it is, and no node takes it until that is mended"
        return NicChoice(source=source, value=text, readable=False), [about("InvalidAnnotation", source, text, fault)]
    return NicChoice(source=source, value=text, nic=nic, vlan=vlan), []


def _by_subnet(vip: Vip, ground: Ground) -> Placed:
    ip = ipaddress.ip_address(vip)
    placed = next((placed for network, placed in ground.table if network.version == ip.version and ip in network), None)
    return placed if placed is not None else Placed(fault=f"finds no NIC with a subnet that contains {vip}")


def _of_subnet(link: Link, by_index: Mapping[IfIndex, Link]) -> Placed:
    placed = _topmost(link, by_index)
    return Placed(fault=f"leads to {link.name!r}, which {placed.fault}") if placed.fault else placed


def _vlan(choice: NicChoice, link: Link | None, ground: Ground) -> Link | None:
    """The VLAN device that is meant: on that NIC or what that is a port of; or the one of that name, whatever it is on."""
    named = ground.by_name.get(f"{choice.nic}.{choice.vlan}")
    if named is not None and named.kind == "vlan" and named.vlan_id in (None, choice.vlan):
        return named
    for _ in range(DEEPEST_STACK):
        if link is None:
            break
        there = [child for child in ground.children.get(link.index, ()) if child.vlan_id == choice.vlan]
        if there:
            return min(there, key=lambda child: child.index)
        link = ground.by_index.get(link.master) if link.master is not None else None
    return None


def _making(choice: NicChoice) -> str:
    return f"ip link add link {choice.nic} name {choice.nic}.{choice.vlan} type vlan id {choice.vlan}"


def _topmost(link: Link, by_index: Mapping[IfIndex, Link]) -> Placed:
    """The device that has the layer-3 life of a NIC."""
    named, port = link, ""
    for _ in range(DEEPEST_STACK):
        if link.master is None:
            break
        master = by_index.get(link.master)
        if master is None:
            return Placed(known=False)
        if master.kind in LAYER3_MASTERS:
            break
        if master.kind in SWITCH_MASTERS:
            return Placed(fault="is a port of Open vSwitch; name the bridge's own device")
        link, port = master, named.name
    fault = refusal(link)
    if fault:
        return Placed(fault=f"is a port of {link.name!r}, which {fault}" if port else fault)
    return Placed(nic=link.name, index=link.index, port=port)
