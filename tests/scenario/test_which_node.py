"""Which node holds a VIP, in mode `claims`: endpoints, labels and taints of the Node, annotations of the Service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from lab.admin import Json
from lab.cluster import CLAIMS, Cluster, now, wait
from lab.endpoints import endpoints_of
from lab.scene import NO_GAP_S

MODE = CLAIMS
VIP, OTHER = "10.10.0.200", "10.10.0.201"
LOCAL = {"externalTrafficPolicy": "Local"}
EXCLUDE = "node.kubernetes.io/exclude-from-external-load-balancers"
SELECTOR, PREFERRED = "kvip.io/node-selector", "kvip.io/preferred-nodes"
MOVED_S = 1.0


@contextmanager
def node_patched(cluster: Cluster, name: str, patch: Json, undo: Json) -> Iterator[None]:
    """A Node object that is other than usual for a while."""
    cluster.request("PATCH", f"/api/v1/nodes/{name}", patch)
    try:
        yield
    finally:
        cluster.request("PATCH", f"/api/v1/nodes/{name}", undo)


def labelled(cluster: Cluster, name: str, **labels: str) -> AbstractContextManager[None]:
    return node_patched(cluster, name, {"metadata": {"labels": labels}}, {"metadata": {"labels": dict.fromkeys(labels)}})


def on(cluster: Cluster, vip: str, node: str, *, timeout_s: float = 5.0) -> float:
    """Wait until the VIP is bound on this node alone; returns seconds."""
    return wait(lambda: cluster.bound(vip) == [node], f"{vip} bound on {node}", timeout_s=timeout_s)


def test_policy_local_follows_the_endpoints(cluster: Cluster) -> None:
    with endpoints_of(cluster, "web", "n1") as endpoints:
        cluster.create("web", VIP, spec=LOCAL)
        on(cluster, VIP, "n1")
        with cluster.judging(VIP) as prober:
            for node in ("n2", "n1", "n2"):
                began = now()
                endpoints.put(node)
                assert prober.wait_answer(VIP, cluster.lan.mac(node), timeout_s=3)
                print(f"moved to {node} in {(now() - began) * 1000:.0f} ms")
                assert now() - began < MOVED_S
            time.sleep(0.3)
            report = prober.report(VIP)
            print(f"longest silence {report.longest_silence_s * 1000:.0f} ms")
            assert report.two_answers_s == 0
            assert report.longest_silence_s < MOVED_S
            endpoints.put("n2", ready=False)
            assert prober.wait_silent(VIP, for_s=0.3, timeout_s=1.5)
        endpoints.put("n1")
        on(cluster, VIP, "n1")


def test_an_endpoint_without_a_node_makes_policy_local_like_cluster(cluster: Cluster) -> None:
    with endpoints_of(cluster, "web", None):
        uid = cluster.create("web", VIP, spec=LOCAL)
        cluster.wait_bound(VIP)
        wait(lambda: bool(cluster.events(uid, "EndpointWithoutNode")), "the Service is told", timeout_s=3)


def test_without_endpoints_policy_cluster_is_held_and_by_option_it_is_not(cluster: Cluster) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    env = {"KVIP_REQUIRE_ENDPOINTS": "true"}
    with cluster.restarted("n1", **env), cluster.restarted("n2", **env):
        cluster.create("excepted", OTHER, annotations={"kube-vip.io/allow-reconcile-without-endpoints": "true"})
        cluster.wait_bound(OTHER)
        cluster.wait_gone(VIP)
        with endpoints_of(cluster, "web", "n9"):
            cluster.wait_bound(VIP)
        cluster.wait_gone(VIP)
        cluster.delete_all()
        cluster.wait_gone(OTHER)


def test_a_node_that_is_labelled_out_hands_over_and_takes_nothing(cluster: Cluster) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    holder = cluster.holder_of(VIP)
    other = cluster.other(holder)
    with cluster.judging(VIP) as prober:
        with labelled(cluster, holder.node, **{EXCLUDE: ""}):
            began = now()
            assert prober.wait_answer(VIP, cluster.lan.mac(other.node), timeout_s=3)
            print(f"handed over in {(now() - began) * 1000:.0f} ms")
            assert now() - began < 2.0
            with labelled(cluster, other.node, **{EXCLUDE: ""}):
                assert prober.wait_silent(VIP, for_s=0.3, timeout_s=3)
            on(cluster, VIP, other.node)
        time.sleep(0.3)
        assert prober.report(VIP).two_answers_s == 0
    assert cluster.bound(VIP) == [other.node], "what is held stays"


@pytest.mark.parametrize("taint", ["node.cloudprovider.kubernetes.io/shutdown", "node.kubernetes.io/out-of-service"])
def test_a_node_that_is_shutting_down_hands_over(cluster: Cluster, taint: str) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    holder = cluster.holder_of(VIP)
    taints = [{"key": taint, "effect": "NoSchedule"}]
    with node_patched(cluster, holder.node, {"spec": {"taints": taints}}, {"spec": {"taints": None}}):
        on(cluster, VIP, cluster.other(holder).node, timeout_s=2)


def test_a_cordoned_node_hands_over_by_option_only(cluster: Cluster) -> None:
    cordon, undo = {"spec": {"unschedulable": True}}, {"spec": {"unschedulable": None}}
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    holder = cluster.holder_of(VIP).node
    with node_patched(cluster, holder, cordon, undo):
        time.sleep(0.7)
        assert cluster.bound(VIP) == [holder]
        with cluster.restarted(holder, KVIP_CORDON_HANDS_OVER="true"):
            on(cluster, VIP, next(name for name in cluster.nodes if name != holder))


def test_a_node_selector_is_obeyed_at_once_and_one_that_cannot_be_read_moves_nothing(cluster: Cluster) -> None:
    def select(text: str | None) -> None:
        cluster.patch("web", {"metadata": {"annotations": {SELECTOR: text}}})

    with labelled(cluster, "n1", zone="a"), labelled(cluster, "n2", zone="b"):
        uid = cluster.create("web", VIP, annotations={SELECTOR: "zone=b"})
        on(cluster, VIP, "n2")
        with cluster.judging(VIP) as prober:
            select("zone in (a)")
            on(cluster, VIP, "n1")
            prober.clear()
            select("zone in a")
            wait(lambda: any("'zone in a'" in told for told in cluster.events(uid, "InvalidAnnotation")), "told", timeout_s=3)
            time.sleep(0.5)
            assert prober.report(VIP).longest_silence_s < NO_GAP_S
            select("zone=nowhere")
            assert prober.wait_silent(VIP, for_s=0.3, timeout_s=1.5)
            wait(lambda: bool(cluster.events(uid, "NoNode")), "told", timeout_s=3)
            select(None)
            cluster.wait_bound(VIP)
            assert prober.report(VIP).two_answers_s == 0


def test_preferred_nodes_take_what_is_free_and_move_nothing_that_is_held(cluster: Cluster) -> None:
    vips = [f"10.10.0.{number}" for number in range(210, 218)]
    for number, vip in enumerate(vips):
        cluster.create(f"web{number}", vip, annotations={PREFERRED: "n2,n1" if number % 2 else "n1"})
    cluster.wait_bound(*vips)
    assert [cluster.bound(vip) for vip in vips] == [["n1"], ["n2"]] * 4
    for number in range(8):
        cluster.patch(f"web{number}", {"metadata": {"annotations": {PREFERRED: "n1"}}})
    time.sleep(0.7)
    assert [cluster.bound(vip) for vip in vips] == [["n1"], ["n2"]] * 4
    cluster.nodes["n2"].stop()
    wait(lambda: all(cluster.bound(vip) == ["n1"] for vip in vips), "nobody is excluded", timeout_s=5)
