"""A DaemonSet made for kube-vip, with its image changed: the environment of its container starts kvip, and a Service lives and goes."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from lab.cluster import Cluster, wait

VIP, VIP6 = "10.10.0.200", "fd00:10::200"
AFTER = "10.10.0.209"
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "KVIP_NO_EXTENSIONS", "KUBECONFIG", "KVIP_STATE_DIR")
"""What stands for the image, the service account and the hostPath of a pod."""

SERVICES = {
    "vip_arp": "true",
    "port": "6443",
    "vip_interface": "eth0",
    "vip_subnet": "32",
    "dns_mode": "first",
    "dhcp_mode": "",
    "svc_enable": "true",
    "svc_leasename": "plndr-svcs-lock",
    "vip_leaderelection": "true",
    "vip_leasename": "plndr-cp-lock",
    "vip_leaseduration": "5",
    "vip_renewdeadline": "3",
    "vip_retryperiod": "1",
    "vip_address": "",
    "prometheus_server": ":2112",
}
"""ARP, Services, one election for all of them: as the documentation's DaemonSet has it, `vip_nodename` from the Node beside it."""


@contextmanager
def running_with(cluster: Cluster, environment: Mapping[str, str]) -> Iterator[None]:
    """Every daemon runs with exactly this environment."""
    before = {name: node.env for name, node in cluster.nodes.items()}
    try:
        for name, node in cluster.nodes.items():
            node.stop()
            given = {key: value for key, value in environment.items() if value}
            node.env = {**{key: node.env[key] for key in KEPT if key in node.env}, **given, "vip_nodename": name}
            node.start()
        for node in cluster.nodes.values():
            node.wait_ready(15)
        yield
    finally:
        for name, node in cluster.nodes.items():
            if node.running:
                node.stop()
            node.env = before[name]
        # What another mode left must be seen to be over before anything is taken (PROTOCOL G5).
        cluster.start()
        cluster.create("after", AFTER)
        took = cluster.wait_bound(AFTER, timeout_s=20)
        print(f"mode {cluster.mode} holds again {took:.1f} s after its start")
        cluster.delete("after")
        cluster.wait_gone(AFTER)


def live_and_go(cluster: Cluster) -> None:
    """One Service from its creation to its end."""
    with cluster.sniffing(VIP, VIP6) as sniffer:
        cluster.create("web", VIP, VIP6)
        cluster.wait_bound(VIP, VIP6, timeout_s=15)
        for vip in (VIP, VIP6):
            assert sniffer.wait_for(lambda frame, vip=vip: frame.claimed == vip, 5), f"{vip} is not announced"
        wait(lambda: set(cluster.ingress("web")) == {VIP, VIP6}, "the status shows both", timeout_s=3)
        with cluster.probing(VIP, VIP6) as prober:
            for vip in (VIP, VIP6):
                assert prober.wait_answer(vip, timeout_s=2)
            cluster.delete("web")
            took = cluster.wait_gone(VIP, VIP6)
            for vip in (VIP, VIP6):
                assert prober.wait_silent(vip, for_s=0.2, timeout_s=1)
                assert prober.report(vip).two_answers_s == 0
        assert took < 1.0
        sniffer.clear()
        assert sniffer.wait_for(lambda frame: frame.claimed in (VIP, VIP6), 1.5) is None
    assert cluster.left() == {}


def test_arp_and_services(cluster: Cluster) -> None:
    with running_with(cluster, SERVICES):
        live_and_go(cluster)
        for node in cluster.nodes.values():
            assert "setting" not in [record.get("msg") for record in node.logs()], "a warning about a setting of the documentation"
        lease = cluster.request("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/plndr-svcs-lock")
        assert lease["spec"]["leaseDurationSeconds"] == 5


def test_arp_and_services_with_an_election_per_service(cluster: Cluster) -> None:
    cluster.give_rights(election="per-service")
    try:
        with running_with(cluster, {**SERVICES, "svc_election": "true"}):
            live_and_go(cluster)
            lease = cluster.request("GET", "/apis/coordination.k8s.io/v1/namespaces/default/leases/kubevip-web")
            assert lease["spec"]["leaseTransitions"] >= 0, "the Lease has kube-vip's name"
    finally:
        cluster.give_rights()


def test_the_health_port_answers_and_keeps_no_process_alive(cluster: Cluster) -> None:
    port = 10256
    with running_with(cluster, {**SERVICES, "health_check_port": str(port), "KVIP_ELECTION": cluster.mode}):
        node = cluster.nodes["n1"]
        assert node.get("/healthz", port=port) == (200, "ok\n")
        assert node.get("/metrics", port=port)[0] == 404
        with cluster.lan.ns("n1").socket(socket.AF_INET, socket.SOCK_STREAM) as idle:
            idle.connect(("127.0.0.1", port))
            idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")  # the request never ends
            time.sleep(0.2)
            assert node.stop() < 3.0
