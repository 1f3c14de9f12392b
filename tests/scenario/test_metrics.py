"""What daemons' metrics say while they hold VIPs and let go of them: as the wire and the kernel have it."""

from __future__ import annotations

from lab.cluster import Cluster, wait

VIP, VIP6 = "10.10.0.200", "fd00:10::200"
SERIES = f'kvip_vip_announced{{namespace="default",service="web",vip="{VIP}"}}'


def summed(cluster: Cluster, sample: str) -> float:
    """Over all nodes; a series that is not there yet counts as 0."""
    return sum(node.metrics().get(sample, 0) for node in cluster.nodes.values())


def states(cluster: Cluster) -> list[float]:
    return [summed(cluster, f'kvip_vips{{state="{state}"}}') for state in ("claimed", "bound", "announced")]


def test_vips_latencies_frames_and_the_lease(cluster: Cluster) -> None:
    taken = summed(cluster, "kvip_take_seconds_count")
    sent = {family: f'kvip_frames_sent_total{{family="{family}",priority="take_over"}}' for family in ("ipv4", "ipv6")}
    before = {family: summed(cluster, sample) for family, sample in sent.items()}
    delays = summed(cluster, "kvip_frame_delay_seconds_count")
    cluster.create("web", VIP, VIP6)
    cluster.wait_bound(VIP, VIP6)
    nodes = len(cluster.nodes)
    # Every node knows that they are asked for; each is bound on one.
    wait(lambda: states(cluster) == [2 * nodes, 2, 2], "claimed, bound and announced", timeout_s=3)
    assert summed(cluster, "kvip_take_seconds_count") == taken + 2
    assert summed(cluster, "kvip_frame_delay_seconds_count") >= delays + 2
    assert {family: summed(cluster, sample) - before[family] for family, sample in sent.items()} == {"ipv4": 2, "ipv6": 1}
    found = cluster.holder_of(VIP).metrics()
    assert 0 <= found["kvip_lease_age_seconds"] < 3
    # A renewal counts from the instant it was sent, its age from the answer.
    assert 0 < found["kvip_lease_valid_seconds"] <= 3 - found["kvip_lease_age_seconds"]
    assert found["kvip_switch_ready"] == 1
    assert 0 <= found['kvip_informer_last_heard_seconds{kind="leases"}'] < 5
    assert not any(name.startswith("kvip_vip_announced") for name in found)
    gone = summed(cluster, "kvip_let_go_seconds_count")
    cluster.delete("web")
    cluster.wait_gone(VIP, VIP6)
    wait(lambda: summed(cluster, "kvip_let_go_seconds_count") == gone + 2, "both are timed", timeout_s=2)
    assert states(cluster) == [0, 0, 0]


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
