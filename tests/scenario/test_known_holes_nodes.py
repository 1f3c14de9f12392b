"""Holes that daemons of this kind are known to have, and kvip has not: what nodes, processes and the API server can do.

See test_known_holes_services for the numbers and for what is elsewhere.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from pathlib import Path

import pytest

from lab.cluster import Cluster, now, wait
from lab.embeddedapi import EmbeddedApi
from lab.lan import api_ip
from lab.node import METRICS_PORT, NodeProcess
from lab.scene import LEASE_S, NO_GAP_S, RENEW_S, SILENT_S, TAKE_OVER_S

VIP, OTHER = "10.10.0.200", "10.10.0.201"
VIP6 = "fd00:10::200"


def test_h5_an_option_that_keeps_addresses_without_a_lease_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    cluster.nodes["n1"].stop()
    env = {"vip_preserve_on_leadership_loss": "true"}
    with NodeProcess(cluster.lan, "n1", kubeconfig=cluster.api.kvip_kubeconfig, work_dir=tmp_path, env=env) as node:
        assert node.wait_exit(10) == 2
        assert "vip_preserve_on_leadership_loss" in node.log_path.read_text()


@pytest.mark.slow
def test_h8_a_holder_cut_off_from_the_api_is_silent_before_the_next_one_speaks(cluster: Cluster, mode: str) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    old = cluster.holder_of(VIP)
    mac = cluster.lan.mac(old.node)
    with cluster.judging(VIP) as prober, cluster.sniffing(VIP) as sniffer:
        cut = now()
        cluster.lan.cut_api(old.node)
        try:
            assert prober.wait_answer(VIP, cluster.lan.mac(cluster.other(old).node), timeout_s=TAKE_OVER_S + 2)
            time.sleep(1.0)
            said = [(frame.at_s - cut, frame.sender_mac == mac) for frame in sniffer.frames if frame.announcement and frame.claimed == VIP]
            said += [(answer.at_s - cut, answer.mac == mac) for answer in prober.answers(VIP)]
            last_of_old = max(at_s for at_s, by_old in said if by_old)
            first_of_new = min(at_s for at_s, by_old in said if not by_old)
            print(f"{mode}: the old holder's last word {last_of_old:.2f} s after the cut, the new one's first {first_of_new:.2f} s")
            assert last_of_old <= SILENT_S
            assert first_of_new - last_of_old > 1.0
            assert prober.report(VIP).two_answers_s == 0
        finally:
            cluster.lan.cut_api(old.node, False)


@pytest.mark.slow
def test_h21_without_an_api_server_every_vip_falls_silent_in_time_and_comes_back_with_it(cluster: Cluster, mode: str) -> None:
    """Wanted: who cannot renew cannot know that nobody else holds. What is asked for is not forgotten meanwhile."""
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    with cluster.judging(VIP) as prober:
        cut = now()
        for node in cluster.nodes:
            cluster.lan.cut_api(node)
        try:
            wait(lambda: prober.holders_now(VIP) == set(), "silent", timeout_s=SILENT_S + 0.5)
            assert now() - cut <= SILENT_S + 0.1
            time.sleep(1.5)
        finally:
            for node in cluster.nodes:
                cluster.lan.cut_api(node, False)
        back = now()
        answer = prober.wait_answer(VIP, timeout_s=10)
        assert answer is not None
        print(f"{mode}: answered {answer.at_s - back:.2f} s after the API server was back")
        assert answer.at_s - back <= 5.0
        assert prober.report(VIP).two_answers_s == 0


@pytest.mark.slow
def test_h24_a_node_that_loses_its_network_before_its_daemon_is_told_is_replaced_in_time(cluster: Cluster, mode: str) -> None:
    """A shutdown in the wrong order: no SIGTERM, the NIC goes first, then the process."""
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    leaving = cluster.holder_of(VIP)
    with cluster.judging(VIP) as prober:
        cluster.lan.cut_api(leaving.node)
        cluster.lan.pull_cable(leaving.node)
        leaving.kill9()
        try:
            assert prober.wait_answer(VIP, cluster.lan.mac(cluster.other(leaving).node), timeout_s=TAKE_OVER_S + 2)
        finally:
            cluster.lan.pull_cable(leaving.node, False)
            cluster.lan.cut_api(leaving.node, False)
        time.sleep(1.0)
        report = prober.report(VIP)
        print(f"{mode}: longest silence {report.longest_silence_s:.2f} s")
        assert report.longest_silence_s <= TAKE_OVER_S
        assert report.two_answers_s == 0


@pytest.mark.parametrize("hanging", ["health client", "API server", "name server"])
def test_h14_sigterm_ends_the_process_within_3_s_whatever_hangs(cluster: Cluster, tmp_path: Path, hanging: str) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    node = cluster.holder_of(VIP)
    if hanging == "health client":
        with cluster.lan.ns(node.node).socket(socket.AF_INET, socket.SOCK_STREAM) as idle:
            idle.connect(("127.0.0.1", METRICS_PORT))
            idle.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")  # the request never ends
            time.sleep(0.2)
            assert node.stop() < 3.0
    elif hanging == "API server":
        cluster.api.stall(True)
        try:
            time.sleep(0.5)
            assert node.stop() < 3.0
        finally:
            cluster.api.stall(False)
    else:
        node.stop()
        stuck = _with_a_dead_name_server(cluster, tmp_path)
        try:
            time.sleep(1.5)
            assert stuck.running
            assert stuck.stop() < 3.0
        finally:
            stuck.close()
    assert node.vips() == []


def _with_a_dead_name_server(cluster: Cluster, directory: Path) -> NodeProcess:
    """A daemon whose API server has a name, which nobody resolves: packets to the name server get no answer."""
    text = cluster.api.kvip_kubeconfig.read_text().replace(f"//{cluster.api.url.split('//')[1].split(':')[0]}", "//api.lab.example")
    assert "api.lab.example" in text
    (directory / "kubeconfig").write_text(text)
    (directory / "resolv.conf").write_text("nameserver 10.10.0.250\noptions timeout:30 attempts:5\n")
    node = NodeProcess(cluster.lan, "n1", kubeconfig=directory / "kubeconfig", work_dir=directory)
    node.launcher = ("unshare", "-m", "sh", "-c", f'mount --bind {directory}/resolv.conf /etc/resolv.conf && exec "$@"', "sh")
    if cluster.nodes["n1"].running:
        cluster.nodes["n1"].stop()
    node.start()
    wait(lambda: any("kvip started" in str(line.get("msg")) for line in node.logs()), "it started", timeout_s=10)
    return node


@pytest.mark.parametrize("code", [403, 410, 500])
def test_h23_a_watch_that_fails_for_good_withdraws_nothing(cluster: Cluster, embedded: EmbeddedApi, code: int) -> None:
    """Only the caches' watches fail, on every node: what is not known is kept, and made up for once it can be read."""
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    with cluster.judging(VIP) as prober:
        embedded.set_faults(status={"code": code, "path_regex": r"/(services|endpointslices|nodes)\?"}, drop_watches=True)
        time.sleep(2.0)
        cluster.delete("web") if code == 500 else cluster.create("web2", OTHER)
        time.sleep(0.5)
        assert prober.report(VIP).longest_silence_s < NO_GAP_S
        assert all(node.running for node in cluster.nodes.values())
        healed = now()
        embedded.set_faults(status=None)
        if code == 500:
            cluster.wait_gone(VIP, timeout_s=10)
        else:
            cluster.wait_bound(OTHER, timeout_s=10)
            assert prober.report(VIP).longest_silence_s < NO_GAP_S
        print(f"{code}: made good {now() - healed:.2f} s after the watch worked again")


@pytest.mark.slow
@pytest.mark.parametrize("code", [403, 410, 500])
def test_a_node_that_was_refused_follows_the_others_as_soon_as_it_is_heard(cluster: Cluster, embedded: EmbeddedApi, code: int) -> None:
    """Its watches had come to wait for seconds, and what it does not see meanwhile lengthens the next take-over."""
    node = cluster.nodes["n1"]
    embedded.set_faults(client=api_ip("n1"), status={"code": code}, drop_watches=True)
    time.sleep(RENEW_S + 5.0)
    before = len(node.logs())
    embedded.set_faults(client=api_ip("n1"), status=None)
    opened = lambda: sum(line.get("msg") == "watch open again" for line in node.logs()[before:]) == 4  # noqa: E731
    assert wait(opened, "its four watches are open again", timeout_s=20) < 2.0


@pytest.mark.slow
def test_a_lease_without_a_holder_is_taken_up_again(cluster: Cluster, mode: str) -> None:
    """Blanked by someone else, again and again: no two answers, and the election always goes on."""
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    with cluster.judging(VIP) as prober:
        for _ in range(2):
            lease = cluster.own_lease(cluster.holder_of(VIP))
            cluster.request("PATCH", lease, {"spec": {"holderIdentity": ""}})
            assert prober.wait_silent(VIP, for_s=0.3, timeout_s=1.5)
            assert prober.wait_answer(VIP, timeout_s=2 * LEASE_S + 3)
        time.sleep(1.0)
        assert prober.report(VIP).two_answers_s == 0


@pytest.mark.slow
def test_three_nodes_lose_one_holder_after_the_other(cluster: Cluster, mode: str) -> None:
    cluster.create("web", VIP, VIP6)
    cluster.wait_bound(VIP, VIP6)
    with cluster.joined_by("n3"), cluster.judging(VIP, VIP6) as prober:
        for _ in range(2):
            first = cluster.holder_of(VIP)
            first.kill9()
            macs = {cluster.lan.mac(name) for name, node in cluster.nodes.items() if node is not first}
            wait(lambda macs=macs: bool(prober.holders_now(VIP) & macs), "another node answers", timeout_s=TAKE_OVER_S + 2)  # type: ignore[misc]
            first.start()
            first.wait_ready(15)
        time.sleep(1.0)
        for vip in (VIP, VIP6):
            report = prober.report(vip)
            assert report.two_answers_s == 0
            assert report.longest_silence_s <= TAKE_OVER_S


def test_a_burst_is_more_than_one_frame_and_a_refresh_does_not_restart_it(cluster: Cluster, mode: str) -> None:
    """Rounds at 0, 1.1 and 2.2 s, each a request and a reply; a Service that is touched meanwhile adds none."""
    with cluster.sniffing(VIP) as sniffer:
        cluster.create("web", VIP)
        for n in range(10):
            time.sleep(0.3)
            cluster.patch("web", {"metadata": {"annotations": {"touched": str(n)}}})
        frames = [frame for frame in sniffer.frames if frame.announcement and frame.claimed == VIP]
    first = frames[0].at_s
    assert {frame.op for frame in frames} == {1, 2}
    rounds = sorted({round(frame.at_s - first, 1) for frame in frames})
    assert rounds == pytest.approx([0, 1.1, 2.2], abs=0.2)
    assert len(frames) == 6


def test_nobody_asks_the_api_server_again_and_again_while_nothing_happens(cluster: Cluster, mode: str, embedded: EmbeddedApi) -> None:
    for n in range(20):
        cluster.create(f"web{n}", f"10.10.0.{210 + n}")
    cluster.wait_bound(*(f"10.10.0.{210 + n}" for n in range(20)))
    wait(lambda: all(cluster.ingress(f"web{n}") for n in range(20)), "every status written", timeout_s=5)
    time.sleep(0.5)
    before = {node: Counter(embedded.request_counts(client=api_ip(node))) for node in cluster.nodes}
    time.sleep(3.0)
    for node, count in before.items():
        asked = Counter(embedded.request_counts(client=api_ip(node))) - count
        assert asked.total() <= 3.0 * 2.5, (node, asked)
