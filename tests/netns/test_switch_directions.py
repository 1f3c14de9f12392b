"""Each direction of the dead-man's switch by itself: the rules overlap, and a test of question and answer needs only one of them."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator

import pytest

from kvip.core.model import Vip, packed
from lab.lan import CLIENT_IP, CLIENT_IP6, Lan
from lab.netns import NetNamespace
from lab.sniffer import Sniffer
from tests.netns.switch_lab import BOTH, CLIENT_OF, OWN_OF, SILENCE_S, VIP4, VIP6, Node, eventually, pings

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("own_namespace")]
PORT = 9999
FREE6 = "fd00:10::77"


@pytest.fixture
def node() -> Iterator[Node]:
    with Lan(1) as lan:
        node = Node(lan)
        yield node
        node.close()


def arrives(sender: NetNamespace, receiver: NetNamespace, *, source: str, to: str, any_address: bool = False) -> bool:
    """Does one UDP packet get there? Nothing is sent back."""
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with receiver.socket(family, socket.SOCK_DGRAM) as listener, sender.socket(family, socket.SOCK_DGRAM) as speaker:
        listener.bind(("" if any_address else to, PORT))
        listener.settimeout(SILENCE_S)
        speaker.bind((source, 0))
        try:
            speaker.sendto(b"x", (to, PORT))
            return listener.recv(16) == b"x"
        except OSError:  # timed out, or refused by the sender's own rules
            return False


def speak_discovery(node: Node, kind: int, *, target: str, source: str, to: str, nic: str = "eth0") -> None:
    """An NS (135) or NA (136) by a raw socket, as any program of the node may send it."""
    option = bytes([1 if kind == 135 else 2, 1]) + bytes.fromhex(node.mac.replace(":", ""))
    flags = 0 if kind == 135 else 0x20000000
    body = struct.pack("!BBHI", kind, 0, 0, flags) + packed(Vip(target)) + option

    def send() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, nic.encode())
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
            sock.bind((source, 0))
            try:
                sock.sendto(body, (to, 0, 0, socket.if_nametoindex(nic)))
            except PermissionError:
                pass  # dropped by the rules

    node.space.call(send)


@pytest.mark.parametrize("vip", BOTH)
def test_k2_inbound_alone_packets_to_an_unarmed_vip_do_not_arrive(node: Node, vip: Vip):
    node.ready(vip)
    node.knows(vip)
    assert not arrives(node.client, node.space, source=CLIENT_OF[vip], to=vip)
    assert arrives(node.client, node.space, source=CLIENT_OF[vip], to=OWN_OF[vip])
    node.arm()
    assert arrives(node.client, node.space, source=CLIENT_OF[vip], to=vip)


@pytest.mark.parametrize("vip", BOTH)
def test_k2_inbound_alone_a_question_for_an_unarmed_vip_does_not_reach_the_kernel(node: Node, vip: Vip):
    """A question that is taken in makes the kernel note who asked (arp_process, ndisc_recv_ns)."""
    node.ready(vip)

    def noted() -> bool:
        return CLIENT_OF[vip] in node.space.run("ip", "neigh", "show", "dev", "eth0").stdout

    assert not noted()
    with node.asked(vip):
        time.sleep(SILENCE_S)
        assert not noted()
        node.arm()
        eventually(noted, "armed, the kernel notes who asked")


def test_k2_outbound_alone_a_solicitation_from_an_unarmed_vip_does_not_leave(node: Node):
    node.ready(VIP6)
    with node.heard(VIP6, FREE6) as sniffer:
        speak_discovery(node, 135, target=FREE6, source=VIP6, to="ff02::1:ff00:77")
        time.sleep(SILENCE_S)
        assert not sniffer.frames
        node.arm()
        speak_discovery(node, 135, target=FREE6, source=VIP6, to="ff02::1:ff00:77")
        assert sniffer.wait_for(lambda frame: frame.sender_ip == VIP6, 1.0)


def test_k2_outbound_alone_duplicate_address_detection_of_a_silent_vip_does_not_leave(node: Node):
    """Someone adds the address again without `nodad`: the kernel then asks from :: for it."""
    node.space.sysctl({"ipv6/conf/all/accept_dad": "1", "ipv6/conf/eth0/accept_dad": "1", "ipv6/conf/eth0/dad_transmits": "1"})
    node.switch.install(nics=["eth0"], vips={VIP6: "eth0"})
    with node.heard(VIP6, FREE6) as sniffer:
        node.ip(f"addr add {VIP6}/128 dev eth0", f"addr add {FREE6}/128 dev eth0")
        assert sniffer.wait_for(lambda frame: frame.kind == "ns" and frame.target_ip == FREE6, 3.0), "detection is at work"
        time.sleep(SILENCE_S)
        assert not [frame for frame in sniffer.frames if frame.target_ip == VIP6]


def test_k3_outbound_alone_an_advertisement_on_another_nic_does_not_leave_in_health(node: Node):
    node.ready(VIP6)
    node.arm()
    node.ip("addr add fd00:99::1/64 dev api0 nodad")
    with Sniffer(node.lan.ns("lab"), "br-api", vips=[VIP6, FREE6]) as sniffer:
        speak_discovery(node, 136, target=VIP6, source="fd00:99::1", to="ff02::1", nic="api0")
        speak_discovery(node, 136, target=FREE6, source="fd00:99::1", to="ff02::1", nic="api0")
        assert sniffer.wait_for(lambda frame: frame.claimed == FREE6, 1.0), "others' pass"
        assert not [frame for frame in sniffer.frames if frame.claimed == VIP6]


def test_k2_outbound_alone_packets_that_nat_gives_the_vip_as_source_do_not_leave(node: Node):
    """Pods answer behind kube-proxy: only source NAT, late in postrouting, writes the VIP into their packets."""
    with NetNamespace.create("pod") as pod:
        node.ip(f"link add pod0 type veth peer name eth0 netns {pod.path}", "link set pod0 up", "addr add 10.244.0.1/24 dev pod0")
        node.space.sysctl({"ipv4/ip_forward": "1"})
        pod.ip_batch(["link set eth0 up", "addr add 10.244.0.2/24 dev eth0", "route add default via 10.244.0.1"])
        node.space.run(
            "nft",
            "add table ip nat; add chain ip nat post { type nat hook postrouting priority srcnat; };"
            f"add rule ip nat post ip saddr 10.244.0.2 ip daddr {CLIENT_IP} snat to {VIP4}",
        )
        node.ready(VIP4)
        node.ip(f"neigh replace {CLIENT_IP} lladdr {node.lan.mac('client')} dev eth0 nud permanent")
        assert not arrives(pod, node.client, source="10.244.0.2", to=CLIENT_IP)
        node.arm()
        assert arrives(pod, node.client, source="10.244.0.2", to=CLIENT_IP)


def test_own_addresses_are_reached_by_both_families_with_everything_silent(node: Node):
    node.ready(*BOTH)
    assert pings(node.space, CLIENT_IP)
    assert pings(node.space, CLIENT_IP6)
