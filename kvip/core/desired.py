"""What a Service asks for: is it ours, which addresses and nodes, and what is wrong with that.

Input: one Service, the rules of this daemon, and its surroundings (addresses and networks that are taken).
Output: a `Wish`. It must not look at what is bound or who holds what, nor at other Services.
"""

from __future__ import annotations

import contextlib

import msgspec

from kvip.core import annotations as notes
from kvip.core import selectors
from kvip.core.addresses import Network, Surroundings, family_refusal, parse, range_refusal, refusal
from kvip.core.election.services import LeaseKey, Scheme, lease_of
from kvip.core.model import ServiceKey, Uid, Vip
from kvip.core.objects import ManagedService, Service
from kvip.core.placing import NicChoice, read_choice
from kvip.core.problem import Problem, about, shown
from kvip.core.selectors import Preference, Selector
from kvip.core.service_rules import faults

BINDERS = frozenset({"kvip", "kube-vip"})
"""Field managers that write to a status what they bound themselves; everybody else's entries there are another IPAM's."""
Port = tuple[str, int]
"""Protocol and number."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Which Services this daemon serves, and on what terms."""

    load_balancer_class: str
    class_only: bool = False
    """True: a Service without a class is not ours."""
    service_security: bool = False
    """True: only a Service's ports are let through to its VIPs."""
    namespaces: tuple[str, ...] = ()
    """Only Services of these namespaces are ours; empty = of all."""
    allowed: tuple[Network, ...] = ()
    """Only addresses of these networks are VIPs; empty = of all.

    An address outside is no valid one, rather than one for which this node is no candidate: nobody is to claim it, so what is bound of it
    has no owner any more and is removed like everything that has none, and its Service hears why. Where nodes differ in it, the claims
    of each node decide what it stands for, as they do for the addresses of its own NICs.
    """
    addresses_from_status: bool = False
    """Take addresses from status.loadBalancer.ingress where nothing else names any."""
    require_endpoints: bool = False
    """With externalTrafficPolicy Cluster too, hold nothing without endpoints, as kube-vip does."""
    leases: Scheme | None = None
    """How Services come by Leases of their own; None = none has one."""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A value that a Service gives for an address, and why it is not bound."""

    value: str
    fault: str
    """As the rest of a sentence about the value."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What one Service asks of kvip."""

    uid: Uid
    key: ServiceKey
    generation: int = 0
    created: str = ""
    """creationTimestamp, RFC 3339 in UTC: sorts as text."""
    addresses: tuple[Vip, ...] = ()
    listed: frozenset[Vip] = frozenset()
    """Every address that it names, those that cannot be bound included."""
    refused: tuple[Refused, ...] = ()
    """What it names and cannot have, for itself: what others have of it is not looked at."""
    from_status: bool = False
    """The addresses are another's entries in its status: they are not ours to remove."""
    ports: frozenset[Port] = frozenset()
    problems: tuple[Problem, ...] = ()
    local_only: bool = False
    """externalTrafficPolicy: Local."""
    needs_endpoints: bool = False
    """Nothing is held for it without endpoints (they may be on any node)."""
    node_selector: Selector | None = ()
    """Which nodes may hold its VIPs; None = it says so in a way that cannot be read."""
    prefers: Preference = Preference()
    lease: LeaseKey = LeaseKey("")
    """The Lease by which its addresses are held, where Services have Leases of their own."""
    nic: NicChoice | None = None
    """Which NIC it wants; None = that of the settings."""


def service_key(service: Service) -> ServiceKey:
    """namespace/name."""
    return ServiceKey(f"{service.metadata.namespace}/{service.metadata.name}")


def is_ours(service: Service, rules: Rules) -> bool:
    """True when this daemon serves the Service: type, namespace, class, the ignore annotation, and not being deleted."""
    return not not_ours(service, rules)


def not_ours(service: Service, rules: Rules) -> str:
    """Why this daemon does not serve the Service, as a sentence about it; "" = it does."""
    spec = service.spec
    if spec.type != "LoadBalancer":
        return f"its type is {spec.type}, not LoadBalancer"
    if spec.cluster_ip == "None":
        return "it is headless (spec.clusterIP is None)"
    if service.metadata.deletion_timestamp:
        return f"it is being deleted since {service.metadata.deletion_timestamp}"
    if out := outside(service.metadata.namespace, rules):
        return out
    if notes.switch(service.metadata.annotations or {}, notes.IGNORE)[0]:
        return f"it has the annotation {notes.IGNORE}=true"
    wanted = spec.load_balancer_class
    if not wanted:
        return "it has no loadBalancerClass, and class-only is set" if rules.class_only else ""
    if wanted != rules.load_balancer_class:
        return f"its loadBalancerClass is {shown(wanted)}, and {shown(rules.load_balancer_class)} is the one that kvip serves here"
    return ""


def outside(namespace: str, rules: Rules) -> str:
    """Why the Services of a namespace are not served, as a sentence about one of them; "" = they are."""
    if not rules.namespaces or namespace in rules.namespaces:
        return ""
    return f"it is in the namespace {shown(namespace)}, and service-namespace leaves only {shown(', '.join(rules.namespaces))} to kvip"


def interpret(service: Service, rules: Rules, surroundings: Surroundings) -> Wish:
    """The Service's wish; empty addresses when it is not ours or asks for none that can be bound.

    Addresses come from the annotation `kube-vip.io/loadbalancerIPs` (comma-separated), else from spec.loadBalancerIP, else
    (by option) from the status. A value that cannot be used is named in `problems`; the others go on.
    """
    metadata, spec = service.metadata, service.spec
    wish = Wish(uid=Uid(metadata.uid), key=service_key(service), generation=metadata.generation)
    if not is_ours(service, rules):
        return wish
    annotations = metadata.annotations or {}
    problems: list[Problem] = []
    source, values = requested(service, rules)
    addresses, listed, refused = _addresses(source, values, service, rules, surroundings)
    problems += [about("InvalidAddress", source, each.value, f"{each.fault}; not bound") for each in refused]
    local_only = spec.external_traffic_policy == "Local"
    problems += filter(None, (notes.switch(annotations, key)[1] for key in (notes.IGNORE, notes.WITHOUT_ENDPOINTS, notes.FORCE_ELECTION)))
    allowed = notes.switch(annotations, notes.WITHOUT_ENDPOINTS)[0]
    if rules.service_security:
        problems += [Problem(reason="ServiceSecurity", message=fault) for fault in faults(service)]
    asked = lease_of(service, rules.leases) if rules.leases is not None else None
    if asked is not None and asked.problem:
        problems.append(Problem(reason="InvalidLeaseName", message=asked.problem))
    selector = _selector(annotations, problems)
    prefers = _preference(annotations, problems)
    nic, unclear = read_choice(annotations)
    problems += unclear
    return msgspec.structs.replace(
        wish,
        created=metadata.creation_timestamp or "",
        addresses=addresses,
        listed=listed,
        refused=refused,
        from_status=source == FROM_STATUS,
        ports=frozenset((port.protocol, port.port) for port in spec.ports or ()),
        problems=(*problems, *notes.remarks(annotations)),
        local_only=local_only,
        needs_endpoints=rules.require_endpoints and not local_only and not allowed,
        node_selector=selector,
        prefers=prefers,
        lease=asked.lease if asked is not None else LeaseKey(""),
        nic=nic,
    )


def shown_by_another(service: Service) -> bool:
    """Was the status last written by somebody who does not bind addresses? False also when that is not known.

    The list is atomic for the API server (listType=atomic): it has one owner, not one for each entry.
    """
    if not isinstance(service, ManagedService):
        return False
    writers = {entry.manager for entry in service.metadata.managed_fields or () if entry.owns_ingress}
    return bool(writers) and not writers & BINDERS


FROM_STATUS = "status.loadBalancer.ingress"
MOST_ADDRESSES = 64
"""Of one Service. Every node reads a Service at each change of it, in the loop that renews its lease, and annotations are up to 256 KiB."""


def parts_of(text: str) -> list[str]:
    """The values of a comma-separated list of addresses, as far as they count, and the beginning of the rest."""
    *parts, rest = text.split(",", MOST_ADDRESSES)
    if len(parts) < MOST_ADDRESSES:
        parts, rest = [*parts, rest], ""
    return list(filter(None, (part.strip() for part in (*parts, rest.strip(", ").partition(",")[0]))))


def requested(service: Service, rules: Rules) -> tuple[str, list[str]]:
    """Where a Service of ours says which addresses it wants, as messages name it ("" = nowhere), and the values as they stand there."""
    annotations = service.metadata.annotations or {}
    if notes.ADDRESSES in annotations:
        return notes.source_of(notes.ADDRESSES), parts_of(annotations[notes.ADDRESSES])
    if service.spec.load_balancer_ip:
        return "spec.loadBalancerIP", [service.spec.load_balancer_ip.strip()]
    if rules.addresses_from_status and shown_by_another(service):
        return FROM_STATUS, [entry.ip for entry in service.ingress[: MOST_ADDRESSES + 1] if entry.ip]
    return "", []


def named(service: Service, rules: Rules) -> dict[Vip, None]:
    """Every address that a Service names where `requested` finds it, in that order, whether or not it can have it."""
    found: dict[Vip, None] = {}
    for value in requested(service, rules)[1][:MOST_ADDRESSES]:
        with contextlib.suppress(ValueError):
            found[parse(value)] = None
    return found


def _addresses(
    source: str, values: list[str], service: Service, rules: Rules, surroundings: Surroundings
) -> tuple[tuple[Vip, ...], frozenset[Vip], tuple[Refused, ...]]:
    """What can be bound, all that is named, and what cannot be bound."""
    addresses: dict[Vip, None] = {}
    listed: set[Vip] = set()
    repeated: set[Vip] = set()
    surplus = f"is beyond the {MOST_ADDRESSES} addresses that one Service can have; use another Service"
    refused = [Refused(value=value, fault=surplus) for value in values[MOST_ADDRESSES:]]
    for value in values[:MOST_ADDRESSES]:
        try:
            vip = parse(value)
        except ValueError as error:
            refused.append(Refused(value=value, fault=str(error)))
            continue
        fault = refusal(vip, surroundings) or range_refusal(vip, rules.allowed) or family_refusal(vip, service.spec.ip_families)
        if fault:
            refused.append(Refused(value=value, fault=fault))
        elif vip in listed:
            repeated.add(vip)
        else:
            addresses[vip] = None
        listed.add(vip)
    for vip in repeated:
        del addresses[vip]
        refused.append(Refused(value=vip, fault="is listed more than once; list it once"))
    if source and not values and source != FROM_STATUS:
        refused.append(Refused(value=(service.metadata.annotations or {}).get(notes.ADDRESSES, ""), fault="lists no address"))
    return tuple(addresses), frozenset(listed), tuple(refused)


def _selector(annotations: dict[str, str], problems: list[Problem]) -> Selector | None:
    text = annotations.get(notes.NODE_SELECTOR, "")
    try:
        return selectors.parse(text) if text.strip() else ()
    except ValueError as error:
        fault = f"{error}; the VIP stays where it is, and no node takes it until that is mended"
        problems.append(notes.invalid(notes.NODE_SELECTOR, text, fault))
        return None


def _preference(annotations: dict[str, str], problems: list[Problem]) -> Preference:
    text = annotations.get(notes.PREFERRED_NODES, "")
    try:
        return selectors.parse_preference(text) if text.strip() else Preference()
    except ValueError as error:
        problems.append(notes.invalid(notes.PREFERRED_NODES, text, f"{error}; no node is preferred"))
        return Preference()
