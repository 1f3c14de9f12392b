"""Other daemons that announce addresses: on this node, or in the cluster.

Input: facts. Output: findings. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import msgspec

from kvip.core.doctor.facts import Facts
from kvip.core.doctor.finding import Finding
from kvip.core.objects import Lease

KUBE_VIP = "kube-vip"
LONG_STILL_S, STILL_DURATIONS = 600.0, 10
"""A Lease that was not renewed for both of these stands still, even where the clocks differ somewhat."""


class Announcer(msgspec.Struct, frozen=True, kw_only=True):
    """A daemon that binds or announces addresses."""

    title: str
    programs: frozenset[str]
    """Names of its process (comm, at most 15 bytes)."""
    image: str
    """What a path of its image ends in, before tag and digest."""
    serves: bool = True
    """Does it serve Services of type LoadBalancer that name no class?"""
    mend: str


ANNOUNCERS = (
    Announcer(
        title=KUBE_VIP,
        programs=frozenset({"kube-vip"}),
        image="kube-vip",
        mend="kubectl -n kube-system delete daemonset kube-vip-ds   # a static Pod: remove /etc/kubernetes/manifests/kube-vip.yaml",
    ),
    Announcer(
        title="MetalLB",
        programs=frozenset({"speaker"}),
        image="metallb/speaker",
        mend="kubectl -n metallb-system delete daemonset speaker   # or part the Services by class: KVIP_CLASS_ONLY=true",
    ),
    Announcer(
        title="PureLB",
        programs=frozenset({"lbnodeagent"}),
        image="purelb/lbnodeagent",
        mend="kubectl -n purelb-system delete daemonset lbnodeagent   # or part the Services by class: KVIP_CLASS_ONLY=true",
    ),
    Announcer(
        title="k3s ServiceLB",
        programs=frozenset(),
        image="klipper-lb",
        mend="k3s server --disable=servicelb   # in the configuration of the servers",
    ),
    Announcer(
        title="keepalived",
        programs=frozenset({"keepalived"}),
        image="keepalived",
        serves=False,
        mend="grep -A5 virtual_ipaddress /etc/keepalived/keepalived.conf   # none of these may be the address of a Service",
    ),
)
RUNNING = frozenset(name for announcer in ANNOUNCERS for name in announcer.programs)


def judge(facts: Facts) -> Iterator[Finding]:
    """Every finding about other announcers."""
    for announcer in ANNOUNCERS:
        where = _where(announcer, facts)
        if where:
            yield _finding(announcer, where, facts)
    yield from _shared_lease(facts)


def _where(announcer: Announcer, facts: Facts) -> str:
    """Where it was seen, in words; "" = nowhere."""
    pods = (facts.cluster.pods if facts.cluster is not None else None) or ()
    for pod in pods:
        if any(is_image(image, announcer.image) for image in pod.images):
            return f"as Pod {pod.key}"
    if announcer.programs & (facts.host.programs or frozenset()):
        return "as a process"
    return ""


def is_image(reference: str, path: str) -> bool:
    """Does an image's reference name this path, with any registry, tag and digest?"""
    name = reference.partition("@")[0]
    head, slash, last = name.rpartition("/")
    name = f"{head}{slash}{last.partition(':')[0]}"
    return name == path or name.endswith(f"/{path}")


def _finding(announcer: Announcer, where: str, facts: Facts) -> Finding:
    migrating = announcer.title == KUBE_VIP and facts.settings.election in ("global", "per-service")
    class_only = facts.settings.class_only or not facts.settings.class_legacy_handling
    harmless = migrating or class_only or not announcer.serves
    if migrating:
        why = f"Election {facts.settings.election} shares kube-vip's Leases: the two keep off each other. Stop it once every node has kvip."
    elif not announcer.serves:
        why = "It binds addresses of its own. One that is also a Service's would be held by two."
    elif class_only:
        why = "kvip serves only Services of its own class here: the two keep off each other if the other one does likewise."
    else:
        why = "Both serve Services that name no class: two daemons bind and announce one address, and neither knows of the other."
    return Finding(
        check="other-announcer",
        level="note" if harmless else "problem",
        what=f"{announcer.title} runs on this node {where}",
        why=why,
        mend=announcer.mend,
    )


def _shared_lease(facts: Facts) -> Iterator[Finding]:
    """Who holds kube-vip's Lease: a node in `claims` takes nothing while somebody does (PROTOCOL G5)."""
    leases = (facts.cluster.leases if facts.cluster is not None else None) or ()
    for lease in leases:
        holder = lease.spec.holder_identity or ""
        if lease.metadata.name != facts.settings.lease_name or not holder or facts.settings.election != "claims":
            continue
        namespace, name = facts.settings.namespace, lease.metadata.name
        still = _stands_still(lease, facts)
        yield Finding(
            check="shared-lease-held",
            level="note" if still else "problem",
            what=f"Lease {namespace}/{name} names {holder!r} as holder, last renewed {lease.spec.renew_time or 'never'}",
            why="It is the Lease of kube-vip and of election `global`. While its holder renews it a node in `claims` takes no VIP. "
            + ("This one stands still, and is passed over after its duration." if still else "Two modes never run beside each other."),
            mend=f"kubectl -n {namespace} delete lease {name}   # once neither kube-vip nor a kvip in that mode runs on any node"
            if still
            else f"kubectl -n {namespace} get lease {name} -w   # stop who renews it, or run kvip with KVIP_ELECTION=global",
        )


def _stands_still(lease: Lease, facts: Facts) -> bool:
    """Was it renewed long ago, by the wall clocks? Enough for advice; the daemon itself believes no time in a Lease (PROTOCOL T1)."""
    try:
        renewed_at = datetime.fromisoformat(lease.spec.renew_time or "")
    except ValueError:
        return False
    if facts.looked_at is None or renewed_at.tzinfo is None:
        return False
    duration_s = lease.spec.lease_duration_seconds or 0
    return (facts.looked_at - renewed_at).total_seconds() > max(LONG_STILL_S, STILL_DURATIONS * duration_s)
