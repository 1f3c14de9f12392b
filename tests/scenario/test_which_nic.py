"""Which NIC holds a VIP: two nodes and a client on two segments, judged on the wire of both."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lab.cluster import Cluster, wait
from lab.lan import Lan
from lab.nics import NIC, VLAN, asking, macvlans, name_nic, on, places
from lab.scene import LEASE_S, NO_GAP_S
from lab.segment import SecondSegment

ONE, ONE6 = "10.10.0.200", "fd00:10::200"
TWO, TWO6 = "10.20.0.200", "fd00:20::200"
AUTO = {"KVIP_SERVICES_INTERFACE": "auto"}
MOVED_S = 1.0


def told(cluster: Cluster, uid: str, reason: str, *words: str, timeout_s: float = 6.0) -> None:
    wait(lambda: any(all(word in text for word in words) for text in cluster.events(uid, reason)), f"{reason} {words}", timeout_s=timeout_s)


def test_vips_on_two_segments_at_once_by_name_and_by_subnet(cluster: Cluster, segment: SecondSegment) -> None:
    cluster.create("here", ONE, ONE6)
    cluster.create("named", TWO, TWO6, annotations={NIC: "eth1"})
    cluster.create("auto", "10.20.0.201", "10.10.0.201", annotations={NIC: "auto"})
    cluster.wait_bound(ONE, ONE6, TWO, TWO6, "10.20.0.201", "10.10.0.201")
    for vip in (ONE, ONE6, "10.10.0.201"):
        on(cluster, vip, "eth0")
    with asking(cluster.lan, "eth1", TWO, TWO6, "10.20.0.201") as prober:
        for vip in (TWO, TWO6, "10.20.0.201"):
            node = on(cluster, vip, "eth1")
            assert prober.wait_answer(vip, segment.mac(node), timeout_s=3), f"{vip} is answered with the MAC of eth1"
        prober.clear()
        time.sleep(0.3)
        assert all(prober.report(vip).two_answers_s == 0 for vip in (TWO, TWO6, "10.20.0.201"))
    with asking(cluster.lan, "eth0", TWO, TWO6) as prober:
        assert prober.wait_silent(TWO, for_s=0.3, timeout_s=1)
        assert prober.wait_silent(TWO6, for_s=0.3, timeout_s=1)


def test_the_setting_may_be_auto(cluster: Cluster, segment: SecondSegment) -> None:
    with cluster.restarted("n1", **AUTO), cluster.restarted("n2", **AUTO):
        uid = cluster.create("both", ONE, TWO6)
        on(cluster, ONE, "eth0")
        on(cluster, TWO6, "eth1")
        cluster.create("nowhere", "10.30.0.1")
        told(cluster, str(cluster.get("nowhere")["metadata"]["uid"]), "NoNic", "services-interface", "'auto'", "10.30.0.1")
        assert not cluster.bound("10.30.0.1")
        assert cluster.events(uid, "NoNic") == []
        cluster.delete_all()
        cluster.wait_gone(ONE, TWO6)


@pytest.fixture
def stranger(lan: Lan) -> Iterator[str]:
    """Another machine, which answers on each NIC for the addresses of that NIC only."""
    arp_ignore = "ipv4/conf/eth0/arp_ignore"
    lan.ns("n3").sysctl({arp_ignore: "1"})
    yield "n3"
    lan.ns("n3").sysctl({arp_ignore: "0"})


def test_on_another_segment_it_is_asked_for_before_it_is_bound(cluster: Cluster, lan: Lan, stranger: str) -> None:
    with SecondSegment(lan, "n1", "n2", stranger) as segment:
        lan.run(stranger, "ip", "addr", "add", f"{ONE}/32", "dev", "eth1")
        uid = cluster.create("web", ONE)
        node = on(cluster, ONE, "eth0")
        with asking(lan, "eth0", ONE) as first, asking(lan, "eth1", ONE) as second:
            assert second.wait_answer(ONE, segment.mac(stranger), timeout_s=3)
            name_nic(cluster, "web", "eth1")
            told(cluster, uid, "VIPConflict", ONE, segment.mac(stranger), "eth1")
            assert first.wait_silent(ONE, for_s=0.2, timeout_s=1)
            time.sleep(1.0)
            assert places(cluster, ONE) == []
            assert set(second.report(ONE).macs) == {segment.mac(stranger)}
            name_nic(cluster, "web", None)
            assert first.wait_answer(ONE, lan.mac(node), timeout_s=MOVED_S), "that host is no matter on the first segment"
            lan.run(stranger, "ip", "addr", "del", f"{ONE}/32", "dev", "eth1")
            name_nic(cluster, "web", "eth1")
            assert second.wait_answer(ONE, segment.mac(node), timeout_s=MOVED_S)
            assert [prober.report(ONE).two_answers_s for prober in (first, second)] == [0, 0]


def test_who_takes_over_from_a_node_that_found_it_in_use_there_asks_as_well(cluster: Cluster, lan: Lan, stranger: str) -> None:
    with SecondSegment(lan, "n1", "n2", stranger) as segment:
        lan.run(stranger, "ip", "addr", "add", f"{ONE}/32", "dev", "eth1")
        uid = cluster.create("web", ONE)
        former = on(cluster, ONE, "eth0")
        other = next(name for name in cluster.nodes if name != former)
        with asking(lan, "eth1", ONE) as prober:
            assert prober.wait_answer(ONE, segment.mac(stranger), timeout_s=3)
            name_nic(cluster, "web", "eth1")
            told(cluster, uid, "VIPConflict", ONE, segment.mac(stranger), "eth1", former)
            cluster.nodes[former].kill9()
            told(cluster, uid, "VIPConflict", ONE, segment.mac(stranger), "eth1", other, timeout_s=LEASE_S + 3)
            time.sleep(1.0)
            assert places(cluster, ONE) == []
            report = prober.report(ONE)
            assert (set(report.macs), report.two_answers_s) == ({segment.mac(stranger)}, 0)


def test_a_node_without_the_nic_is_no_candidate(cluster: Cluster, lan: Lan) -> None:
    with SecondSegment(lan, "n2"):
        for number in range(200, 206):
            cluster.create(f"web{number}", f"10.20.0.{number}", annotations={NIC: ("eth1", "auto")[number % 2]})
        for number in range(200, 206):
            on(cluster, f"10.20.0.{number}", "eth1", node="n2")
        time.sleep(2.2)
        uids = [str(cluster.get(f"web{number}")["metadata"]["uid"]) for number in range(200, 206)]
        assert not any(cluster.events(uid, "NoNic") for uid in uids), "another node has it: nothing is wrong"
        cluster.nodes["n2"].stop()
        cluster.wait_gone("10.20.0.200")
        told(cluster, uids[0], "NoNic", "'eth1'", "n1")


def test_a_nic_that_comes_and_goes_and_loses_its_carrier(cluster: Cluster, segment: SecondSegment) -> None:
    cluster.create("web", ONE)
    cluster.create("two", TWO, annotations={NIC: "eth1"})
    holder = on(cluster, TWO, "eth1")
    other = next(name for name in cluster.nodes if name != holder)
    at_home = on(cluster, ONE, "eth0")
    with asking(cluster.lan, "eth1", TWO) as prober:
        segment.pull_cable(holder)
        assert prober.wait_answer(TWO, segment.mac(other), timeout_s=5)
        segment.pull_cable(holder, pulled=False)
        segment.remove_nic(other)
        assert prober.wait_answer(TWO, segment.mac(holder), timeout_s=5)
        segment.return_nic(other)
        segment.remove_nic(holder)
        assert prober.wait_answer(TWO, segment.mac(other), timeout_s=5)
        segment.return_nic(holder)
        on(cluster, TWO, "eth1", node=other)
        prober.clear()
        cluster.lan.run(other, "ip", "link", "set", "dev", "eth1", "address", "02:00:00:00:02:77")
        assert prober.wait_answer(TWO, "02:00:00:00:02:77", timeout_s=3)
        cluster.lan.run(other, "ip", "link", "set", "dev", "eth1", "address", segment.mac(other))
        assert prober.wait_answer(TWO, segment.mac(other), timeout_s=3)
        assert prober.report(TWO).two_answers_s == 0
        assert on(cluster, ONE, "eth0") == at_home, "what is on the other segment stays"


def test_addresses_that_are_flushed_for_a_moment_move_nothing(cluster: Cluster, segment: SecondSegment) -> None:
    cluster.create("two", TWO, annotations={NIC: "auto"})
    node = on(cluster, TWO, "eth1")
    with asking(cluster.lan, "eth1", TWO) as prober:
        assert prober.wait_answer(TWO, segment.mac(node), timeout_s=3)
        prober.clear()
        segment.flush(node)
        on(cluster, TWO, "eth1", node=node)
        assert prober.wait_answer(TWO, segment.mac(node), timeout_s=3)
        time.sleep(0.5)
        assert prober.report(TWO).macs == {segment.mac(node)}


def test_a_port_of_a_bridge_stands_for_the_bridge_and_a_macvlan_for_itself(cluster: Cluster, lan: Lan, segment: SecondSegment) -> None:
    for number, node in enumerate(("n1", "n2")):
        bridge = [f"link add br0 address 02:00:00:00:03:0{number} type bridge stp_state 0 forward_delay 0", "link set br0 up"]
        lan.ns(node).ip_batch([*bridge, "addr flush dev eth1", "link set eth1 master br0", f"addr add 10.20.0.{11 + number}/24 dev br0"])
    with ExitStack() as undo:
        for node in cluster.nodes:
            undo.callback(lan.run, node, "ip", "link", "del", "br0")
        macs = undo.enter_context(macvlans(cluster))
        uid = cluster.create("bridged", TWO, annotations={NIC: "eth1"})
        cluster.create("macvlan", ONE, annotations={NIC: "mv0"})
        node = on(cluster, TWO, "br0")
        told(cluster, uid, "NicIsPort", "'eth1'", "'br0'")
        with asking(lan, "eth1", TWO) as prober:
            assert prober.wait_answer(TWO, f"02:00:00:00:03:0{int(node[1:]) - 1}", timeout_s=3)
        node = on(cluster, ONE, "mv0")
        with asking(lan, "eth0", ONE) as prober:
            assert prober.wait_answer(ONE, macs[node], timeout_s=3)
            prober.clear()
            time.sleep(0.3)
            assert len(prober.report(ONE).macs) == 1, "not its parent too"
        cluster.delete_all()
        cluster.wait_gone(ONE, TWO)


def test_bad_values_are_told_and_concern_nobody_else(cluster: Cluster) -> None:
    bad = {
        "absent": ({NIC: "eth7"}, "NoNic", "'eth7' names a NIC that is not there"),
        "loopback": ({NIC: "lo"}, "NoNic", "'lo' is the loopback device"),
        "name": ({NIC: "eth0/1"}, "InvalidAnnotation", "'eth0/1' is no name of a NIC"),
        "form": ({VLAN: "200"}, "InvalidAnnotation", "'200' is not of the form NIC.VLANID"),
        "id": ({VLAN: "eth0.4095"}, "InvalidAnnotation", "names VLAN 4095"),
        "vlan": ({VLAN: "eth0.200"}, "NoNic", "ip link add link eth0 name eth0.200 type vlan id 200"),
    }
    uids = {name: cluster.create(name, f"10.10.0.{210 + n}", annotations=bad[name][0]) for n, name in enumerate(bad)}
    cluster.create("good", ONE)
    on(cluster, ONE, "eth0")
    for name, uid in uids.items():
        notes, reason, words = bad[name]
        told(cluster, uid, reason, next(iter(notes)), words)
        assert not any(cluster.bound(f"10.10.0.{210 + n}") for n in range(len(bad)))
    name_nic(cluster, "absent", "eth0")
    on(cluster, "10.10.0.210", "eth0")


def test_what_cannot_be_read_moves_nothing(cluster: Cluster) -> None:
    uid = cluster.create("web", ONE, annotations={NIC: "eth0"})
    node = on(cluster, ONE, "eth0")
    with asking(cluster.lan, "eth0", ONE) as prober:
        assert prober.wait_answer(ONE, timeout_s=3)
        prober.clear()
        name_nic(cluster, "web", "eth0:1")
        told(cluster, uid, "InvalidAnnotation", "'eth0:1'")
        time.sleep(0.5)
        assert prober.report(ONE).longest_silence_s < NO_GAP_S
        on(cluster, ONE, "eth0", node=node)


def test_of_two_services_on_one_address_the_older_chooses(cluster: Cluster, segment: SecondSegment) -> None:
    cluster.create("older", ONE, annotations={NIC: "eth1"})
    on(cluster, ONE, "eth1")
    time.sleep(1.1)
    other_port = {"ports": [{"name": "https", "port": 443, "protocol": "TCP"}]}
    uid = cluster.create("younger", ONE, annotations={NIC: "eth0"}, spec=other_port)
    told(cluster, uid, "OtherNic", "'eth0'", "default/older")
    on(cluster, ONE, "eth1")
    cluster.delete("older")
    on(cluster, ONE, "eth0")


def test_in_either_mode_a_vip_whose_nic_is_taken_from_it_is_let_go_of(cluster: Cluster, mode: str) -> None:
    uid = cluster.create("web", ONE)
    cluster.wait_bound(ONE)
    name_nic(cluster, "web", "eth7")
    took = cluster.wait_gone(ONE, timeout_s=3)
    print(f"{mode}: gone in {took * 1000:.0f} ms")
    assert took < MOVED_S
    told(cluster, uid, "NoNic", "'eth7'")
    name_nic(cluster, "web", None)
    on(cluster, ONE, "eth0")
