"""The dead-man's switch on one NIC, judged on the wire: K1, K2, K5, K6 and F1, for both families."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from kvip.core.model import Vip
from lab.lan import Lan
from tests.netns.switch_lab import BOTH, CLIENT_OF, OWN_OF, SILENCE_S, VIP4, VIP6, Node, pings

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("own_namespace")]
FREE_OF = {VIP4: "10.10.0.77", VIP6: "fd00:10::77"}
"""Addresses that nobody has, so that the kernel has to ask for them."""


@pytest.fixture
def node() -> Iterator[Node]:
    with Lan(1) as lan:
        node = Node(lan)
        yield node
        node.close()


@pytest.mark.parametrize("vip", BOTH)
def test_k1_bound_but_unarmed_is_silent_armed_answers_expired_is_silent(node: Node, vip: Vip):
    own = OWN_OF[vip]
    node.bind(vip)
    with node.asked(vip, own) as prober:
        assert prober.wait_answer(vip), "without the switch the kernel answers: else this test shows nothing"
        node.switch.install(nics=["eth0"], vips={vip: "eth0"})
        node.switch.admit({vip: "eth0"})
        assert prober.wait_silent(vip, for_s=SILENCE_S)
        node.arm(0.9)
        assert prober.wait_answer(vip, node.mac)
        assert prober.wait_silent(vip, for_s=SILENCE_S, timeout_s=2.0)
        node.arm()
        assert prober.wait_answer(vip, node.mac)
        node.switch.disarm()
        prober.clear()
        assert prober.wait_silent(vip, for_s=SILENCE_S)
        report = prober.report(own)
        assert report.longest_silence_s < 0.15, "the node's own address is not concerned"


def test_k1_a_group_does_not_keep_another_alive(node: Node):
    from kvip.kernel.switch import Switch
    from tests.netns.switch_lab import Inside

    node.plain.close()
    node.plain = node.space.call(lambda: Switch(clock=node.clock, groups=("main", "second")))
    node.switch = Inside(node.plain, node.space)
    node.ready(VIP4)
    node.arm(group="second")
    with node.asked(VIP4) as prober:
        assert prober.wait_silent(VIP4, for_s=SILENCE_S)
        node.switch.admit({VIP4: "eth0"}, "second")
        assert prober.wait_answer(VIP4)


@pytest.mark.parametrize("vip", BOTH)
def test_k2_packets_to_a_vip_that_is_not_alive_are_dropped(node: Node, vip: Vip):
    node.bind(vip)
    node.knows(vip)
    assert pings(node.client, vip), "without the switch"
    node.switch.install(nics=["eth0"], vips={vip: "eth0"})
    node.switch.admit({vip: "eth0"})
    assert not pings(node.client, vip)
    assert pings(node.client, OWN_OF[vip])
    node.arm()
    assert pings(node.client, vip)
    node.switch.silence({vip: "eth0"})
    assert not pings(node.client, vip)


@pytest.mark.parametrize("vip", BOTH)
def test_k2_a_packet_from_an_unarmed_vip_makes_no_frame_leave(node: Node, vip: Vip):
    """The kernel asks for the neighbour in the name of the packet's source: that question moves other hosts' caches."""
    node.ready(vip)
    with node.heard(vip, FREE_OF[vip]) as sniffer:
        node.speak(vip, FREE_OF[vip])
        node.speak(vip, CLIENT_OF[vip])
        time.sleep(SILENCE_S)
        assert not [frame for frame in sniffer.frames if vip in (frame.sender_ip, frame.claimed)]
        node.arm()
        node.speak(vip, FREE_OF[vip])
        assert sniffer.wait_for(lambda frame: frame.sender_ip == vip, 1.0), "armed, the same packet makes the kernel ask"


@pytest.mark.parametrize("vip", BOTH)
def test_k2_a_packet_from_an_unarmed_vip_does_not_leave_itself(node: Node, vip: Vip):
    node.ready(vip)
    assert pings(node.space, CLIENT_OF[vip])
    assert node.speak(vip, CLIENT_OF[vip]) == "Operation not permitted"
    node.arm()
    assert node.speak(vip, CLIENT_OF[vip]) == ""


def test_k2_the_kernels_own_gratuitous_arp_does_not_leave_unarmed(node: Node):
    node.ready(VIP4)
    node.space.sysctl({"ipv4/conf/eth0/arp_notify": "1"})
    with node.heard(VIP4, "10.10.0.11") as sniffer:
        node.ip("link set eth0 address 02:00:00:00:00:77")
        assert sniffer.wait_for(lambda frame: frame.announcement and frame.claimed == "10.10.0.11", 2.0), "arp_notify works"
        time.sleep(SILENCE_S)
        assert not [frame for frame in sniffer.frames if frame.claimed == VIP4]


@pytest.mark.parametrize("vip", BOTH)
def test_f1_and_k2_an_announcement_leaves_only_while_the_group_is_alive(node: Node, vip: Vip):
    """A packet socket's frames pass the egress hook alone, so a daemon that wakes up late cannot send either."""
    node.ready(vip)
    whole = 1 if vip == VIP6 else 2
    with node.heard(vip) as sniffer:
        assert node.announce(vip) == 0, "a dropping egress hook answers ENOBUFS: nothing was sent"
        node.arm(0.5)
        assert node.announce(vip) == whole
        assert sniffer.wait_for(lambda frame: frame.announcement and frame.claimed == vip, 1.0)
        time.sleep(0.5)
        sniffer.clear()
        assert node.announce(vip) == 0
        time.sleep(0.05)
        assert not sniffer.frames


def test_k2_announcements_of_addresses_that_are_not_in_the_switch_leave(node: Node):
    node.ready(VIP4)
    assert node.announce(Vip("10.10.0.201")) == 2
    assert node.announce(Vip("fd00:10::201")) == 1


def test_k5_what_is_bound_at_start_is_silent_in_the_transaction_that_installs(node: Node):
    """A predecessor's group is alive; the new rules replace it at once, with every VIP in them."""
    node.ready(*BOTH)
    node.arm()
    with node.asked(*BOTH) as prober:
        assert all(prober.wait_answer(vip) for vip in BOTH)
        node.switch.install(nics=["eth0"], vips=dict.fromkeys(BOTH, "eth0"))
        prober.clear()
        time.sleep(SILENCE_S)
        assert not any(prober.answers(vip) for vip in BOTH)
    assert node.switch.contents() == dict.fromkeys(BOTH, "silent")
    with pytest.raises(Exception, match="switched it off"):
        node.switch.rearm("main", until=node.clock.now() + 3)


def test_k5_a_vip_in_the_silent_chain_stays_silent_while_the_group_is_alive(node: Node):
    node.ready(VIP4)
    node.arm()
    node.bind(VIP6)
    node.switch.silence({VIP6: "eth0"})
    with node.asked(*BOTH) as prober:
        assert prober.wait_answer(VIP4)
        assert prober.wait_silent(VIP6, for_s=SILENCE_S)
        node.switch.admit({VIP6: "eth0"})
        assert prober.wait_answer(VIP6)


def test_k5_out_of_the_switch_an_address_is_anyones_again(node: Node):
    node.ready(*BOTH)
    node.switch.remove([*BOTH, Vip("10.10.0.99")])
    assert node.switch.contents() == {}
    with node.asked(*BOTH) as prober:
        assert all(prober.wait_answer(vip) for vip in BOTH)


@pytest.mark.parametrize("vip", BOTH)
def test_k6_others_answer_no_arp_and_no_ns_but_their_packets_pass(node: Node, vip: Vip):
    """As kube-proxy's IPVS mode has it: every Service address is local on a dummy NIC, and arp_ignore=0 lets eth0 answer for it."""
    node.ip("link add ipvs0 type bridge", "link set ipvs0 up")
    node.bind(vip, "ipvs0")
    if vip == VIP6:
        node.bind(vip)  # IPv6 answers for addresses of the same NIC only
    node.knows(vip)
    node.switch.install(nics=["eth0"], vips={})
    with node.asked(vip) as prober:
        assert prober.wait_answer(vip), "without `others` this node answers for what another one holds"
        node.switch.others([vip])
        prober.clear()
        assert prober.wait_silent(vip, for_s=SILENCE_S)
        assert pings(node.client, vip)
        node.switch.others([])
        assert prober.wait_answer(vip)


def test_k6_others_stay_silent_whatever_is_armed_and_a_removed_vip_returns_to_them(node: Node):
    node.ready(VIP4)
    node.arm()
    node.switch.others([VIP4, VIP6])
    assert node.switch.contents() == {VIP4: "main", VIP6: "others"}
    with node.asked(VIP4) as prober:
        assert prober.wait_answer(VIP4)
        node.switch.remove([VIP4])
        assert node.switch.contents() == {VIP4: "others", VIP6: "others"}
        prober.clear()
        assert prober.wait_silent(VIP4, for_s=SILENCE_S)
    assert node.switch.intact()
