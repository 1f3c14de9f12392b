"""Renewing and fencing (rules R1 to R7), seen from outside: Leases, signals and clocks are changed, the wire is judged.

R5 (no renewal while the reconcile loop is stuck) needs a loop that is stuck alone; see tests/unit/daemon/test_lease_loop_trouble.py.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lab.clocks import Clocks
from lab.cluster import CLAIMS, GLOBAL, PER_SERVICE, Cluster, now, wait
from lab.embeddedapi import EmbeddedApi
from lab.lan import api_ip
from lab.node import NodeProcess
from lab.scene import LEASE_S, NO_GAP_S, RENEW_S, SILENT_S, TAKE_OVER_S

MODES = (CLAIMS, GLOBAL, PER_SERVICE)
VIP = "10.10.0.200"
FOREIGN = "n9_" + "0123456789abcdef" * 2


def _held(cluster: Cluster) -> NodeProcess:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    return cluster.holder_of(VIP)


def _fences(node: NodeProcess) -> float:
    return sum(value for name, value in node.metrics().items() if name.startswith("kvip_fences_total{"))


@pytest.mark.slow
def test_r1_an_answer_that_comes_after_the_deadline_renews_nothing(cluster: Cluster, mode: str, embedded: EmbeddedApi) -> None:
    """The answer waits in the socket of a frozen daemon: when it reads it, its validity is over."""
    holder = _held(cluster)
    before, fences = cluster.incarnation(holder), _fences(holder)
    embedded.set_faults(client=api_ip(holder.node), delay_s=0.4)
    time.sleep(1.5)
    with cluster.judging(VIP) as prober:
        version = _version(cluster, holder)
        wait(lambda: _version(cluster, holder) != version, "a renewal is carried out", timeout_s=5)
        time.sleep(0.8)  # the next one is on its way: sent, and not looked at yet
        version = _version(cluster, holder)
        holder.freeze()
        time.sleep(0.6)
        assert _version(cluster, holder) != version, "a renewal was to be carried out while the daemon is frozen"
        time.sleep(SILENT_S - 0.6)
        assert prober.holders_now(VIP) == set()
        embedded.set_faults(client=api_ip(holder.node), delay_s=0.0)
        holder.thaw()
        wait(lambda: _fences(holder) > fences, "the woken daemon fences", timeout_s=1)
        assert prober.wait_answer(VIP, timeout_s=TAKE_OVER_S)
        time.sleep(0.5)
        assert prober.report(VIP).two_answers_s == 0
    assert cluster.incarnation(cluster.holder_of(VIP)) != before


def _version(cluster: Cluster, node: NodeProcess) -> str:
    return str(cluster.request("GET", cluster.own_lease(node))["metadata"]["resourceVersion"])


@pytest.mark.slow
def test_r2_a_fence_is_a_latch_and_the_next_life_has_another_name(cluster: Cluster, mode: str) -> None:
    holder = _held(cluster)
    cluster.other(holder).stop()
    before, fences = cluster.incarnation(holder), _fences(holder)
    cut = now()
    cluster.lan.cut_api(holder.node)
    try:
        with cluster.probing(VIP) as prober, cluster.sniffing(VIP) as sniffer:
            time.sleep(SILENT_S)
            assert now() - cut > RENEW_S
            prober.clear()
            sniffer.clear()
            time.sleep(1.5)
            assert prober.answers(VIP) == []
            assert [frame for frame in sniffer.frames if frame.claimed == VIP] == []
            assert holder.vips() == []
    finally:
        cluster.lan.cut_api(holder.node, False)
    cluster.wait_bound(VIP, timeout_s=10)
    assert cluster.incarnation(holder) != before
    assert _fences(holder) - fences == (2 if mode == PER_SERVICE else 1)  # the shared Lease's, and the Service's


@pytest.mark.parametrize("change", ["named another", pytest.param("deleted", marks=pytest.mark.slow)])
def test_r3_a_foreign_or_missing_record_of_ones_own_is_a_fence_at_once(cluster: Cluster, mode: str, change: str) -> None:
    """Absent is not free, for the node itself either: it stays silent until nobody can hold (PROTOCOL T4, R7)."""
    holder = _held(cluster)
    before, fences = cluster.incarnation(holder), _fences(holder)
    lease = cluster.own_lease(holder)
    with cluster.judging(VIP) as prober:
        began = now()
        if change == "deleted":
            cluster.request("DELETE", lease)
        else:
            cluster.request("PATCH", lease, {"spec": {"holderIdentity": FOREIGN}})
        wait(lambda: _fences(holder) > fences, "a fence", timeout_s=0.5)
        print(f"{mode}, {change}: fenced {(now() - began) * 1000:.0f} ms after the change")
        wait(lambda: prober.report(VIP).observed_s > 1.0, "observed", timeout_s=5)
        if mode in (GLOBAL, CLAIMS):
            assert max((answer.at_s - began for answer in prober.answers(VIP)), default=0.0) < 0.5
        assert prober.wait_answer(VIP, timeout_s=2 * LEASE_S + 3)
        time.sleep(0.5)
        assert prober.report(VIP).two_answers_s == 0
    assert before not in {cluster.incarnation(node) for node in cluster.nodes.values()}


@pytest.mark.slow
def test_r3_a_write_of_ones_own_whose_answer_was_lost_is_no_loss(cluster: Cluster, mode: str, embedded: EmbeddedApi) -> None:
    holder = _held(cluster)
    fences = _fences(holder)
    with cluster.judging(VIP) as prober:
        for code in (500, 0, 409):
            rule = {"code": code, "verb": "PUT", "path_regex": "/leases/", "count": 1, "apply": True}
            embedded.set_faults(client=api_ip(holder.node), status=rule)
            time.sleep(1.7)
        report = prober.report(VIP)
    assert report.longest_silence_s < NO_GAP_S
    assert _fences(holder) == fences


def test_r4_a_suspend_is_a_fence(cluster: Cluster, mode: str, tmp_path: Path) -> None:
    clocks = Clocks(tmp_path)
    with cluster.restarted("n1", **clocks.env) as node:
        cluster.other(node).stop()
        cluster.create("web", VIP)
        cluster.wait_bound(VIP, timeout_s=LEASE_S + 3)
        before = cluster.incarnation(node)
        clocks.suspend(1.0)
        wait(lambda: _fences(node) >= 1, "a fence", timeout_s=1.5)
        assert node.metrics().get('kvip_fences_total{reason="suspend"}') == _fences(node)
        cluster.wait_bound(VIP, timeout_s=LEASE_S + 3)
        assert cluster.incarnation(node) != before


def test_r6_one_daemon_per_network_namespace(cluster: Cluster, mode: str, tmp_path: Path) -> None:
    """Another one changes nothing and waits; a frozen one keeps its place, a dead one frees it."""
    holder = _held(cluster)
    second = NodeProcess(
        cluster.lan, holder.node, kubeconfig=cluster.api.kvip_kubeconfig, work_dir=tmp_path,
        env={"prometheus_server": ":2113", "KVIP_ELECTION": mode, "KVIP_STATE_DIR": str(holder.state_dir)},
    )  # fmt: skip
    waits = lambda: any("another kvip" in str(line.get("msg")) for line in second.logs())  # noqa: E731
    with cluster.judging(VIP) as prober, second:
        wait(waits, "the second one says that it waits", timeout_s=5)
        time.sleep(1.0)
        assert prober.report(VIP).longest_silence_s < NO_GAP_S
        holder.freeze()
        time.sleep(0.7)
        assert not any("kvip started" in str(line.get("msg")) for line in second.logs())
        holder.thaw()
        holder.kill9()
        wait(lambda: any("kvip started" in str(line.get("msg")) for line in second.logs()), "the second one starts", timeout_s=2)
        assert prober.wait_answer(VIP, timeout_s=TAKE_OVER_S)
        second.stop()
        assert prober.wait_answer(VIP, timeout_s=3)
        assert prober.report(VIP).two_answers_s == 0


@pytest.mark.slow
def test_r7_two_machines_with_one_node_name_never_both_answer(cluster: Cluster, mode: str) -> None:
    cluster.nodes["n2"].stop()
    with cluster.restarted("n2", vip_nodename="n1"):
        _held(cluster)
        with cluster.judging(VIP) as prober:
            time.sleep(2 * LEASE_S)
            assert prober.report(VIP).two_answers_s == 0
            for name in ("n1", "n2"):
                cluster.nodes[name].stop()
                assert prober.wait_answer(VIP, timeout_s=2 * TAKE_OVER_S)
                cluster.nodes[name].start()
                cluster.nodes[name].wait_ready(15)
            time.sleep(1.0)
            assert prober.report(VIP).two_answers_s == 0


@pytest.mark.parametrize("journal", ["kept", pytest.param("lost", marks=pytest.mark.slow)])
def test_r7_what_a_killed_predecessor_held_is_free_at_once_only_by_the_journal(cluster: Cluster, mode: str, journal: str) -> None:
    holder = _held(cluster)
    cluster.other(holder).stop()
    held = cluster.incarnation(holder)
    life = held[:-8]  # with a Lease per Service, the rest differs from Lease to Lease
    wait(lambda: life in (holder.state_dir / "ledger.json").read_text(), "the journal names the incarnation", timeout_s=2)
    holder.kill9()
    killed = now()
    if journal == "lost":
        (holder.state_dir / "ledger.json").unlink()
    holder.start()
    holder.wait_ready(15)
    with cluster.probing(VIP) as prober:
        answer = prober.wait_answer(VIP, timeout_s=2 * TAKE_OVER_S)
    assert answer is not None
    print(f"{mode}: journal {journal}: answered {answer.at_s - killed:.2f} s after SIGKILL")
    if journal == "kept":
        assert answer.at_s - killed < 2.0
    else:
        assert answer.at_s - killed > LEASE_S - 1.0
