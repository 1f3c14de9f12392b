"""`kvip sweep` on nodes of a cluster: what a killed daemon left is handed to a running kvip, or removed where none runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab.cluster import GLOBAL, Cluster, wait
from lab.node import NodeProcess

MODE = GLOBAL
"""Adopting is for a cluster that comes from kube-vip."""
VIP = "10.10.0.200"
REPOSITORY = Path(__file__).resolve().parents[2]


def sweep(cluster: Cluster, node: NodeProcess, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """The command as an administrator of that node runs it."""
    done = subprocess.run(
        cluster.lan.ns(node.node).command(sys.executable, "-m", "kvip", "sweep", "--json", "--state-dir", str(node.state_dir), *arguments),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout)["rows"] if done.stdout else [{"result": done.stderr}]


def leave(cluster: Cluster, node: NodeProcess) -> None:
    """What a killed kube-vip leaves."""
    cluster.lan.run(node.node, "ip", "addr", "add", f"{VIP}/32", "dev", "eth0", "valid_lft", "forever", "preferred_lft", "0")


def test_g4_a_left_over_vip_is_refused_until_adopted_and_then_held_by_the_running_daemon_without_a_gap(cluster: Cluster) -> None:
    holder = cluster.holder()
    leave(cluster, holder)
    with cluster.judging(VIP) as prober:
        uid = cluster.create("web", VIP)
        wait(lambda: bool(cluster.events(uid, "InvalidAddress")), "the address is refused: it is the node's own", timeout_s=5)
        assert holder.vips() == []
        code, rows = sweep(cluster, holder, "--adopt", "--kubeconfig", holder.env["KUBECONFIG"])
        assert (code, rows[0]["what"], rows[0]["action"]) == (0, f"{VIP}/32", "adopt"), rows
        wait(lambda: len(cluster.events(uid, "VIPBound")) == 1, "the daemon holds and announces it", timeout_s=5)
        report = prober.report(VIP)
    assert [node.node for node in cluster.nodes.values() if VIP in node.vips()] == [holder.node]
    assert report.longest_silence_s < 0.1, report
    assert report.two_answers_s == 0, report
    cluster.delete("web")
    cluster.wait_gone(VIP)


def test_g4_a_left_over_vip_of_nobody_is_swept_by_the_running_daemon_once_adopted(cluster: Cluster) -> None:
    other = cluster.other(cluster.holder())
    leave(cluster, other)
    assert sweep(cluster, other, "--adopt", "--vips", VIP)[0] == 0
    cluster.wait_gone(VIP)


def test_beside_a_running_daemon_a_sweep_touches_nothing_and_after_its_death_nothing_is_left(cluster: Cluster) -> None:
    holder = cluster.holder()
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    with cluster.judging(VIP) as prober:
        code, rows = sweep(cluster, holder)
        assert code == 1
        assert "Stop it first" in rows[0]["result"]
        assert prober.wait_answer(VIP) is not None
    holder.kill9()
    code, rows = sweep(cluster, holder)
    assert code == 0, rows
    assert {row["what"]: row["whose"] for row in rows if row["kind"] == "address"} == {f"{VIP}/32": "kvip (default/web)"}
    assert holder.vips() == []
    tables = json.loads(cluster.lan.run(holder.node, "nft", "-j", "list", "tables").stdout)["nftables"]
    assert not [entry for entry in tables if entry.get("table", {}).get("name") == "kvip"]
