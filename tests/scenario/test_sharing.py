"""Several Services on one address: who has a port that two of them want, and what the wire sees of it."""

from __future__ import annotations

import time

from lab.cluster import ADDRESSES, Cluster, now, wait
from lab.scene import NO_GAP_S

VIP, OTHER = "10.10.0.200", "10.10.0.201"


def _ports(*numbers: int) -> dict[str, object]:
    return {"ports": [{"name": f"p{number}", "port": number, "protocol": "TCP"} for number in numbers]}


def _clash(cluster: Cluster) -> str:
    """An older and a younger Service that want port 80 of one address; returns the younger one's UID."""
    cluster.create("older", VIP, spec=_ports(80))
    cluster.wait_bound(VIP)
    wait(lambda: cluster.ingress("older") == [VIP], "the older one has its status", timeout_s=3)
    born = cluster.get("older")["metadata"]["creationTimestamp"]
    while True:
        uid = cluster.create("younger", VIP, spec=_ports(80, 443))
        if cluster.get("younger")["metadata"]["creationTimestamp"] > born:
            return uid
        cluster.delete("younger")
        time.sleep(0.2)


def test_a_port_that_two_want_is_the_older_ones_until_it_goes_and_the_wire_sees_nothing(cluster: Cluster, mode: str) -> None:
    uid = _clash(cluster)
    with cluster.judging(VIP) as prober:
        wait(lambda: bool(cluster.events(uid, "PortConflict")), "the younger one is told", timeout_s=3)
        assert "default/older" in cluster.events(uid, "PortConflict")[0]
        assert "80/TCP" in cluster.events(uid, "PortConflict")[0]
        assert cluster.ingress("younger") == []
        began = now()
        cluster.delete("older")
        wait(lambda: cluster.ingress("younger") == [VIP], "the younger one is served", timeout_s=3)
        print(f"served {(now() - began) * 1000:.0f} ms after the older one went")
        time.sleep(0.5)
        report = prober.report(VIP)
        assert report.longest_silence_s < NO_GAP_S
        assert (report.two_answers_s, report.switches) == (0, 0)
        cluster.delete("younger")
        assert prober.wait_silent(VIP, for_s=0.2, timeout_s=1.2)


def test_edited_ports_and_addresses_decide_at_once(cluster: Cluster) -> None:
    _clash(cluster)
    cluster.patch("older", {"spec": _ports(81)})
    wait(lambda: cluster.ingress("younger") == [VIP], "served once the port is free", timeout_s=3)
    cluster.patch("older", {"spec": _ports(443)})
    wait(lambda: cluster.ingress("younger") == [], "refused once the older one wants its port", timeout_s=3)
    cluster.patch("younger", {"metadata": {"annotations": {ADDRESSES: f"{VIP},{OTHER}"}}})
    cluster.wait_bound(OTHER)
    wait(lambda: cluster.ingress("younger") == [OTHER], "its other address is served", timeout_s=3)
    assert cluster.ingress("older") == [VIP]


def test_a_restart_does_not_change_who_is_older(cluster: Cluster, mode: str) -> None:
    _clash(cluster)
    for node in cluster.nodes.values():
        node.stop()
    cluster.start()
    cluster.wait_bound(VIP, timeout_s=15)
    wait(lambda: cluster.ingress("older") == [VIP], "the older one is served", timeout_s=3)
    time.sleep(0.5)
    assert cluster.ingress("younger") == []
