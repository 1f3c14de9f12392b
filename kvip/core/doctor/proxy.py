"""kube-proxy in mode ipvs, which makes every VIP local on every node.

Input: facts. Output: findings. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvip.core.doctor import nics
from kvip.core.doctor.facts import Facts
from kvip.core.doctor.finding import Finding
from kvip.core.facts import KUBE_PROXY_NIC

_BEST_LOCAL = 2
"""arp_announce (ip-sysctl): a source that suits the target; what strictARP sets."""
_STRICT_ARP = (
    "kubectl -n kube-system get configmap kube-proxy -o yaml | sed 's/strictARP: false/strictARP: true/' | kubectl apply -f - "
    "&& kubectl -n kube-system rollout restart daemonset kube-proxy"
)


def judge(facts: Facts) -> Iterator[Finding]:
    """Is strictARP off under ipvs? What the kernel has counts, not what a file says."""
    bound = addresses(facts)
    if facts.host.proxy_mode not in (None, "ipvs") or (facts.host.proxy_mode is None and not _has_nic(facts)):
        return
    for link in nics.announcing(facts):
        ignore, announce = nics.sysctl(facts, link.name, "arp_ignore"), nics.sysctl(facts, link.name, "arp_announce")
        off = [f"{name} is {value}" for name, value, least in (("arp_ignore", ignore, 1), ("arp_announce", announce, _BEST_LOCAL))
               if value is not None and value < least]  # fmt: skip
        if not off:
            continue
        yield Finding(
            check="ipvs-no-strict-arp",
            level="problem",
            what=f"kube-proxy runs in mode ipvs ({KUBE_PROXY_NIC} has {bound} address(es)), and {' and '.join(off)} on {link.name}",
            why="Every VIP is an address of every node then, and each of them answers ARP for it. kvip silences this node while its daemon "
            "runs; a node without a running one answers beside the holder.",
            mend=_STRICT_ARP + "   # at once: sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2",
        )


def addresses(facts: Facts) -> int:
    """How many addresses kube-proxy has bound in mode ipvs."""
    net = facts.host.net
    return sum(1 for address in net.addresses if net.nic(address) == KUBE_PROXY_NIC)


def _has_nic(facts: Facts) -> bool:
    return any(link.name == KUBE_PROXY_NIC for link in facts.host.net.links.values())
