"""Rules of a Service that someone changed or that cannot be applied, and rules of kube-vip's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab.cluster import Cluster, wait
from lab.lan import CLIENT
from tests.scenario.security import (
    AT_ONCE_S,
    TABLE,
    VIP,
    hold,
    port,
    reaches,
    restarted,
    rules,
    wait_for_port,
)

pytest_plugins = ["tests.scenario.security_fixtures"]


def test_k7_rules_that_someone_flushed_or_edited_are_put_back_and_the_vip_stays(secured: Cluster) -> None:
    uid, holder = hold(secured, VIP)
    put_back = "kvip_service_rules_restored_total"
    with secured.judging(VIP) as prober:
        secured.flush_rules(holder.node)
        took = wait(lambda: uid in rules(secured, holder.node), "put back", timeout_s=3)
        print(f"put back {took * 1000:.0f} ms after a flush")
        assert took < AT_ONCE_S
        assert not reaches(secured.lan.ns(CLIENT), VIP, 81)
        wait(lambda: holder.metrics().get(put_back) == 1, "counted", timeout_s=2)
        secured.lan.run(holder.node, "nft", "insert", "rule", "inet", TABLE, "arriving", "accept")
        wait(lambda: holder.metrics().get(put_back) == 2, "the edit is noticed", timeout_s=3)
        wait_for_port(secured, 81, opened=False)
        secured.lan.run(holder.node, "nft", "flush", "set", "inet", TABLE, "vips4")
        wait(lambda: holder.metrics().get(put_back) == 3, "elements too", timeout_s=3)
        assert not reaches(secured.lan.ns(CLIENT), VIP, 81)
        assert prober.report(VIP).longest_silence_s < 1.0


def test_a_vip_is_not_held_before_its_rules_and_one_that_is_held_keeps_its_former_ones(secured: Cluster, broken_nft: Path) -> None:
    path = f"{broken_nft.parent / 'bin'}:{secured.nodes['n1'].env['PATH']}"
    with restarted(secured, PATH=path):
        hold(secured, VIP)
        broken_nft.touch()
        secured.patch("web", {"spec": {"ports": [port(80), port(81)]}})
        uid = secured.create("other", "10.10.0.201")
        wait(lambda: bool(secured.events(uid, "RulesNotApplied")), "a Warning Event", timeout_s=5)
        assert "out of order" in secured.events(uid, "RulesNotApplied")[0]
        assert secured.bound("10.10.0.201") == []
        assert secured.bound(VIP) != []
        assert reaches(secured.lan.ns(CLIENT), VIP, 80)
        assert not reaches(secured.lan.ns(CLIENT), VIP, 81)
        broken_nft.unlink()
        secured.wait_bound("10.10.0.201", timeout_s=5)
        wait_for_port(secured, 81, opened=True)
        assert not reaches(secured.lan.ns(CLIENT), "10.10.0.201", 81)


@pytest.mark.slow
def test_a_vip_whose_rules_were_removed_and_cannot_be_put_back_is_not_held_open(secured: Cluster, broken_nft: Path) -> None:
    path = f"{broken_nft.parent / 'bin'}:{secured.nodes['n1'].env['PATH']}"
    with restarted(secured, PATH=path):
        _, holder = hold(secured, VIP)
        broken_nft.touch()
        secured.lan.run(holder.node, "nft", "delete", "table", "inet", TABLE)
        took = wait(lambda: VIP not in holder.vips(), "let go of", timeout_s=8)
        print(f"let go of {took:.1f} s after its rules were removed for good")
        broken_nft.unlink()
        secured.wait_bound(VIP, timeout_s=15)


def test_rules_of_kube_vip_are_reported_at_start_and_left_alone(secured: Cluster) -> None:
    node = secured.nodes["n1"]
    secured.lan.ns("n1").run("nft", "-f", "-", input_text="table ip kube_vip_v4 {\nchain kube_vip_snat_abc {\n}\n}\n")
    try:
        with secured.restarted("n1"):
            wait(lambda: node.metrics().get("kvip_foreign_rules") == 1, "counted", timeout_s=8)
            wait(lambda: bool(secured.events("n1", "ForeignRules")), "an Event on the Node", timeout_s=3)
            assert re.search(r"kvip sweep --also nft:ip:kube_vip_v4", secured.events("n1", "ForeignRules")[0])
            assert "kube_vip_v4" in rules(secured, "n1")
    finally:
        secured.lan.run("n1", "nft", "delete", "table", "ip", "kube_vip_v4")
