"""Nonsense from users: a clear Event or message, no binding, and everybody else unaffected."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lab.cluster import Cluster, now, wait
from lab.lan import node_ip
from lab.node import NodeProcess

GOOD = "10.10.0.205"
BAD = {
    "no-ip": ("not-an-ip", "not-an-ip"),
    "zone": ("fe80::1%eth0", "fe80::1%eth0"),
    "empty": (" , ,", "lists no address"),
    "twice": ("10.10.0.206,10.10.0.206", "10.10.0.206"),
    "network": ("10.10.0.0", "10.10.0.0"),
    "broadcast": ("10.10.0.255", "10.10.0.255"),
    "multicast": ("224.0.0.9", "224.0.0.9"),
    "loopback": ("127.0.0.9", "127.0.0.9"),
    "link-local": ("169.254.1.1", "169.254.1.1"),
    "link-local-ipv6": ("fe80::7", "fe80::7"),
    "this-network": ("0.1.2.3", "0.1.2.3"),
    "dhcp": ("0.0.0.0", "0.0.0.0"),
    "long": ("1" * 10_000, "10000 characters"),
    "own-address": (node_ip("n1") + "," + node_ip("n2"), "10.10.0.1"),
    "node-object": ("10.10.0.77", "10.10.0.77"),
}


def test_bad_addresses_get_an_event_and_the_others_go_on(cluster: Cluster) -> None:
    cluster.create_node("elsewhere", "10.10.0.77")
    try:
        uids = {name: cluster.create(name, annotations={"kube-vip.io/loadbalancerIPs": value}) for name, (value, _) in BAD.items()}
        began = now()
        cluster.create("good", GOOD)
        cluster.wait_bound(GOOD)
        assert now() - began < 0.5
        for name, (_, shown) in BAD.items():
            wait(lambda name=name: bool(cluster.events(uids[name], "InvalidAddress")), f"an Event for {name}", timeout_s=5)
            assert any(shown in message for message in cluster.events(uids[name], "InvalidAddress")), name
        assert {vip for vips in cluster.left().values() for vip in vips} == {GOOD}
    finally:
        cluster.request("DELETE", "/api/v1/nodes/elsewhere")


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"vip_interface": "eth9"}, "eth9"),
        ({"vip_leaseduration": "soon"}, "lease-duration"),
        ({"vip_renewdeadline": "5"}, "renew-deadline"),
        ({"KVIP_ELECTION": "global", "svc_election": "true"}, "svc_election"),
        ({"KVIP_ELECTION": "raft"}, "election"),
        ({"bgp_enable": "true"}, "bgp_enable"),
    ],
)
def test_a_setting_that_cannot_be_used_ends_with_code_2_and_its_name(
    cluster: Cluster, tmp_path: Path, env: dict[str, str], named: str
) -> None:
    cluster.nodes["n1"].stop()
    node = NodeProcess(cluster.lan, "n1", kubeconfig=cluster.api.kvip_kubeconfig, work_dir=tmp_path, env=env)
    try:
        node.start()
        assert node.wait_exit(10) == 2
        assert named in node.log_path.read_text()
    finally:
        node.close()


def test_an_api_server_that_is_not_there_yet_is_waited_for(cluster: Cluster, tmp_path: Path) -> None:
    node = cluster.nodes["n1"]
    node.stop()
    cluster.lan.cut_api("n1")
    try:
        node.start()
        wait(lambda: node.running and _answers(node), "the daemon serves /readyz", timeout_s=10)
        assert node.get("/readyz")[0] == 503
        assert node.get("/healthz")[0] == 200
    finally:
        cluster.lan.cut_api("n1", False)
    node.wait_ready(15)


def _answers(node: NodeProcess) -> bool:
    try:
        return node.get("/readyz")[0] in (200, 503)
    except OSError:
        return False


def test_version_and_help_need_no_cluster() -> None:
    done = subprocess.run([sys.executable, "-m", "kvip", "--version"], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.startswith("kvip ")
    assert (
        "--lease-duration"
        in subprocess.run(
            [sys.executable, "-m", "kvip", "manager", "--help"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    )
