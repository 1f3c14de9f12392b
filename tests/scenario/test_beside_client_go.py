"""Nodes with kvip beside nodes that elect and bind as kube-vip does (`lab.peer`, on client-go's elector), in the modes that share Leases.

One VIP, and a client that asks who has it: never two answers. A peer that is killed or frozen goes on answering, since nothing silences
its kernel: then kvip must stay silent, whatever the Lease says (PROTOCOL G1).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from lab.cluster import GLOBAL, PER_SERVICE, Cluster, now, wait
from lab.node import NodeProcess
from lab.peer import SHARED_LEASE, PeerProcess, binary, lease_of
from lab.prober import Prober
from lab.scene import LEASE_S, NO_GAP_S, SILENT_S, TAKE_OVER_S

pytestmark = pytest.mark.skipif(not binary().exists(), reason="no client-go peer: run `make assets`")

MODES = (GLOBAL, PER_SERVICE)
VIP = "10.10.0.200"
PEER_NODE = "n3"
WAIT_S = 2 * LEASE_S
"""How long kvip watches a client-go holder's Lease stand still."""
GIVES_UP_S = 7.0
"""When a client-go holder without API server has removed its addresses: last success + retry period + renew deadline, twice."""


@pytest.fixture
def peer(cluster: Cluster, mode: str, tmp_path: Path) -> Iterator[PeerProcess]:
    with _peer(cluster, PEER_NODE, tmp_path) as peer:
        yield peer


@contextmanager
def _peer(cluster: Cluster, node: str, tmp_path: Path, *, timers_s: tuple[float, float, float] = (5, 3, 1)) -> Iterator[PeerProcess]:
    lease = SHARED_LEASE if cluster.mode == GLOBAL else lease_of("web")
    peer = PeerProcess(cluster.lan, node, {lease: [VIP]}, kubeconfig=cluster.api.admin_kubeconfig, work_dir=tmp_path, timers_s=timers_s)
    try:
        yield peer
    finally:
        cluster.lan.cut_api(node, False)
        if peer.running:
            peer.thaw()
            peer.stop()
        peer.sweep()


def _kvip_holds(cluster: Cluster, peer: PeerProcess) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    cluster.holder_of(VIP)
    peer.start()
    time.sleep(1.5)


def _peer_holds(cluster: Cluster, peer: PeerProcess) -> None:
    """The peer leads and answers, and every kvip waits."""
    for node in cluster.nodes.values():
        node.stop()
    peer.start()
    wait(lambda: VIP in peer.vips(), "the peer binds the VIP", timeout_s=LEASE_S + 5)
    cluster.create("web", VIP)
    for node in cluster.nodes.values():
        node.start()
        node.wait_ready(15)
    time.sleep(1.5)


def _answered_by(cluster: Cluster, prober: Prober, *nodes: str, timeout_s: float) -> None:
    macs = {cluster.lan.mac(node) for node in nodes}
    wait(lambda: bool(prober.holders_now(VIP) & macs), f"{VIP} is answered by {' or '.join(nodes)}", timeout_s=timeout_s)
    time.sleep(0.7)


def _leads(cluster: Cluster, *, but: NodeProcess | None = None) -> NodeProcess:
    """The kvip that the Lease names, once it names one (other than `but`)."""
    found: list[NodeProcess] = []

    def one() -> bool:
        lease = cluster.request("GET", cluster.own_lease(cluster.nodes["n1"]))
        name = str(lease["spec"].get("holderIdentity") or "").rpartition("_")[0]
        found[:] = [node for node in cluster.nodes.values() if node.node == name and node is not but]
        return bool(found)

    wait(one, "the Lease names a kvip", timeout_s=WAIT_S + 4)
    return found[0]


def _judge(what: str, prober: Prober, *, silence_s: float) -> None:
    report = prober.report(VIP)
    print(f"{what}: two answers {report.two_answers_s:.2f} s, longest silence {report.longest_silence_s:.2f} s")
    assert report.two_answers_s == 0
    assert report.longest_silence_s <= silence_s


# -- the peer holds, and something happens to it ----------------------------------------------------------------------------------


def test_g1_a_peer_that_stops_has_two_seconds_to_remove_its_addresses(cluster: Cluster, mode: str, peer: PeerProcess) -> None:
    """client-go releases the Lease before its holder lets go."""
    _peer_holds(cluster, peer)
    with cluster.judging(VIP) as prober:
        peer.stop()
        _answered_by(cluster, prober, *cluster.nodes, timeout_s=6)
        _judge("SIGTERM of the peer", prober, silence_s=3.0)


def test_g1_a_killed_peer_whose_kernel_answers_on_keeps_kvip_silent(cluster: Cluster, mode: str, peer: PeerProcess) -> None:
    _peer_holds(cluster, peer)
    uid = cluster.get("web")["metadata"]["uid"]
    with cluster.judging(VIP) as prober:
        peer.kill9()
        wait(lambda: bool(cluster.events(uid, "VIPConflict")), "an Event names the host that answers", timeout_s=WAIT_S + 4)
        assert cluster.lan.mac(PEER_NODE) in cluster.events(uid, "VIPConflict")[0]
        time.sleep(1.0)
        assert cluster.bound(VIP) == []
        assert prober.report(VIP).macs == {cluster.lan.mac(PEER_NODE)}
        holder = _leads(cluster)
        holder.kill9()
        _leads(cluster, but=holder)
        time.sleep(1.0)
        assert cluster.bound(VIP) == [], "the next kvip asks too"
        peer.sweep()
        _answered_by(cluster, prober, *cluster.nodes, timeout_s=6)
        _judge("SIGKILL of the peer", prober, silence_s=5.0)


@pytest.mark.slow
def test_g1_a_frozen_peer_keeps_kvip_silent_and_lets_go_when_it_wakes(cluster: Cluster, mode: str, peer: PeerProcess) -> None:
    _peer_holds(cluster, peer)
    with cluster.judging(VIP) as prober:
        peer.freeze()
        _leads(cluster)
        time.sleep(2.0)
        assert cluster.bound(VIP) == []
        peer.thaw()
        _answered_by(cluster, prober, *cluster.nodes, timeout_s=10)
        _judge("SIGSTOP and SIGCONT of the peer", prober, silence_s=5.0)


@pytest.mark.slow
def test_g1_a_peer_cut_off_from_the_api_has_let_go_before_kvip_takes(cluster: Cluster, mode: str, peer: PeerProcess) -> None:
    _peer_holds(cluster, peer)
    with cluster.judging(VIP) as prober:
        cut = now()
        cluster.lan.cut_api(PEER_NODE)
        wait(lambda: not peer.vips(), "the peer lets go", timeout_s=3 * GIVES_UP_S)
        print(f"the peer let go {now() - cut:.1f} s after the cut")
        _answered_by(cluster, prober, *cluster.nodes, timeout_s=WAIT_S + 5)
        cluster.lan.cut_api(PEER_NODE, False)
        time.sleep(2.0)
        _judge("API cut of the peer", prober, silence_s=WAIT_S)


# -- kvip holds, and something happens to it -------------------------------------------------------------------------------------


def test_a_peer_follows_a_kvip_that_stops(cluster: Cluster, mode: str, peer: PeerProcess) -> None:
    _kvip_holds(cluster, peer)
    with cluster.judging(VIP) as prober:
        for node in cluster.nodes.values():
            node.stop()
        _answered_by(cluster, prober, PEER_NODE, timeout_s=6)
        _judge("SIGTERM of every kvip", prober, silence_s=3.0)


@pytest.mark.parametrize(
    "fault", ["SIGKILL", pytest.param("SIGSTOP", marks=pytest.mark.slow), pytest.param("API cut", marks=pytest.mark.slow)]
)
def test_a_peer_follows_a_kvip_that_is_silent_by_then(cluster: Cluster, mode: str, peer: PeerProcess, fault: str) -> None:
    _kvip_holds(cluster, peer)
    holder = cluster.holder_of(VIP)
    cluster.other(holder).stop()
    with cluster.judging(VIP) as prober:
        if fault == "API cut":
            cluster.lan.cut_api(holder.node)
        elif fault == "SIGSTOP":
            holder.freeze()
        else:
            holder.kill9()
        _answered_by(cluster, prober, PEER_NODE, timeout_s=TAKE_OVER_S + 4)
        if fault == "API cut":
            cluster.lan.cut_api(holder.node, False)
        elif fault == "SIGSTOP":
            holder.thaw()
        time.sleep(2.0)
        assert prober.holders_now(VIP) == {cluster.lan.mac(PEER_NODE)}
        _judge(f"{fault} of the kvip that holds", prober, silence_s=TAKE_OVER_S + 2)


@pytest.mark.slow
def test_g2_the_renew_deadline_follows_the_shortest_duration_in_the_lease(cluster: Cluster, mode: str, tmp_path: Path) -> None:
    """A peer with a lease of 3 s would take it from a kvip that was silent after 3 s only. It judges by the duration in the Lease,
    but another of its kind need not."""
    with _peer(cluster, PEER_NODE, tmp_path, timers_s=(3, 2, 0.5)) as peer:
        _peer_holds(cluster, peer)
        peer.stop()
        with cluster.judging(VIP) as prober:
            holder = cluster.holder_of(VIP)
            holder.freeze()
            time.sleep(0.6 * 3 + 0.5)
            try:
                assert prober.holders_now(VIP) == set()
            finally:
                holder.thaw()


# -- from one to the other --------------------------------------------------------------------------------------------------------


def test_migration_node_by_node_from_peers_to_kvip_has_one_answer_at_most(cluster: Cluster, mode: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        peers = {name: stack.enter_context(_peer(cluster, name, tmp_path)) for name in cluster.nodes}
        for name, peer in peers.items():
            cluster.nodes[name].stop()
            peer.start()
        wait(lambda: any(peer.vips() for peer in peers.values()), "a peer leads", timeout_s=LEASE_S + 5)
        cluster.create("web", VIP)
        leads = [name for name, peer in peers.items() if peer.vips()]
        with cluster.judging(VIP) as prober:
            for name in sorted(peers, key=lambda name: name not in leads):
                peers[name].stop()
                cluster.nodes[name].start()
                cluster.nodes[name].wait_ready(15)
                time.sleep(1.0)
            cluster.wait_bound(VIP, timeout_s=6)
            _answered_by(cluster, prober, *cluster.nodes, timeout_s=6)
            _judge("migration", prober, silence_s=2 * 3.0)


@pytest.mark.slow
def test_a_peer_that_waits_changes_nothing(cluster: Cluster, mode: str, peer: PeerProcess) -> None:
    _kvip_holds(cluster, peer)
    with cluster.judging(VIP) as prober:
        time.sleep(SILENT_S)
        peer.stop()
        time.sleep(1.0)
        _judge("a peer waits and goes", prober, silence_s=NO_GAP_S)
