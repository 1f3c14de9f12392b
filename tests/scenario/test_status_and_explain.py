"""`kvip status` and `kvip explain` beside real daemons: what they say is what the kernels and the API server have."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lab.cluster import CLAIMS, GLOBAL, LEASE, LEASES, PER_SERVICE, Cluster, wait
from lab.lan import CLIENT, node_ip
from lab.node import NodeProcess

MODES = (CLAIMS, GLOBAL, PER_SERVICE)
VIP, VIP6, OTHER = "10.10.0.200", "fd00:10::200", "10.10.0.201"
TAKEN = "10.10.0.207"
"""A foreign host has it for a while: what is known of that outlives the Service by up to a second, so no other test uses it."""
REPOSITORY = Path(__file__).resolve().parents[2]


def kvip(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, without a terminal, as `kubectl exec` runs it."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "HOME": "/nonexistent"}
    return subprocess.run([sys.executable, "-m", "kvip", *arguments], env=env, capture_output=True, text=True, timeout=20, check=False)


def socket_of(node: NodeProcess) -> str:
    return str(node.state_dir / "kvip.sock")


def status(node: NodeProcess) -> dict[str, Any]:
    done = kvip("status", "--json", "--socket", socket_of(node))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def explained(node: NodeProcess, name: str) -> tuple[int, str]:
    """Exit code and last line."""
    done = kvip("explain", f"default/{name}", "--socket", socket_of(node))
    assert done.stdout, done.stderr
    return done.returncode, done.stdout.splitlines()[-1]


def wait_cause(node: NodeProcess, name: str, cause: str, *, timeout_s: float = 10) -> None:
    last = ""

    def told() -> bool:
        nonlocal last
        code, last = explained(node, name)
        return cause in last and code == (0 if "it works" in cause else 1)

    try:
        wait(told, f"the cause of {name}: {cause}", timeout_s=timeout_s)
    except Exception as error:
        raise AssertionError(f"{name}: {cause!r} expected, the last line is {last!r}") from error


def test_status_of_holder_candidate_and_cluster_agree_with_the_kernel(cluster: Cluster, mode: str) -> None:
    uid = cluster.create("web", VIP, VIP6)
    cluster.wait_bound(VIP, VIP6)
    holder = cluster.holder_of(VIP)
    other = cluster.other(holder)
    wait(lambda: cluster.ingress("web") == [VIP, VIP6] or len(cluster.ingress("web")) == 2, "the status is written", timeout_s=5)
    here, there = status(holder), status(other)
    assert (here["daemon"]["node"], here["daemon"]["election"], here["daemon"]["known"]) == (holder.node, mode, True)
    assert 0 < here["daemon"]["valid_s"] <= 3
    assert 0 <= here["daemon"]["loop_lag_s"] < 3
    assert [vip["vip"] for vip in here["vips"]] == [VIP, VIP6]
    mine, its = here["vips"][0], there["vips"][0]
    assert (mine["state"], mine["reason"], mine["node"], mine["nic"]) == ("announced", "", holder.node, "eth0")
    assert (its["state"], its["node"], its["bound"]) == ("held-elsewhere", holder.node, False)
    assert mine["services"][0]["uid"] == its["services"][0]["uid"] == uid
    assert mine["rounds"] >= 1
    assert mine["last_announced"] >= mine["announced_since"] > mine["services"][0]["since"][:10]

    line = next(line for line in kvip("status", "--socket", socket_of(holder)).stdout.splitlines() if line.startswith(f"{VIP} "))
    assert line.split()[:4] == [VIP, "announced", holder.node, "eth0"]
    assert f"default/web ({uid[:8]})" in line

    whole = kvip("status", "--json", "--kubeconfig", holder.env["KUBECONFIG"])
    assert whole.returncode == 0, whole.stderr
    document = json.loads(whole.stdout)
    assert document["election"] == mode
    assert [(vip["vip"], vip["state"], vip["node"], vip["in_status"]) for vip in document["vips"]] == [
        (VIP, "held", holder.node, True),
        (VIP6, "held", holder.node if mode != CLAIMS else document["vips"][1]["node"], True),
    ]
    for node in (holder, other):
        assert explained(node, "web")[0] == 0
    outside = kvip("explain", "default/web", "--kubeconfig", holder.env["KUBECONFIG"])
    assert outside.returncode == 0, outside.stdout
    assert f"{VIP} by {holder.node}" in outside.stdout.splitlines()[-1]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "class": ({"vips": [VIP], "spec": {"loadBalancerClass": "example.com/lb"}}, "its loadBalancerClass is 'example.com/lb'"),
    "nameless": ({}, "the Service names no address"),
    "typo": ({"vips": ["10.10.0.2OO"]}, "is not an IP address"),
    "own": ({"vips": [node_ip("n1")]}, f"{node_ip('n1')}: is "),
    "broadcast": ({"vips": ["10.10.0.255"]}, "is the broadcast address of 10.10.0.0/24"),
    "family": (
        {"vips": [VIP6], "spec": {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]}},
        "is IPv6, and spec.ipFamilies of the Service is IPv4",
    ),
    "local": ({"vips": [VIP], "spec": {"externalTrafficPolicy": "Local"}}, "externalTrafficPolicy is Local, and it has no endpoints"),
    "selector": ({"vips": ["10.10.0.202"], "annotations": {"kvip.io/node-selector": "zone=nowhere"}}, "no Node matches its annotation"),
    "nic": ({"vips": ["10.10.0.203"], "annotations": {"kube-vip.io/serviceInterface": "eth9"}}, "'eth9' names a NIC that is not there"),
    "ignored": ({"vips": [VIP], "annotations": {"kube-vip.io/ignore": "true"}}, "annotation kube-vip.io/ignore=true"),
}


def test_each_way_to_get_a_service_wrong_is_named_by_every_daemon(cluster: Cluster) -> None:
    for name, (wrong, _) in WRONG.items():
        cluster.create(name, *wrong.get("vips", ()), annotations=wrong.get("annotations"), spec=wrong.get("spec"))
    cluster.create("good", OTHER)
    cluster.create("younger", OTHER)
    cluster.wait_bound(OTHER)
    for node in cluster.nodes.values():
        for name, (_, cause) in WRONG.items():
            wait_cause(node, name, cause)
        wait_cause(node, "younger", f"{OTHER}: port 80/TCP of it is taken by the older Service default/good")
        wait_cause(node, "missing", "there is no Service of this name")
        wait_cause(node, "good", "it works")
        states = {vip["services"][0]["service"].partition("/")[2]: vip["state"] for vip in status(node)["vips"]}
        assert {states[name] for name in ("typo", "own", "broadcast", "family")} == {"invalid"}
        assert {states[name] for name in ("local", "selector", "nic", "nameless")} == {"pending"}
        assert states["younger"] == "conflict"
        assert "class" not in states
        assert "ignored" not in states


def test_a_namespace_that_is_not_ours(cluster: Cluster) -> None:
    cluster.create("web", VIP)
    with cluster.restarted("n1", KVIP_SERVICE_NAMESPACE="prod") as node:
        wait_cause(node, "web", "service-namespace leaves only 'prod' to kvip")


def test_an_address_that_a_killed_kube_vip_left_on_every_node(cluster: Cluster) -> None:
    for name in cluster.nodes:
        cluster.lan.run(name, "ip", "addr", "add", f"{VIP}/32", "dev", "eth0")
    try:
        cluster.create("web", VIP)
        for node in cluster.nodes.values():
            wait_cause(node, "web", "is an address of this node that kvip did not add")
            assert "kvip sweep --adopt" in kvip("explain", "default/web", "--socket", socket_of(node)).stdout
    finally:
        for name in cluster.nodes:
            cluster.lan.run(name, "ip", "addr", "del", f"{VIP}/32", "dev", "eth0")


def test_a_foreign_host_that_answers_is_named_by_its_mac(cluster: Cluster) -> None:
    cluster.lan.run(CLIENT, "ip", "addr", "add", f"{TAKEN}/32", "dev", "eth0")
    try:
        cluster.create("web", TAKEN)
        wait(lambda: any(status(node)["vips"][0]["state"] == "conflict" for node in cluster.nodes.values()), "a conflict", timeout_s=10)
        (node,) = (node for node in cluster.nodes.values() if status(node)["vips"][0]["state"] == "conflict")
        assert status(node)["vips"][0]["conflict"] == cluster.lan.mac(CLIENT)
        wait_cause(node, "web", f"the host {cluster.lan.mac(CLIENT)} has the address too")
    finally:
        cluster.lan.run(CLIENT, "ip", "addr", "del", f"{TAKEN}/32", "dev", "eth0")


def test_a_node_that_is_cut_off_from_the_api_server_says_so(cluster: Cluster) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    holder = cluster.holder_of(VIP)
    cluster.lan.cut_api(holder.node)
    try:
        wait_cause(holder, "web", "the API server does not answer", timeout_s=15)
        assert status(holder)["daemon"]["observed"] is False
        wait(lambda: status(holder)["daemon"]["epoch"] >= 1, "everything is withdrawn", timeout_s=5)
    finally:
        cluster.lan.cut_api(holder.node, False)


def write_shared_lease(cluster: Cluster, holder: str, *, duration_s: int) -> None:
    """What client-go's elector writes, on whatever is there."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": holder, "leaseDurationSeconds": duration_s, "renewTime": stamp}
    if "plndr-svcs-lock" in {item["metadata"]["name"] for item in cluster.request("GET", LEASES)["items"]}:
        cluster.request("PATCH", LEASE, {"spec": spec})
    else:
        metadata = {"name": "plndr-svcs-lock", "namespace": "kube-system"}
        cluster.request("POST", LEASES, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec})


def test_another_mode_that_blocks_is_named(cluster: Cluster) -> None:
    node = cluster.nodes["n1"]
    try:
        began = time.monotonic()
        while "nothing is taken" not in node.get("/readyz")[1]:
            # A holder that lives renews.
            write_shared_lease(cluster, "n9", duration_s=3)
            assert time.monotonic() - began < 10, "the other mode is noticed"
            time.sleep(0.3)
        cluster.create("web", VIP)
        for _ in range(3):
            write_shared_lease(cluster, "n9", duration_s=3)
            time.sleep(0.3)
            code, last = explained(node, "web")
        assert (code, "plndr-svcs-lock" in last) == (1, True), last
        write_shared_lease(cluster, "n9", duration_s=3)
        assert "the modes keep off each other" in kvip("explain", "default/web", "--socket", socket_of(node)).stdout
        assert cluster.bound(VIP) == []
    finally:
        write_shared_lease(cluster, "", duration_s=1)


def test_a_dead_daemon_s_socket_says_so_and_is_replaced_by_the_next(cluster: Cluster) -> None:
    node = cluster.nodes["n1"]
    assert os.stat(socket_of(node)).st_mode & 0o777 == 0o600
    node.kill9()
    done = kvip("status", "--socket", socket_of(node))
    assert done.returncode == 1
    assert "the daemon that made it is dead" in done.stderr
    node.start()
    node.wait_ready(15)
    assert status(node)["daemon"]["node"] == "n1"
    node.stop()
    assert not os.path.exists(socket_of(node))
    assert "there is no such socket" in kvip("status", "--socket", socket_of(node)).stderr


def test_a_state_dir_that_cannot_be_written_costs_the_readers_only(cluster: Cluster) -> None:
    with cluster.restarted("n1", KVIP_SOCKET="/proc/kvip/kvip.sock") as node:
        cluster.create("web", VIP, spec={"ports": [{"name": "http", "port": 80, "protocol": "TCP"}]})
        cluster.wait_bound(VIP)
        wait(lambda: any("socket for readers" in str(record.get("msg")) for record in node.logs()), "a warning", timeout_s=5)


def test_watch_prints_what_changes(cluster: Cluster) -> None:
    node = cluster.nodes["n1"]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "kvip", "status", "--watch", "--interval", "0.2", "--socket", socket_of(node)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        try:
            assert "node n1" in watching.stdout.readline()
            cluster.create("web", VIP)
            cluster.wait_bound(VIP)
            time.sleep(1)
            cluster.delete("web")
            cluster.wait_gone(VIP)
            time.sleep(1)
        finally:
            watching.terminate()
        lines = [line.split()[1:] for line in watching.stdout.read().splitlines()]
    assert any(line[0] == VIP and line[1] in ("announced", "held-elsewhere") for line in lines), lines
    assert lines[-1] == [VIP, "gone"]


@pytest.mark.slow
def test_readers_that_hang_or_flood_do_not_disturb_the_vips(cluster: Cluster) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    holder = cluster.holder_of(VIP)
    hung = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    with cluster.judging(VIP) as prober:
        for each in hung:
            each.settimeout(0.2)
            try:
                each.connect(socket_of(holder))
                each.sendall(b"GET /state HTTP/1.1\r\n")
            except OSError:
                break
        before = status(holder)["daemon"]["epoch"]
        asking = [subprocess.Popen([sys.executable, "-c", FLOOD, socket_of(holder)]) for _ in range(2)]
        time.sleep(6)
        for each_process in asking:
            each_process.kill()
            each_process.wait()
        report = prober.report(VIP)
    for each in hung:
        each.close()
    after = status(holder)
    assert after["daemon"]["epoch"] == before
    assert report.longest_silence_s < 0.5, report
    assert report.two_answers_s == 0


FLOOD = """
import socket, sys
while True:
    one = socket.socket(socket.AF_UNIX)
    try:
        one.settimeout(1)
        one.connect(sys.argv[1])
        one.sendall(b"GET /state HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n" * 20)
        one.recv(65536)
    except OSError:
        pass
    one.close()
"""
