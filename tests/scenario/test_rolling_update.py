"""The DaemonSet's daemons are replaced while VIPs are held: as deploy/ has it, and as it must not be done; judged on the wire."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.cluster import CLAIMS, GLOBAL, PER_SERVICE, Cluster, wait
from lab.node import REPOSITORY, NodeProcess
from lab.rollout import HAND_OVER_S, READY_S, replace, replace_all, shipped_strategy
from lab.scene import NO_GAP_S, SETTLE_S, TAKE_OVER_S

MODES = (CLAIMS, GLOBAL, PER_SERVICE)
VIPS = (*(f"10.10.0.{n}" for n in range(180, 192)), "fd00:10::180", "fd00:10::181", "fd00:10::182")


def _create(cluster: Cluster) -> None:
    for number, vip in enumerate(VIPS):
        cluster.create(f"web{number}", vip)
    cluster.wait_bound(*VIPS, timeout_s=15)


def test_what_ships_replaces_one_node_at_a_time_and_ends_its_old_daemon_first() -> None:
    assert shipped_strategy() == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}


@pytest.mark.parametrize("seed", [5, 7])
def test_three_nodes_in_any_order(cluster: Cluster, mode: str, seed: int) -> None:
    """maxSurge 0, maxUnavailable 1: SIGTERM, the end, the new one, ready, and at once the next node."""
    with cluster.joined_by("n3"):
        order = random.Random(seed).sample(sorted(cluster.nodes), len(cluster.nodes))
        _create(cluster)
        if mode == CLAIMS:
            assert len({cluster.bound(vip)[0] for vip in VIPS}) > 1, "several nodes are to have something to hand over"
        with cluster.judging(*VIPS) as prober:
            for name in order:
                replace(cluster.nodes[name], REPOSITORY)
            time.sleep(SETTLE_S)
            reports = [prober.report(vip) for vip in VIPS]
        print(f"{mode}: {', '.join(order)}: longest silence {max(report.longest_silence_s for report in reports):.2f} s")
        assert max(report.two_answers_s for report in reports) == 0
        assert max(report.longest_silence_s for report in reports) <= HAND_OVER_S
        assert [len(cluster.bound(vip)) for vip in VIPS] == [1] * len(VIPS)
        cluster.delete_all()
        cluster.wait_gone(*VIPS)


def test_r6_a_daemon_beside_the_old_one_waits_though_a_probe_takes_it_for_ready(
    cluster: Cluster, mode: str, former: Path, tmp_path: Path
) -> None:
    """A surge, which nobody ships: on the node's network a kubelet's probe of the new Pod is answered by the old daemon (PROTOCOL R6).

    So Kubernetes ends the old daemons though no new one has started: the wire is silent for as long as that takes, never with two answers.
    """
    replace_all(cluster, former)
    _create(cluster)
    with cluster.judging(*VIPS) as prober, ExitStack() as stack:
        olds = list(cluster.nodes.values())
        before = [_state(cluster, old) for old in olds]
        news = [stack.enter_context(_beside(cluster, old, tmp_path)) for old in olds]
        for new in news:
            wait(lambda new=new: _says(new, "another kvip"), "the new one says that it waits", timeout_s=5)  # type: ignore[misc]
        time.sleep(SETTLE_S)
        assert [_state(cluster, old) for old in olds] == before, "a daemon that waits touches nothing"
        assert max(prober.report(vip).longest_silence_s for vip in VIPS) < NO_GAP_S
        assert [new.get("/readyz")[0] for new in news] == [200, 200]
        assert not any(_says(new, "kvip started") for new in news)
        for old in olds:
            old.stop()
        for new in news:
            new.wait_ready(READY_S)
        for vip in VIPS:
            assert prober.wait_answer(vip, timeout_s=TAKE_OVER_S)
        time.sleep(SETTLE_S)
        reports = [prober.report(vip) for vip in VIPS]
        print(f"{mode}: two daemons on each node: longest silence {max(report.longest_silence_s for report in reports):.2f} s")
        assert max(report.two_answers_s for report in reports) == 0
        assert max(report.longest_silence_s for report in reports) <= TAKE_OVER_S
        for new in news:
            new.stop()
    assert cluster.left() == {}


def _state(cluster: Cluster, node: NodeProcess) -> tuple[list[str], bytes]:
    """What the node has of addresses and journal."""
    return [address.ip for address in cluster.lan.addresses(node.node)], (node.state_dir / "ledger.json").read_bytes()


def _beside(cluster: Cluster, old: NodeProcess, work_dir: Path) -> NodeProcess:
    """A daemon of this version on the same node, with the same folder of the node and the same port."""
    env = {"KVIP_ELECTION": cluster.mode, "KVIP_STATE_DIR": str(old.state_dir)}
    return NodeProcess(cluster.lan, old.node, kubeconfig=cluster.api.kvip_kubeconfig, work_dir=work_dir, env=env)


def _says(node: NodeProcess, words: str) -> bool:
    return any(words in str(line.get("msg")) for line in node.logs())
