"""Only a Service's ports reach its VIP, judged by a client, a pod and the holder; and the rules go with the Service."""

from __future__ import annotations

import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from lab.cluster import CLAIMS, GLOBAL, PER_SERVICE, Cluster, wait
from lab.lan import CLIENT, node_ip
from lab.netns import NetNamespace
from lab.node import NodeProcess
from lab.scene import NO_GAP_S

MODES = (CLAIMS, GLOBAL, PER_SERVICE)
VIP, VIP6 = "10.10.0.200", "fd00:10::200"
IGNORE = "kube-vip.io/ignore-service-security"
TABLE = "kvip-services"
DROPPED_S = 0.3
AT_ONCE_S = 1.0


@contextmanager
def restarted(cluster: Cluster, **env: str) -> Iterator[None]:
    """Every daemon with more settings."""
    with ExitStack() as stack:
        for name in cluster.nodes:
            stack.enter_context(cluster.restarted(name, **env))
        yield


@pytest.fixture(scope="module")
def with_the_setting(shared_cluster: Cluster) -> Iterator[None]:
    """The daemons of this module have the setting; those of others do not."""
    for node in shared_cluster.nodes.values():
        if node.running:
            node.stop()
        node.env["enable_service_security"] = "true"
    yield
    for node in shared_cluster.nodes.values():
        if node.running:
            node.stop()
        del node.env["enable_service_security"]


@pytest.fixture
def secured(with_the_setting: None, cluster: Cluster) -> Cluster:
    return cluster


def reaches(space: NetNamespace, target: str, port: int) -> bool:
    """Is a connection accepted, or refused by the machine itself, rather than dropped?"""
    with space.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.settimeout(DROPPED_S)
        try:
            connection.connect((target, port))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return True


def rules(cluster: Cluster, node: str) -> str:
    return cluster.lan.run(node, "nft", "list", "ruleset").stdout


def wait_for_port(cluster: Cluster, port: int, vip: str = VIP, *, opened: bool) -> float:
    """Seconds until the client's connections come through, or not."""
    client = cluster.lan.ns(CLIENT)
    return wait(lambda: reaches(client, vip, port) == opened, f"{vip}:{port} {'open' if opened else 'closed'}", timeout_s=3)


def wait_without(cluster: Cluster, word: str) -> float:
    """Seconds until no node has a rule that names it."""

    def gone() -> bool:
        time.sleep(0.01)  # each look is a child of its own
        return not any(word in rules(cluster, name) for name in cluster.nodes)

    return wait(gone, f"no rule names {word}", timeout_s=5)


def port(number: int, name: str = "") -> dict[str, object]:
    return {"name": name or f"p{number}", "port": number, "protocol": "TCP"}


def hold(cluster: Cluster, *vips: str, name: str = "web", **more: object) -> tuple[str, NodeProcess]:
    uid = cluster.create(name, *vips, **more)  # type: ignore[arg-type]
    cluster.wait_bound(*vips)
    return uid, cluster.holder_of(vips[0])


@contextmanager
def pod_on(cluster: Cluster, node: str) -> Iterator[NetNamespace]:
    with NetNamespace.create("pod") as pod:
        here = cluster.lan.ns(node)
        here.sysctl({"ipv4/ip_forward": "1"})
        here.ip_batch([f"link add cni0 type veth peer name eth0 netns {pod.path}", "addr add 10.20.0.1/24 dev cni0", "link set cni0 up"])
        pod.ip_batch(["addr add 10.20.0.2/24 dev eth0", "link set eth0 up", "route add default via 10.20.0.1"])
        try:
            yield pod
        finally:
            here.ip_batch(["link del cni0"])
            here.sysctl({"ipv4/ip_forward": "0"})


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


def test_an_annotation_that_says_nothing_opens_nothing_and_is_told(secured: Cluster) -> None:
    uid, _ = hold(secured, VIP, annotations={IGNORE: "yes please"})
    assert not reaches(secured.lan.ns(CLIENT), VIP, 81)
    wait(lambda: bool(secured.events(uid, "ServiceSecurity")), "a Warning Event", timeout_s=3)
    (text,) = secured.events(uid, "ServiceSecurity")
    assert IGNORE in text
    assert "yes please" in text


@pytest.fixture
def broken_nft(cluster: Cluster, tmp_path: Path) -> Path:
    """`nft -j` fails while this file exists, on nodes whose PATH has its folder first."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "nft"
    marker = tmp_path / "broken"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *--check*) ;; *-j*) [ -e {marker} ] && {{ echo out of order >&2; exit 1; }};; esac\n'
        f'exec {shutil.which("nft")} "$@"\n'
    )
    program.chmod(0o755)
    return marker


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
