"""Only a Service's ports reach its VIP, judged by a client, a pod and the holder; and the rules go with the Service."""

from __future__ import annotations

import pytest

from lab.cluster import CLAIMS, GLOBAL, PER_SERVICE, Cluster, wait
from lab.lan import CLIENT, node_ip
from lab.node import NodeProcess
from lab.scene import NO_GAP_S
from tests.scenario.security import (
    AT_ONCE_S,
    DROPPED_S,
    IGNORE,
    TABLE,
    VIP,
    VIP6,
    hold,
    pod_on,
    port,
    reaches,
    rules,
    wait_for_port,
    wait_without,
)

pytest_plugins = ["tests.scenario.security_fixtures"]
MODES = (CLAIMS, GLOBAL, PER_SERVICE)


def test_h22_only_its_ports_reach_a_vip_and_after_the_delete_no_node_has_a_rule_of_the_service(secured: Cluster) -> None:
    client = secured.lan.ns(CLIENT)
    uid, holder = hold(secured, VIP, VIP6)
    for vip in (VIP, VIP6):
        here = secured.lan.ns(secured.holder_of(vip).node)
        assert reaches(client, vip, 80)
        assert not reaches(client, vip, 81)
        assert reaches(here, vip, 81)
    assert reaches(client, node_ip(holder.node), 81)
    with pod_on(secured, holder.node) as pod:
        assert reaches(pod, VIP, 80)
        assert reaches(pod, VIP, 81)
    assert all(f"{uid} default/web" in rules(secured, name) for name in secured.nodes), "a node that takes over has the rules already"
    secured.delete("web")
    took = wait_without(secured, uid)
    print(f"no rule of the Service {took * 1000:.0f} ms after its delete")
    assert took < AT_ONCE_S
    assert not any(TABLE in rules(secured, name) for name in secured.nodes)


def test_edits_of_ports_annotation_and_siblings_follow_at_once(secured: Cluster, mode: str) -> None:
    hold(secured, VIP)
    took: dict[str, float] = {}
    assert not reaches(secured.lan.ns(CLIENT), VIP, 81)
    with secured.judging(VIP) as prober:
        secured.patch("web", {"spec": {"ports": [port(81)]}})
        took["ports"] = max(wait_for_port(secured, 81, opened=True), wait_for_port(secured, 80, opened=False))
        secured.patch("web", {"metadata": {"annotations": {IGNORE: "true"}}})
        took["exempt"] = wait_for_port(secured, 80, opened=True)
        secured.patch("web", {"metadata": {"annotations": {IGNORE: None}}})
        took["exempt no more"] = wait_for_port(secured, 80, opened=False)
        secured.create("web2", VIP, spec={"ports": [port(80)]})
        took["sibling"] = wait_for_port(secured, 80, opened=True)
        assert reaches(secured.lan.ns(CLIENT), VIP, 81)
        secured.delete("web2")
        took["sibling gone"] = wait_for_port(secured, 80, opened=False)
        secured.create("web3", VIP, annotations={IGNORE: "true"}, spec={"ports": [port(82)]})
        took["exempt sibling"] = wait_for_port(secured, 80, opened=True)
        report = prober.report(VIP)
    print(f"{mode}: " + ", ".join(f"{what} {seconds * 1000:.0f} ms" for what, seconds in took.items()))
    # A probe of a closed port takes DROPPED_S by itself.
    assert max(took.values()) < AT_ONCE_S + DROPPED_S
    assert report.two_answers_s == 0
    assert report.longest_silence_s < NO_GAP_S


def test_deleted_while_the_daemon_was_dead_its_rules_go_at_the_restart(secured: Cluster) -> None:
    uid, holder = hold(secured, VIP)
    holder.kill9()
    secured.delete("web")
    assert uid in rules(secured, holder.node), "while nobody is there they stay: they only restrict"
    holder.start()
    starting = holder.wait_ready(15)
    took = wait_without(secured, uid)
    print(f"no rule of the Service {took:.2f} s after readiness ({starting:.2f} s after exec)")
    assert took < AT_ONCE_S


def test_a_living_services_rules_are_never_missing_through_a_kill_and_a_restart(secured: Cluster) -> None:
    uid, holder = hold(secured, VIP)
    seen: list[bool] = []

    def ready_again() -> bool:
        seen.append(uid in rules(secured, holder.node))
        return holder.metrics().get("kvip_service_rules_vips") == 1 if _answers(holder) else False

    holder.kill9()
    holder.start()
    wait(ready_again, "the new daemon has applied its rules", timeout_s=10)
    assert all(seen)
    assert uid in rules(secured, holder.node)


def _answers(node: NodeProcess) -> bool:
    try:
        return node.get("/readyz")[0] > 0
    except OSError:
        return False


def test_a_stop_removes_the_table_and_so_does_a_start_without_the_setting(secured: Cluster) -> None:
    _, holder = hold(secured, VIP)
    other = secured.other(holder)
    other.stop()
    assert TABLE not in rules(secured, other.node)
    holder.kill9()
    assert TABLE in rules(secured, holder.node)
    holder.env["enable_service_security"] = "false"
    try:
        holder.start()
        holder.wait_ready()
        assert TABLE not in rules(secured, holder.node)
        holder.stop()
    finally:
        holder.env["enable_service_security"] = "true"


def test_an_annotation_that_says_nothing_opens_nothing_and_is_told(secured: Cluster) -> None:
    uid, _ = hold(secured, VIP, annotations={IGNORE: "yes please"})
    assert not reaches(secured.lan.ns(CLIENT), VIP, 81)
    wait(lambda: bool(secured.events(uid, "ServiceSecurity")), "a Warning Event", timeout_s=3)
    (text,) = secured.events(uid, "ServiceSecurity")
    assert IGNORE in text
    assert "yes please" in text


@pytest.mark.slow
def test_a_take_over_opens_no_port_for_an_instant(secured: Cluster) -> None:
    _, holder = hold(secured, VIP)
    client = secured.lan.ns(CLIENT)
    other = secured.other(holder)
    opened: list[bool] = []

    def taken() -> bool:
        opened.append(reaches(client, VIP, 81))
        return VIP in other.vips()

    holder.kill9()
    wait(taken, "another node holds the VIP", timeout_s=10)
    wait_for_port(secured, 80, opened=True)
    opened += [reaches(client, VIP, 81) for _ in range(3)]
    assert not any(opened)
