"""Edits of a Service's NIC while it is served: the VIP moves on its node within a second, and no two NICs answer, on one segment or two."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from lab.cluster import CLAIMS, GLOBAL, PER_SERVICE, Cluster, now, wait
from lab.lan import CLIENT, Lan
from lab.nics import VLAN, asking, macvlans, name_nic, on
from lab.prober import Prober
from lab.scene import come_of_age
from lab.segment import SecondSegment

MODES = (CLAIMS, GLOBAL, PER_SERVICE)
ONE, ONE6 = "10.10.0.200", "fd00:10::200"
MOVED_S = 1.0


def test_an_edit_moves_the_vip_on_its_node_and_no_two_nics_answer_at_once(cluster: Cluster, mode: str, segment: SecondSegment) -> None:
    cluster.create("web", ONE)
    node = on(cluster, ONE, "eth0")
    with asking(cluster.lan, "eth0", ONE) as first, asking(cluster.lan, "eth1", ONE) as second:
        assert first.wait_answer(ONE, cluster.lan.mac(node), timeout_s=3)
        for nic, old, new, mac in (("eth1", first, second, segment.mac(node)), (None, second, first, cluster.lan.mac(node))) * 2:
            began = now()
            name_nic(cluster, "web", nic)
            answer = new.wait_answer(ONE, mac, timeout_s=3)
            assert answer
            print(f"{mode}: moved to {nic or 'eth0'} in {(answer.at_s - began) * 1000:.0f} ms")
            assert answer.at_s - began < MOVED_S
            assert old.wait_silent(ONE, for_s=0.2, timeout_s=1)
            last = [each.at_s for each in old.answers(ONE)][-1]
            assert last <= answer.at_s, "the old NIC is silent before the new one answers"
            on(cluster, ONE, nic or "eth0", node=node)
        assert first.report(ONE).macs | second.report(ONE).macs == {cluster.lan.mac(node), segment.mac(node)}, "no other node got it"
        assert (first.report(ONE).two_answers_s, second.report(ONE).two_answers_s) == (0, 0)


def test_an_edit_between_two_nics_on_one_segment_has_no_two_answers(cluster: Cluster, mode: str) -> None:
    """The client asks both at once: each question reaches the NIC that had the VIP and the one that has it."""
    with macvlans(cluster) as macs:
        cluster.create("web", ONE, ONE6)
        homes = {vip: on(cluster, vip, "eth0") for vip in (ONE, ONE6)}
        with cluster.judging(ONE, ONE6) as prober:
            assert all(prober.wait_answer(vip, timeout_s=1) for vip in homes)
            for nic in ("mv0", None, "mv0", "eth0"):
                began = now()
                name_nic(cluster, "web", nic)
                for vip, home in homes.items():
                    answer = prober.wait_answer(vip, macs[home] if nic == "mv0" else cluster.lan.mac(home), timeout_s=3)
                    assert answer
                    print(f"{mode}: {vip} moved to {nic} in {(answer.at_s - began) * 1000:.0f} ms")
                    assert answer.at_s - began < MOVED_S
                time.sleep(0.5)
            reports = [prober.report(vip) for vip in homes]
        print(f"{mode}: longest silence {max(report.longest_silence_s for report in reports) * 1000:.0f} ms")
        assert [report.two_answers_s for report in reports] == [0, 0]
        assert max(report.longest_silence_s for report in reports) < MOVED_S
        assert [report.switches for report in reports] == [4, 4]
        cluster.delete_all()
        cluster.wait_gone(ONE, ONE6)


@pytest.fixture
def vlan(lan: Lan) -> Iterator[dict[str, str]]:
    """VLAN 200 of the LAN: a device `eth0.200` on each node and on the client. Yields their MACs."""
    machines = ("n1", "n2", CLIENT)
    macs = {machine: f"02:00:00:00:05:{number:02x}" for number, machine in enumerate(machines)}
    add = "link add link eth0 name eth0.200 address {} type vlan id 200"
    made: list[str] = []
    try:
        for machine, mac in macs.items():
            done = lan.run(machine, "ip", *add.format(mac).split(), check=False)
            if "Unknown device type" in done.stderr or "not supported" in done.stderr:
                pytest.skip(f"this kernel has no VLAN devices (CONFIG_VLAN_8021Q): {done.stderr.strip()}")
            assert done.returncode == 0, done.stderr
            made.append(machine)
        for number, machine in zip((11, 12, 100), machines, strict=True):
            lan.ns(machine).ip_batch(["link set eth0.200 up", f"addr add 10.20.0.{number}/24 dev eth0.200"])
        yield macs
    finally:
        for machine in made:
            lan.run(machine, "ip", "link", "del", "eth0.200")


def test_an_edit_moves_the_vip_into_a_vlan_and_out_of_it(cluster: Cluster, mode: str, vlan: dict[str, str]) -> None:
    cluster.create("web", ONE)
    node = on(cluster, ONE, "eth0")
    inside = Prober(cluster.lan.ns(CLIENT), "eth0.200", [ONE], source_ip="10.20.0.100")
    with asking(cluster.lan, "eth0", ONE) as outside, inside:
        assert outside.wait_answer(ONE, cluster.lan.mac(node), timeout_s=3)
        for value, old, new, mac in (("eth0.200", outside, inside, vlan[node]), (None, inside, outside, cluster.lan.mac(node))) * 2:
            began = now()
            name_nic(cluster, "web", value, VLAN)
            answer = new.wait_answer(ONE, mac, timeout_s=3)
            assert answer
            print(f"{mode}: moved to {value or 'eth0'} in {(answer.at_s - began) * 1000:.0f} ms")
            assert answer.at_s - began < MOVED_S
            assert old.wait_silent(ONE, for_s=0.2, timeout_s=1)
            assert [each.at_s for each in old.answers(ONE)][-1] <= answer.at_s, "the old NIC is silent before the new one answers"
            on(cluster, ONE, value or "eth0", node=node)
        assert (outside.report(ONE).two_answers_s, inside.report(ONE).two_answers_s) == (0, 0)
        cluster.delete_all()
        cluster.wait_gone(ONE)


def test_an_edit_to_a_vlan_that_has_no_device_silences_the_vip_at_once_and_is_told(cluster: Cluster, mode: str) -> None:
    come_of_age(cluster)
    uid = cluster.create("web", ONE)
    on(cluster, ONE, "eth0")
    with cluster.judging(ONE) as prober:
        assert prober.wait_answer(ONE, timeout_s=1)
        for _ in range(2):
            began = now()
            name_nic(cluster, "web", "eth0.300", VLAN)
            assert prober.wait_silent(ONE, for_s=0.3, timeout_s=3)
            last = prober.report(ONE).last_answer
            assert last
            back = now()
            name_nic(cluster, "web", None, VLAN)
            answer = prober.wait_answer(ONE, timeout_s=5)
            assert answer
            print(f"{mode}: silent {(last.at_s - began) * 1000:.0f} ms, answered again {(answer.at_s - back) * 1000:.0f} ms after the edit")
            assert last.at_s - began < MOVED_S
            assert answer.at_s - back < MOVED_S
        time.sleep(0.3)
        assert prober.report(ONE).two_answers_s == 0
    name_nic(cluster, "web", "eth0.300", VLAN)
    wait(lambda: any("'eth0.300'" in text for text in cluster.events(uid, "NoNic")), "the Service is told", timeout_s=6)
