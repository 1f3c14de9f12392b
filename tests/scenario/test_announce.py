"""`kvip announce` beside real daemons: the holder sends as often as was asked for, and nobody sends for a VIP that another node holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from lab.cluster import CLAIMS, GLOBAL, Cluster
from lab.node import REPOSITORY, NodeProcess

MODES = (CLAIMS, GLOBAL)
VIP = "10.10.0.200"
SETTLED_S = 5.0
"""More than the 4.4 s of the burst after a take-over."""


def announce(node: NodeProcess, *arguments: str) -> tuple[int, dict[str, Any]]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "HOME": "/nonexistent"}
    command = [sys.executable, "-m", "kvip", "announce", "--json", "--socket", str(node.state_dir / "kvip.sock"), *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout, done.stderr
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def test_the_holder_announces_anew_and_no_other_node_does(cluster: Cluster, mode: str) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    holder = cluster.holder_of(VIP)
    other = cluster.other(holder)
    with cluster.sniffing(VIP) as sniffer:
        sniffer.wait_for(lambda _: False, SETTLED_S)
        sniffer.clear()
        code, told = announce(other, "--burst", "3")
        assert (code, told["vips"]) == (0, 0)
        code, told = announce(other, "--vip", VIP)
        assert (code, told["vips"], told["refused"][0]["vip"]) == (1, 0, VIP)
        assert "this node may not hold it now" in told["refused"][0]["reason"]
        assert [frame for frame in sniffer.frames if frame.announcement] == []
        code, told = announce(holder, "--burst", "3")
        assert (code, told["vips"], told["sent"], told["ended"]) == (0, 1, 3, 0)
        frames = [frame for frame in sniffer.frames if frame.announcement]
        assert [frame.op for frame in frames].count(1) == [frame.op for frame in frames].count(2) == 3
        assert {frame.sender_mac for frame in frames} == {cluster.lan.mac(holder.node)}


def test_a_fenced_node_announces_nothing_at_anybody_s_word(cluster: Cluster) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    holder = cluster.holder_of(VIP)
    mac = cluster.lan.mac(holder.node)
    cluster.lan.cut_api(holder.node)
    try:
        with cluster.sniffing(VIP) as sniffer:
            assert sniffer.wait_for(lambda frame: frame.announcement and frame.sender_mac != mac, 15), "another node takes it"
            sniffer.clear()
            code, told = announce(holder, "--vip", VIP)
            assert (code, told["vips"], told["refused"][0]["vip"]) == (1, 0, VIP)
            assert [frame for frame in sniffer.frames if frame.announcement and frame.sender_mac == mac] == []
    finally:
        cluster.lan.cut_api(holder.node, False)
