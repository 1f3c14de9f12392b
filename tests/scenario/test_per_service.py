"""Mode `per-service`: a Lease per Service with kube-vip's names; an address that Services share needs all their Leases (PROTOCOL G3)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from lab.cluster import CLAIMS, GLOBAL, PER_SERVICE, SERVICE_LEASES, Cluster, now, wait
from lab.lan import node_ip
from lab.node import NodeProcess
from lab.peer import PeerProcess, binary, lease_of
from lab.scene import LEASE_S, NO_GAP_S
from lab.ways import WAYS, handed

MODE = PER_SERVICE
VIP, OTHER = "10.10.0.200", "10.10.0.201"
FOREIGN = "n9_" + "0123456789abcdef" * 2
LEASE_NAME = "kube-vip.io/leaseName"
OTHER_PORT = {"ports": [{"name": "admin", "port": 8080, "protocol": "TCP"}]}
BOUND_S = LEASE_S + 3
"""Until a VIP that was held before by another Lease, or whose holder died, is bound."""


def _lease_holder(cluster: Cluster, name: str, namespace: str = "default") -> str:
    """The node that a Lease names, "" = none."""
    path = SERVICE_LEASES.replace("/default/", f"/{namespace}/")
    return str(cluster.request("GET", f"{path}/{name}")["spec"].get("holderIdentity") or "").rpartition("_")[0]


def _leased(cluster: Cluster, name: str) -> bool:
    items = cluster.request("GET", SERVICE_LEASES)["items"]
    return any(item["metadata"]["name"] == name and item["spec"].get("holderIdentity") for item in items)


def test_each_service_has_a_lease_of_its_own_and_losing_one_takes_down_its_address_only(cluster: Cluster) -> None:
    cluster.create("web", VIP)
    cluster.create("mail", OTHER)
    cluster.wait_bound(VIP, OTHER)
    assert cluster.bound(VIP) == [_lease_holder(cluster, "kubevip-web")]
    assert cluster.bound(OTHER) == [_lease_holder(cluster, "kubevip-mail")]
    with cluster.judging(VIP, OTHER) as prober:
        cluster.request("PATCH", f"{SERVICE_LEASES}/kubevip-web", {"spec": {"holderIdentity": FOREIGN}})
        cluster.wait_gone(VIP, timeout_s=1.0)
        time.sleep(1.0)
        assert prober.report(OTHER).longest_silence_s < NO_GAP_S
        assert prober.answers(VIP) == [
            answer for answer in prober.answers(VIP) if answer.at_s < prober.report(OTHER).last_answer.at_s - 0.8
        ]
        cluster.wait_bound(VIP, timeout_s=2 * BOUND_S)
        assert prober.report(VIP).two_answers_s == 0


def test_a_lease_is_given_back_when_its_service_is_gone_and_the_next_of_that_name_is_served_at_once(cluster: Cluster) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    cluster.delete("web")
    cluster.wait_gone(VIP, timeout_s=1.0)
    wait(lambda: _lease_holder(cluster, "kubevip-web") == "", "the Lease names nobody", timeout_s=2)
    for _ in range(5):
        cluster.create("web", VIP)
        cluster.delete("web")
    cluster.create("web", OTHER)
    assert cluster.wait_bound(OTHER) < 2.0
    assert cluster.bound(VIP) == []


def test_g3_services_that_share_an_address_are_held_by_one_node_and_siblings_come_and_go_without_a_gap(cluster: Cluster) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    with cluster.judging(VIP) as prober:
        cluster.create("admin", VIP, spec=OTHER_PORT)
        wait(lambda: _leased(cluster, "kubevip-admin"), "the sibling's Lease is held", timeout_s=3)
        wait(lambda: _lease_holder(cluster, "kubevip-admin") == cluster.bound(VIP)[0], "both Leases are one node's", timeout_s=3)
        time.sleep(1.0)
        assert _lease_holder(cluster, "kubevip-web") == cluster.bound(VIP)[0]
        cluster.delete("web")
        wait(lambda: _lease_holder(cluster, "kubevip-web") == "", "the first Service's Lease is given back", timeout_s=3)
        time.sleep(1.0)
        report = prober.report(VIP)
    assert report.longest_silence_s < NO_GAP_S
    assert report.two_answers_s == 0
    assert report.switches == 0


@pytest.mark.skipif(not binary().exists(), reason="no client-go peer: run `make assets`")
def test_g3_an_address_of_which_another_holds_one_lease_is_not_bound(cluster: Cluster, tmp_path: Path) -> None:
    peer = PeerProcess(cluster.lan, "n3", {lease_of("admin"): [VIP]}, kubeconfig=cluster.api.admin_kubeconfig, work_dir=tmp_path)
    try:
        with peer:
            wait(lambda: VIP in peer.vips(), "the peer holds", timeout_s=LEASE_S + 5)
            cluster.create("admin", VIP)
            cluster.create("web", VIP, spec=OTHER_PORT)
            with cluster.judging(VIP) as prober:
                time.sleep(2 * LEASE_S)
                assert cluster.bound(VIP) == []
                peer.stop()
                cluster.wait_bound(VIP, timeout_s=6)
                time.sleep(0.5)
                assert prober.report(VIP).two_answers_s == 0
    finally:
        peer.sweep()


def test_g3_a_holder_that_cannot_hear_that_its_service_is_gone_is_waited_for(cluster: Cluster) -> None:
    """Its address is another Service's by then, with a Lease of its own. Not even the question to the segment stands in between."""
    with ExitStack() as stack:
        for name in list(cluster.nodes):
            stack.enter_context(cluster.restarted(name, KVIP_PROBE="false"))
        cluster.create("web", VIP)
        cluster.wait_bound(VIP, timeout_s=BOUND_S)
        holder = cluster.holder_of(VIP)
        other = cluster.other(holder)
        with cluster.judging(VIP) as prober:
            cluster.lan.cut_api(holder.node)
            try:
                cluster.delete("web")
                time.sleep(0.2)
                cluster.create("mail", VIP)
                wait(lambda: VIP in other.vips(), "the other node has it", timeout_s=2 * BOUND_S)
                time.sleep(1.0)
            finally:
                cluster.lan.cut_api(holder.node, False)
            report = prober.report(VIP)
        print(f"longest silence {report.longest_silence_s:.2f} s")
        assert report.two_answers_s == 0
        assert _lease_holder(cluster, "kubevip-mail") == other.node


@pytest.mark.parametrize("name", ["shared", "kube-public/shared"])
def test_services_that_name_one_lease_share_it(cluster: Cluster, name: str) -> None:
    cluster.create("web", VIP, annotations={LEASE_NAME: name})
    cluster.create("mail", OTHER, annotations={LEASE_NAME: name})
    if "/" in name:  # a namespace of the cluster's own is refused
        for service, vip in (("web", VIP), ("mail", OTHER)):
            uid = cluster.get(service)["metadata"]["uid"]
            wait(lambda uid=uid: bool(cluster.events(uid, "InvalidLeaseName")), "an Event says so", timeout_s=3)  # type: ignore[misc]
            cluster.wait_bound(vip)
            assert _lease_holder(cluster, f"kubevip-{service}") == cluster.bound(vip)[0]
        return
    cluster.wait_bound(VIP, OTHER)
    assert cluster.bound(VIP) == cluster.bound(OTHER) == [_lease_holder(cluster, "shared")]


def test_a_service_that_comes_to_name_another_lease_is_held_by_that_one_at_once_and_without_a_gap(cluster: Cluster) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    (node,) = cluster.bound(VIP)
    with cluster.judging(VIP) as prober:
        for name, lease, former in (("named", "named", "kubevip-web"), (None, "kubevip-web", "named")) * 2:
            began = now()
            cluster.patch("web", {"metadata": {"annotations": {LEASE_NAME: name}}})
            wait(lambda lease=lease: _leased(cluster, lease), f"{lease} is held", timeout_s=3)  # type: ignore[misc]
            took = now() - began
            wait(lambda former=former: not _leased(cluster, former), f"{former} is given back", timeout_s=3)  # type: ignore[misc]
            print(f"held by {lease} {took * 1000:.0f} ms after the edit, {former} given back after {(now() - began) * 1000:.0f} ms")
            assert took < 1.0
            assert _lease_holder(cluster, lease) == node
        time.sleep(0.5)
        report = prober.report(VIP)
    assert report.longest_silence_s < NO_GAP_S
    assert (report.two_answers_s, report.macs) == (0, {cluster.lan.mac(node)})


def test_only_a_node_with_endpoints_elects_for_a_local_service(cluster: Cluster) -> None:
    cluster.create("web", VIP, spec={"externalTrafficPolicy": "Local"})
    time.sleep(1.0)
    assert cluster.bound(VIP) == []
    with _endpoint(cluster, "n2"):
        cluster.wait_bound(VIP)
        assert cluster.bound(VIP) == ["n2"]
    with cluster.probing(VIP) as prober, _endpoint(cluster, "n1"):
        wait(lambda: cluster.bound(VIP) == ["n1"], "it moves with the endpoint", timeout_s=6)
        time.sleep(0.5)
        assert prober.report(VIP).two_answers_s == 0


@contextmanager
def _endpoint(cluster: Cluster, node: str) -> Iterator[None]:
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    body = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"web-{node}", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.0.2"], "nodeName": node, "conditions": {"ready": True}}],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    }
    cluster.request("POST", path, body)
    try:
        yield
    finally:
        cluster.request("DELETE", f"{path}/web-{node}")


# -- other modes ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (CLAIMS, PER_SERVICE),
        (PER_SERVICE, CLAIMS),
        pytest.param(GLOBAL, PER_SERVICE, marks=pytest.mark.slow),
        pytest.param(PER_SERVICE, GLOBAL, marks=pytest.mark.slow),
    ],
)
def test_g5_a_change_of_mode_by_rolling_restart_has_no_two_answers(cluster: Cluster, before: str, after: str) -> None:
    """On three nodes: the last of the old mode hold while the first of the new mode wait."""
    with ExitStack() as stack:
        third = stack.enter_context(cluster.joined_by("n3"))
        everyone = ("n1", "n2", "n3")
        for name in everyone:
            node = stack.enter_context(cluster.restarted(name, KVIP_ELECTION=before))
        cluster.create("web", VIP)
        cluster.create("mail", OTHER)
        cluster.wait_bound(VIP, OTHER, timeout_s=2 * BOUND_S + 5)
        with cluster.judging(VIP, OTHER) as prober:
            for name in everyone:
                node = cluster.nodes[name]
                node.stop()
                node.env["KVIP_ELECTION"] = after
                node.start()
                time.sleep(2.0)
            cluster.wait_bound(VIP, OTHER, timeout_s=3 * LEASE_S + 3)
            time.sleep(1.0)
            for vip in (VIP, OTHER):
                report = prober.report(vip)
                print(f"{before} -> {after}: two answers {report.two_answers_s:.2f} s, longest silence {report.longest_silence_s:.2f} s")
                assert report.two_answers_s == 0
        cluster.delete_all()
        cluster.wait_gone(VIP, OTHER)
        assert third.running


@pytest.mark.parametrize("way", WAYS)
def test_g5_kube_vips_svc_election_chooses_this_mode(cluster: Cluster, tmp_path: Path, way: str) -> None:
    cluster.nodes["n1"].stop()
    arguments, env = handed(way, svc_election="true", vip_leaderelection="true")
    node = NodeProcess(
        cluster.lan, "n1", kubeconfig=cluster.api.kvip_kubeconfig, work_dir=tmp_path, env={**env, "vip_loseleadership": "true"}
    )
    node.arguments = arguments
    with node:
        node.wait_ready(15)
        cluster.nodes["n2"].stop()
        cluster.create("web", VIP)
        wait(lambda: _leased(cluster, "kubevip-web"), "it elects for the Service", timeout_s=BOUND_S)
        wait(lambda: VIP in node.vips(), f"bound on {node_ip('n1')}", timeout_s=3)
        node.stop()
        assert node.vips() == []
