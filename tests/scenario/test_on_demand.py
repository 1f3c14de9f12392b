"""Mode `global` with `per-service-on-demand`: a Service moves from the shared Lease to one of its own and back while it is served."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab.cluster import GLOBAL, LEASE, SERVICE_LEASES, Cluster, now, wait
from lab.scene import LEASE_S, NO_GAP_S, TAKE_OVER_S
from lab.ways import VARIABLES, running

MODE = GLOBAL
VIP, OTHER = "10.10.0.200", "10.10.0.201"
FORCE = "kube-vip.io/forcePerServiceElection"
SELECTOR = "kvip.io/node-selector"
BOUND_S = LEASE_S + 3
"""Until a VIP that was held before by another Lease, or whose holder died, is bound."""
AT_ONCE_S = 1.0


@pytest.fixture
def on_demand(cluster: Cluster) -> Iterator[Cluster]:
    """Services that ask for it have Leases of their own. kube-vip has no flag for the setting."""
    cluster.give_rights(per_service_on_demand=True)
    try:
        with running(cluster, VARIABLES, per_service_election_on_demand="true"):
            yield cluster
            cluster.delete_all()
            wait(lambda: not cluster.left(), "everything is let go of", timeout_s=5)
    finally:
        cluster.give_rights()


def own_lease(cluster: Cluster) -> str:
    """The node that the Lease of `web` names, "" = none, or no such Lease."""
    items = cluster.request("GET", SERVICE_LEASES)["items"]
    holders = [item["spec"].get("holderIdentity") or "" for item in items if item["metadata"]["name"] == "kubevip-web"]
    return str(holders[0]).rpartition("_")[0] if holders else ""


def shared_lease(cluster: Cluster) -> str:
    """The node that the shared Lease names."""
    return str(cluster.request("GET", LEASE)["spec"].get("holderIdentity") or "").rpartition("_")[0]


def annotate(cluster: Cluster, **notes: str | None) -> float:
    """Edit annotations of `web`; returns when."""
    began = now()
    cluster.patch("web", {"metadata": {"annotations": notes}})
    return began


@contextmanager
def zone_of(cluster: Cluster, node: str) -> Iterator[None]:
    """This Node has the label zone=here."""
    cluster.request("PATCH", f"/api/v1/nodes/{node}", {"metadata": {"labels": {"zone": "here"}}})
    try:
        yield
    finally:
        cluster.request("PATCH", f"/api/v1/nodes/{node}", {"metadata": {"labels": {"zone": None}}})


def test_a_service_moves_to_its_own_lease_and_back_at_once_without_two_answers_or_a_gap(on_demand: Cluster) -> None:
    cluster = on_demand
    took: dict[str, float] = {}
    cluster.create("web", VIP)
    cluster.create("mail", OTHER)
    cluster.wait_bound(VIP, OTHER, timeout_s=BOUND_S)
    assert cluster.bound(VIP) == cluster.bound(OTHER) == [shared_lease(cluster)]
    (node,) = cluster.bound(VIP)
    with cluster.judging(VIP, OTHER) as prober:
        for number in range(3):
            began = annotate(cluster, **{FORCE: "true"})
            wait(lambda: own_lease(cluster) == node, "the node that holds the address has its Lease", timeout_s=6)
            took[f"own Lease {number}"] = now() - began
            time.sleep(0.5)
            began = annotate(cluster, **{FORCE: None})
            wait(lambda: own_lease(cluster) == "", "the Lease is given back", timeout_s=6)
            took[f"given back {number}"] = now() - began
            time.sleep(0.5)
        reports = [prober.report(vip) for vip in (VIP, OTHER)]
    print(", ".join(f"{what} {seconds * 1000:.0f} ms" for what, seconds in took.items()))
    assert max(took.values()) < AT_ONCE_S
    assert [report.two_answers_s for report in reports] == [0, 0]
    assert max(report.longest_silence_s for report in reports) < NO_GAP_S
    assert all(report.macs == {cluster.lan.mac(node)} for report in reports)


def test_a_service_whose_own_lease_another_node_holds_goes_back_to_the_holder_of_the_shared_one_at_once(on_demand: Cluster) -> None:
    cluster = on_demand
    shared = cluster.nodes[shared_lease(cluster)]
    other = cluster.other(shared)
    with zone_of(cluster, other.node):
        cluster.create("web", VIP, annotations={FORCE: "true", SELECTOR: "zone=here"})
        wait(lambda: cluster.bound(VIP) == [other.node], "held elsewhere by its own Lease", timeout_s=BOUND_S)
        with cluster.judging(VIP) as prober:
            began = annotate(cluster, **{FORCE: None, SELECTOR: None})
            answer = prober.wait_answer(VIP, cluster.lan.mac(shared.node), timeout_s=BOUND_S)
            assert answer is not None
            time.sleep(0.5)
            print(f"answered by the holder of the shared Lease {(answer.at_s - began) * 1000:.0f} ms after the edit")
            assert answer.at_s - began < AT_ONCE_S
            assert prober.report(VIP).two_answers_s == 0
        assert cluster.bound(VIP) == [shared.node]


def test_a_service_on_demand_moves_back_to_a_shared_lease_that_another_node_holds(on_demand: Cluster) -> None:
    cluster = on_demand
    cluster.create("mail", OTHER)
    cluster.wait_bound(OTHER, timeout_s=BOUND_S)
    shared = cluster.nodes[shared_lease(cluster)]
    shared.stop()
    cluster.create("web", VIP, annotations={FORCE: "true"})
    cluster.wait_bound(VIP, OTHER, timeout_s=BOUND_S)
    other = cluster.other(shared)
    shared.start()
    shared.wait_ready(15)
    other.freeze()  # the shared Lease and the Service's go to the one that was started again
    wait(lambda: cluster.bound(VIP) and shared.node in cluster.bound(VIP), "taken over", timeout_s=TAKE_OVER_S + 4)
    other.thaw()
    time.sleep(1.0)
    with cluster.judging(VIP) as prober:
        cluster.patch("web", {"metadata": {"annotations": {FORCE: None}}})
        time.sleep(3.0)
        assert prober.report(VIP).two_answers_s == 0
        assert len(cluster.bound(VIP)) == 1
