"""The dead-man's switch as text and as map elements: what nf_tables must hold for given NICs, groups and VIPs.

Input: NICs, lease groups, the place of each VIP. Output: one nft(8) document that replaces kvip's three tables, and the map
elements of each VIP. It must not touch the kernel.

A VIP is one element in each map that concerns it, and its verdict is the place where it stands: a lease group on a NIC,
`SILENT` (nothing passes) or `OTHERS` (no ARP and no NS, but packets). A group answers while its set `alive_<group>` holds its
one element, which has a timeout. `meta mark and 0x0` is a constant, 0, in every family: nft(8) knows no other way to ask
whether a set is empty.

Priorities: prerouting at raw comes before kube-proxy's DNAT; postrouting at 300 after every source NAT (100), which also
writes a VIP into the replies of its pods.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from kvip.core.model import Vip, is_ipv6, packed

TABLE: Final = "kvip"
FAMILIES: Final = ("arp", "inet", "netdev")
SILENT: Final = "silent"
OTHERS: Final = "others"
PRIMARY: Final = {False: ("arp", "vips4"), True: ("inet", "vips6")}
"""Is it IPv6 -> the family and map in which every VIP of the switch stands."""
MAPS: Final = (("arp", "vips4"), ("inet", "vips4"), ("inet", "vips6"), ("netdev", "vips4"), ("netdev", "vips6"))

_DISCOVERY: Final = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }"
_GROUP: Final = re.compile(r"[a-z][a-z0-9_]{0,47}")
_NIC: Final = re.compile(r'[^\s"/*\\]{1,15}')


class Place(NamedTuple):
    """Where a VIP stands: `group` is a lease group, `SILENT` or `OTHERS`; `nic` the NIC that it is bound on."""

    group: str
    nic: str = ""


class Verdict(NamedTuple):
    """One map element: the VIP `key` goes to `chain`."""

    family: str
    map: str
    key: bytes
    chain: str


def check_group(group: str) -> str:
    """The group, when it can be part of a chain's name. Raises ValueError."""
    if not _GROUP.fullmatch(group) or group in (SILENT, OTHERS):
        raise ValueError(f"lease group {group!r}: use a lower-case letter, then letters, digits and _; not {SILENT!r}, {OTHERS!r}")
    return group


def check_nic(nic: str) -> str:
    """The NIC's name, when nft(8) can quote it (it has no escapes; a trailing * is a wildcard). Raises ValueError."""
    if not _NIC.fullmatch(nic):
        raise ValueError(f"NIC {nic!r}: its name cannot be written in a rule; rename the NIC")
    return nic


def alive_set(group: str) -> str:
    """The name of the set that keeps a group alive; the same in each family."""
    return f"alive_{group}"


def verdicts(vip: Vip, place: Place | None, nics: Sequence[str]) -> list[Verdict]:
    """The map elements of a VIP. Raises ValueError for a group on a NIC that has no rules."""
    if place is None:
        return []
    key = packed(vip)
    return [Verdict(family, name, key, chain) for family, name, chain in _chains(place, is_ipv6(vip), tuple(nics))]


@lru_cache(maxsize=1024)
def _chains(place: Place, six: bool, nics: tuple[str, ...]) -> tuple[tuple[str, str, str], ...]:
    """Family, map and chain of each element of a VIP there."""
    if place.group == SILENT:
        arp = inet = egress = SILENT
    elif place.group == OTHERS:
        # Packets of others pass everywhere, and frames of other programs at the egress: nothing to match there.
        arp, inet, egress = "elsewhere", OTHERS if six else "", ""
    else:
        arp = inet = f"on_{place.group}_{nics.index(place.nic)}"
        egress = f"group_{place.group}"
    name = "vips6" if six else "vips4"
    found = (() if six else (("arp", name, arp),)) + (("inet", name, inet), ("netdev", name, egress))
    return tuple(each for each in found if each[2])


def place_of(chain: str, groups: Iterable[str], nics: Sequence[str]) -> Place | None:
    """The place that a chain of a primary map stands for; None for a chain that is not kvip's."""
    if chain == SILENT:
        return Place(SILENT)
    if chain in (OTHERS, "elsewhere"):
        return Place(OTHERS)
    known = {f"on_{group}_{number}": Place(group, nic) for group in groups for number, nic in enumerate(nics)}
    return known.get(chain)


def document(*, nics: Sequence[str], groups: Sequence[str], places: Mapping[Vip, Place], hooked: Sequence[str]) -> str:
    """The nft(8) document that replaces kvip's tables in one transaction, with `places` in them and nothing alive.

    `hooked`: the NICs that get an egress hook, in `nics` too. Raises ValueError for names that cannot be written.
    """
    for nic in nics:
        check_nic(nic)
    elements: dict[tuple[str, str], list[str]] = {}
    for vip, place in places.items():
        for verdict in verdicts(vip, place, nics):
            elements.setdefault((verdict.family, verdict.map), []).append(f"{_key(verdict)} : goto {verdict.chain}")
    tables = [
        _table("arp", _arp(nics, groups), groups, elements),
        _table("inet", _inet(nics, groups), groups, elements),
        _table("netdev", _netdev(nics, hooked), groups, elements),
    ]
    # `add` first: `delete` of a table that is not there would fail.
    replace = [f"{verb} table {family} {TABLE}" for family in FAMILIES for verb in ("add", "delete")]
    return "\n".join([*replace, *tables]) + "\n"


def growth(*, nics: Sequence[str], groups: Sequence[str]) -> str:
    """The nft(8) document that adds lease groups, with nothing alive, to the tables that `document` made for these NICs."""
    places = {"arp": _arp_places(nics, groups), "inet": _inet_places(nics, groups), "netdev": []}
    return "\n".join("\n".join([f"table {family} {TABLE} {{", *_groups(groups), *places[family], "}"]) for family in FAMILIES) + "\n"


def _key(verdict: Verdict) -> str:
    # The IPv6 maps are keyed by a piece of payload: nft 1.0.6 has no name for the target of an NS, and wants a number.
    return f"0x{verdict.key.hex()}" if len(verdict.key) == 16 else ".".join(map(str, verdict.key))


def _table(family: str, chains: Sequence[str], groups: Sequence[str], elements: Mapping[tuple[str, str], list[str]]) -> str:
    lines: list[str] = []
    for owner, name in MAPS:
        if owner == family:
            kind = "type ipv4_addr" if name == "vips4" else "typeof @th,64,128"
            listed = ", ".join(elements.get((owner, name), ()))
            filled = f" elements = {{ {listed} }};" if listed else ""
            lines.append(f"  map {name} {{ {kind} : verdict;{filled} }}")
    lines.append(_chain(SILENT, "drop"))
    lines += _groups(groups)
    return "\n".join([f"table {family} {TABLE} {{", *lines, *chains, "}"])


def _groups(groups: Sequence[str]) -> list[str]:
    sets = [f"  set {alive_set(check_group(group))} {{ type mark; flags timeout; }}" for group in groups]
    return sets + [_chain(f"group_{group}", f"meta mark and 0x0 @{alive_set(group)} accept", "drop") for group in groups]


def _chain(name: str, *lines: str) -> str:
    return "\n".join([f"  chain {name} {{", *(f"    {line}" for line in lines), "  }"])


def _places(nics: Sequence[str], groups: Sequence[str], *elsewhere: str) -> list[str]:
    """A chain per group and NIC: on the NIC the group decides, on others what `elsewhere` says."""
    return [
        _chain(
            f"on_{group}_{number}",
            f'iifname "{nic}" goto group_{group}',
            f'oifname "{nic}" goto group_{group}',
            *(line.format(group=group) for line in elsewhere),
        )
        for group in groups
        for number, nic in enumerate(nics)
    ]


def _arp_places(nics: Sequence[str], groups: Sequence[str]) -> list[str]:
    return _places(nics, groups, "goto elsewhere")


def _inet_places(nics: Sequence[str], groups: Sequence[str]) -> list[str]:
    return _places(nics, groups, f"{_DISCOVERY.replace('{', '{{').replace('}', '}}')} drop", "goto group_{group}")


def _arp(nics: Sequence[str], groups: Sequence[str]) -> list[str]:
    return [
        # A node asks for a neighbour in the name of the VIP whose packet it forwards (arp_solicit, arp_announce=0), on pods'
        # interfaces too. Refused, the pod would not be found; asked as an RFC 5227 probe, nobody learns anything from it.
        _chain("elsewhere", "oif != 0 arp operation request arp saddr ip set 0.0.0.0 accept", "drop"),
        *_arp_places(nics, groups),
        _chain("input", "type filter hook input priority -300;", "arp daddr ip vmap @vips4"),
        _chain("output", "type filter hook output priority -300;", "arp saddr ip vmap @vips4"),
    ]


def _inet(nics: Sequence[str], groups: Sequence[str]) -> list[str]:
    chains = [
        _chain(OTHERS, f"{_DISCOVERY} drop", "accept"),
        *_inet_places(nics, groups),
        # Input and output hooks, not before and after routing: with br_netfilter those see what a bridge of this node passes
        # on too, and another machine's discovery is not ours to drop.
        _chain("solicited", "type filter hook input priority raw;", "icmpv6 type nd-neighbor-solicit @th,64,128 vmap @vips6"),
        # By source too: a solicitation names its sender. One without a source is the kernel's own duplicate address detection,
        # and speaks for its target.
        _chain("advertised", "type filter hook output priority raw;", f"{_DISCOVERY} @nh,64,128 vmap @vips6"),
        _chain(
            "advertised_target",
            "type filter hook output priority raw;",
            "icmpv6 type nd-neighbor-advert @th,64,128 vmap @vips6",
            "ip6 saddr :: icmpv6 type nd-neighbor-solicit @th,64,128 vmap @vips6",
        ),
    ]
    if nics:
        listed = ", ".join(f'"{nic}"' for nic in nics)
        chains += [
            f"  set nics {{ type ifname; elements = {{ {listed} }}; }}",
            _chain(
                "arriving",
                "type filter hook prerouting priority raw;",
                f"{_DISCOVERY} accept",
                "iifname @nics ip daddr vmap @vips4",
                "iifname @nics meta nfproto ipv6 @nh,192,128 vmap @vips6",
            ),
            _chain(
                "leaving",
                "type filter hook postrouting priority 300;",
                f"{_DISCOVERY} accept",
                "oifname @nics ip saddr vmap @vips4",
                "oifname @nics meta nfproto ipv6 @nh,64,128 vmap @vips6",
            ),
        ]
    return chains


def _netdev(nics: Sequence[str], hooked: Sequence[str]) -> list[str]:
    return [
        _chain(
            f"egress_{nics.index(nic)}",
            f'type filter hook egress device "{nic}" priority 0;',
            "arp saddr ip vmap @vips4",
            "icmpv6 type nd-neighbor-advert @th,64,128 vmap @vips6",
        )
        for nic in hooked
    ]
