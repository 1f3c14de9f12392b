"""`allow-cidr` on the wire: edits into the list and out of it, a daemon that starts with another list, and nodes whose lists differ."""

from __future__ import annotations

import time

from lab.cluster import ADDRESSES, Cluster, now, wait
from lab.scene import NO_GAP_S, come_of_age
from lab.ways import VARIABLES, running

INSIDE, OUTSIDE, OUTSIDE6, BYSTANDER = "10.10.0.200", "10.10.0.210", "fd00:11::210", "10.10.0.201"
ALLOWED = "10.10.0.200/29,fd00:10::/64"
AT_ONCE_S = 1.0
SEEN_S = 0.3
"""How long the wire is watched on: a late answer is seen."""


def name(cluster: Cluster, *vips: str) -> float:
    """The Service names these addresses now; returns when."""
    began = now()
    cluster.patch("web", {"metadata": {"annotations": {ADDRESSES: ",".join(vips)}}})
    return began


def test_an_edit_out_of_the_list_and_back_is_followed_at_once(cluster: Cluster, mode: str) -> None:
    with running(cluster, VARIABLES, KVIP_ALLOW_CIDR=ALLOWED):
        come_of_age(cluster)
        uid = cluster.create("web", INSIDE)
        cluster.create("bystander", BYSTANDER)
        cluster.wait_bound(INSIDE, BYSTANDER)
        with (
            cluster.judging(INSIDE, BYSTANDER) as prober,
            cluster.probing(OUTSIDE, OUTSIDE6) as watch,
            cluster.sniffing(OUTSIDE) as sniffer,
        ):
            began = name(cluster, OUTSIDE, OUTSIDE6)
            assert prober.wait_silent(INSIDE, for_s=SEEN_S, timeout_s=5)
            last = prober.report(INSIDE).last_answer
            assert last is None or last.at_s - began < AT_ONCE_S
            wait(lambda: cluster.ingress("web") == [], "the status follows", timeout_s=3)
            for vip in (OUTSIDE, OUTSIDE6):
                wait(lambda vip=vip: any(vip in told for told in cluster.events(uid, "InvalidAddress")), f"an Event for {vip}", timeout_s=5)
            assert all(f"outside allow-cidr ({ALLOWED.replace(',', ', ')})" in told for told in cluster.events(uid, "InvalidAddress"))
            began = name(cluster, OUTSIDE, INSIDE)
            answer = prober.wait_answer(INSIDE, timeout_s=5)
            assert answer is not None
            assert answer.at_s - began < AT_ONCE_S
            time.sleep(SEEN_S)
            assert [watch.answers(vip) for vip in (OUTSIDE, OUTSIDE6)] == [[], []]
            assert not [frame for frame in sniffer.frames if frame.claimed == OUTSIDE]
            assert prober.report(INSIDE).two_answers_s == 0
            assert prober.report(BYSTANDER).longest_silence_s < NO_GAP_S
        assert {vip for vips in cluster.left().values() for vip in vips} == {INSIDE, BYSTANDER}
        wait(lambda: cluster.ingress("web") == [INSIDE], "the status shows what is held", timeout_s=3)


def test_what_a_killed_daemon_held_outside_the_list_is_cleaned_by_its_successor(cluster: Cluster, mode: str) -> None:
    uid = cluster.create("web", OUTSIDE)
    cluster.wait_bound(OUTSIDE)
    wait(lambda: cluster.ingress("web") == [OUTSIDE], "the status shows it", timeout_s=3)
    holder = cluster.holder_of(OUTSIDE)
    holder.kill9()
    assert holder.vips() == [OUTSIDE]
    with running(cluster, VARIABLES, holder.node, cluster.other(holder).node, KVIP_ALLOW_CIDR=ALLOWED):
        cluster.wait_gone(OUTSIDE, timeout_s=5)
        wait(lambda: cluster.ingress("web") == [], "the status follows", timeout_s=5)
        wait(lambda: bool(cluster.events(uid, "InvalidAddress")), "an Event", timeout_s=5)
        with cluster.probing(OUTSIDE) as prober:
            time.sleep(2 * SEEN_S)
            assert prober.answers(OUTSIDE) == []
        assert cluster.left() == {}


def test_where_lists_differ_a_node_that_refuses_is_no_holder_and_spoils_nothing(cluster: Cluster) -> None:
    come_of_age(cluster)
    cluster.create("web", OUTSIDE)
    cluster.wait_bound(OUTSIDE)
    with running(cluster, VARIABLES, "n1", KVIP_ALLOW_CIDR=ALLOWED):
        wait(lambda: cluster.bound(OUTSIDE) == ["n2"], "the node that may holds it", timeout_s=10)
        wait(lambda: cluster.ingress("web") == [OUTSIDE], "the status shows it", timeout_s=5)
        before = cluster.get("web")["metadata"]["resourceVersion"]
        with cluster.judging(OUTSIDE) as prober:
            time.sleep(4)
            report = prober.report(OUTSIDE)
            assert (report.two_answers_s, report.longest_silence_s < NO_GAP_S) == (0, True)
        assert cluster.get("web")["metadata"]["resourceVersion"] == before, "nobody writes against the holder"
        cluster.nodes["n2"].stop()
        with cluster.probing(OUTSIDE) as prober:
            time.sleep(1)
            assert prober.answers(OUTSIDE) == []
        assert cluster.left() == {}
        cluster.nodes["n2"].start()
        cluster.nodes["n2"].wait_ready(15)
        cluster.wait_bound(OUTSIDE, timeout_s=10)
        assert cluster.bound(OUTSIDE) == ["n2"]
    cluster.delete("web")
    cluster.wait_gone(OUTSIDE)
