"""An address that a host which is no kvip still answers for, whatever a status says of it: bound by nobody before that host is gone."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from lab.claimsview import holders
from lab.cluster import SERVICES, Cluster, wait
from lab.prober import Prober
from lab.scene import LEASE_S

MODES = ("claims",)
VIP, VIP6 = "10.10.0.200", "fd00:10::200"
VIPS = (VIP, VIP6)
FOREIGN = "n3"
ASKED_AGAIN_S = 40.0
"""A stranger is looked for again each 30 s, give or take a fifth."""


@pytest.fixture
def left_bound(cluster: Cluster) -> Iterator[Prober]:
    """A daemon without a dead-man's switch was killed: its addresses are bound on its node, unmarked, and a status shows them."""
    for vip in VIPS:
        cluster.lan.run(FOREIGN, "ip", "addr", "add", vip, "dev", "eth0", *(["nodad"] if ":" in vip else []))
    try:
        with cluster.judging(*VIPS) as prober:
            yield prober
            assert {vip: prober.report(vip).two_answers_s for vip in VIPS} == dict.fromkeys(VIPS, 0)
    finally:
        cluster.lan.ns(FOREIGN).run("ip", "addr", "flush", "dev", "eth0", "to", VIP, check=False)
        cluster.lan.ns(FOREIGN).run("ip", "-6", "addr", "flush", "dev", "eth0", "to", VIP6, check=False)


def _shown_by_kube_vip(cluster: Cluster) -> str:
    uid = cluster.create("web", *VIPS)
    entries = [{"ip": vip, "ipMode": "VIP"} for vip in VIPS]
    cluster.request("PATCH", f"{SERVICES}/web/status?fieldManager=kube-vip", {"status": {"loadBalancer": {"ingress": entries}}})
    return uid


def _only_the_foreign_host(cluster: Cluster, prober: Prober, *, for_s: float) -> None:
    for vip in VIPS:
        assert prober.wait_answer(vip, timeout_s=2)
    time.sleep(for_s)
    assert {vip: set(prober.report(vip).macs) for vip in VIPS} == {vip: {cluster.lan.mac(FOREIGN)} for vip in VIPS}
    assert cluster.left() == {}


def test_a_status_that_another_wrote_is_no_proof_that_the_address_is_free(cluster: Cluster, mode: str, left_bound: Prober) -> None:
    for node in cluster.nodes.values():
        node.stop()
    uid = _shown_by_kube_vip(cluster)
    cluster.start()
    mac = cluster.lan.mac(FOREIGN)
    for vip in VIPS:
        told = f"{vip} is used by the host {mac}"
        wait(lambda told=told: any(told in text for text in cluster.events(uid, "VIPConflict")), told, timeout_s=LEASE_S + 5)  # type: ignore[misc]
    _only_the_foreign_host(cluster, left_bound, for_s=1.0)
    for vip in VIPS:
        cluster.drop_address(FOREIGN, vip)
    took = cluster.wait_bound(*VIPS, timeout_s=ASKED_AGAIN_S)
    print(f"taken {took:.1f} s after the foreign host dropped it")
    for vip in VIPS:
        assert left_bound.wait_answer(vip, cluster.lan.mac(cluster.bound(vip)[0]), timeout_s=2)


def test_nor_is_a_holder_that_never_had_it_bound(cluster: Cluster, mode: str, left_bound: Prober) -> None:
    """The first holder found the foreign host and bound nothing; who takes over from it must find out as well."""
    uid = _shown_by_kube_vip(cluster)
    wait(lambda: len(cluster.events(uid, "VIPConflict")) == len(VIPS), "a conflict is told for each", timeout_s=LEASE_S + 5)
    first = {vip: holders(cluster)[vip] for vip in VIPS}
    cluster.nodes[first[VIP].partition("_")[0]].kill9()
    wait(lambda: holders(cluster).get(VIP, first[VIP]) != first[VIP], "another node holds it", timeout_s=LEASE_S + 3)
    _only_the_foreign_host(cluster, left_bound, for_s=2.0)
