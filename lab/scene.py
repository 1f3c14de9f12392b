"""One fault on a healthy cluster, and what was measured meanwhile; `lab.faults` lists the faults.

In: a `Cluster` whose daemons run. Out: `run(fault, cluster)` makes Services, inflicts one fault while a client asks who has their
addresses, mends it, deletes the Services, and returns what was measured. Bounds are in seconds, for the timers of `lab.node` (lease 5/3/1).
It must not judge: tests and the printed table compare `Measured` with the bounds.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import msgspec

from lab.cluster import SERVICE_LEASES, Cluster, now, wait
from lab.netns import LabError
from lab.node import NodeProcess
from lab.prober import Prober
from lab.sniffer import Sniffer

LEASE_S, RENEW_S = 5.0, 3.0
TAKE_OVER_S = LEASE_S + 1.0
"""Bound of the silence when a holder is lost without a word."""
SILENT_S = RENEW_S + 0.5
"""Within this a node that may not act any more is silent, whatever its daemon does."""
NO_GAP_S = 0.25
"""What counts as no gap on the wire: a few rounds of a prober that asks each 20 ms, on a busy machine."""
SETTLE_S = 0.7
"""How long the wire is watched on after a fault, and again after its end: a late second answer is seen."""
VIPS = ("10.10.0.240", "fd00:10::259", "10.10.0.241")
"""Every row is judged by all of them: the IPv4 ones by ARP requests, the IPv6 one by neighbour solicitations to its group. The first two
are in one claim record, so that in mode `claims` too one node holds both and the fault strikes both families."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that had to happen soon."""

    what: str
    took_s: float
    bound_s: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What one fault did, over all VIPs."""

    two_answers_s: float
    longest_silence_s: float
    timings: tuple[Timing, ...]
    left: tuple[str, ...]
    """"node address" for each VIP of a deleted Service that is still bound."""


class Scene(msgspec.Struct, kw_only=True):
    """A cluster in health with a fault to come. The fault is inflicted on the node that holds `vip`."""

    cluster: Cluster
    vip: str
    holder: NodeProcess
    prober: Prober
    sniffer: Sniffer
    timings: list[Timing]
    keep: bool = True
    """False: the fault itself deleted the Services."""

    @property
    def others(self) -> set[str]:
        """MACs of the nodes that did not hold the VIP."""
        return {self.cluster.lan.mac(name) for name in self.cluster.nodes if name != self.holder.node}

    def held_here(self) -> list[str]:
        """The VIPs that are bound on the node on which the fault is inflicted."""
        bound = self.holder.vips()
        return [vip for vip in VIPS if vip in bound]

    def timed(self, what: str, took_s: float, bound_s: float) -> None:
        """Note how long something took."""
        self.timings.append(Timing(what=what, took_s=took_s, bound_s=bound_s))

    def until(self, check: Callable[[], bool], what: str, *, bound_s: float) -> None:
        """Wait for something, well beyond its bound, and note how long it took."""
        self.timed(what, wait(check, what, timeout_s=bound_s + 5), bound_s)

    def handed_over(self, *, timeout_s: float = TAKE_OVER_S + 3) -> None:
        """Wait until every VIP is answered by another node, and watch on."""
        macs = self.others
        wait(lambda: all(self.prober.holders_now(vip) & macs for vip in VIPS), "another node answers", timeout_s=timeout_s)
        time.sleep(SETTLE_S)

    def answered(self, *, timeout_s: float) -> None:
        """Wait until every VIP is answered again, by whomever, and watch on."""
        for vip in VIPS:
            if self.prober.wait_answer(vip, timeout_s=timeout_s) is None:
                raise LabError(f"{vip} is not answered {timeout_s:g} s later")
        time.sleep(SETTLE_S)

    def silent_since(self, began_s: float, what: str, *, bound_s: float, by: str = "") -> None:
        """Watch beyond the bound, and note when the last answer for any VIP came, from anybody or from this MAC."""
        time.sleep(max(0.0, began_s + bound_s + SETTLE_S - now()))
        last = [answer.at_s for vip in VIPS for answer in self.prober.answers(vip) if by in ("", answer.mac)]
        self.timed(what, max(0.0, max(last, default=began_s) - began_s), bound_s)


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    name: str
    inflict: Callable[[Scene], None]
    silence_s: float | None
    """Bound of the longest silence; None = silence is what is wanted, the timings count."""
    slow: bool = True
    """False: in the default ring."""
    embedded: bool = False
    """Needs an API server that fails on request."""


def run(fault: Fault, cluster: Cluster) -> Measured:
    """Inflict one fault on a healthy cluster. Raises LabError when what must follow never does."""
    for number, vip in enumerate(VIPS):
        cluster.create(f"fault{number}", vip)
    cluster.wait_bound(*VIPS, timeout_s=15)
    timings: list[Timing] = []
    with cluster.judging(*VIPS) as prober, cluster.sniffing(*VIPS) as sniffer:
        holder = cluster.holder_of(VIPS[0])
        prober.clear()
        scene = Scene(cluster=cluster, vip=VIPS[0], holder=holder, prober=prober, sniffer=sniffer, timings=timings)
        fault.inflict(scene)
        time.sleep(SETTLE_S)
        reports = [prober.report(vip) for vip in VIPS]
    _all_live(cluster)
    cluster.start()
    if scene.keep:
        cluster.delete_all()
    with contextlib.suppress(LabError):  # what is left then is the result
        cluster.wait_gone(*VIPS)
    return Measured(
        two_answers_s=max(report.two_answers_s for report in reports),
        longest_silence_s=max(report.longest_silence_s for report in reports),
        timings=tuple(timings),
        left=tuple(f"{node} {vip}" for node in cluster.nodes for vip in VIPS if _bound(cluster, node, vip)),
    )


def come_of_age(cluster: Cluster) -> None:
    """Wait until every daemon has run for a lease: a younger one takes nothing of which a status shows a holder (PROTOCOL T4)."""
    time.sleep(max(0.0, *(LEASE_S + SETTLE_S - node.age_s for node in cluster.nodes.values())))


def recover(cluster: Cluster) -> None:
    """Back to health from whatever state: every daemon runs and is ready, no Services, nothing of kvip's bound.

    Raises LabError, in health again, when a daemon had ended by itself.
    """
    for node in cluster.nodes.values():
        if node.running:
            node.thaw()
    try:
        _all_live(cluster)
    finally:
        cluster.start()
        cluster.delete_all()
        wait(lambda: not cluster.left(), "nothing left on any node", timeout_s=10)
        # Nobody deletes the Leases of Services; a next Service of that name would wait for a holder that died.
        for lease in cluster.request("GET", SERVICE_LEASES)["items"]:
            cluster.request("DELETE", f"{SERVICE_LEASES}/{lease['metadata']['name']}")


def _all_live(cluster: Cluster) -> None:
    for name, node in cluster.nodes.items():
        if node.ended_by_itself:
            raise LabError(f"the daemon on {name} ended by itself, exit code {node.returncode}; see {node.log_path}")


def _bound(cluster: Cluster, node: str, vip: str) -> bool:
    """Is the address on the node at all, with kvip's mark or without?"""
    return any(address.ip == vip for address in cluster.lan.addresses(node))
