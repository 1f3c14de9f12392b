"""Which addresses a Service has: a change without a gap, families, where they may be named."""

from __future__ import annotations

import time

import pytest

from lab.cluster import ADDRESSES, CLAIMS, GLOBAL, PER_SERVICE, SERVICES, Cluster, now, wait
from lab.realapi import RealApi
from lab.scene import NO_GAP_S

MODES = (CLAIMS, GLOBAL, PER_SERVICE)
VIP, OTHER, THIRD = "10.10.0.200", "10.10.0.201", "10.10.0.202"
VIP6, OTHER6 = "fd00:10::200", "fd00:10::201"
SINGLE = {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]}


def _move(cluster: Cluster, *vips: str) -> None:
    cluster.patch("web", {"metadata": {"annotations": {ADDRESSES: ",".join(vips)}}})


@pytest.mark.parametrize(("former", "new"), [((VIP,), (OTHER,)), ((VIP, VIP6), (OTHER, OTHER6)), ((VIP, OTHER), (OTHER, THIRD))])
def test_the_new_address_is_up_before_the_former_goes(cluster: Cluster, mode: str, former: tuple[str, ...], new: tuple[str, ...]) -> None:
    cluster.create("web", *former)
    cluster.wait_bound(*former)
    gone = set(former) - set(new)
    with cluster.judging(*former) as _, cluster.probing(*former, *new) as prober:
        assert all(prober.wait_answer(vip, timeout_s=2) for vip in former)
        began = now()
        _move(cluster, *new)
        for vip in new:
            assert prober.wait_answer(vip, timeout_s=2)
        assert all(prober.wait_silent(vip, for_s=0.2, timeout_s=2) for vip in gone)
        up = max(answer.at_s for vip in set(new) - set(former) if (answer := prober.report(vip).first_answer))
        down = min(answer.at_s for vip in gone if (answer := prober.report(vip).last_answer))
        print(f"new up {(up - began) * 1000:.0f} ms, former silent {(down - began) * 1000:.0f} ms after the change")
        assert up - 0.05 <= down, "two rounds of the prober at most; a probe alone takes three times as long"
        assert down - began < 1.0
        for vip in set(former) & set(new):
            assert prober.report(vip).longest_silence_s < NO_GAP_S
        assert {prober.report(vip).two_answers_s for vip in (*former, *new)} == {0}
    assert sorted(vip for vips in cluster.left().values() for vip in vips) == sorted(new)
    wait(lambda: sorted(cluster.ingress("web")) == sorted(new), "the status follows", timeout_s=3)


def test_the_former_address_goes_in_time_though_the_new_one_cannot_be_had(cluster: Cluster, mode: str) -> None:
    """The new address is another host's: the client's own."""
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    with cluster.judging(VIP) as prober:
        began = now()
        _move(cluster, "10.10.0.100")
        assert prober.wait_silent(VIP, for_s=0.2, timeout_s=2)
        last = prober.report(VIP).last_answer
        assert last is not None
        print(f"silent {(last.at_s - began) * 1000:.0f} ms after the change")
        assert last.at_s - began < 1.0


def test_an_address_of_a_family_that_the_service_has_not_is_told_and_bound_when_it_has(cluster: Cluster) -> None:
    uid = cluster.create("web", VIP, VIP6, spec=SINGLE)
    cluster.wait_bound(VIP)
    wait(lambda: any(VIP6 in message for message in cluster.events(uid, "InvalidAddress")), "an Event names it", timeout_s=3)
    assert cluster.bound(VIP6) == []
    with cluster.judging(VIP) as prober:
        cluster.patch("web", {"spec": {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}})
        cluster.wait_bound(VIP6)
        cluster.patch("web", {"spec": {**SINGLE, "clusterIPs": None} if isinstance(cluster.api, RealApi) else SINGLE})
        cluster.wait_gone(VIP6)
        assert prober.report(VIP).longest_silence_s < NO_GAP_S


def test_spec_load_balancer_ip_counts_where_the_annotation_is_not(cluster: Cluster) -> None:
    cluster.create("web", spec={"loadBalancerIP": VIP})
    cluster.wait_bound(VIP)
    _move(cluster, OTHER)
    cluster.wait_bound(OTHER)
    cluster.wait_gone(VIP)
    cluster.patch("web", {"metadata": {"annotations": {ADDRESSES: None}}})
    cluster.wait_bound(VIP)
    cluster.wait_gone(OTHER)
    cluster.patch("web", {"spec": {"loadBalancerIP": None}})
    cluster.wait_gone(VIP)


def _ipam(cluster: Cluster, *vips: str) -> None:
    """Another controller writes the status. (The field manager of a request without one is its user agent's name.)"""
    ingress = [{"ip": vip, "ipMode": "VIP"} for vip in vips]
    cluster.request("PATCH", f"{SERVICES}/web/status?fieldManager=ipam", {"status": {"loadBalancer": {"ingress": ingress}}})


def test_addresses_that_another_ipam_wrote_are_taken_by_option_and_ones_own_never(cluster: Cluster) -> None:
    if not isinstance(cluster.api, RealApi):
        pytest.skip("only the real API server keeps managedFields")
    env = {"KVIP_ADDRESSES_FROM_STATUS": "true"}
    with cluster.restarted("n1", **env), cluster.restarted("n2", **env):
        cluster.create("web")
        _ipam(cluster, VIP, VIP6)
        cluster.wait_bound(VIP, VIP6)
        _ipam(cluster, OTHER)
        cluster.wait_bound(OTHER)
        cluster.wait_gone(VIP, VIP6)
        time.sleep(0.5)
        assert cluster.ingress("web") == [OTHER]
        _move(cluster, THIRD)
        cluster.wait_bound(THIRD)
        cluster.wait_gone(OTHER)
        wait(lambda: cluster.ingress("web") == [OTHER, THIRD], "the other's entry stays", timeout_s=3)
        cluster.patch("web", {"metadata": {"annotations": {ADDRESSES: None}}})
        cluster.wait_gone(THIRD)
        wait(lambda: cluster.ingress("web") == [OTHER], "kvip's own entry goes", timeout_s=3)
        time.sleep(0.5)
        assert cluster.left() == {}
