"""Services that change while the daemon of the node that has them is between its old and its new version."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from lab.cluster import ADDRESSES, Cluster, now, wait
from lab.node import REPOSITORY, NodeProcess
from lab.rollout import ENDS, READY_S, SIGKILL, begin, end, replace_all
from lab.scene import SETTLE_S, TAKE_OVER_S

VIP, OTHER = "10.10.0.200", "10.10.0.201"
GONE_S = 2.0
"""From the exec of the new daemon until what is not asked for any more is gone."""


def _held(cluster: Cluster, former: Path) -> NodeProcess:
    """The node whose old daemon has the VIP; its journal and the status say so too."""
    replace_all(cluster, former)
    cluster.create("web", VIP)
    cluster.wait_bound(VIP, timeout_s=15)
    holder = cluster.holder_of(VIP)
    wait(lambda: VIP in (holder.state_dir / "ledger.json").read_text(), "the journal knows the claim", timeout_s=2)
    wait(lambda: cluster.ingress("web") == [VIP], "the status says so", timeout_s=3)
    return holder


def _claimants(node: NodeProcess, vip: str) -> list[str]:
    """UIDs in the node's journal."""
    claims = json.loads((node.state_dir / "ledger.json").read_text())["claims"]
    return [claimant["uid"] for claimant in claims.get(vip, ())]


@pytest.mark.parametrize("how", ENDS)
def test_a_service_deleted_in_between_is_gone_within_2_s(cluster: Cluster, mode: str, former: Path, how: str) -> None:
    holder = _held(cluster, former)
    with cluster.judging(VIP) as prober, cluster.sniffing(VIP) as sniffer:
        end(holder, how)
        cluster.delete("web")
        if how == SIGKILL:
            assert cluster.bound(VIP) == [holder.node]
        began = now()
        begin(holder, REPOSITORY)
        cluster.wait_gone(VIP)
        took = now() - began
        print(f"{mode}: {how}: gone {took:.2f} s after the exec of the new daemon")
        assert took < GONE_S
        holder.wait_ready(READY_S)
        assert prober.wait_silent(VIP, for_s=0.2, timeout_s=1)
        sniffer.clear()
        prober.clear()
        assert sniffer.wait_for(lambda frame: frame.claimed == VIP, 1.5) is None
        assert prober.answers(VIP) == []
    assert cluster.left() == {}


@pytest.mark.parametrize("how", ENDS)
def test_a_service_re_created_in_between_has_the_address_under_its_new_uid(cluster: Cluster, mode: str, former: Path, how: str) -> None:
    holder = _held(cluster, former)
    with cluster.judging(VIP) as prober:
        end(holder, how)
        cluster.delete("web")
        uid = cluster.create("web", VIP)
        begin(holder, REPOSITORY)
        holder.wait_ready(READY_S)
        assert prober.wait_answer(VIP, timeout_s=TAKE_OVER_S)
        wait(lambda: cluster.ingress("web") == [VIP], "the status of the new one says so", timeout_s=3)
        wait(lambda: bool(cluster.events(uid, "VIPBound")), "an Event about the new one", timeout_s=3)
        time.sleep(SETTLE_S)
        report = prober.report(VIP)
    print(f"{mode}: {how}: longest silence {report.longest_silence_s:.2f} s")
    assert report.two_answers_s == 0
    assert report.longest_silence_s <= TAKE_OVER_S
    (name,) = cluster.bound(VIP)
    wait(lambda: _claimants(cluster.nodes[name], VIP) == [uid], "the journal knows the new one alone", timeout_s=2)


@pytest.mark.parametrize("how", ENDS)
def test_a_service_that_changes_its_address_in_between_has_the_new_one_alone(cluster: Cluster, mode: str, former: Path, how: str) -> None:
    holder = _held(cluster, former)
    with cluster.probing(VIP, OTHER) as prober:
        end(holder, how)
        cluster.patch("web", {"metadata": {"annotations": {ADDRESSES: OTHER}}})
        began = now()
        begin(holder, REPOSITORY)
        cluster.wait_gone(VIP)
        took = now() - began
        print(f"{mode}: {how}: the former address gone {took:.2f} s after the exec of the new daemon")
        assert took < GONE_S
        holder.wait_ready(READY_S)
        assert prober.wait_answer(OTHER, timeout_s=TAKE_OVER_S)
        wait(lambda: cluster.ingress("web") == [OTHER], "the status names the new address alone", timeout_s=3)
        prober.clear()
        time.sleep(SETTLE_S)
        assert prober.answers(VIP) == []
        assert prober.report(OTHER).two_answers_s == 0
    assert cluster.bound(VIP) == []
    assert len(cluster.bound(OTHER)) == 1
