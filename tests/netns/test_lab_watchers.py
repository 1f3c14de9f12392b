"""The sniffer and the prober of the lab: what later tests conclude from them is checked here against the plain kernel."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable

import pytest

from lab.lan import CLIENT_IP, Lan
from lab.netns import LabError
from lab.prober import Prober, probe_request
from lab.sniffer import Frame, Sniffer, decode
from tests.netns.lab_frames import OUT_OF_SUBNET, VIP, VIP6, arp_frame, send_frame, unbind

pytestmark = pytest.mark.netns
pytest_plugins = ["tests.netns.lab_fixtures"]


@pytest.mark.parametrize("vip", [VIP, VIP6, OUT_OF_SUBNET])
def test_prober_sees_one_holder_then_two_then_silence(lan: Lan, bind: Callable[[str, str], None], vip: str):
    with Prober(lan.ns("client"), "eth0", [vip]) as prober:
        assert prober.wait_answer(vip, timeout_s=0.1) is None
        bind("n1", vip)
        answer = prober.wait_answer(vip, timeout_s=2.0)
        assert answer is not None
        assert answer.mac == lan.mac("n1")
        prober.clear()
        assert not prober.wait_silent(vip, for_s=0.15, timeout_s=0.3)
        alone = prober.report(vip)
        assert (alone.two_answers_s, alone.switches, alone.macs) == (0.0, 0, {lan.mac("n1")})
        assert 0 < alone.longest_silence_s < 0.15
        assert alone.rounds >= 5

        bind("n2", vip)
        assert prober.wait_answer(vip, lan.mac("n2"), timeout_s=2.0) is not None
        time.sleep(0.2)
        assert prober.holders_now(vip) == {lan.mac("n1"), lan.mac("n2")}
        both = prober.report(vip)
        assert 0.1 < both.two_answers_s <= both.observed_s
        assert both.switches > 0

        unbind(lan, "n1", vip)
        unbind(lan, "n2", vip)
        assert prober.wait_silent(vip, for_s=0.25, timeout_s=2.0)
        assert prober.holders_now(vip) == set()
        gone = prober.report(vip)
        assert gone.longest_silence_s >= 0.25
        assert gone.last_answer is not None
        assert gone.two_answers_s < gone.observed_s - 0.25

        bind("n3", vip)
        assert prober.wait_answer(vip, lan.mac("n3"), timeout_s=2.0) is not None
        assert prober.report(vip).longest_silence_s >= 0.25  # an outage that is over is not forgotten


def test_prober_takes_no_announcement_for_an_answer(lan: Lan):
    with Prober(lan.ns("client"), "eth0", [VIP]) as prober, Sniffer(lan.ns("client"), "eth0", vips=[VIP]) as sniffer:
        send_frame(lan, "n1", arp_frame(2, lan.mac("n1"), VIP, VIP))
        assert sniffer.wait_for(lambda frame: frame.announcement, 2.0) is not None
        assert prober.wait_silent(VIP, for_s=0.1, timeout_s=2.0)
        assert prober.answers(VIP) == []


def test_prober_concludes_no_silence_from_requests_that_did_not_leave(lan: Lan):
    with Prober(lan.ns("n3"), "eth0", [VIP], source_ip="10.10.0.13") as prober:
        lan.nic_down("n3")
        prober.clear()
        try:
            assert not prober.wait_silent(VIP, for_s=0.1, timeout_s=0.3)
            assert prober.unsent > 0
        finally:
            lan.nic_up("n3")
        assert prober.wait_silent(VIP, for_s=0.1, timeout_s=2.0)


def test_prober_says_so_when_its_thread_has_ended(lan: Lan):
    lan.run("n1", "ip", "link", "add", "gone0", "type", "veth", "peer", "name", "gone1")
    lan.run("n1", "ip", "link", "set", "gone0", "up")
    with Prober(lan.ns("n1"), "gone0", [VIP]) as prober:
        lan.run("n1", "ip", "link", "del", "gone0")
        with pytest.raises(LabError, match="prober n1 gone0 ended"):
            prober.wait_answer(VIP, timeout_s=2.0)


def test_prober_refuses_its_own_address(lan: Lan):
    with pytest.raises(LabError, match="asks from"):
        Prober(lan.ns("client"), "eth0", [CLIENT_IP])


def test_sniffer_sees_the_announcements_that_the_kernel_makes_at_a_new_mac(lan: Lan, bind: Callable[[str, str], None]):
    bind("n3", VIP)
    bind("n3", VIP6)
    lan.ns("n3").sysctl({"ipv4/conf/eth0/arp_notify": "1", "ipv6/conf/eth0/ndisc_notify": "1"})
    began_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    try:
        with Sniffer(lan.ns("client"), "eth0", vips=[VIP, VIP6]) as sniffer:
            lan.run("n3", "ip", "link", "set", "eth0", "address", "02:00:00:00:00:aa")
            for vip, kind in ((VIP, "arp"), (VIP6, "na")):
                frame = sniffer.wait_for(lambda frame, vip=vip: frame.announcement and frame.claimed == vip, 2.0)
                assert frame is not None
                assert (frame.kind, frame.sender_mac, frame.eth_src) == (kind, "02:00:00:00:00:aa", "02:00:00:00:00:aa")
                assert began_s <= frame.at_s <= time.clock_gettime(time.CLOCK_BOOTTIME)
                assert sniffer.first_after(began_s, vip) == frame
                assert sniffer.first_after(time.clock_gettime(time.CLOCK_BOOTTIME), vip) is None
    finally:
        lan.ns("n3").sysctl({"ipv4/conf/eth0/arp_notify": "0", "ipv6/conf/eth0/ndisc_notify": "0"})
        lan.run("n3", "ip", "link", "set", "eth0", "address", lan.mac("n3"))


def test_sniffer_tells_announcements_from_questions_answers_and_probes(lan: Lan):
    mac = lan.mac("n1")
    with Sniffer(lan.ns("client"), "eth0", vips=[VIP]) as sniffer:
        send_frame(lan, "n1", arp_frame(1, mac, "0.0.0.0", VIP))  # probe
        send_frame(lan, "n1", arp_frame(1, mac, "10.10.0.11", VIP))  # question
        send_frame(lan, "n1", arp_frame(2, mac, VIP, CLIENT_IP))  # answer
        send_frame(lan, "n1", arp_frame(1, mac, "10.10.0.11", "10.10.0.98"))  # about nothing asked for
        send_frame(lan, "n1", arp_frame(1, mac, VIP, VIP))
        assert sniffer.wait_for(lambda frame: frame.announcement, 2.0) is not None
        assert [(f.announcement, f.claimed) for f in sniffer.frames] == [(False, ""), (False, "10.10.0.11"), (False, VIP), (True, VIP)]
        sniffer.clear()
        assert sniffer.frames == []
    assert sniffer.lost == 0


def test_sniffer_sees_solicitation_and_advert_of_the_kernel(lan: Lan, bind: Callable[[str, str], None]):
    bind("n2", VIP6)
    with Sniffer(lan.ns("client"), "eth0", vips=[VIP6]) as sniffer:
        assert lan.reaches("client", VIP6)
        advert = sniffer.wait_for(lambda frame: frame.kind == "na", 2.0)
        assert advert is not None
        assert (advert.sender_mac, advert.solicited, advert.announcement, advert.hop_limit) == (lan.mac("n2"), True, False, 255)
        assert any(frame.kind == "ns" and frame.outgoing for frame in sniffer.frames)


def test_unsolicited_advert_is_an_announcement():
    lladdr = b"\x02\x00\x00\x00\x00\x01"
    target = socket.inet_pton(socket.AF_INET6, VIP6)
    body = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + target + b"\x02\x01" + lladdr
    header = struct.pack("!IHBB", 0x60000000, len(body), 58, 255) + target + socket.inet_pton(socket.AF_INET6, "ff02::1")
    frame = decode(b"\x33\x33\x00\x00\x00\x01" + lladdr + b"\x86\xdd" + header + body)
    assert isinstance(frame, Frame)
    assert (frame.announcement, frame.override, frame.claimed, frame.sender_mac) == (True, True, VIP6, "02:00:00:00:00:01")


def test_what_is_too_short_or_something_else_is_no_frame():
    request = probe_request(VIP, mac=bytes(6), source_ip=CLIENT_IP)
    solicitation = probe_request(VIP6, mac=bytes(6), source_ip="fd00:10::100")
    assert decode(request) is not None
    assert decode(solicitation) is not None
    assert decode(request[:41]) is None
    assert decode(solicitation[:77]) is None
    assert decode(request[:12] + b"\x08\x00" + request[14:]) is None
