"""kube-vip's settings, by variable and by flag: what each changes on the wire, in the Leases, on the ports of a node."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest

from lab.cluster import GLOBAL, LEASE, LEASES, Cluster, now, wait
from lab.lan import CLIENT, Lan, node_ip
from lab.netns import LabError
from lab.prober import Prober
from lab.scene import NO_GAP_S
from lab.segment import SecondSegment
from lab.ways import FLAGS, VARIABLES, WAYS, running

VIP, THERE = "10.10.0.200", "10.20.0.200"
NAMESPACE = "kvip-lab"
LEASE_S, RENEW_S, RETRY_S = 6.0, 4.0, 2.0
"""Other timers than those that every daemon of the lab is given."""
ON_TIME_S = 0.3

each_way = pytest.mark.parametrize("way", WAYS)


def spec_of(cluster: Cluster, path: str) -> dict[str, object]:
    """What a Lease says; empty where there is none."""
    with contextlib.suppress(LabError):
        return dict(cluster.request("GET", path)["spec"])
    return {}


def accepted(cluster: Cluster, target: str, port: int) -> bool:
    """Is a connection of the client's accepted?"""
    with cluster.lan.ns(CLIENT).socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        return connection.connect_ex((target, port)) == 0


def serves(cluster: Cluster, vip: str) -> None:
    """One Service, bound on one node. To be deleted before these daemons end."""
    cluster.create("web", vip)
    cluster.wait_bound(vip, timeout_s=10)


@each_way
@pytest.mark.parametrize(
    "settings", [{"vip_interface": "eth1"}, {"vip_servicesinterface": "eth1"}], ids=lambda settings: next(iter(settings))
)
def test_the_nic_of_the_settings_is_announced_on_and_no_other(cluster: Cluster, lan: Lan, way: str, settings: dict[str, str]) -> None:
    with SecondSegment(lan, *cluster.nodes) as segment, running(cluster, way, **settings):
        with cluster.sniffing(THERE) as sniffer, cluster.probing(THERE) as here:
            serves(cluster, THERE)
            (node,) = cluster.bound(THERE)
            assert [address.nic for address in lan.addresses(node) if address.ip == THERE] == ["eth1"]
            with Prober(lan.ns(CLIENT), "eth1", [THERE], source_ip="10.20.0.100") as there:
                assert there.wait_answer(THERE, segment.mac(node), timeout_s=3)
                time.sleep(0.5)
                assert there.report(THERE).two_answers_s == 0
            assert here.answers(THERE) == []
            assert [frame for frame in sniffer.frames if frame.claimed == THERE] == []
        cluster.delete("web")
        cluster.wait_gone(THERE)


@each_way
def test_the_name_of_the_node_is_the_one_in_the_leases(cluster: Cluster, way: str) -> None:
    cluster.create_node("n7", node_ip("n1"))
    try:
        with running(cluster, way, "n1", vip_nodename="N7"):
            cluster.nodes["n2"].stop()
            serves(cluster, VIP)
            assert cluster.bound(VIP) == ["n1"]
            assert str(spec_of(cluster, f"{LEASES}/kvip-node-n7")["holderIdentity"]).startswith("n7_")
            cluster.delete("web")
            cluster.wait_gone(VIP)
    finally:
        cluster.request("DELETE", "/api/v1/nodes/n7")


@each_way
def test_the_timers_decide_when_a_lease_is_renewed_when_its_holder_is_silent_and_when_it_is_followed(cluster: Cluster, way: str) -> None:
    timers = {"vip_leaseduration": LEASE_S, "vip_renewdeadline": RENEW_S, "vip_retryperiod": RETRY_S}
    with running(cluster, way, **{variable: f"{seconds:g}" for variable, seconds in timers.items()}):
        serves(cluster, VIP)
        holder = cluster.holder_of(VIP)
        path = cluster.own_lease(holder)

        def renewed() -> float:
            stamp = spec_of(cluster, path)["renewTime"]
            wait(lambda: spec_of(cluster, path)["renewTime"] != stamp, "renewed", timeout_s=2 * RETRY_S)
            return now()

        first = renewed()
        every_s = renewed() - first
        with cluster.judging(VIP) as prober:
            began = renewed()
            time.sleep(ON_TIME_S)  # the daemon hears of it, and arms the switch for longer
            holder.freeze()
            try:
                heir = prober.wait_answer(VIP, cluster.lan.mac(cluster.other(holder).node), timeout_s=LEASE_S + 3)
                assert heir is not None
            finally:
                holder.thaw()
            time.sleep(1.0)
            last = [answer.at_s for answer in prober.answers(VIP) if answer.mac == cluster.lan.mac(holder.node)][-1]
            print(f"{way}: renewed each {every_s:.2f} s, silent {last - began:.2f} s, followed {heir.at_s - began:.2f} s after a renewal")
            assert prober.report(VIP).two_answers_s == 0
        assert spec_of(cluster, path)["leaseDurationSeconds"] == LEASE_S
        assert abs(every_s - RETRY_S) < ON_TIME_S
        assert abs(last - began - RENEW_S) < ON_TIME_S
        assert LEASE_S - ON_TIME_S < heir.at_s - began < LEASE_S + 1.0
        cluster.delete("web")
        cluster.wait_gone(VIP)


@each_way
def test_the_lease_of_services_has_the_name_of_the_settings(cluster: Cluster, way: str) -> None:
    for node in cluster.nodes.values():
        node.stop()
    before = spec_of(cluster, f"{LEASES}/plndr-svcs-lock")
    with running(cluster, way, KVIP_ELECTION=GLOBAL, svc_leasename="lab-lock"):
        serves(cluster, VIP)
        holder = str(spec_of(cluster, f"{LEASES}/lab-lock")["holderIdentity"])
        assert cluster.bound(VIP) == [holder.rpartition("_")[0]]
        assert spec_of(cluster, f"{LEASES}/plndr-svcs-lock") == before, "nobody wrote the one of the default"
        cluster.delete("web")
        cluster.wait_gone(VIP)


@each_way
def test_the_leases_are_in_the_namespace_of_the_settings(cluster: Cluster, way: str) -> None:
    here, there = f"{LEASES}/kvip-node-n1", f"{LEASES}/kvip-node-n1".replace("kube-system", NAMESPACE)
    if not any(item["metadata"]["name"] == NAMESPACE for item in cluster.request("GET", "/api/v1/namespaces")["items"]):
        cluster.request("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    for node in cluster.nodes.values():
        node.stop()
    before = spec_of(cluster, here)
    cluster.give_rights(namespace=NAMESPACE)
    try:
        with running(cluster, way, cp_namespace=NAMESPACE):
            serves(cluster, VIP)
            assert str(spec_of(cluster, there)["holderIdentity"]).startswith("n1_")
            assert spec_of(cluster, here) == before, "nobody wrote the one of the default"
            cluster.delete("web")
            cluster.wait_gone(VIP)
    finally:
        cluster.give_rights()


@each_way
def test_it_listens_where_the_settings_say(cluster: Cluster, way: str) -> None:
    assert accepted(cluster, node_ip("n1"), 2112)
    assert not accepted(cluster, node_ip("n1"), 10256)
    with running(cluster, way, "n1", prometheus_server="127.0.0.1:2112", health_check_port="10256"):
        assert cluster.nodes["n1"].get("/metrics")[0] == 200
        assert not accepted(cluster, node_ip("n1"), 2112)
        assert accepted(cluster, node_ip("n1"), 10256)
        assert cluster.nodes["n1"].get("/healthz", port=10256) == (200, "ok\n")


@each_way
def test_the_kubeconfig_of_the_settings_is_used(cluster: Cluster, way: str) -> None:
    with running(cluster, way, KUBECONFIG="/nowhere", k8s_config_file=str(cluster.api.kvip_kubeconfig)):
        serves(cluster, VIP)
        cluster.delete("web")
        cluster.wait_gone(VIP)


def test_announcements_are_repeated_as_often_as_arp_rate_says(cluster: Cluster) -> None:
    """In milliseconds. kube-vip has no flag for it."""
    with running(cluster, VARIABLES, vip_arpRate="500"), cluster.sniffing(VIP) as sniffer:
        serves(cluster, VIP)
        time.sleep(5.5)  # the burst of a take-over is over after 4.4 s
        sniffer.clear()
        time.sleep(3.0)
        times = sorted(frame.at_s for frame in sniffer.frames if frame.claimed == VIP and frame.announcement)
        rounds = [at for at, before in zip(times, [0.0, *times], strict=False) if at - before > 0.1]
        print(f"{len(rounds)} rounds in 3 s")
        assert 5 <= len(rounds) <= 7
        cluster.delete("web")
        cluster.wait_gone(VIP)


@each_way
def test_only_the_ports_of_services_are_let_through(cluster: Cluster, way: str) -> None:
    def reached(port: int) -> bool:
        return cluster.lan.reaches(CLIENT, VIP, port=port, timeout_s=0.3)

    serves(cluster, VIP)
    wait(lambda: reached(81), "every port, by default", timeout_s=3)
    with running(cluster, way, enable_service_security="true"):
        wait(lambda: reached(80), "its port is let through", timeout_s=3)
        assert not reached(81)
        cluster.delete("web")
        cluster.wait_gone(VIP)


@each_way
def test_the_classes_of_the_settings_are_served(cluster: Cluster, way: str) -> None:
    ours = {"loadBalancerClass": "example.com/ours"}
    cluster.create("ours", VIP, spec=ours)
    cluster.create("classless", "10.10.0.201")
    cluster.create("default", "10.10.0.202", spec={"loadBalancerClass": "kube-vip.io/kube-vip-class"})
    for settings, served in (
        ({"lb_class_name": "example.com/ours"}, {VIP, "10.10.0.201"}),
        ({"lb_class_name": "example.com/ours", "lb_class_only": "true"}, {VIP}),
        ({"lb_class_legacy_handling": "false"}, {"10.10.0.202"}),
    ):
        with running(cluster, way, **settings):
            cluster.wait_bound(*served, timeout_s=10)
            time.sleep(0.5)
            assert {vip for vips in cluster.left().values() for vip in vips} == served


@each_way
def test_nothing_of_a_service_is_written_where_the_settings_forbid_it(cluster: Cluster, way: str) -> None:
    with running(cluster, way, disable_service_updates="true"):
        serves(cluster, VIP)
        time.sleep(0.7)
        assert cluster.ingress("web") == []
        cluster.delete("web")
        cluster.wait_gone(VIP)


def test_the_documented_command_line_of_kube_vip_holds_and_lets_go(cluster: Cluster) -> None:
    """kube-vip's documentation, "Generating a Manifest" and "ARP DaemonSet": its flags, and no variable."""
    settings = {
        "vip_interface": "eth0", "svc_enable": "true", "vip_arp": "true", "vip_leaderelection": "true", "vip_leaseduration": "5",
        "vip_renewdeadline": "3", "vip_retryperiod": "1", "prometheus_server": ":2112", "svc_leasename": "plndr-svcs-lock",
    }  # fmt: skip
    with running(cluster, FLAGS, KVIP_ELECTION="", **settings):
        for node in cluster.nodes.values():
            assert not [name for name, value in node.env.items() if value and name.startswith(("vip_", "svc_")) and name != "vip_nodename"]
        serves(cluster, VIP)
        assert cluster.bound(VIP) == [str(spec_of(cluster, LEASE)["holderIdentity"]).rpartition("_")[0]], "one Lease for all, as kube-vip's"
        with cluster.judging(VIP) as prober:
            holder = cluster.holder_of(VIP)
            holder.stop()
            time.sleep(1.0)
            assert prober.report(VIP).two_answers_s == 0
            assert prober.report(VIP).longest_silence_s < NO_GAP_S * 2
            cluster.delete("web")
            cluster.wait_gone(VIP)
