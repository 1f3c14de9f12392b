"""The dead-man's switch beside other interfaces: K3 in health, and that local pods and other addresses are unharmed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from kvip.core.model import Vip
from lab.lan import CLIENT_IP, CLIENT_IP6, Lan
from lab.netns import NetNamespace
from lab.sniffer import Sniffer
from tests.netns.switch_lab import BOTH, OWN_OF, SILENCE_S, VIP4, VIP6, Node, eventually, pings

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("own_namespace")]
SECOND_MAC = "02:00:00:00:02:01"
POD4, POD6 = "10.244.0.2", "fd00:244::2"


@pytest.fixture
def node() -> Iterator[Node]:
    with Lan(1) as lan:
        node = Node(lan)
        yield node
        node.close()


@pytest.fixture
def second_nic(node: Node) -> Iterator[str]:
    """Another NIC of the node on the same segment, as eth0's twin."""
    lab = node.lan.ns("lab")
    lab.ip_batch(
        [
            f"link add name n1-eth1 type veth peer name eth1 address {SECOND_MAC} netns {node.space.path}",
            "link set n1-eth1 addrgenmode none master br-lan up",
        ]
    )
    node.ip("link set eth1 up")
    yield "eth1"
    lab.ip_batch(["link del n1-eth1"])


@pytest.fixture
def pod(node: Node) -> Iterator[NetNamespace]:
    """A pod as most CNIs make it: a veth with host routes, the node forwards and answers for its gateway by proxy_arp."""
    with NetNamespace.create("pod") as space:
        node.ip(
            f"link add cali0 type veth peer name eth0 netns {space.path}",
            "link set cali0 up",
            f"route add {POD4}/32 dev cali0",
            "addr add fd00:244::1/64 dev cali0 nodad",
        )
        node.space.sysctl({"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv4/conf/cali0/proxy_arp": "1"})
        space.ip_batch(
            [
                "link set lo up", "link set eth0 up", f"addr add {POD4}/32 dev eth0",
                "route add 169.254.1.1 dev eth0 scope link",
                "route add default via 169.254.1.1 dev eth0", f"addr add {POD6}/64 dev eth0 nodad",
                "route add default via fd00:244::1 dev eth0",
            ]
        )  # fmt: skip
        node.client.ip_batch(["route add 10.244.0.0/24 via 10.10.0.11", "route add fd00:244::/64 via fd00:10::11"])
        yield space


def answering(node: Node, vip: Vip) -> set[str]:
    """The MACs that answer for `vip` over 0.2 s."""
    with node.asked(vip) as prober:
        time.sleep(SILENCE_S)
        return set(prober.report(vip).macs)


def test_k3_a_second_nic_does_not_answer_for_a_vip_in_health(node: Node, second_nic: str):
    """arp_ignore=0: Linux answers on any NIC for any address of the machine."""
    node.bind(VIP4)
    assert answering(node, VIP4) == {node.mac, SECOND_MAC}, "without the switch both do"
    node.switch.install(nics=["eth0", "eth1"], vips={VIP4: "eth0"})
    node.switch.admit({VIP4: "eth0"})
    node.arm()
    assert answering(node, VIP4) == {node.mac}
    node.switch.admit({VIP4: "eth1"})
    assert answering(node, VIP4) == {SECOND_MAC}


def test_k3_a_second_nic_that_has_the_vip_too_does_not_answer_ns(node: Node, second_nic: str):
    node.bind(VIP6)
    node.bind(VIP6, second_nic)
    assert answering(node, VIP6) == {node.mac, SECOND_MAC}, "without the switch both do"
    node.switch.install(nics=["eth0"], vips={VIP6: "eth0"})
    node.switch.admit({VIP6: "eth0"})
    node.arm()
    assert answering(node, VIP6) == {node.mac}


def test_k3_a_question_on_another_interface_names_no_vip_as_its_sender(node: Node, second_nic: str):
    """A packet from the VIP that goes out by another NIC makes the kernel ask there in the VIP's name, with that NIC's MAC."""
    node.ready(VIP4)
    node.arm()
    with Sniffer(node.client, "eth0") as sniffer:
        node.ip("route add 10.10.0.77/32 dev eth1", "route add 10.10.0.100/32 dev eth1")
        node.speak(VIP4, "10.10.0.77", nic="eth1")
        asked = sniffer.wait_for(lambda frame: frame.kind == "arp" and frame.target_ip == "10.10.0.77", 1.0)
        assert asked is not None
        assert (asked.sender_ip, asked.sender_mac) == ("0.0.0.0", SECOND_MAC)
        assert not [frame for frame in sniffer.frames if frame.claimed == VIP4]


@pytest.mark.parametrize("vip", BOTH)
def test_k3_a_macvlan_and_its_parent_answer_with_one_mac(node: Node, vip: Vip):
    node.ip(f"link add mv0 link eth0 address {SECOND_MAC} type macvlan mode bridge", "link set mv0 up")
    node.bind(vip, "mv0")
    if vip == VIP6:
        node.bind(vip, "eth0")
    assert answering(node, vip) == {node.mac, SECOND_MAC}, "without the switch both do"
    node.switch.install(nics=["mv0"], vips={vip: "mv0"})
    node.switch.admit({vip: "mv0"})
    assert answering(node, vip) == set()
    node.arm()
    assert answering(node, vip) == {SECOND_MAC}


@pytest.mark.parametrize("vip", BOTH)
def test_k3_on_a_bridge_the_bridge_is_the_nic(node: Node, vip: Vip):
    own4, own6 = OWN_OF[VIP4], OWN_OF[VIP6]
    node.ip(
        f"link add br0 address {node.mac} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
        "addr flush dev eth0", "link set eth0 master br0", "link set br0 up",
        f"addr add {own4}/24 dev br0", f"addr add {own6}/64 dev br0 nodad",
    )  # fmt: skip
    node.ready(vip, nic="br0", nics=("br0",))
    assert answering(node, vip) == set()
    assert pings(node.client, OWN_OF[vip])
    node.arm()
    assert answering(node, vip) == {node.mac}
    assert pings(node.client, vip)


def test_k3_frames_that_a_bridge_of_the_node_passes_on_are_not_dropped(node: Node):
    """A machine behind the node's bridge (a VM) holds the VIP: the switch of the node does not concern its answers.

    With br_netfilter, as on most nodes, bridged frames pass the prerouting and postrouting hooks of IP and IPv6 too.
    """
    with NetNamespace.create("vm") as vm:
        node.ip(
            "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0", "link set br0 up", "link set eth0 master br0",
            f"link add vm0 type veth peer name eth0 address {SECOND_MAC} netns {vm.path}", "link set vm0 master br0 up",
        )  # fmt: skip
        vm.ip_batch(["link set eth0 up", f"addr add {VIP4}/24 dev eth0", f"addr add {VIP6}/64 dev eth0 nodad"])
        node.switch.install(nics=["br0"], vips=dict.fromkeys(BOTH, "br0"))
        assert [answering(node, vip) for vip in BOTH] == [{SECOND_MAC}] * 2
        node.switch.remove(BOTH)
        node.switch.others(BOTH)
        assert all(pings(node.client, vip) for vip in BOTH)


@pytest.mark.parametrize("alive", [True, False])
def test_k3_pods_reach_other_addresses_whether_alive_or_not(node: Node, pod: NetNamespace, alive: bool):
    node.ready(*BOTH)
    if alive:
        node.arm()
    for address in (CLIENT_IP, CLIENT_IP6, OWN_OF[VIP4], OWN_OF[VIP6]):
        eventually(lambda target=address: pings(pod, target), f"the pod reaches {address}")
    for address in (POD4, POD6):
        eventually(lambda target=address: pings(node.client, target), f"the client reaches {address}")


@pytest.mark.parametrize("vip", BOTH)
def test_k3_pods_reach_a_vip_in_health_without_any_neighbour_known(node: Node, pod: NetNamespace, vip: Vip):
    """Also in the other direction: what the node sends from the VIP finds the pod, though no ARP may name the VIP on its NIC."""
    node.ready(vip)
    node.arm()
    eventually(lambda: pings(pod, vip), "the pod reaches the VIP")  # the first proxy_arp answer is delayed (proxy_delay)
    node.ip("neigh flush dev cali0")
    with Sniffer(pod, "eth0") as sniffer:
        assert pings(node.space, POD6 if vip == VIP6 else POD4, source=vip)
        assert not [frame for frame in sniffer.frames if frame.claimed == vip and frame.kind == "arp"]


@pytest.mark.parametrize("vip", BOTH)
def test_k2_packets_of_pods_to_a_vip_that_is_not_alive_pass(node: Node, pod: NetNamespace, vip: Vip):
    """They come in by other NICs than the announcing ones, where nobody can be led astray: kube-proxy serves them locally."""
    node.ready(vip)
    eventually(lambda: pings(pod, vip), "the pod reaches the VIP")


def test_k2_a_nic_that_is_removed_and_made_again_is_covered_again(node: Node):
    node.switch.install(nics=["eth0", "eth5"], vips={})
    assert node.switch.covers("eth0")
    assert not node.switch.covers("eth5")
    assert not node.switch.covers("api0"), "never installed"
    node.ip("link add eth5 type veth peer name eth5p")
    if not node.switch.covers("eth5"):
        node.switch.install(nics=["eth0", "eth5"], vips={})
    assert node.switch.covers("eth5")
    node.ip("link del eth5")
    assert not node.switch.covers("eth5")


def test_k2_the_egress_hook_of_a_nic_that_came_back_drops(node: Node):
    node.ready(VIP4)
    lab = node.lan.ns("lab")
    lab.ip_batch(
        [
            "link del n1-eth0",
            f"link add name n1-eth0 type veth peer name eth0 address {node.mac} netns {node.space.path}",
            "link set n1-eth0 addrgenmode none master br-lan up",
        ]
    )
    node.ip("link set eth0 up")
    if not node.switch.covers("eth0"):
        node.switch.install(nics=["eth0"], vips={VIP4: "eth0"})
    assert node.announce(VIP4) == 0
    node.switch.admit({VIP4: "eth0"})
    node.arm()
    assert node.announce(VIP4) == 2
