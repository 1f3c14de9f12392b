"""What a daemon's metrics say while it holds a VIP, lets go of it, and is cut off: as the wire and the kernel have it."""

from __future__ import annotations

from lab.cluster import Cluster, wait
from lab.node import NodeProcess

VIP, VIP6 = "10.10.0.200", "fd00:10::200"
SERIES = f'kvip_vip_announced{{namespace="default",service="web",vip="{VIP}"}}'


def states(node: NodeProcess) -> list[float]:
    found = node.metrics()
    return [found[f'kvip_vips{{state="{state}"}}'] for state in ("claimed", "bound", "announced")]


def test_vips_latencies_frames_and_the_lease(cluster: Cluster) -> None:
    cluster.create("web", VIP, VIP6)
    cluster.wait_bound(VIP, VIP6)
    holder = cluster.holder_of(VIP)
    wait(lambda: states(holder) == [2, 2, 2], "claimed, bound and announced", timeout_s=3)
    others = [node for node in cluster.nodes.values() if node is not holder]
    assert [states(node) for node in others] == [[2, 0, 0]] * len(others)
    found = holder.metrics()
    assert 0 <= found["kvip_lease_age_seconds"] < 3
    assert found["kvip_lease_valid_seconds"] <= 3 - found["kvip_lease_age_seconds"]
    assert found["kvip_switch_ready"] == 1
    assert found["kvip_take_seconds_count"] >= 2
    assert found["kvip_frame_delay_seconds_count"] >= 2
    assert found['kvip_frames_sent_total{family="ipv4",priority="take_over"}'] >= 2
    assert found['kvip_frames_sent_total{family="ipv6",priority="take_over"}'] >= 1
    assert found['kvip_informer_last_heard_seconds{kind="leases"}'] < 5
    assert not any(name.startswith("kvip_vip_announced") for name in found)
    before = found["kvip_let_go_seconds_count"]
    cluster.delete("web")
    cluster.wait_gone(VIP, VIP6)
    wait(lambda: holder.metrics()["kvip_let_go_seconds_count"] == before + 2, "both are timed", timeout_s=2)
    found = holder.metrics()
    assert found["kvip_let_go_seconds_sum"] / found["kvip_let_go_seconds_count"] < 1
    assert states(holder) == [0, 0, 0]


def test_series_per_vip_are_there_on_request_and_go_with_the_vip(cluster: Cluster) -> None:
    with cluster.restarted("n1", KVIP_VIP_METRICS="true") as node:
        others = [other for other in cluster.nodes.values() if other is not node]
        for other in others:
            other.stop()
        cluster.create("web", VIP)
        wait(lambda: node.metrics().get(SERIES) == 1, "announced, by name", timeout_s=15)
        cluster.delete("web")
        wait(lambda: SERIES not in node.metrics(), "gone with the VIP", timeout_s=5)
        for other in others:
            other.start()
            other.wait_ready()
