"""Mode `claims` on three nodes: VIPs that only some nodes can hold, hand-over, and what it costs to hold many (rule T5)."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab.claimsview import heartbeat, holders, record_of
from lab.cluster import CLAIMS, Cluster, now, wait
from lab.embeddedapi import EmbeddedApi
from lab.lan import api_ip
from lab.node import NodeProcess
from lab.scene import LEASE_S, TAKE_OVER_S
from lab.slices import SLICES, endpoint_slice, endpoints

VIP, OTHER = "10.10.0.200", "10.10.0.201"
LOCAL = {"externalTrafficPolicy": "Local"}


@pytest.fixture(scope="module", autouse=True)
def three_nodes(shared_cluster: Cluster) -> Iterator[None]:
    shared_cluster.use(CLAIMS)
    shared_cluster.start()
    with shared_cluster.joined_by("n3"):
        yield


def _age_s(node: NodeProcess) -> float:
    return time.time() - os.stat(f"/proc/{node.pid}").st_ctime


@contextmanager
def _endpoints(cluster: Cluster, service: str, *nodes: str) -> Iterator[None]:
    cluster.request("POST", SLICES, endpoint_slice(f"{service}-1", service, *nodes))
    try:
        yield
    finally:
        cluster.request("DELETE", f"{SLICES}/{service}-1")


@pytest.mark.slow
def test_t5_a_local_service_whose_only_node_dies_is_held_by_nobody_until_an_endpoint_is_elsewhere(cluster: Cluster) -> None:
    with _endpoints(cluster, "web", "n2"):
        cluster.create("web", VIP, spec=LOCAL)
        cluster.wait_bound(VIP)
        with cluster.judging(VIP) as prober:
            cluster.nodes["n2"].kill9()
            cluster.request("PATCH", f"{SLICES}/web-1", {"endpoints": endpoints("n3")})
            assert prober.wait_answer(VIP, cluster.lan.mac("n3"), timeout_s=TAKE_OVER_S + 1)
            time.sleep(0.3)
            assert prober.report(VIP).two_answers_s == 0


@contextmanager
def _without_ipv6(cluster: Cluster, *nodes: str) -> Iterator[None]:
    """Adding an IPv6 address fails there (EACCES), as on a host with ipv6.disable_ipv6 set."""
    for node in nodes:
        cluster.lan.run(node, "sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")
    try:
        yield
    finally:
        for node in nodes:
            cluster.lan.run(node, "sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=0")
            cluster.restore_addresses(node)


@pytest.mark.slow
def test_t5_a_vip_that_cannot_be_bound_on_a_node_is_held_by_another(cluster: Cluster) -> None:
    vips = [f"fd00:10::{n}" for n in range(200, 206)]
    with _without_ipv6(cluster, "n1", "n2"):
        for number, vip in enumerate(vips):
            cluster.create(f"web{number}", vip)
        cluster.create("web", VIP)
        cluster.wait_bound(VIP)
        took = wait(lambda: set(vips) <= set(cluster.nodes["n3"].vips()), "each held by the node that can", timeout_s=15)
        print(f"all held where they can be bound {took:.2f} s after the last was created")
        for vip in vips:
            assert cluster.holder_of(vip).node == "n3"
        refused = [vip for node in ("n1", "n2") for vip in vips if vip in heartbeat(cluster, node).notes["kvip.io/refuses"]]
        assert refused, "who tried says so in its heartbeat"


def test_k6_a_vip_that_kube_proxy_made_local_on_every_node_is_answered_by_its_holder_alone(cluster: Cluster) -> None:
    """kube-proxy in IPVS mode puts every VIP on kube-ipvs0, and without strictARP the kernel answers for it on any NIC."""
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    try:
        for node in cluster.nodes:
            cluster.lan.ns(node).ip_batch(["link add kube-ipvs0 type bridge", f"addr add {VIP}/32 dev kube-ipvs0"])
        holder = cluster.holder_of(VIP)
        with cluster.judging(VIP) as prober:
            wait(lambda: prober.report(VIP).observed_s > 1.0, "observed", timeout_s=5)
            assert prober.report(VIP).macs == {cluster.lan.mac(holder.node)}
    finally:
        for node in cluster.nodes:
            cluster.lan.run(node, "ip", "link", "del", "kube-ipvs0", check=False)


def test_a_node_that_is_stopped_hands_its_vips_over_and_nobody_else_moves(cluster: Cluster) -> None:
    vips = [f"10.10.0.{n}" for n in range(210, 222)]
    for number, vip in enumerate(vips):
        cluster.create(f"web{number}", vip)
    cluster.wait_bound(*vips)
    before = holders(cluster)
    leaving = cluster.holder_of(vips[0])
    gone = heartbeat(cluster, leaving.node).holder
    moved = [vip for vip in vips if before[vip] == gone]
    with cluster.judging(*vips) as prober:
        leaving.stop()
        macs = {cluster.lan.mac(name) for name in cluster.nodes if name != leaving.node}
        wait(lambda: all(prober.holders_now(vip) & macs for vip in moved), "others answer", timeout_s=2)
        time.sleep(0.5)
        reports = {vip: prober.report(vip) for vip in vips}
    print(f"{len(moved)} VIPs handed over, longest silence {max(r.longest_silence_s for r in reports.values()) * 1000:.0f} ms")
    assert max(report.longest_silence_s for report in reports.values()) <= 0.5
    assert {report.two_answers_s for report in reports.values()} == {0}
    last = {vip: answer.mac for vip in vips if (answer := reports[vip].last_answer) is not None}
    assert {last[vip] for vip in moved} <= macs
    for vip in set(vips) - set(moved):
        assert reports[vip].macs == {cluster.lan.mac(before[vip].partition("_")[0])}
    ended = heartbeat(cluster, leaving.node)
    assert ended.holder == ""
    assert f"{gone} released" in ended.notes.values()
    assert min(record_of(cluster, vip).version for vip in moved) > ended.version, "first the heartbeat ends, then others take"


def test_holding_many_vips_costs_one_request_per_node_and_retry_period(cluster: Cluster, embedded: EmbeddedApi) -> None:
    """With the records that were there when a daemon started, too: it must not read them again and again."""
    vips = [f"10.10.0.{n}" for n in range(150, 190)]
    for number, vip in enumerate(vips[:20]):
        cluster.create(f"web{number}", vip)
    cluster.wait_bound(*vips[:20])
    cluster.nodes["n1"].stop()
    cluster.nodes["n1"].start()
    cluster.nodes["n1"].wait_ready(15)
    # Until then each asks once a period for the Lease of mode `global` (PROTOCOL G5).
    wait(lambda: min(_age_s(node) for node in cluster.nodes.values()) > LEASE_S + 0.5, "no daemon is young", timeout_s=15)
    for count in (20, 40):
        for number, vip in enumerate(vips[:count]):
            if number >= 20:
                cluster.create(f"web{number}", vip)
        wait(lambda count=count: all(cluster.ingress(f"web{n}") for n in range(count)), "every status is written", timeout_s=5)  # type: ignore[misc]
        time.sleep(0.5)
        before = {node: Counter(embedded.request_counts(client=api_ip(node))) for node in cluster.nodes}
        began = now()
        time.sleep(2.5)
        asked = {node: Counter(embedded.request_counts(client=api_ip(node))) - before[node] for node in cluster.nodes}
        periods = now() - began
        print(f"{count} VIPs, {periods:.1f} s: { ({node: dict(counts) for node, counts in asked.items()}) }")
        for node, counts in asked.items():
            assert abs(counts["PUT", "leases", 200] - periods) <= 1.0, node
            assert counts.total() <= periods + 2, (node, counts)


def test_t5_a_local_service_is_held_where_its_endpoint_is_and_follows_it(cluster: Cluster) -> None:
    """Between nodes that are older than a lease: a younger one does not know yet who held what nobody is named for (T4)."""
    wait(lambda: min(_age_s(node) for node in cluster.nodes.values()) > LEASE_S + 0.5, "no daemon is young", timeout_s=15)
    with _endpoints(cluster, "web", "n2"):
        cluster.create("web", VIP, spec=LOCAL)
        cluster.create("anywhere", OTHER)
        cluster.wait_bound(VIP, OTHER)
        assert cluster.bound(VIP) == ["n2"]
        with cluster.judging(VIP, OTHER) as prober:
            for node in ("n3", "n1", "n2"):
                moved = now()
                cluster.request("PATCH", f"{SLICES}/web-1", {"endpoints": endpoints(node)})
                answer = prober.wait_answer(VIP, cluster.lan.mac(node), timeout_s=3)
                assert answer is not None
                print(f"on {node} {(answer.at_s - moved) * 1000:.0f} ms after its endpoint moved there")
                assert answer.at_s - moved < 1.0
                wait(lambda node=node: cluster.bound(VIP) == [node], f"on {node} only", timeout_s=1)  # type: ignore[misc]
            report = prober.report(VIP)
            assert report.two_answers_s == 0
            assert report.longest_silence_s < 1.0
            assert prober.report(OTHER).switches == 0
            cluster.request("PATCH", f"{SLICES}/web-1", {"endpoints": []})
            assert prober.wait_silent(VIP, for_s=0.3, timeout_s=1.3)


@pytest.mark.slow
def test_t1_a_node_that_saw_nothing_for_a_while_takes_nobody_for_dead(cluster: Cluster) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    holder = cluster.holder_of(VIP)
    before = heartbeat(cluster, holder.node).holder
    others = [name for name in cluster.nodes if name != holder.node]
    with cluster.judging(VIP) as prober:
        for name in others:
            cluster.lan.cut_api(name)
        time.sleep(LEASE_S + 2)
        for name in others:
            cluster.lan.cut_api(name, False)
        time.sleep(3)
        assert prober.report(VIP).switches == 0
        assert prober.report(VIP).longest_silence_s < 0.5
    assert heartbeat(cluster, holder.node).holder == before


@pytest.mark.slow
def test_t1_a_silent_holder_is_waited_for_as_long_as_it_published(cluster: Cluster) -> None:
    with cluster.restarted("n1", vip_leaseduration="8"):
        for name in ("n2", "n3"):
            cluster.nodes[name].stop()
        cluster.create("web", VIP)
        cluster.wait_bound(VIP, timeout_s=LEASE_S + 3)
        for name in ("n2", "n3"):
            cluster.nodes[name].start()
            cluster.nodes[name].wait_ready(15)
        killed = now()
        cluster.nodes["n1"].kill9()
        with cluster.probing(VIP) as prober:
            macs = [cluster.lan.mac("n2"), cluster.lan.mac("n3")]
            wait(lambda: bool(prober.holders_now(VIP) & set(macs)), "taken over", timeout_s=12)
        print(f"taken {now() - killed:.2f} s after SIGKILL of a holder that published 8 s")
        assert 7.0 < now() - killed < 9.5
    for name in ("n2", "n3"):  # what they saw of that duration is to be forgotten
        cluster.nodes[name].stop()
