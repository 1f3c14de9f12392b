"""Rows of the fault table that need a daemon with surroundings of its own: moved clocks, a full disk, lost netlink messages."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from lab.clocks import Clocks
from lab.cluster import Cluster, now, wait
from lab.node import NodeProcess
from lab.scene import NO_GAP_S

VIP, OTHER = "10.10.0.200", "10.10.0.201"


def _hold_on(cluster: Cluster, node: NodeProcess) -> None:
    """The VIP of Service `web`, held by this node: the others are stopped until it is."""
    others = [each for each in cluster.nodes.values() if each is not node]
    for other in others:
        other.stop()
    cluster.create("web", VIP)
    cluster.wait_bound(VIP, timeout_s=10)
    for other in others:
        other.start()
        other.wait_ready(15)
    assert cluster.holder_of(VIP) is node


def _fences(node: NodeProcess) -> float:
    return sum(value for name, value in node.metrics().items() if name.startswith("kvip_fences_total{"))


def test_a_wall_clock_that_jumps_changes_nothing(cluster: Cluster, mode: str, tmp_path: Path) -> None:
    """A day forward, a day back, for the holder alone: its timestamps in Leases are then wrong for everybody."""
    clocks = Clocks(tmp_path)
    with cluster.restarted("n1", **clocks.env) as node:
        _hold_on(cluster, node)
        fences = _fences(node)
        off_s = 0.0
        with cluster.judging(VIP) as prober:
            for jump_s in (86_400.0, -86_400.0, -1_800.0):
                clocks.jump_wall(jump_s)
                time.sleep(1.3)
                stamp = cluster.request("GET", cluster.own_lease(node))["spec"]["renewTime"]
                off_s += jump_s
                assert datetime.fromisoformat(stamp).timestamp() - time.time() == pytest.approx(off_s, abs=3), "the daemon sees the jump"
            report = prober.report(VIP)
        assert report.longest_silence_s < NO_GAP_S
        assert report.two_answers_s == 0
        assert report.switches == 0
        assert _fences(node) == fences


@contextmanager
def _mounted(directory: Path, *options: str) -> Iterator[None]:
    """A tmpfs on a directory, in the mount namespace of these tests."""
    subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(directory)], check=True, timeout=10)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True, timeout=10)


@pytest.mark.parametrize("disk", ["full", "read-only"])
def test_a_journal_that_cannot_be_written_costs_a_warning(cluster: Cluster, tmp_path: Path, disk: str) -> None:
    state = tmp_path / "state"
    state.mkdir()
    options = ("-o", "ro") if disk == "read-only" else ("-o", "size=8k")
    with _mounted(state, *options):
        if disk == "full":
            (state / "ballast").write_bytes(bytes(8192))
        with cluster.restarted("n1", KVIP_STATE_DIR=str(state)) as node:
            _hold_on(cluster, node)
            cluster.create("web2", OTHER)
            cluster.wait_bound(OTHER)
            cluster.delete("web2")
            cluster.wait_gone(OTHER)
            wait(lambda: node.metrics()["kvip_journal_failures_total"] >= 1, "the failure is counted", timeout_s=3)
            said = [line for line in node.logs() if "the journal cannot be written" in str(line.get("msg"))]
            assert said
            assert said[-1]["level"] == "warning"
            assert cluster.bound(VIP) == [node.node]
            if disk == "full":
                (state / "ballast").unlink()
                cluster.create("web2", OTHER)
                journal = state / "ledger.json"
                wait(lambda: journal.exists() and OTHER in journal.read_text(), "written again once there is room", timeout_s=3)


def test_lost_netlink_messages_are_made_good_by_a_dump(cluster: Cluster, mode: str) -> None:
    """More messages than the socket's buffer holds while the daemon is frozen, and among them one about its VIP."""
    cluster.create("web", VIP)
    cluster.create("web2", OTHER)
    cluster.wait_bound(VIP, OTHER)
    holder = cluster.holder_of(VIP)
    overruns = 'kvip_netlink_resyncs_total{cause="overrun"}'
    before = holder.metrics().get(overruns, 0)
    space = cluster.lan.ns(holder.node)
    space.ip_batch(["link add flood0 type veth peer name flood1"])
    try:
        with cluster.judging(VIP, OTHER) as prober:
            holder.freeze()
            frozen = now()
            try:
                space.ip_batch([f"link set flood0 mtu {1400 + n % 100}" for n in range(9_000)])
                cluster.drop_address(holder.node, VIP)
            finally:
                took = now() - frozen
                holder.thaw()
            assert took < 1.9, "frozen for too long for this test"
            wait(lambda: holder.metrics().get(overruns, 0) > before, "the overrun is noticed", timeout_s=2)
            wait(lambda: VIP in holder.vips(), "put back", timeout_s=1)
            time.sleep(0.3)
            assert prober.report(VIP).longest_silence_s < 1.0
            assert prober.report(OTHER).longest_silence_s < NO_GAP_S
            assert prober.report(VIP).two_answers_s == prober.report(OTHER).two_answers_s == 0
    finally:
        space.ip_batch(["link del flood0"])


def test_a_torn_journal_is_set_aside(cluster: Cluster) -> None:
    node = cluster.nodes["n2"]
    node.stop()
    (node.state_dir / "ledger.json").write_text('{"format": 1, "boot_id": "x", "cla')
    node.start()
    node.wait_ready(10)
    assert (node.state_dir / "ledger.json.bad").exists()
    assert any("torn" in str(line.get("msg")) for line in node.logs())
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    wait(lambda: VIP in json.loads((node.state_dir / "ledger.json").read_text())["claims"], "a new journal", timeout_s=2)
