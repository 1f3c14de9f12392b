"""SIGUSR1: the daemon writes what it knows and does to its log, and goes on."""

from __future__ import annotations

import os
import signal
from typing import Any

from lab.cluster import Cluster, wait
from lab.node import NodeProcess

VIP, VIP6 = "10.10.0.200", "fd00:10::200"


def states(node: NodeProcess) -> list[dict[str, Any]]:
    return [record["state"] for record in node.logs() if record.get("msg") == "state"]  # type: ignore[misc]


def ask(node: NodeProcess) -> dict[str, Any]:
    before = len(states(node))
    os.kill(node.pid, signal.SIGUSR1)
    wait(lambda: len(states(node)) > before, "the state is in the log", timeout_s=2)
    return states(node)[-1]


def of_vip(state: dict[str, Any]) -> dict[str, Any]:
    (found,) = (vip for vip in state["vips"] if vip["vip"] == VIP)
    return found  # type: ignore[no-any-return]


def test_the_view_of_holder_and_candidate_agree_with_the_kernel(cluster: Cluster, mode: str) -> None:
    uid = cluster.create("web", VIP, VIP6)
    cluster.wait_bound(VIP, VIP6)
    holder = cluster.holder_of(VIP)
    (other,) = (node for node in cluster.nodes.values() if node is not holder)
    wait(lambda: bool(of_vip(ask(holder))["announced_since"]), "announced", timeout_s=3)
    here, there = ask(holder), ask(other)
    assert (here["daemon"]["node"], here["daemon"]["election"], here["daemon"]["fencing"]) == (holder.node, mode, "switch")
    assert all(here["daemon"]["synced"].values())
    assert [vip["vip"] for vip in here["vips"]] == [VIP, VIP6]
    first, same_elsewhere = of_vip(here), of_vip(there)
    assert first["services"][0]["uid"] == uid
    assert (first["bound"], first["nic"]) == (True, "eth0")
    incarnation = here["daemon"]["incarnation"]
    # A Lease per Service: each has an incarnation of its own, which differs in the last 8 digits.
    assert first["holder"] == incarnation or (mode == "per-service" and first["holder"][:-8] == incarnation[:-8])
    assert first["permit_until"] > here["at"] > first["announced_since"]
    assert (same_elsewhere["bound"], same_elsewhere["permit_until"], same_elsewhere["announced_since"]) == (False, "", "")
    assert same_elsewhere["holder"] == first["holder"]
    cluster.delete("web")
    cluster.wait_gone(VIP, VIP6)
    wait(lambda: ask(holder)["vips"] == [], "nothing left in the view", timeout_s=2)
    assert holder.running
