"""Asks every judge, and says what was seen.

Input: facts. Output: findings, problems first, and lines about what was looked at. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kvip.core.doctor import announcers, cluster, cni, kernel, leftovers, managers, nics, proxy
from kvip.core.doctor.facts import ClusterFacts, Facts
from kvip.core.doctor.finding import Finding

JUDGES: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    kernel.judge,
    nics.judge,
    proxy.judge,
    leftovers.judge,
    announcers.judge,
    cni.judge,
    managers.judge,
    cluster.judge,
)


def judge(facts: Facts) -> list[Finding]:
    """Every finding, problems first, otherwise in the order of the judges."""
    return sorted((finding for ask in JUDGES for finding in ask(facts)), key=lambda finding: finding.level != "problem")


def seen(facts: Facts) -> list[tuple[str, str]]:
    """What was looked at and how it is: subject and state, in words."""
    host, net = facts.host, facts.host.net
    marked = sum(1 for address in net.addresses if address.marked)
    rows = [("node", facts.settings.node_name), ("election", facts.settings.election), ("kernel", f"Linux {host.release}")]
    for link in nics.announcing(facts):
        own = (
            ", ".join(f"{a.ip}/{a.prefix_len}" for a in net.addresses if a.index == link.index and not a.marked) or "no address of its own"
        )
        rows.append(("nic", f"{link.name}, MAC {link.mac.hex(':')}, {own}"))
        values = {name: nics.sysctl(facts, link.name, name) for name in ("arp_ignore", "arp_announce", "rp_filter")}
        known = ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)
        if known:
            rows.append(("sysctls", f"{link.name}: {known}"))
    if host.switch_problem == "":
        rows.append(("switch", "nf_tables takes the dead-man's switch"))
    if host.daemon_runs is not None:
        rows.append(
            ("kvip", f"{'runs' if host.daemon_runs else 'does not run'} in this network namespace; {marked} address(es) with its mark")
        )
    if host.proxy_mode is not None:
        rows.append(("kube-proxy", f"mode {host.proxy_mode}"))
    if host.programs is not None:
        rows.append(("programs", ", ".join(sorted(host.programs)) or "no other announcer, no network manager"))
    if host.clock_synchronised is not None:
        rows.append(("clock", "synchronised" if host.clock_synchronised else "not synchronised"))
    return rows + (_seen_of_cluster(facts.cluster) if facts.cluster is not None else [])


def _seen_of_cluster(found: ClusterFacts) -> list[tuple[str, str]]:
    rows = [("API server", f"{found.server}, as {found.user}" if found.user else found.server)]
    if found.nodes is not None:
        rows.append(("nodes", str(len(found.nodes))))
    if found.vips is not None:
        rows.append(("VIPs", f"{len(found.vips)} address(es) of Services of type LoadBalancer"))
    if found.asked:
        rows.append(("rights", f"{len(found.asked) - len(found.denied)} of {len(found.asked)} that the settings need"))
    return rows
