"""The NICs that VIPs are announced on: there, able, told apart from others', and answering as they should.

Input: facts. Output: findings. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvip.core.doctor.facts import Facts
from kvip.core.doctor.finding import Finding
from kvip.core.election import heartbeat
from kvip.core.model import IfIndex, Link, Vip, is_ipv6
from kvip.core.placing import AUTO, LOOPBACK, NicChoice, Placed, place, survey

_ANY = Vip("0.0.0.0")
"""For a NIC that is named, the address does not matter."""
_STRICT = 1
"""rp_filter (ip-sysctl): strict."""
_NEVER = 8
"""arp_ignore (ip-sysctl): no reply for any local address."""


def announcing(facts: Facts) -> list[Link]:
    """The NICs that VIPs go to by the settings, ports replaced by their masters; empty = none."""
    return [facts.host.net.links[placed.index] for placed in _placings(facts) if placed.nic]


def wanted_nic(facts: Facts) -> str:
    """The NIC's name by the settings, `AUTO`, or "" where there is none."""
    settings = facts.settings
    return settings.services_interface or settings.interface or facts.host.net.default_nic


def sysctl(facts: Facts, nic: str, name: str) -> int | None:
    """The value in force: the larger of the NIC's and that of "all" (linux/inetdevice.h, IN_DEV_MAXCONF). None = not read."""
    values = [known[name] for known in (facts.host.sysctls.get("all", {}), facts.host.sysctls.get(nic, {})) if name in known]
    return max(values, default=None)


def judge(facts: Facts) -> Iterator[Finding]:
    """Every finding about the NICs."""
    found = announcing(facts)
    if not found:
        yield _missing(facts)
    for link in found:
        yield from _up(link)
        yield from _shared_mac(link, facts)
        yield from _answers(link, facts)
        yield from _reverse_path(link, facts)


def _placings(facts: Facts) -> list[Placed]:
    net, wanted = facts.host.net, wanted_nic(facts)
    ground = survey(net.links.values(), [address for address in net.addresses if not address.marked], preferred=net.default_nic)
    if wanted == AUTO:
        return sorted({placed.index: placed for _, placed in ground.table if not placed.fault}.values(), key=lambda placed: placed.index)
    return [place(NicChoice(source="", value=wanted, nic=wanted), _ANY, ground)] if wanted else []


def _missing(facts: Facts) -> Finding:
    wanted = wanted_nic(facts)
    fault = next((placed.fault for placed in _placings(facts)), "")
    none = "no NIC has an address in a subnet" if wanted == AUTO else "there is no default route, and no NIC is named"
    return Finding(
        check="nic-missing",
        level="problem",
        what=f"{wanted!r} {fault}" if fault else none,
        why="Without a NIC to announce on kvip does not start, or holds no VIP on this node.",
        mend="ip -br link   # and name one of these: KVIP_INTERFACE=NIC",
    )


def _up(link: Link) -> Iterator[Finding]:
    if not link.up or not link.carrier:
        yield Finding(
            check="nic-down",
            level="problem",
            what=f"{link.name} is {'up, but has no carrier' if link.up else 'down'}",
            why="A node whose NIC has no carrier takes no VIP, and hands over those it has.",
            mend=f"ip link set dev {link.name} up   # and look at the cable: ip -br link show dev {link.name}",
        )


def _shared_mac(link: Link, facts: Facts) -> Iterator[Finding]:
    leases = (facts.cluster.leases if facts.cluster is not None else None) or ()
    for lease in leases:
        if not lease.metadata.name.startswith(heartbeat.PREFIX):
            continue
        beat = heartbeat.parse(lease)
        if beat.node == facts.settings.node_name or not beat.holder or not any(nic.mac == link.mac.hex(":") for nic in beat.about.nics):
            continue
        yield Finding(
            check="nic-mac-shared",
            level="problem",
            what=f"{link.name} has the MAC {link.mac.hex(':')}, and so has a NIC of node {beat.node}",
            why="Switches and clients cannot tell the two nodes apart: traffic for a VIP goes to either. So it is with cloned machines.",
            mend=f"ip link set dev {link.name} address 02$(od -An -N5 -tx1 /dev/urandom | tr ' ' :)   # and in its configuration",
        )


def _answers(link: Link, facts: Facts) -> Iterator[Finding]:
    ignore = sysctl(facts, link.name, "arp_ignore")
    if ignore is not None and ignore >= _NEVER:
        yield Finding(
            check="arp-never-answered",
            level="problem",
            what=f"arp_ignore is {ignore} on {link.name}",
            why="With 8 the kernel answers no ARP request at all, so nobody finds a VIP once the announcement is forgotten.",
            mend=f"sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.{link.name}.arp_ignore=1",
        )
    others = [other for other in _nics_with_ipv4(facts) if other.name != link.name]
    if ignore == 0 and not facts.settings.switch and others:
        yield Finding(
            check="arp-on-other-nics",
            level="problem",
            what=f"arp_ignore is 0, and the switch that would keep other NICs quiet is off ({', '.join(nic.name for nic in others)})",
            why=f"The kernel answers for a VIP of {link.name} on the other NICs too, with their MACs.",
            mend="sysctl -w net.ipv4.conf.all.arp_ignore=1   # or leave the switch on: KVIP_SWITCH=true",
        )


def _reverse_path(link: Link, facts: Facts) -> Iterator[Finding]:
    default = facts.host.net.default_nic
    if default and link.name != default and sysctl(facts, link.name, "rp_filter") == _STRICT:
        yield Finding(
            check="rp-filter-strict",
            level="problem",
            what=f"rp_filter is strict (1) on {link.name}, and the default route leaves by {default}",
            why=f"Packets to a VIP from beyond {link.name}'s subnets are dropped: the way back to them is {default} (RFC 3704).",
            mend=f"sysctl -w net.ipv4.conf.{link.name}.rp_filter=2",
        )


def _nics_with_ipv4(facts: Facts) -> list[Link]:
    net = facts.host.net
    indices: set[IfIndex] = {address.index for address in net.addresses if not is_ipv6(address.ip) and not address.marked}
    links = [net.links[index] for index in sorted(indices) if index in net.links]
    return [link for link in links if link.arp_type != LOOPBACK and link.arp and link.up]
