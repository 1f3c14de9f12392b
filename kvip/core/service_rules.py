"""Service security as data: which ports of a VIP are let through, and the rules of nf_tables that say so.

Input: the Services that ask for a VIP, the NICs. Output: a `Restriction` per VIP, and the whole table as one document of nft(8) in
JSON with the number of elements that the kernel then shows. It must not touch the kernel.

Only packets that arrive on the VIPs' NICs are filtered, as the dead-man's switch does (PROTOCOL K3): pods of the holder come in by
other NICs, the holder's own packets by none. The chain stands between conntrack (-200) and kube-proxy's DNAT (-100): fragments are
reassembled by then, replies to what the VIP itself asked are known, and the port is still the Service's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from kvip.core.annotations import IGNORE_SECURITY
from kvip.core.model import ServiceKey, Uid, Vip, is_ipv6
from kvip.core.objects import Service
from kvip.core.ruleset import check_nic

TABLE: Final = "kvip-services"
FAMILY: Final = "inet"
PRIORITY: Final = -150
"""NF_IP_PRI_MANGLE (linux/netfilter_ipv4.h)."""
PROTOCOLS: Final = frozenset({"tcp", "udp", "sctp"})
COMMENT_BYTES: Final = 127
"""NFTNL_UDATA_COMMENT_MAXLEN (libnftnl) counts a terminating NUL in its 128."""

_ICMP: Final = ("echo-request", "destination-unreachable", "time-exceeded", "parameter-problem")
"""destination-unreachable carries "fragmentation needed" (RFC 1191)."""
_ICMPV6: Final = (*_ICMP, "packet-too-big", "nd-neighbor-solicit", "nd-neighbor-advert")


class Owner(NamedTuple):
    """A Service that a rule is there for."""

    uid: Uid
    service: ServiceKey


class Opening(NamedTuple):
    """A port that is let through; `protocol` is one of `PROTOCOLS`."""

    protocol: str
    port: int
    owner: Owner


class Restriction(msgspec.Struct, frozen=True, kw_only=True):
    """What is let through to one VIP; everything else that arrives from outside is dropped."""

    owners: tuple[Owner, ...] = ()
    openings: tuple[Opening, ...] = ()


class Piece(NamedTuple):
    """One VIP in a table: what it is made of, and its elements as nft(8) reads them."""

    allowed: Restriction
    vip: msgspec.Raw
    ports: tuple[msgspec.Raw, ...]


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The table as a whole."""

    document: bytes
    """For `nft -j -f -`; one transaction that replaces the table."""
    sizes: Mapping[str, int] = {}
    """Set -> the number of its elements. No sets: there is to be no table."""
    pieces: Mapping[Vip, Piece] = {}
    """What the next table need not make anew."""


def restriction(services: Iterable[Service]) -> Restriction | None:
    """What may reach a VIP of these Services: the union of their ports; None = everything, because one of them is exempt."""
    ordered = sorted(services, key=lambda service: (_key(service), service.metadata.uid))
    if any(_exempt(service) for service in ordered):
        return None
    owners = tuple(Owner(Uid(service.metadata.uid), _key(service)) for service in ordered)
    openings: dict[tuple[str, int], Owner] = {}
    for service, owner in zip(ordered, owners, strict=True):
        for port in service.spec.ports or ():
            protocol = port.protocol.lower()
            if protocol in PROTOCOLS and 0 < port.port < 65_536:
                openings.setdefault((protocol, port.port), owner)
    return Restriction(
        owners=owners, openings=tuple(Opening(protocol, port, owner) for (protocol, port), owner in sorted(openings.items()))
    )


def faults(service: Service) -> tuple[str, ...]:
    """What of a Service cannot be followed, in words for its Events; it then counts as restricted, and the port as not asked for."""
    found: list[str] = []
    value = (service.metadata.annotations or {}).get(IGNORE_SECURITY, "")
    if value.strip().lower() not in ("true", "false", ""):
        shown = value if len(value) <= 64 else f"{value[:61]}..."
        found.append(f"annotation {IGNORE_SECURITY}: {shown!r} is neither 'true' nor 'false'; only the Service's ports are let through")
    for port in service.spec.ports or ():
        if port.protocol.lower() not in PROTOCOLS or not 0 < port.port < 65_536:
            named = f"{port.port}/{port.protocol[:16]}"
            found.append(f"spec.ports: {named} cannot be let through (TCP, UDP or SCTP, 1 to 65535); it stays closed")
    return tuple(found)


def compile_rules(restrictions: Mapping[Vip, Restriction], *, nics: Sequence[str], before: Rules | None = None) -> Rules:
    """The table for all VIPs. Raises ValueError for a NIC whose name cannot be written.

    A VIP costs little when it was in the table `before` with the same restriction.
    """
    # `add` first: `delete` of a table that is not there would fail.
    entries = [_add("table", name=TABLE), {"delete": {"table": {"family": FAMILY, "name": TABLE}}}]
    sizes: dict[str, int] = {}
    known = before.pieces if before is not None else {}
    pieces = {vip: _piece(vip, allowed, known.get(vip)) for vip, allowed in restrictions.items()}
    if restrictions:
        entries += [_add("table", name=TABLE)]
        for name, (kind, elements) in _sets(pieces, sorted(map(check_nic, nics))).items():
            # nft 1.0.6 refuses an empty list of elements.
            listed = {"elem": elements} if elements else {}
            entries.append(_add("set", table=TABLE, name=name, type=kind, **listed))
            sizes[name] = len(elements)
        entries += _chains()
    return Rules(document=msgspec.json.encode({"nftables": entries}), sizes=sizes, pieces=pieces)


def sample() -> dict[Vip, Restriction]:
    """Rules that use all that real ones do, for addresses that are nobody's (RFC 5737, RFC 3849)."""
    owner = Owner(Uid("sample"), ServiceKey("sample/sample"))
    openings = tuple(Opening(protocol, 1, owner) for protocol in PROTOCOLS)
    return {Vip(vip): Restriction(owners=(owner,), openings=openings) for vip in ("192.0.2.1", "2001:db8::1")}


def _key(service: Service) -> ServiceKey:
    return ServiceKey(f"{service.metadata.namespace}/{service.metadata.name}")


def _exempt(service: Service) -> bool:
    return (service.metadata.annotations or {}).get(IGNORE_SECURITY, "").strip().lower() == "true"


def _sets(pieces: Mapping[Vip, Piece], nics: Sequence[str]) -> dict[str, tuple[object, list[object]]]:
    ports = ["inet_proto", "inet_service"]
    vips: dict[bool, list[object]] = {False: [], True: []}
    openings: dict[bool, list[object]] = {False: [], True: []}
    for vip, piece in pieces.items():
        vips[is_ipv6(vip)].append(piece.vip)
        openings[is_ipv6(vip)] += piece.ports
    return {
        "nics": ("ifname", list(nics)),
        "vips4": ("ipv4_addr", vips[False]),
        "vips6": ("ipv6_addr", vips[True]),
        "ports4": (["ipv4_addr", *ports], openings[False]),
        "ports6": (["ipv6_addr", *ports], openings[True]),
    }


def _piece(vip: Vip, allowed: Restriction, known: Piece | None) -> Piece:
    if known is not None and known.allowed == allowed:
        return known
    return Piece(
        allowed,
        _element(vip, _comment(allowed.owners)),
        tuple(_element({"concat": [vip, protocol, port]}, _comment((owner,))) for protocol, port, owner in allowed.openings),
    )


def _chains() -> list[object]:
    address4, address6 = _payload("ip", "daddr"), _payload("ip6", "daddr")
    port = [{"meta": {"key": "l4proto"}}, _payload("th", "dport")]
    arriving, allowed = "arriving", "allowed"
    return [
        _add("chain", table=TABLE, name=allowed),
        _add("chain", table=TABLE, name=arriving, type="filter", hook="prerouting", prio=PRIORITY, policy="accept"),
        _rule(arriving, _match({"meta": {"key": "iifname"}}, "@nics", operator="!="), {"accept": None}),
        _rule(arriving, _match(address4, "@vips4"), {"goto": {"target": allowed}}),
        _rule(arriving, _match(address6, "@vips6"), {"goto": {"target": allowed}}),
        _rule(allowed, _match({"concat": [address4, *port]}, "@ports4"), {"accept": None}),
        _rule(allowed, _match({"concat": [address6, *port]}, "@ports6"), {"accept": None}),
        _rule(allowed, _match({"ct": {"key": "direction"}}, "reply"), {"accept": None}),
        _rule(allowed, _match(_payload("icmp", "type"), {"set": list(_ICMP)}), {"accept": None}),
        _rule(allowed, _match(_payload("icmpv6", "type"), {"set": list(_ICMPV6)}), {"accept": None}),
        _rule(allowed, {"drop": None}),
    ]


def _comment(owners: Sequence[Owner]) -> str:
    """The UIDs, whole, and the name where there is one; what does not fit is left out."""
    if len(owners) == 1:
        text = f"{owners[0].uid} {owners[0].service}"
    else:
        shown = owners[:3]
        text = " ".join(owner.uid for owner in shown) + (f" +{len(owners) - len(shown)}" if len(owners) > len(shown) else "")
    # nft(8) prints comments in quotes and has no escapes for them.
    plain = "".join(letter if letter.isascii() and letter.isprintable() and letter != '"' else "?" for letter in text)
    return plain[:COMMENT_BYTES]


def _element(value: object, comment: str) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode({"elem": {"val": value, "comment": comment}} if comment else value))


def _payload(protocol: str, field: str) -> object:
    return {"payload": {"protocol": protocol, "field": field}}


def _match(left: object, right: object, *, operator: str = "==") -> object:
    return {"match": {"op": operator, "left": left, "right": right}}


def _rule(chain: str, *statements: object) -> object:
    return _add("rule", table=TABLE, chain=chain, expr=list(statements))


def _add(kind: str, **fields: object) -> dict[str, object]:
    return {"add": {kind: {"family": FAMILY, **fields}}}
