"""IPv6 on the wire: what an advertisement says, and what duplicate address detection changes."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import Ether

from kvip.kernel.batches import AddressOp, AddressSocket, vip_address
from lab.cluster import Cluster, wait
from lab.lan import CLIENT
from lab.sniffer import Frame, Sniffer

VIP6 = "fd00:10::200"
CLIENT_MAC = "02:00:00:00:00:64"
ALL_NODES_MAC = "33:33:00:00:00:01"


def advertised(sniffer: Sniffer, *, timeout_s: float = 5.0) -> Frame:
    """The first advertisement by a node."""
    frame = sniffer.wait_for(
        lambda frame: frame.kind == "na" and frame.target_ip == VIP6 and frame.announcement and frame.eth_src != CLIENT_MAC, timeout_s
    )
    assert frame is not None, "no unsolicited advertisement"
    return frame


def is_router(frame: Frame) -> bool:
    return bool(frame.raw[58] & 0x80)


@pytest.mark.parametrize("forwarding", [False, True])
def test_an_advertisement_moves_caches_and_says_whether_the_node_forwards(cluster: Cluster, forwarding: bool) -> None:
    before = {name: cluster.lan.run(name, "cat", "/proc/sys/net/ipv6/conf/eth0/forwarding").stdout.strip() for name in cluster.nodes}
    try:
        for name in cluster.nodes:
            cluster.lan.ns(name).sysctl({"ipv6/conf/eth0/forwarding": str(int(forwarding))})
        with cluster.sniffing(VIP6) as sniffer:
            cluster.create("web", VIP6)
            frame = advertised(sniffer)
            mac = cluster.lan.mac(cluster.holder_of(VIP6).node)
            assert (frame.override, frame.solicited, frame.hop_limit) == (True, False, 255)
            assert (frame.eth_src, frame.eth_dst, frame.sender_mac) == (mac, ALL_NODES_MAC, mac)
            assert socket.inet_ntop(socket.AF_INET6, frame.raw[38:54]) == "ff02::1"
            sniffer.clear()
            assert cluster.lan.reaches(CLIENT, VIP6)
            answer = sniffer.wait_for(lambda frame: frame.kind == "na" and frame.target_ip == VIP6 and frame.solicited, 3)
            assert answer is None or is_router(answer) == is_router(frame), "the kernel's own answer says something else"
            assert is_router(frame) == forwarding
    finally:
        for name, value in before.items():
            cluster.lan.ns(name).sysctl({"ipv6/conf/eth0/forwarding": value})


@pytest.fixture
def detecting(cluster: Cluster) -> Iterator[Cluster]:
    """Nodes whose kernels look for duplicates, and daemons that ask for it."""
    for name, node in cluster.nodes.items():
        cluster.lan.ns(name).sysctl(
            {"ipv6/conf/all/accept_dad": "1", "ipv6/conf/eth0/accept_dad": "1", "ipv6/conf/eth0/dad_transmits": "1"}
        )
        node.stop()
        node.env["KVIP_IPV6_DAD"] = "true"
    cluster.start()
    yield cluster
    for name, node in cluster.nodes.items():
        if node.running:
            node.stop()
        del node.env["KVIP_IPV6_DAD"]
        cluster.lan.ns(name).sysctl(
            {"ipv6/conf/all/accept_dad": "0", "ipv6/conf/eth0/accept_dad": "0", "ipv6/conf/eth0/dad_transmits": "0"}
        )


def claim_it(cluster: Cluster) -> None:
    """A host on the LAN says once that it has the address, as in answer to the kernel's question; kvip's own probes it leaves alone."""
    advert = (
        IPv6(src="fd00:10::100", dst="ff02::1", hlim=255) / ICMPv6ND_NA(R=0, S=0, O=1, tgt=VIP6) / ICMPv6NDOptDstLLAddr(lladdr=CLIENT_MAC)
    )
    with cluster.lan.ns(CLIENT).socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind(("eth0", 0))
        sender.send(bytes(Ether(src=CLIENT_MAC, dst=ALL_NODES_MAC) / advert))


@pytest.mark.slow
def test_with_dad_a_first_assignment_is_announced_after_the_kernel_has_asked(detecting: Cluster) -> None:
    with detecting.sniffing(VIP6) as sniffer:
        detecting.create("web", VIP6)
        detecting.wait_bound(VIP6)
        bound_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        frame = advertised(sniffer)
        questions = [frame for frame in sniffer.frames if frame.kind == "ns" and frame.target_ip == VIP6 and frame.sender_ip == "::"]
        print(f"announced {frame.at_s - bound_at:.2f} s after it was bound, {len(questions)} questions")
        assert 0.5 < frame.at_s - bound_at < 4.0
        assert len(questions) >= 4, "three of kvip's and the kernel's"
        holder = detecting.holder_of(VIP6)
        assert detecting.lan.reaches(CLIENT, VIP6)
        sniffer.clear()
        wait(lambda: detecting.ingress("web") == [VIP6], "status", timeout_s=3)
        holder.stop()
        frame = advertised(sniffer)
        (taker,) = detecting.bound(VIP6)
        assert frame.eth_src == detecting.lan.mac(taker)
        assert not [one for one in sniffer.frames if one.kind == "ns" and one.sender_ip == "::" and one.target_ip == VIP6]


@pytest.mark.slow
def test_a_duplicate_that_the_kernel_finds_is_told_asked_about_and_healed(detecting: Cluster) -> None:
    with detecting.sniffing(VIP6) as sniffer:
        uid = detecting.create("web", VIP6)
        detecting.wait_bound(VIP6)
        time.sleep(0.1)  # it is silent until it is armed; the kernel waits for a second at least (RFC 4862 section 5.1)
        claim_it(detecting)
        wait(lambda: bool(detecting.events(uid, "VIPConflict")), "an Event", timeout_s=5)
        assert "duplicate address detection" in detecting.events(uid, "VIPConflict")[0]
        frame = advertised(sniffer)
        detecting.wait_bound(VIP6)
        assert frame.eth_src == detecting.lan.mac(detecting.holder_of(VIP6).node)
        assert detecting.lan.reaches(CLIENT, VIP6)


@pytest.mark.slow
def test_dadfailed_on_a_vip_is_noticed_and_healed(detecting: Cluster) -> None:
    detecting.create("web", VIP6)
    detecting.wait_bound(VIP6)
    wait(lambda: detecting.ingress("web") == [VIP6], "announced", timeout_s=5)
    holder = detecting.holder_of(VIP6)
    (address,) = (address for address in holder.marked_addresses() if address.ip == VIP6)

    def spoil() -> None:
        """Someone binds it anew without a lifetime, so that the kernel keeps it when it finds a duplicate."""
        lasting = vip_address(address.ip, address.index, valid_s=None, dad=True)
        with AddressSocket() as addresses:
            addresses.apply([AddressOp(kind="delete", address=address), AddressOp(kind="add", address=lasting)])

    with detecting.sniffing(VIP6) as sniffer:
        detecting.lan.ns(holder.node).call(spoil)
        time.sleep(0.1)
        claim_it(detecting)
        sniffer.clear()
        advertised(sniffer)
        healed = [found for found in holder.marked_addresses() if found.ip == VIP6]
        assert [found.flags & 0x48 for found in healed] == [0]
        assert healed[0].valid_s is not None
        assert detecting.lan.reaches(CLIENT, VIP6)
