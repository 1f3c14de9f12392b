"""Crashes, stops, partitions and left-overs, with two daemons and a client that asks who has the address."""

from __future__ import annotations

import time

from lab.cluster import Cluster, now, wait

VIP = "10.10.0.200"
LEASE_S, RENEW_S = 5.0, 3.0


def test_deleted_while_the_daemon_is_dead_is_swept_within_2_s_of_its_restart(cluster: Cluster) -> None:
    uid = cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    holder = cluster.holder()
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
    assert any(line.get("uids") == [uid] for line in holder.logs() if str(line["msg"]).startswith("swept"))
    wait(lambda: bool(cluster.events(uid, "VIPSwept")), "the Event names the sweep", timeout_s=5)


def test_kill_9_of_the_holder_another_node_takes_over_and_announces_every_vip(cluster: Cluster) -> None:
    vips = [f"10.10.0.{n}" for n in range(210, 230)]
    for n, vip in enumerate(vips):
        cluster.create(f"web{n}", vip)
    cluster.wait_bound(*vips)
    holder = cluster.holder()
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


def test_sigterm_hands_over_within_1_s_and_never_two_answer(cluster: Cluster) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    holder = cluster.holder()
    mac = cluster.lan.mac(cluster.other(holder).node)
    with cluster.probing(VIP) as prober:
        assert prober.wait_answer(VIP, timeout_s=2)
        prober.clear()
        began = now()
        assert holder.stop() < 2.0
        assert holder.returncode == 0
        assert prober.wait_answer(VIP, mac, timeout_s=3)
        took = now() - began
        time.sleep(0.5)
        report = prober.report(VIP)
    print(f"handed over {took * 1000:.0f} ms after SIGTERM; {report}")
    assert took < 1.0
    assert report.two_answers_s == 0
    assert report.longest_silence_s < 1.0
    assert holder.vips() == []
    assert cluster.ingress("web") == [VIP]


def test_a_node_cut_off_from_the_api_lets_go_before_another_takes(cluster: Cluster) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    holder = cluster.holder()
    with cluster.probing(VIP) as prober:
        assert prober.wait_answer(VIP, timeout_s=2)
        prober.clear()
        cut = now()
        cluster.lan.cut_api(holder.node)
        try:
            wait(lambda: not holder.vips(), "the cut-off node let go", timeout_s=RENEW_S + 1)
            print(f"let go {now() - cut:.2f} s after the cut")
            assert now() - cut < RENEW_S + 0.5
            wait(lambda: cluster.bound(VIP) == [cluster.other(holder).node], "the other node took it", timeout_s=LEASE_S)
            assert prober.wait_answer(VIP, cluster.lan.mac(cluster.other(holder).node), timeout_s=1)
            time.sleep(0.5)
            report = prober.report(VIP)
        finally:
            cluster.lan.cut_api(holder.node, False)
    print(report)
    assert report.two_answers_s == 0
    assert report.longest_silence_s < LEASE_S + 1


def test_a_frozen_holder_that_wakes_lets_go_at_once_and_sends_nothing(cluster: Cluster) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    holder = cluster.holder()
    mac = cluster.lan.mac(holder.node)
    holder.freeze()
    try:
        wait(lambda: VIP in cluster.other(holder).vips(), "the other node took it", timeout_s=LEASE_S + 2)
        with cluster.sniffing(VIP) as sniffer:
            woken = now()
            holder.thaw()
            wait(lambda: not holder.vips(), "the woken node let go", timeout_s=2)
            print(f"let go {(now() - woken) * 1000:.0f} ms after SIGCONT")
            assert now() - woken < 0.5
            assert sniffer.wait_for(lambda frame: frame.announcement and frame.sender_mac == mac, 1.5) is None
    finally:
        holder.thaw()


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
        holder = cluster.holder()
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


def test_a_vip_removed_by_someone_else_is_put_back_and_announced(cluster: Cluster) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    holder = cluster.holder()
    with cluster.sniffing(VIP) as sniffer:
        time.sleep(0.2)
        sniffer.clear()
        began = now()
        cluster.lan.run(holder.node, "ip", "addr", "del", f"{VIP}/32", "dev", "eth0")
        wait(lambda: VIP in holder.vips(), "put back", timeout_s=1)
        assert sniffer.wait_for(lambda frame: frame.announcement and frame.claimed == VIP, 1) is not None
        assert now() - began < 1.0
    assert holder.metrics()["kvip_put_back_total"] >= 1


def test_the_api_server_gone_for_a_while_then_back(cluster: Cluster) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    with cluster.probing(VIP) as prober:
        cluster.api.restart_api(down_s=RENEW_S + 1)
        cluster.wait_bound(VIP, timeout_s=15)
        assert prober.wait_answer(VIP, timeout_s=2)
        assert prober.report(VIP).two_answers_s == 0
    assert all(node.running for node in cluster.nodes.values())


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
