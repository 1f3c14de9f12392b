"""Holes that daemons of this kind are known to have, and kvip has not: what Services, their siblings and their status can do.

Numbers as in docs/known-holes.md, which names the test of each, and says why some have none.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.cluster import ADDRESSES, SERVICES, Cluster, now, wait
from lab.embeddedapi import EmbeddedApi
from lab.lan import node_ip
from lab.scene import NO_GAP_S
from lab.slices import SLICES, endpoint_slice

VIP, OTHER = "10.10.0.200", "10.10.0.201"
VIP6 = "fd00:10::200"


def _port(name: str, number: int) -> dict[str, object]:
    return {"ports": [{"name": name, "port": number, "protocol": "TCP"}]}


def test_h1_a_delete_missed_while_the_watch_was_broken_is_made_good_at_the_resync(cluster: Cluster, embedded: EmbeddedApi) -> None:
    cluster.create("web", VIP)
    cluster.create("stays", OTHER)
    cluster.wait_bound(VIP, OTHER)
    with cluster.judging(VIP, OTHER) as prober:
        embedded.set_faults(swallow_events=True)
        cluster.delete("web")
        time.sleep(1.0)
        assert cluster.bound(VIP), "the event was to be lost"
        began = now()
        embedded.set_faults(swallow_events=False, compact=True, drop_watches=True)
        assert prober.wait_silent(VIP, for_s=0.3, timeout_s=10)
        print(f"let go {now() - began - 0.3:.2f} s after the watches broke")
        assert now() - began < 2.0
        assert prober.report(OTHER).longest_silence_s < NO_GAP_S
    cluster.wait_gone(VIP, timeout_s=1)


def test_h4_ten_services_recreated_back_to_back_under_the_same_names_are_all_served(cluster: Cluster) -> None:
    vips = [f"10.10.0.{n}" for n in range(210, 220)]
    for n, vip in enumerate(vips):
        cluster.create(f"web{n}", vip)
    cluster.wait_bound(*vips)

    def again(n: int) -> tuple[str, str]:
        before = cluster.get(f"web{n}")["metadata"]["uid"]
        cluster.delete(f"web{n}")
        return before, cluster.create(f"web{n}", vips[n])

    with cluster.judging(*vips) as prober:
        with ThreadPoolExecutor(10) as pool:
            uids = list(pool.map(again, range(10)))
        assert all(before != after for before, after in uids)
        wait(lambda: all(cluster.ingress(f"web{n}") == [vips[n]] for n in range(10)), "every new Service has its status", timeout_s=5)
        time.sleep(0.5)
        reports = [prober.report(vip) for vip in vips]
    print(f"longest silence {max(report.longest_silence_s for report in reports) * 1000:.0f} ms")
    assert max(report.longest_silence_s for report in reports) < 2 * NO_GAP_S
    cluster.wait_bound(*vips)


def test_h6_a_sibling_on_the_same_addresses_comes_and_goes_without_a_gap(cluster: Cluster) -> None:
    cluster.create("web", VIP, VIP6)
    cluster.wait_bound(VIP, VIP6)
    changes = 'kvip_actions_total{action="let_go",result="done"}'
    before = {name: node.metrics().get(changes, 0) for name, node in cluster.nodes.items()}
    with cluster.judging(VIP, VIP6) as prober:
        cluster.create("web2", VIP, VIP6, spec=_port("other", 81))
        wait(lambda: sorted(cluster.ingress("web2")) == [VIP, VIP6], "the second Service has its status", timeout_s=3)
        cluster.delete("web2")
        wait(lambda: prober.report(VIP).observed_s > 1.5, "observed long enough", timeout_s=5)
        reports = [prober.report(vip) for vip in (VIP, VIP6)]
    assert max(report.longest_silence_s for report in reports) < NO_GAP_S
    assert {report.two_answers_s for report in reports} == {0}
    assert {name: node.metrics().get(changes, 0) for name, node in cluster.nodes.items()} == before


def test_h7_a_shared_ipv6_address_is_still_announced_after_its_first_service_went(cluster: Cluster) -> None:
    cluster.create("web", VIP6)
    cluster.wait_bound(VIP6)
    cluster.create("web2", VIP6, spec=_port("other", 81))
    wait(lambda: cluster.ingress("web2") == [VIP6], "the second Service has its status", timeout_s=3)
    holder = cluster.holder_of(VIP6)
    cluster.delete("web")
    time.sleep(0.5)
    with cluster.sniffing(VIP6) as sniffer:
        began = now()
        cluster.drop_address(holder.node, VIP6)
        told = sniffer.wait_for(lambda frame: frame.announcement and frame.at_s > began, 2)
        assert told is not None
        assert told.kind == "na"
        assert told.override
    assert cluster.holder_of(VIP6) is holder


def test_h9_one_service_in_trouble_holds_up_nobody(cluster: Cluster, embedded: EmbeddedApi) -> None:
    """No address, DHCP asked for, a status that cannot be written: the next Service comes and goes as fast as ever."""
    links = {name: cluster.lan.run(name, "ip", "-br", "link").stdout for name in cluster.nodes}
    embedded.set_faults(status={"code": 500, "verb": "PATCH", "path_regex": "/services/unwritable/status"})
    cluster.create("nothing")
    cluster.create("dhcp", "0.0.0.0")
    cluster.create("unwritable", OTHER)
    cluster.wait_bound(OTHER)
    time.sleep(0.5)
    for _ in range(3):
        began = now()
        cluster.create("web", VIP)
        cluster.wait_bound(VIP)
        wait(lambda: cluster.ingress("web") == [VIP], "status written", timeout_s=3)
        cluster.delete("web")
        cluster.wait_gone(VIP)
        assert now() - began < 1.0
    assert cluster.ingress("unwritable") == []
    embedded.set_faults(status=None)
    wait(lambda: cluster.ingress("unwritable") == [OTHER], "the status is written once it can be", timeout_s=15)
    assert {name: cluster.lan.run(name, "ip", "-br", "link").stdout for name in cluster.nodes} == links


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_h11_a_second_empty_slice_withdraws_nothing(cluster: Cluster, policy: str) -> None:
    spec = {"externalTrafficPolicy": policy}
    cluster.request("POST", SLICES, endpoint_slice("web-1", "web", *cluster.nodes))
    try:
        cluster.create("web", VIP, spec=spec)
        cluster.wait_bound(VIP)
        with cluster.judging(VIP) as prober:
            cluster.request("POST", SLICES, endpoint_slice("web-2", "web"))
            cluster.request("POST", SLICES, endpoint_slice("website-1", "website", "elsewhere"))
            time.sleep(0.5)
            cluster.request("DELETE", f"{SLICES}/web-2")
            time.sleep(0.5)
            assert prober.report(VIP).longest_silence_s < NO_GAP_S
            cluster.request("DELETE", f"{SLICES}/web-1")
            if policy == "Cluster":
                time.sleep(0.5)
                assert prober.report(VIP).longest_silence_s < NO_GAP_S
            else:
                assert prober.wait_silent(VIP, for_s=0.3, timeout_s=1.3)
    finally:
        left = [item["metadata"]["name"] for item in cluster.request("GET", SLICES)["items"]]
        for name in {"web-1", "web-2", "website-1"} & set(left):
            cluster.request("DELETE", f"{SLICES}/{name}")


def test_h12_a_node_that_takes_over_acts_on_the_service_as_it_is_now(cluster: Cluster) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    holder = cluster.holder_of(VIP)
    with cluster.judging(VIP) as prober:
        cluster.patch("web", {"spec": _port("changed", 8443)})
        time.sleep(0.5)
        assert prober.report(VIP).longest_silence_s < NO_GAP_S
    cluster.patch("web", {"metadata": {"annotations": {ADDRESSES: OTHER}}})
    cluster.wait_bound(OTHER)
    holder.stop()
    with cluster.probing(VIP, OTHER) as prober:
        assert prober.wait_answer(OTHER, cluster.lan.mac(cluster.other(holder).node), timeout_s=3)
        time.sleep(0.3)
        assert prober.answers(VIP) == []


def test_h13_what_came_and_went_leaves_no_trace_in_any_daemon(cluster: Cluster) -> None:
    names = [f"web{n}" for n in range(20)]
    for n, name in enumerate(names):
        cluster.create(name, f"10.10.0.{210 + n % 10}", spec=_port("http", 80 + n))
    cluster.wait_bound(*(f"10.10.0.{n}" for n in range(210, 220)))
    for name in names:
        cluster.delete(name)
    nodes = list(cluster.nodes.values())

    def counted() -> set[float]:
        return {node.metrics()[f'kvip_vips{{state="{state}"}}'] for node in nodes for state in ("claimed", "bound")}

    wait(lambda: counted() == {0.0}, "no daemon counts anything", timeout_s=3)
    journals = [node.state_dir / "ledger.json" for node in nodes]
    wait(lambda: not any(json.loads(journal.read_text())["claims"] for journal in journals), "no journal names anything", timeout_s=3)


def test_h17_many_services_on_one_address_have_one_holder(cluster: Cluster, mode: str) -> None:
    with cluster.probing(VIP) as prober:
        with ThreadPoolExecutor(5) as pool:
            list(pool.map(lambda n: cluster.create(f"web{n}", VIP, spec=_port("http", 80 + n)), range(5)))
        assert prober.wait_answer(VIP, timeout_s=5)
        for n in range(4):
            cluster.delete(f"web{n}")
        cluster.patch("web4", {"spec": {"externalTrafficPolicy": "Cluster"}})
        time.sleep(1.0)
        report = prober.report(VIP)
        assert report.two_answers_s == 0
        assert report.switches == 0
        assert cluster.bound(VIP) == [cluster.holder_of(VIP).node]
        cluster.delete("web4")
        assert prober.wait_silent(VIP, for_s=0.3, timeout_s=1.3)


def test_h18_addresses_that_others_wrote_into_the_status_are_not_taken(cluster: Cluster) -> None:
    strangers = [node_ip("n1"), node_ip("n2"), OTHER]
    cluster.create("status-only")
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    with cluster.probing(OTHER, *strangers) as prober:
        for name in ("status-only", "web"):
            ingress = [{"ip": ip, "ipMode": "VIP"} for ip in strangers]
            cluster.request("PATCH", f"{SERVICES}/{name}/status", {"status": {"loadBalancer": {"ingress": ingress}}})
        time.sleep(1.0)
        assert prober.answers(OTHER) == []
        assert {frozenset(prober.report(ip).macs) for ip in strangers[:2]} == {frozenset({cluster.lan.mac(n)}) for n in ("n1", "n2")}
    assert {vip for vips in cluster.left().values() for vip in vips} == {VIP}


def test_a_deleted_service_is_not_put_back_by_the_repair(cluster: Cluster) -> None:
    """The address is taken away by hand in the same instant as the Service goes."""
    for _ in range(5):
        cluster.create("web", VIP)
        cluster.wait_bound(VIP)
        holder = cluster.holder_of(VIP)
        with ThreadPoolExecutor(2) as pool:
            pool.submit(cluster.lan.run, holder.node, "ip", "addr", "del", f"{VIP}/32", "dev", "eth0", check=False)
            pool.submit(cluster.delete, "web").result()
        time.sleep(0.3)
        with cluster.probing(VIP) as prober:
            time.sleep(0.2)
            assert prober.answers(VIP) == []
        assert cluster.left() == {}


def test_a_vip_is_never_the_source_that_the_kernel_chooses(cluster: Cluster) -> None:
    cluster.create("web", VIP, VIP6)
    cluster.wait_bound(VIP, VIP6)
    for vip in (VIP, VIP6):
        node = cluster.holder_of(vip).node
        for target in ("10.10.0.100", "192.0.2.1", "fd00:10::100", "2001:db8::1"):
            route = json.loads(cluster.lan.run(node, "ip", "-j", "route", "get", target).stdout)[0]
            assert route["prefsrc"] not in (VIP, VIP6)
        own = [a.ip for a in cluster.lan.addresses(node, "eth0") if ":" not in a.ip]
        assert own[0] == node_ip(node)
