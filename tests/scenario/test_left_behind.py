"""What could be left behind, or touched though it is not ours: sweeps, take-overs of many VIPs, addresses of other owners."""

from __future__ import annotations

import time

from lab.cluster import Cluster, now, wait
from lab.scene import LEASE_S, RENEW_S

VIP = "10.10.0.200"


def test_h3_deleted_while_the_daemon_is_dead_is_swept_within_2_s_of_its_restart(cluster: Cluster) -> None:
    uid = cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    holder = cluster.holder_of(VIP)
    wait(lambda: VIP in (holder.state_dir / "ledger.json").read_text(), "the journal knows the claim", timeout_s=2)
    holder.kill9()
    cluster.delete("web")
    assert cluster.bound(VIP) == [holder.node]
    began = now()
    holder.start()
    cluster.wait_gone(VIP)
    print(f"swept {now() - began:.2f} s after exec")
    assert now() - began < 2.0
    cluster.start()
    wait(lambda: holder.metrics().get("kvip_swept_addresses_total", 0) == 1, "the sweep is counted", timeout_s=5)
    assert any(line.get("uids") == [uid] for line in holder.logs() if str(line.get("msg")).startswith("swept"))
    wait(lambda: bool(cluster.events(uid, "VIPSwept")), "the Event names the sweep", timeout_s=5)


def test_k5_what_a_killed_daemon_left_is_off_the_nic_before_anyone_can_flush_the_rules(cluster: Cluster) -> None:
    """Restarted while the API server hangs, the node has no permit: rules alone would not keep an address silent that is still bound."""
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    holder = cluster.holder_of(VIP)
    mac = cluster.lan.mac(holder.node)
    with cluster.judging(VIP) as prober:
        cluster.api.stall(True)
        try:
            holder.kill9()
            runs = len(holder.logs())
            holder.start()
            wait(lambda: any(line.get("msg") == "kvip started" for line in holder.logs()[runs:]), "it runs again", timeout_s=3)
            prober.clear()
            assert holder.vips() == []
            removed = [line["vips"] for line in holder.logs()[runs:] if line.get("msg") == "addresses of a former daemon removed at start"]
            assert removed == [[VIP]], "by the start itself, not by what came later"
            for _ in range(10):
                cluster.flush_rules(holder.node)
                time.sleep(0.1)
            assert [answer.at_s for answer in prober.answers(VIP) if answer.mac == mac] == []
        finally:
            cluster.api.stall(False)
        assert prober.wait_answer(VIP, timeout_s=2 * LEASE_S) is not None


def test_h2_after_kill_9_of_the_holder_another_takes_over_and_the_restarted_one_has_nothing(cluster: Cluster) -> None:
    vips = [f"10.10.0.{n}" for n in range(210, 230)]
    for n, vip in enumerate(vips):
        cluster.create(f"web{n}", vip)
    cluster.wait_bound(*vips)
    holder = cluster.holder_of(vips[0])
    other = cluster.other(holder)
    mac = cluster.lan.mac(other.node)
    with cluster.sniffing(*vips) as sniffer:
        killed = now()
        holder.kill9()
        wait(lambda: set(vips) <= set(other.vips()), "the other node has every VIP", timeout_s=LEASE_S + 2)
        print(f"taken over {now() - killed:.2f} s after SIGKILL")
        assert now() - killed < LEASE_S + 1
        announced = lambda: {f.claimed for f in sniffer.frames if f.claimed in vips and f.announcement and f.sender_mac == mac}  # noqa: E731
        wait(lambda: announced() == set(vips), "every VIP announced by the other node", timeout_s=1)
    holder.start()
    wait(lambda: not holder.vips(), "the restarted node has nothing", timeout_s=2)


def test_an_address_without_the_mark_is_never_touched(cluster: Cluster) -> None:
    nodes = [holder.node for holder in cluster.nodes.values()]
    for node in nodes:
        cluster.lan.run(node, "ip", "addr", "add", f"{VIP}/32", "dev", "eth0")
    try:
        uid = cluster.create("web", VIP)
        wait(lambda: bool(cluster.events(uid, "InvalidAddress")), "a Warning Event", timeout_s=3)
        assert VIP in cluster.events(uid, "InvalidAddress")[0]
        cluster.create("web2", "10.10.0.201")
        cluster.wait_bound("10.10.0.201")
        holder = cluster.holder_of("10.10.0.201")
        holder.stop()
        cluster.wait_bound("10.10.0.201")
        holder.start()
        cluster.delete("web")
        cluster.delete("web2")
        cluster.wait_gone("10.10.0.201")
        for node in nodes:
            there = [a for a in cluster.lan.addresses(node, "eth0") if a.ip == VIP]
            assert len(there) == 1, f"{VIP} on {node}: {there}"
        assert cluster.left() == {}
    finally:
        for node in nodes:
            cluster.lan.run(node, "ip", "addr", "del", f"{VIP}/32", "dev", "eth0")


def test_deleted_while_every_node_is_cut_off_it_is_not_bound_again_when_the_api_is_back(cluster: Cluster) -> None:
    cluster.create("web", VIP)
    cluster.create("other", "10.10.0.201")
    cluster.wait_bound(VIP, "10.10.0.201")
    for node in cluster.nodes:
        cluster.lan.cut_api(node)
    try:
        cluster.wait_gone(VIP, "10.10.0.201", timeout_s=RENEW_S + 1)
        cluster.delete("web")
    finally:
        for node in cluster.nodes:
            cluster.lan.cut_api(node, False)
    with cluster.probing(VIP) as prober, cluster.sniffing(VIP) as sniffer:
        cluster.wait_bound("10.10.0.201", timeout_s=30)
        time.sleep(1)
        assert prober.answers(VIP) == []
        assert [frame for frame in sniffer.frames if frame.claimed == VIP] == []
