"""From the version before this one to this one, and back, node after node on the state that the old daemon leaves: judged on the wire."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from lab.claimsview import heartbeat, holders
from lab.cluster import CLAIMS, GLOBAL, LEASE, PER_SERVICE, SERVICE_LEASES, Cluster, now, wait
from lab.node import REPOSITORY
from lab.prober import Prober
from lab.rollout import ENDS, HAND_OVER_S, READY_S, SIGKILL, SIGTERM, begin, end, replace, replace_all
from lab.scene import SETTLE_S, TAKE_OVER_S

MODES = (CLAIMS, GLOBAL, PER_SERVICE)
VIPS = (*(f"10.10.0.{n}" for n in range(180, 186)), "fd00:10::180", "fd00:10::181")
SILENCE_S = {SIGTERM: HAND_OVER_S, SIGKILL: TAKE_OVER_S}
VIP, GONE = VIPS[:2]
NEW = "10.10.0.190"


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("way", ["up", "back"])
def test_node_after_node_nobody_notices(cluster: Cluster, mode: str, former: Path, way: str, how: str) -> None:
    before, after = (former, REPOSITORY) if way == "up" else (REPOSITORY, former)
    replace_all(cluster, before)
    for number, vip in enumerate(VIPS):
        cluster.create(f"web{number}", vip)
    cluster.wait_bound(*VIPS, timeout_s=15)
    if mode == CLAIMS:
        assert {cluster.bound(vip)[0] for vip in VIPS} == set(cluster.nodes), "each node is to have something to hand over"
    with cluster.judging(*VIPS) as prober:
        for node in cluster.nodes.values():
            replace(node, after, how=how)
            if how == SIGKILL:
                wait(lambda: all(prober.holders_now(vip) for vip in VIPS), "every VIP is answered again", timeout_s=TAKE_OVER_S)
            _serves(cluster)
        time.sleep(SETTLE_S)
        reports = [prober.report(vip) for vip in VIPS]
        print(f"{mode}: {way} by {how}: longest silence {max(report.longest_silence_s for report in reports):.2f} s")
        assert max(report.two_answers_s for report in reports) == 0
        assert max(report.longest_silence_s for report in reports) <= SILENCE_S[how]
        _held_once(cluster, prober)
    if mode == CLAIMS:
        living = {heartbeat(cluster, name).holder for name in cluster.nodes}
        assert holders(cluster).keys() == set(VIPS)
        assert set(holders(cluster).values()) <= living, "a record names who is over"
    assert [node.metrics()["kvip_journal_failures_total"] for node in cluster.nodes.values()] == [0, 0]
    cluster.delete_all()
    cluster.wait_gone(*VIPS)
    _nothing_left(cluster)


def _serves(cluster: Cluster) -> None:
    """A Service comes and goes, also while the nodes have two versions."""
    cluster.create("new", NEW)
    with cluster.probing(NEW) as prober:
        cluster.wait_bound(NEW, timeout_s=15)
        assert prober.wait_answer(NEW, timeout_s=3)
        cluster.delete("new")
        cluster.wait_gone(NEW)
        assert prober.report(NEW).two_answers_s == 0


def _held_once(cluster: Cluster, prober: Prober) -> None:
    """Every VIP is bound on one node, and that one answers."""
    for vip in VIPS:
        (node,) = cluster.bound(vip)
        assert prober.holders_now(vip) == {cluster.lan.mac(node)}


def _nothing_left(cluster: Cluster) -> None:
    """No address, marked or not, no claim, and after the end of the daemons no table and no holder."""
    assert [(name, each.ip) for name in cluster.nodes for each in cluster.lan.addresses(name) if each.ip in VIPS] == []
    wait(lambda: not _claimed(cluster), "no Lease names a holder of a VIP", timeout_s=3)
    for node in cluster.nodes.values():
        node.stop()
        assert "kvip" not in cluster.lan.run(node.node, "nft", "list", "tables").stdout
    assert cluster.left() == {}
    if cluster.mode == CLAIMS:
        assert [heartbeat(cluster, name).holder for name in cluster.nodes] == ["", ""]
    if cluster.mode == GLOBAL:
        assert not cluster.request("GET", LEASE)["spec"].get("holderIdentity")


def _claimed(cluster: Cluster) -> list[str]:
    if cluster.mode == CLAIMS:
        return list(holders(cluster))
    if cluster.mode == PER_SERVICE:
        leases = cluster.request("GET", SERVICE_LEASES)["items"]
        return [lease["metadata"]["name"] for lease in leases if lease["spec"].get("holderIdentity")]
    return []


def test_a_successor_that_comes_late_leaves_what_others_took_and_keeps_nothing(cluster: Cluster, mode: str, former: Path) -> None:
    """The old daemon was killed, the image of the new one takes its time, and another node has taken the VIPs."""
    replace_all(cluster, former)
    for number, vip in enumerate(VIPS):
        cluster.create(f"web{number}", vip)
    cluster.wait_bound(*VIPS, timeout_s=15)
    holder = cluster.holder_of(VIP)
    left = holder.vips()
    with cluster.judging(*VIPS) as prober:
        end(holder, SIGKILL)
        mac = cluster.lan.mac(cluster.other(holder).node)
        wait(lambda: all(prober.holders_now(vip) == {mac} for vip in VIPS), "the other node answers", timeout_s=TAKE_OVER_S + 2)
        assert holder.vips() == left, "they are still bound, and silent"
        began = now()
        begin(holder, REPOSITORY)
        wait(lambda: not holder.vips(), "nothing is left on the node", timeout_s=10)
        print(f"{mode}: {len(left)} addresses gone {now() - began:.2f} s after the exec of the new daemon")
        assert now() - began < 2.0
        holder.wait_ready(READY_S)
        time.sleep(SETTLE_S)
        reports = [prober.report(vip) for vip in VIPS]
    assert max(report.two_answers_s for report in reports) == 0
    assert max(report.longest_silence_s for report in reports) <= TAKE_OVER_S


def test_the_journal_of_a_newer_version_is_refused_aloud_and_nothing_is_left(cluster: Cluster, mode: str) -> None:
    """As after a downgrade to a version that does not know the format: the kernel and the Leases say enough to go on safely."""
    node = cluster.nodes["n1"]
    cluster.other(node).stop()
    cluster.create("web", VIP)
    cluster.create("gone", GONE)
    cluster.wait_bound(VIP, GONE, timeout_s=15)
    path = node.state_dir / "ledger.json"
    wait(lambda: GONE in path.read_text(), "the journal knows the claims", timeout_s=2)
    with cluster.judging(VIP, GONE) as prober:
        logged = len(node.logs())
        node.kill9()
        newer = json.dumps({"format": 2, "boot": "of another form", "claims": [[VIP], [GONE]]}).encode()
        path.write_bytes(newer)
        cluster.delete("gone")
        began = now()
        node.start()
        cluster.wait_gone(GONE)
        assert now() - began < 2.0
        assert prober.wait_answer(VIP, timeout_s=2 * TAKE_OVER_S)
        time.sleep(SETTLE_S)
        assert prober.report(VIP).two_answers_s == 0
        assert prober.holders_now(GONE) == set()
    (line,) = (line for line in node.logs()[logged:] if "newer kvip" in str(line.get("msg")))
    assert "format 2, this kvip reads 1" in str(line["reason"])
    assert (node.state_dir / "ledger.json.newer").read_bytes() == newer
    wait(lambda: path.exists() and VIP in path.read_text(), "a journal of its own", timeout_s=3)
    assert GONE not in path.read_text()
