"""The one schema of the annotations of Services: their keys, their values, and what kvip does about each.

Input: a Service's annotations. Output: the values of switches, and problems with what cannot be done. The reference table is made from it
(docs/annotations.md). It must not interpret values that another module reads: addresses, selectors.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Literal

import msgspec

from kvip.core.problem import MOST_TOLD, Problem, about

ADDRESSES = "kube-vip.io/loadbalancerIPs"
IGNORE = "kube-vip.io/ignore"
WITHOUT_ENDPOINTS = "kube-vip.io/allow-reconcile-without-endpoints"
IGNORE_SECURITY = "kube-vip.io/ignore-service-security"
LEASE_NAME = "kube-vip.io/leaseName"
FORCE_ELECTION = "kube-vip.io/forcePerServiceElection"
NODE_SELECTOR = "kvip.io/node-selector"
PREFERRED_NODES = "kvip.io/preferred-nodes"
INTERFACE = "kube-vip.io/serviceInterface"
VLAN = "kube-vip.io/serviceVLAN"
VIP_HOST = "kube-vip.io/vipHost"
PREFIXES = ("kube-vip.io/", "kvip.io/")

Treatment = Literal["read", "written", "not supported", "left alone"]


class Annotation(msgspec.Struct, frozen=True, kw_only=True):
    """One key. Values in `off` ask for nothing: no Event is due for them where the key is not supported."""

    key: str
    treatment: Treatment
    values: str
    does: str
    off: frozenset[str] = frozenset()


OFF = frozenset({"", "false", "0", "f"})
_BOOL = "`true` or `false`"


def _missing(does: str, values: str, keys: str, *, off: frozenset[str] = OFF) -> tuple[Annotation, ...]:
    return tuple(Annotation(key=f"kube-vip.io/{key}", treatment="not supported", values=values, does=does, off=off) for key in keys.split())


SCHEMA: tuple[Annotation, ...] = (
    Annotation(
        key=ADDRESSES,
        treatment="read",
        values="IPv4 and IPv6 addresses, comma-separated; at most 64",
        does="The VIPs; wins over `spec.loadBalancerIP`. Each family must be one of `spec.ipFamilies`. When an address is changed, the new "
        "one is bound first, and the former let go of after 0.7 s at the latest.",
    ),
    Annotation(key=IGNORE, treatment="read", values=_BOOL, does="`true`: kvip leaves the Service alone, at once."),
    Annotation(
        key=WITHOUT_ENDPOINTS,
        treatment="read",
        values=_BOOL,
        does="`true`: with `require-endpoints`, hold the VIPs of this Service without endpoints too (externalTrafficPolicy Cluster only).",
    ),
    Annotation(
        key=IGNORE_SECURITY,
        treatment="read",
        values=_BOOL,
        does="`true`: with `service-security`, every port of the addresses is let through, for all Services that share them.",
    ),
    Annotation(
        key=LEASE_NAME,
        treatment="read",
        values="`name` or `namespace/name`",
        does="Election `per-service` (and a Service that `per-service-on-demand` gives a Lease): the Lease by which the VIPs are held; "
        "Services that name one share it. Without effect with externalTrafficPolicy Local, as for kube-vip. In the cluster's own "
        "namespaces (`kube-*`) only for Services there.",
    ),
    Annotation(
        key=FORCE_ELECTION,
        treatment="read",
        values=_BOOL,
        does="`true`: with `per-service-on-demand`, the Service has a Lease of its own.",
    ),
    Annotation(
        key=NODE_SELECTOR,
        treatment="read",
        values="a label selector, as `kubectl -l` takes it",
        does="Only nodes whose Node object matches hold the VIPs. One that does not parse moves nothing: a VIP that is held stays where it "
        "is, and no node takes it until the selector is mended.",
    ),
    Annotation(
        key=PREFERRED_NODES,
        treatment="read",
        values="Node names in order, comma-separated; or a label selector",
        does="Which node takes a VIP that is free, first to last; all others after them. Excludes nobody, and moves no VIP that is held. "
        "Election `claims` only; `global` has one holder for all VIPs.",
    ),
    Annotation(
        key=INTERFACE,
        treatment="read",
        values="a NIC's name, or `auto`",
        does="The NIC for the VIPs of this Service, instead of that of the settings; `auto`: the one with a subnet that contains the "
        "address. A node without it takes none of them. A port of a bridge or bond stands for its master. A change moves a held VIP to "
        "its new NIC on the same node; what is no name moves nothing.",
    ),
    Annotation(
        key=VLAN,
        treatment="read",
        values="`NIC.VLANID`, such as `eth0.200`",
        does="The VLAN device of that id (1 to 4094) on that NIC, as above. It has to exist on the node: kvip makes none. Wins over "
        "`kube-vip.io/serviceInterface`.",
    ),
    Annotation(
        key=VIP_HOST,
        treatment="written",
        values="a Node name",
        does="With `vip-host-annotation`: the node that holds the first of the VIPs; removed when nobody does. Never read back as state.",
    ),
    *_missing("addresses by DHCP", "", "hwaddr requestedIP loadbalancerHostname macvlanName dhcp-broadcast ddns"),
    *_missing("addresses by DHCP", "0, 1 or 2", "rp_filter", off=frozenset({""})),
    *_missing(
        "egress through a VIP",
        "",
        "egress egress-internal egress-ipv6 egress-destination-ports egress-source-ports egress-allowed-networks egress-denied-networks "
        "egress-no-internal-traffic egress-detect-api-server",
    ),
    *_missing("flushing connection tracking", "`true`", "flush-conntrack"),
    *_missing("ports opened on a gateway (UPnP)", "", "forwardUPNP upnp-lease-duration"),
    *(
        Annotation(
            key=f"kube-vip.io/{key}", treatment="left alone", values="", does="Written by kube-vip for itself; neither read nor removed."
        )
        for key in ("egress-nftables-table", "active-endpoint", "active-endpoint-ipv6")
    ),
)
_BY_KEY = {annotation.key: annotation for annotation in SCHEMA}


def source_of(key: str) -> str:
    """How a message names an annotation."""
    return f"annotation {key}"


def switch(annotations: Mapping[str, str], key: str) -> tuple[bool, Problem | None]:
    """The value of a switch, False when absent; nonsense counts as False and is a problem."""
    text = annotations.get(key, "")
    word = text.strip().lower()
    if word in ("true", "false", ""):
        return word == "true", None
    return False, invalid(key, text, "is neither true nor false; taken as false")


def invalid(key: str, value: str, fault: str) -> Problem:
    """A value that cannot be used."""
    return about("InvalidAnnotation", source_of(key), value, fault)


def remarks(annotations: Mapping[str, str]) -> tuple[Problem, ...]:
    """What kvip does not do although it is asked for, and keys that nobody knows: most likely misspelt."""
    found: list[Problem] = []
    for key, value in annotations.items():
        if len(found) > MOST_TOLD:
            break
        if not key.startswith(PREFIXES):
            continue
        known = _BY_KEY.get(key)
        if known is None:
            near = difflib.get_close_matches(key[:100], _BY_KEY, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            found.append(about("UnknownAnnotation", source_of(key[:100]), value, f"has no effect: kvip does not know this key{hint}"))
        elif known.treatment == "not supported" and value.strip().lower() not in known.off:
            fault = f"has no effect: {known.does} is not supported by this version of kvip; remove the annotation"
            found.append(about("NotSupported", source_of(key), value, fault))
    return tuple(found)


_HEAD = """# Annotations of Services

Generated from `kvip/core/annotations.py`; edit that.

A value that cannot be used is named, with its key, by a Warning Event on the Service (`kubectl describe service`), and every other Service
goes on. What is not supported is answered by a Warning Event `NotSupported`, a key that nobody knows by `UnknownAnnotation`.
The tests that show each: [drop-in-tests.md](drop-in-tests.md).

| annotation | values | kvip |
|--|--|--|
"""
_TAIL = """
## Services that share an address

Any number of Services may ask for one address, as long as no two of them have the same port and protocol. Where they clash, the older one
(`creationTimestamp`, then UID) has the address, and the younger one gets a Warning Event `PortConflict` that names it; it is served as soon
as the older one goes or frees the port. One node holds the address for all of them, always, and it goes with the last of them.

Where they do not agree on the node (`externalTrafficPolicy: Local` with other endpoints, `kvip.io/node-selector`), the older ones have
their way: the address is held by a node that suits the oldest, and among those by one that suits the next, as long as there is one. A
Service that is left without gets a Warning Event `NotServed`; one that no node serves at all (Local without endpoints) has no say.

Where they name different NICs, the oldest that names one has its way, and the others get a Warning Event `OtherNic`.
"""


def reference_markdown() -> str:
    """docs/annotations.md."""
    return _HEAD + "".join(f"| `{each.key}` | {each.values} | {_told(each)} |\n" for each in SCHEMA) + _TAIL


def _told(annotation: Annotation) -> str:
    return f"Event `NotSupported` ({annotation.does})." if annotation.treatment == "not supported" else annotation.does
