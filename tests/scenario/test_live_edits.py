"""Edits of a Service that is served: the wire follows each within a second, nobody else notices, and never are there two answers.

Those of the NIC are in `test_which_nic`, of ports and `ignore-service-security` in `test_service_security`, of Leases in `test_on_demand`
and `test_per_service`; how an address is changed without a gap, in `test_addresses`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab.cluster import ADDRESSES, CLAIMS, GLOBAL, PER_SERVICE, Cluster, now, wait
from lab.endpoints import endpoints_of
from lab.prober import Prober
from lab.scene import NO_GAP_S, come_of_age
from lab.ways import VARIABLES, running

MODES = (CLAIMS, GLOBAL, PER_SERVICE)
VIP, VIP6, OTHER = "10.10.0.200", "fd00:10::200", "10.10.0.201"
BYSTANDER = "10.10.0.205"
IGNORE = "kube-vip.io/ignore"
WITHOUT_ENDPOINTS = "kube-vip.io/allow-reconcile-without-endpoints"
AT_ONCE_S = 1.0
SEEN_S = 0.3
"""How long the wire is watched on after an edit: a late answer is seen."""


def annotate(cluster: Cluster, name: str = "web", **notes: str | None) -> float:
    """Edit annotations; returns when."""
    began = now()
    cluster.patch(name, {"metadata": {"annotations": notes}})
    return began


def answered(prober: Prober, began: float, *vips: str) -> float:
    """Seconds from the edit until each of these was answered for."""
    answers = [prober.wait_answer(vip, timeout_s=5) for vip in vips]
    assert all(answers), f"no answer for one of {vips}"
    return max(answer.at_s for answer in answers if answer) - began


def silent(prober: Prober, began: float, *vips: str) -> float:
    """Seconds from the edit until the last answer for any of these."""
    assert all(prober.wait_silent(vip, for_s=SEEN_S, timeout_s=5) for vip in vips), f"still answers for one of {vips}"
    last = [report.last_answer.at_s for vip in vips if (report := prober.report(vip)).last_answer]
    return max(0.0, max(last) - began)


@contextmanager
def judged(cluster: Cluster, *vips: str) -> Iterator[Prober]:
    """`web` has these addresses, and another Service has its own: no address has two answers, and the other's has no gap."""
    come_of_age(cluster)
    cluster.create("bystander", BYSTANDER)
    cluster.create("web", *vips)
    cluster.wait_bound(BYSTANDER, *vips)
    asked = tuple(dict.fromkeys((VIP, VIP6, OTHER, BYSTANDER)))
    with cluster.judging(BYSTANDER, *vips), cluster.probing(*asked) as prober:
        for vip in (BYSTANDER, *vips):
            assert prober.wait_answer(vip, timeout_s=2)
        yield prober
        time.sleep(SEEN_S)
        assert {vip: prober.report(vip).two_answers_s for vip in asked} == dict.fromkeys(asked, 0.0)
        assert prober.report(BYSTANDER).longest_silence_s < NO_GAP_S


def told(mode: str, took: dict[str, float]) -> None:
    """Print what each edit took, and judge it."""
    print(f"{mode}: " + ", ".join(f"{what} {seconds * 1000:.0f} ms" for what, seconds in took.items()))
    assert max(took.values()) < AT_ONCE_S


@pytest.mark.parametrize("off", [None, "false"], ids=["removed", "false"])
def test_ignore_is_added_and_taken_back(cluster: Cluster, mode: str, off: str | None) -> None:
    took: dict[str, float] = {}
    with judged(cluster, VIP, VIP6) as prober, cluster.sniffing(VIP, VIP6) as sniffer:
        for number in range(3):
            took[f"ignored {number}"] = silent(prober, annotate(cluster, **{IGNORE: "true"}), VIP, VIP6)
            sniffer.clear()
            time.sleep(SEEN_S)
            assert not [frame for frame in sniffer.frames if frame.claimed in (VIP, VIP6)]
            took[f"served again {number}"] = answered(prober, annotate(cluster, **{IGNORE: off}), VIP, VIP6)
        told(mode, took)
    wait(lambda: sorted(cluster.ingress("web")) == [VIP, VIP6], "the status follows", timeout_s=3)


def test_addresses_are_removed_added_and_changed(cluster: Cluster, mode: str) -> None:
    took: dict[str, float] = {}
    with judged(cluster, VIP, VIP6) as prober:

        def name(*vips: str) -> float:
            return annotate(cluster, **{ADDRESSES: ",".join(vips) or None})

        took["one removed"] = silent(prober, name(VIP), VIP6)
        assert prober.report(VIP).longest_silence_s < NO_GAP_S
        took["one added"] = answered(prober, name(VIP, VIP6), VIP6)
        assert prober.report(VIP).longest_silence_s < NO_GAP_S
        began = name(VIP6, OTHER)
        took["one changed"] = max(answered(prober, began, OTHER), silent(prober, began, VIP))
        took["all removed"] = silent(prober, name(), VIP6, OTHER)
        wait(lambda: cluster.ingress("web") == [], "the status follows", timeout_s=3)
        took["named again"] = answered(prober, name(VIP, VIP6), VIP, VIP6)
        told(mode, took)
    wait(lambda: sorted(cluster.ingress("web")) == [VIP, VIP6], "the status follows", timeout_s=3)


def test_two_services_exchange_their_addresses(cluster: Cluster, mode: str) -> None:
    """In between both ask for one address, and for one port of it."""
    cluster.create("web2", OTHER)
    cluster.wait_bound(OTHER)
    with judged(cluster, VIP) as prober:
        annotate(cluster, **{ADDRESSES: OTHER})
        began = annotate(cluster, "web2", **{ADDRESSES: VIP})
        wait(lambda: (cluster.ingress("web"), cluster.ingress("web2")) == ([OTHER], [VIP]), "each has the other's", timeout_s=5)
        took = now() - began
        told(mode, {"exchanged": max(took, answered(prober, now(), VIP, OTHER))})
    assert prober.report(VIP).longest_silence_s < AT_ONCE_S
    assert prober.report(OTHER).longest_silence_s < AT_ONCE_S


def test_an_exception_from_needing_endpoints_is_made_and_taken_back(cluster: Cluster, mode: str) -> None:
    took: dict[str, float] = {}
    with (
        running(cluster, VARIABLES, KVIP_REQUIRE_ENDPOINTS="true"),
        endpoints_of(cluster, "bystander", "n1", "n2"),
        endpoints_of(cluster, "web", "n1", "n2") as endpoints,
    ):
        with judged(cluster, VIP) as prober:
            began = now()
            endpoints.put()
            took["no endpoints"] = silent(prober, began, VIP)
            took["excepted"] = answered(prober, annotate(cluster, **{WITHOUT_ENDPOINTS: "true"}), VIP)
            took["not excepted"] = silent(prober, annotate(cluster, **{WITHOUT_ENDPOINTS: None}), VIP)
            told(mode, took)
        cluster.delete_all()
        cluster.wait_gone(VIP, BYSTANDER)
