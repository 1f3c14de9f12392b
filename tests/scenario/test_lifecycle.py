"""A Service in, a VIP on the wire, and gone when the Service goes: judged by the kernels and by a client on the LAN."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.cluster import ADDRESSES, Cluster, now, wait

VIP = "10.10.0.200"
VIP6 = "fd00:10::200"
ROUNDS = 7


def test_create_is_bound_and_announced_within_50_ms_and_delete_unbound_within_100_ms(cluster: Cluster) -> None:
    framed, bound, unbound = [], [], []
    with cluster.sniffing(VIP) as sniffer:
        for _ in range(ROUNDS):
            sniffer.clear()
            began = now()
            cluster.create("web", VIP)
            cluster.wait_bound(VIP)
            bound.append(now() - began)
            frame = sniffer.wait_for(lambda frame: frame.claimed == VIP, 5)
            assert frame is not None
            framed.append(frame.at_s - began)
            began = now()
            cluster.delete("web")
            cluster.wait_gone(VIP)
            unbound.append(now() - began)
    print(f"create -> bound {[f'{s * 1000:.0f}' for s in bound]} ms, first frame {[f'{s * 1000:.0f}' for s in framed]} ms")
    print(f"delete -> unbound {[f'{s * 1000:.0f}' for s in unbound]} ms")
    assert statistics.median(bound) <= 0.050
    assert statistics.median(framed) <= 0.050
    assert statistics.median(unbound) <= 0.100
    assert max(*bound, *framed, *unbound) < 1.0


def test_the_client_learns_the_holders_mac_and_the_status_says_so(cluster: Cluster) -> None:
    uid = cluster.create("web", VIP, VIP6)
    cluster.wait_bound(VIP, VIP6)
    for vip in (VIP, VIP6):
        mac = cluster.lan.mac(cluster.holder_of(vip).node)
        cluster.lan.reaches("client", vip)
        assert cluster.lan.neighbour("client", vip) == mac
    wait(lambda: sorted(cluster.ingress("web")) == sorted([VIP, VIP6]), "status names both addresses", timeout_s=3)
    assert all(entry["ipMode"] == "VIP" for entry in cluster.get("web")["status"]["loadBalancer"]["ingress"])
    wait(lambda: len(cluster.events(uid, "VIPBound")) == 2, "an Event for each address", timeout_s=3)


def _other_class(cluster: Cluster) -> None:
    cluster.patch("web", {"spec": {"type": "ClusterIP", "allocateLoadBalancerNodePorts": None}})
    cluster.patch("web", {"spec": {"type": "LoadBalancer", "loadBalancerClass": "example.com/other"}})


STOPS: dict[str, Callable[[Cluster], object]] = {
    "deleted": lambda cluster: cluster.delete("web"),
    "type ClusterIP": lambda cluster: cluster.patch("web", {"spec": {"type": "ClusterIP", "allocateLoadBalancerNodePorts": None}}),
    "another class": _other_class,
    "annotation removed": lambda cluster: cluster.patch("web", {"metadata": {"annotations": {ADDRESSES: None}}}),
    "annotation ignore": lambda cluster: cluster.patch("web", {"metadata": {"annotations": {"kube-vip.io/ignore": "true"}}}),
}


@pytest.mark.parametrize("change", STOPS)
def test_h10_a_service_that_stops_being_ours_is_let_go_of_at_once(cluster: Cluster, change: str) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    wait(lambda: cluster.ingress("web") == [VIP], "status written", timeout_s=3)
    with cluster.probing(VIP) as prober, cluster.sniffing(VIP) as sniffer:
        assert prober.wait_answer(VIP, timeout_s=2)
        began = now()
        STOPS[change](cluster)
        cluster.wait_gone(VIP)
        took = now() - began
        print(f"{change}: {took * 1000:.0f} ms")
        assert took < 0.5
        assert prober.wait_silent(VIP, for_s=0.2, timeout_s=1)
        sniffer.clear()
        assert sniffer.wait_for(lambda frame: frame.claimed == VIP, 1.5) is None
    if change == "annotation removed":
        wait(lambda: cluster.ingress("web") == [], "status entry removed", timeout_s=3)


def test_another_address_moves_the_vip_and_the_status(cluster: Cluster) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    began = now()
    cluster.patch("web", {"metadata": {"annotations": {ADDRESSES: "10.10.0.201"}}})
    cluster.wait_gone(VIP)
    cluster.wait_bound("10.10.0.201")
    assert now() - began < 0.5
    wait(lambda: cluster.ingress("web") == ["10.10.0.201"], "status follows", timeout_s=3)


def test_recreated_with_another_address_leaves_only_the_new_one(cluster: Cluster) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    cluster.delete("web")
    cluster.create("web", "10.10.0.202")
    cluster.wait_bound("10.10.0.202")
    cluster.wait_gone(VIP, timeout_s=1)


def test_a_shared_address_goes_with_its_last_service(cluster: Cluster) -> None:
    cluster.create("web", VIP)
    cluster.create("web2", VIP, spec={"ports": [{"name": "other", "port": 81, "protocol": "TCP"}]})
    wait(lambda: cluster.ingress("web2") == [VIP], "both have their status", timeout_s=3)
    with cluster.probing(VIP) as prober:
        cluster.delete("web")
        assert prober.wait_answer(VIP, timeout_s=2)
        wait(lambda: prober.report(VIP).observed_s > 1.0, "observed long enough", timeout_s=5)
        assert cluster.bound(VIP) == [cluster.holder_of(VIP).node]
        assert prober.report(VIP).longest_silence_s < 0.25
        began = now()
        cluster.delete("web2")
        cluster.wait_gone(VIP)
        assert now() - began < 0.5


def test_fifty_services_created_and_deleted_at_once_leave_nothing(cluster: Cluster) -> None:
    vips = [f"10.10.0.{n}" for n in range(110, 160)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: cluster.create(f"web{n}", vips[n]), range(50)))
        cluster.wait_bound(*vips)
        list(pool.map(lambda n: cluster.delete(f"web{n}"), range(50)))
    took = cluster.wait_gone(*vips)
    print(f"50 gone {took * 1000:.0f} ms after the last delete")
    with cluster.sniffing() as sniffer:
        assert sniffer.wait_for(lambda frame: frame.claimed in vips, 2.0) is None
    assert cluster.left() == {}
