"""The option that spreads VIPs anew over the nodes (rule T5): nobody answers twice, and what moves is silent for a moment only."""

from __future__ import annotations

from lab.cluster import Cluster, wait

VIPS = tuple(f"10.10.0.{number}" for number in range(200, 206))
ON = {"KVIP_REBALANCE": "true"}
SETTLED_S, ROUND_S = 30, 10


def _shares(cluster: Cluster) -> list[int]:
    return sorted(sum(name in cluster.bound(vip) for vip in VIPS) for name in cluster.nodes)


def test_t5_rebalancing_gives_a_node_that_came_its_share_without_two_answers(cluster: Cluster) -> None:
    first, second = cluster.nodes.values()
    second.stop()
    with cluster.restarted(first.node, **ON):
        for number, vip in enumerate(VIPS):
            cluster.create(f"web{number}", vip)
        cluster.wait_bound(*VIPS)
        with cluster.restarted(second.node, **ON), cluster.judging(*VIPS) as prober:
            assert _shares(cluster) == [0, 6]
            took_s = wait(lambda: _shares(cluster) == [3, 3], "three VIPs on each node", timeout_s=SETTLED_S + 5 * ROUND_S)
            assert all(prober.wait_answer(vip, cluster.lan.mac(cluster.bound(vip)[0]), timeout_s=1) for vip in VIPS)
            reports = [prober.report(vip) for vip in VIPS]
            print(f"{took_s:.0f} s, silences {[f'{report.longest_silence_s:.2f}' for report in reports]} s")
            assert [report.two_answers_s for report in reports] == [0] * len(VIPS)
            assert max(report.longest_silence_s for report in reports) < 0.5
            assert sum(report.switches for report in reports) == 3
