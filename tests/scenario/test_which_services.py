"""Which Services are served: the ignore annotation, one namespace, classes; and what is said about annotations that cannot be followed."""

from __future__ import annotations

import time

import pytest

from lab.cluster import Cluster, wait
from lab.scene import NO_GAP_S

VIP, OTHER, THIRD = "10.10.0.200", "10.10.0.201", "10.10.0.202"
IGNORE = "kube-vip.io/ignore"
ELSEWHERE = "/api/v1/namespaces/kube-system/services"
LISTED = "/api/v1/namespaces/kube-public/services"


def _note(cluster: Cluster, name: str, **annotations: str | None) -> None:
    cluster.patch(name, {"metadata": {"annotations": annotations}})


def test_the_ignore_annotation_takes_effect_at_once_both_ways(cluster: Cluster) -> None:
    cluster.create("web", VIP, annotations={IGNORE: "true"})
    time.sleep(0.5)
    assert cluster.left() == {}
    for _ in range(3):
        _note(cluster, "web", **{IGNORE: None})
        cluster.wait_bound(VIP, timeout_s=0.7)
        _note(cluster, "web", **{IGNORE: "true"})
        cluster.wait_gone(VIP, timeout_s=0.5)
    wait(lambda: cluster.ingress("web") == [], "the status entry goes too", timeout_s=3)


def test_nonsense_in_an_annotation_is_named_and_harms_nobody(cluster: Cluster) -> None:
    bad = {
        IGNORE: "perhaps",
        "kvip.io/preferred-nodes": "No Such Node!",
        "kube-vip.io/egress": "true",
        "kube-vip.io/loadbalancerIps": VIP,
        "kube-vip.io/allow-reconcile-without-endpoints": "70000",
    }
    cluster.create("good", OTHER)
    cluster.wait_bound(OTHER)
    with cluster.judging(OTHER) as prober:
        uid = cluster.create("web", VIP, annotations=bad)
        cluster.wait_bound(VIP)
        for key, value in bad.items():
            wait(lambda key=key, value=value: any(key in told and value in told for told in cluster.events(uid)), key, timeout_s=3)
        assert cluster.events(uid, "NotSupported")
        assert cluster.events(uid, "UnknownAnnotation")
        assert prober.report(OTHER).longest_silence_s < NO_GAP_S


def test_services_of_other_namespaces_are_left_alone_where_one_is_named(cluster: Cluster) -> None:
    env = {"svc_namespace": "default"}
    foreign = cluster.service("foreign", OTHER)
    foreign["metadata"]["namespace"] = "kube-system"
    cluster.request("POST", ELSEWHERE, foreign)
    try:
        cluster.wait_bound(OTHER)
        with cluster.restarted("n1", **env), cluster.restarted("n2", **env):
            cluster.wait_gone(OTHER)
            cluster.create("web", VIP)
            cluster.wait_bound(VIP)
            time.sleep(0.5)
            assert {vip for vips in cluster.left().values() for vip in vips} == {VIP}
            cluster.delete("web")
            cluster.wait_gone(VIP)
    finally:
        cluster.request("DELETE", f"{ELSEWHERE}/foreign")


@pytest.mark.parametrize("env", [{"lb_class_only": "true"}, {"lb_class_legacy_handling": "false"}], ids=lambda env: next(iter(env)))
def test_classes_are_told_apart_as_by_kube_vip(cluster: Cluster, env: dict[str, str]) -> None:
    env = {**env, "lb_class_name": "example.com/ours"}
    with cluster.restarted("n1", **env), cluster.restarted("n2", **env):
        cluster.create("ours", VIP, spec={"loadBalancerClass": "example.com/ours"})
        cluster.create("classless", OTHER)
        cluster.create("foreign", THIRD, spec={"loadBalancerClass": "kube-vip.io/kube-vip-class"})
        cluster.wait_bound(VIP)
        time.sleep(0.5)
        assert {vip for vips in cluster.left().values() for vip in vips} == {VIP}
        cluster.delete_all()
        cluster.wait_gone(VIP)


def test_services_of_several_namespaces_are_served_and_of_no_other(cluster: Cluster) -> None:
    env = {"KVIP_SERVICE_NAMESPACE": "default,kube-public"}
    listed, foreign = cluster.service("listed", VIP), cluster.service("foreign", OTHER)
    listed["metadata"]["namespace"], foreign["metadata"]["namespace"] = "kube-public", "kube-system"
    cluster.request("POST", LISTED, listed)
    cluster.request("POST", ELSEWHERE, foreign)
    try:
        cluster.wait_bound(VIP, OTHER)
        with cluster.restarted("n1", **env), cluster.restarted("n2", **env):
            cluster.wait_gone(OTHER)
            cluster.wait_bound(VIP)
            cluster.create("web", THIRD)
            cluster.wait_bound(THIRD)
            time.sleep(0.5)
            assert {vip for vips in cluster.left().values() for vip in vips} == {VIP, THIRD}
            cluster.delete("web")
            cluster.request("DELETE", f"{LISTED}/listed")
            cluster.wait_gone(VIP, THIRD)
    finally:
        cluster.request("DELETE", f"{ELSEWHERE}/foreign")
