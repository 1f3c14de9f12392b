"""What a daemon left on this host: addresses and firewall rules, kvip's or another's.

Input: facts. Output: findings. Pure. An address without kvip's mark is named one by one, and never more than that.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from kvip.core import strays
from kvip.core.doctor.facts import Facts
from kvip.core.doctor.finding import Finding
from kvip.core.facts import KUBE_PROXY_NIC
from kvip.core.model import Address, Vip
from kvip.core.strays import Managed
from kvip.core.sweeping import leftovers

KUBE_VIP = "kube-vip"


def judge(facts: Facts) -> Iterator[Finding]:
    """Every finding about what was left."""
    stale = list(_stale(facts))
    known = {finding.what for finding in stale}
    yield from stale
    yield from (finding for finding in _by_form(facts) if finding.what not in known)
    yield from _own(facts)
    yield from _rules(facts)


def _stale(facts: Facts) -> Iterator[Finding]:
    """Addresses without the mark that are, or were, those of Services of ours."""
    net, cluster = facts.host.net, facts.cluster
    nics = {index: link.name for index, link in net.links.items() if link.kind != "dummy" and link.name != KUBE_PROXY_NIC}
    now = cluster.vips if cluster is not None else None
    former = facts.host.former if now is not None else {}
    if now is None:
        # What became of a Service since the journal was written is not known: it is taken to be there still.
        now = {vip: (msgspec.structs.replace(owner, ours=True),) for vip, owner in facts.host.former.items()}
    nodes = (cluster.nodes if cluster is not None else None) or ()
    of_nodes = {Vip(entry.address) for node in nodes for entry in node.status.addresses or ()}
    candidates = strays.suspects([address for address in net.addresses if not address.marked], nics)
    for stray in strays.find_strays(candidates, Managed(now=now, former=former), nics=nics, node_addresses=of_nodes):
        yield Finding(
            check="stale-address",
            level="problem",
            what=_named(stray.address, facts),
            why=f"It {stray.reason}. {_who_bound_it(facts)}This node answers for it beside the holder, and kvip refuses a VIP "
            "that is bound here without its mark.",
            mend=_sweep(stray.address, facts),
        )


def _by_form(facts: Facts) -> Iterator[Finding]:
    """Addresses that look like another daemon's VIPs; whose they are is not known."""
    vips = facts.cluster.vips if facts.cluster is not None else None
    for address in leftovers(facts.host.net):
        if (vips is not None and address.ip in vips) or facts.host.net.nic(address) == KUBE_PROXY_NIC:
            continue  # Another daemon's, which may bind as it likes, or found by `_stale`.
        yield Finding(
            check="looks-left",
            level="note",
            what=_named(address, facts),
            why="It has the form of a VIP that a daemon such as kube-vip bound and left. Whose it is cannot be told from the kernel"
            + (", and the Services could not be asked." if vips is None else ", and no Service has it."),
            mend=f"{_sweep(address, facts)}   # if it was left behind",
        )


def _own(facts: Facts) -> Iterator[Finding]:
    marked = [address for address in facts.host.net.addresses if address.marked]
    if marked and facts.host.daemon_runs is False:
        yield Finding(
            check="kvip-left",
            level="problem",
            what=f"{len(marked)} address(es) with kvip's mark, such as {_named(marked[0], facts)}, and no kvip daemon runs here",
            why="They go by themselves when their lifetime is over, and the switch, if it was on, keeps them silent until then.",
            mend="kvip sweep   # or start kvip, which removes them",
        )


def _rules(facts: Facts) -> Iterator[Finding]:
    if not facts.host.foreign_rules or _runs(facts):
        return
    words = ",".join(sorted({rules.word for rules in facts.host.foreign_rules}))
    known = facts.host.programs is not None
    yield Finding(
        check="kube-vip-rules",
        level="problem" if known else "note",
        what=f"{sum(rules.count for rules in facts.host.foreign_rules)} firewall rules, chains or tables of kube-vip"
        + (", and no kube-vip runs here" if known else "; whether one runs here cannot be seen"),
        why="They filter or rewrite the packets of addresses that other Services may have by now.",
        mend=f"kvip sweep --also {words}" + ("" if known else "   # when no kube-vip runs here any more"),
    )


def _runs(facts: Facts) -> bool:
    return KUBE_VIP in (facts.host.programs or ())


def _who_bound_it(facts: Facts) -> str:
    return "kube-vip runs here, and may have bound it. " if _runs(facts) else ""


def _sweep(address: Address, facts: Facts) -> str:
    word = facts.host.net.word(address)
    if facts.host.daemon_runs:
        return f"kvip sweep --adopt --vips {address.ip}"
    return f"kvip sweep --also {word}"


def _named(address: Address, facts: Facts) -> str:
    return f"{address.ip}/{address.prefix_len} on {facts.host.net.nic(address)}"
