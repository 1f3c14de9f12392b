"""Probes against scapy byte for byte, and the reader of foreign frames: what is a claim, what is none, and that no bytes hurt it."""

import ipaddress
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    in6_getnsma,
    in6_getnsmac,
)
from scapy.layers.l2 import ARP, Ether

from kvip import _arp_py
from kvip.core.conflict import Claim
from kvip.core.model import Vip, canonical, packed
from kvip.kernel import listen
from kvip.kernel.claims import read_claim
from kvip.kernel.filters import DROP, program
from kvip.kernel.probe import build_probes, solicited_node_mac

MAC = bytes.fromhex("02005e102030")
OTHER = bytes.fromhex("02005e0000ee")
TEXT, OTHER_TEXT = MAC.hex(":"), OTHER.hex(":")
NOBODY = "00:00:00:00:00:00"
ALL = "ff:ff:ff:ff:ff:ff"
VIP, VIP6 = Vip("192.0.2.7"), Vip("2001:db8::7")

COPIED = settings(max_examples=40)
"""Where values are only copied, what differs is the family: few examples have met each."""

macs = st.binary(min_size=6, max_size=6)
ipv4 = st.integers(1, 2**32 - 1).map(lambda number: canonical(ipaddress.IPv4Address(number)))
ipv6 = st.integers(1, 2**128 - 2**120 - 1).map(lambda number: canonical(ipaddress.IPv6Address(number)))


def single(frames, length):
    return [frames[at : at + length] for at in range(0, len(frames), length)]


def scapy_probe(mac, vip):
    text = mac.hex(":")
    if ":" not in vip:
        return bytes(Ether(src=text, dst=ALL) / ARP(hwsrc=text, psrc="0.0.0.0", hwdst=NOBODY, pdst=vip)).ljust(60, b"\0")
    group = in6_getnsma(packed(vip))
    address = IPv6(src="::", dst=str(ipaddress.IPv6Address(group)), hlim=255)
    return bytes(Ether(src=text, dst=in6_getnsmac(group)) / address / ICMPv6ND_NS(tgt=vip))


@COPIED
@given(macs, st.lists(ipv4 | ipv6, max_size=8))
def test_probes_are_those_of_another_implementation(mac, vips):
    frames = [frame for group in build_probes(mac, vips) for frame in single(*group)]
    ordered = [vip for vip in vips if ":" not in vip] + [vip for vip in vips if ":" in vip]
    assert frames == [scapy_probe(mac, vip) for vip in ordered]


def test_families_come_apart_and_only_those_that_occur():
    assert [(length, len(frames) // length) for frames, length in build_probes(MAC, [VIP6, VIP, VIP6])] == [(60, 1), (78, 2)]
    assert [length for _, length in build_probes(MAC, [VIP6])] == [78]
    assert build_probes(MAC, []) == []


def test_a_mac_of_another_size_is_refused():
    with pytest.raises(ValueError, match="mac is 8 bytes, must be 6"):
        build_probes(bytes(8), [VIP])


@COPIED
@given(ipv6)
def test_the_group_of_a_solicitation_is_that_of_another_implementation(vip):
    assert solicited_node_mac(packed(vip)).hex(":") == in6_getnsmac(in6_getnsma(packed(vip)))


# -- reading -----------------------------------------------------------------------------------------------------------


@COPIED
@given(macs, ipv4 | ipv6)
def test_a_probe_is_read_as_a_question_not_as_a_claim(mac, vip):
    ((frame, _),) = build_probes(mac, [vip])
    assert read_claim(frame) == Claim(vip=vip, mac=mac if any(mac) else frame[6:12], probing=True)


@COPIED
@given(macs.filter(any), ipv4, ipv6)
def test_announcements_are_read_as_claims(mac, vip, vip6):
    for frame in single(_arp_py.build_arp(mac, packed(vip)), 60):
        assert read_claim(frame) == Claim(vip=vip, mac=mac)
    assert read_claim(_arp_py.build_na(mac, packed(vip6), router=False)) == Claim(vip=vip6, mac=mac)


def arp(**fields):
    return bytes(Ether(src=TEXT, dst=ALL) / ARP(**{"hwsrc": OTHER_TEXT, "psrc": VIP, "pdst": "192.0.2.1", **fields}))


def nd(message, *options, src="fe80::1", dst="ff02::1", hlim=255):
    packet = Ether(src=TEXT, dst="33:33:00:00:00:01") / IPv6(src=src, dst=dst, hlim=hlim) / message
    for option in options:
        packet /= option
    return bytes(packet)


def test_the_claimed_mac_is_what_neighbours_would_learn_not_the_frames_source():
    assert read_claim(arp()) == Claim(vip=VIP, mac=OTHER)
    assert read_claim(arp(op=2)) == Claim(vip=VIP, mac=OTHER)
    assert read_claim(nd(ICMPv6ND_NA(tgt=VIP6, S=0), ICMPv6NDOptDstLLAddr(lladdr=OTHER_TEXT))) == Claim(vip=VIP6, mac=OTHER)


def test_a_frame_that_names_no_mac_has_that_of_its_source():
    assert read_claim(arp(hwsrc=NOBODY)) == Claim(vip=VIP, mac=MAC)
    assert read_claim(nd(ICMPv6ND_NA(tgt=VIP6, S=0))) == Claim(vip=VIP6, mac=MAC)
    assert read_claim(nd(ICMPv6ND_NS(tgt="2001:db8::9"), src=VIP6, dst="ff02::1:ff00:9")) == Claim(vip=VIP6, mac=MAC)


def test_a_link_layer_address_is_found_behind_other_options():
    frame = nd(ICMPv6ND_NA(tgt=VIP6, S=0), ICMPv6NDOptMTU(), ICMPv6NDOptDstLLAddr(lladdr=OTHER_TEXT))
    assert read_claim(frame) == Claim(vip=VIP6, mac=OTHER)


def test_a_solicitation_claims_its_source_and_not_its_target():
    frame = nd(ICMPv6ND_NS(tgt="2001:db8::9"), ICMPv6NDOptSrcLLAddr(lladdr=OTHER_TEXT), src=VIP6, dst="ff02::1:ff00:9")
    assert read_claim(frame) == Claim(vip=VIP6, mac=OTHER)


def test_a_unicast_answer_is_a_claim_too():
    assert read_claim(nd(ICMPv6ND_NA(tgt=VIP6, S=1), dst="2001:db8::1")) == Claim(vip=VIP6, mac=MAC)


GROUP = "ff02::1:ff00:7"
NO_CLAIM = {
    "RARP": arp(op=3),
    "operation 257": arp(op=0x0101),
    "ARP for another protocol": arp(ptype=0x86DD),
    "ARP for another hardware": arp(hwtype=6),
    "addresses of other sizes": arp(hwlen=8),
    "nobody says nobody": arp(psrc="0.0.0.0", pdst="0.0.0.0"),
    "reply without a sender": arp(op=2, psrc="0.0.0.0"),
    "hop limit 254: from beyond a router": nd(ICMPv6ND_NA(tgt=VIP6, S=0), hlim=254),
    "code 1": nd(ICMPv6ND_NA(tgt=VIP6, S=0, code=1)),
    "router solicitation": nd(ICMPv6ND_NA(tgt=VIP6, S=0, type=133)),
    "multicast target": nd(ICMPv6ND_NA(tgt="ff02::7", S=0)),
    "no target": nd(ICMPv6ND_NA(tgt="::", S=0)),
    "solicited to all": nd(ICMPv6ND_NA(tgt=VIP6, S=1)),
    "option of length 0": nd(ICMPv6ND_NA(tgt=VIP6, S=0), ICMPv6NDOptDstLLAddr(lladdr=OTHER_TEXT, len=0)),
    "DAD not to the target's group": nd(ICMPv6ND_NS(tgt=VIP6), src="::", dst="ff02::1"),
    "DAD with its source's MAC": nd(ICMPv6ND_NS(tgt=VIP6), ICMPv6NDOptSrcLLAddr(lladdr=OTHER_TEXT), src="::", dst=GROUP),
    "UDP": bytes(Ether(src=TEXT, dst=ALL) / IPv6(src=VIP6, dst=VIP6, nh=17, hlim=255)) + bytes(40),
    "IPv4": bytes(Ether(src=TEXT, dst=ALL, type=0x0800)) + bytes(60),
}


@pytest.mark.parametrize("name", NO_CLAIM)
def test_what_hosts_must_discard_is_no_claim(name):
    assert read_claim(NO_CLAIM[name]) is None


WHOLE = {
    "ARP": (arp(), 42),
    "NA": (nd(ICMPv6ND_NA(tgt=VIP6, S=0), ICMPv6NDOptDstLLAddr(lladdr=OTHER_TEXT)), 86),
    "DAD": (scapy_probe(MAC, VIP6), 78),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_frame_cut_short_anywhere_is_no_claim(kind):
    frame, size = WHOLE[kind]
    assert len(frame) == size
    assert read_claim(frame) is not None
    assert [read_claim(frame[:length]) for length in range(size)] == [None] * size


@given(st.binary(max_size=200))
def test_no_bytes_hurt_the_reader(data):
    check(data)


@given(st.sampled_from([frame for frame, _ in WHOLE.values()]), st.data())
def test_no_damage_to_a_good_frame_hurts_the_reader(frame, data):
    damaged = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(12, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    check(bytes(damaged[: cut or None]))


@given(st.binary(max_size=64), st.sampled_from([135, 136]))
@example(b"\x02", 136)
@example(b"\x02\x01\x00", 136)
@example(b"\x02\xff" + bytes(6), 136)
def test_no_options_hurt_the_reader(options, kind):
    head = nd(ICMPv6ND_NA(tgt=VIP6, S=0, type=kind), src=VIP6)
    check(head[:18] + struct.pack("!H", 24 + len(options)) + head[20:] + options)


def check(data):
    claim = read_claim(data)
    if claim is not None:
        assert len(claim.mac) == 6
        assert canonical(ipaddress.ip_address(claim.vip)) == claim.vip
        assert packed(claim.vip) in data


# -- the kernel's filter -----------------------------------------------------------------------------------------------


def run_filter(program, frame, *, packet_type=0):
    """Classic BPF as the kernel runs it, for the instructions that are used here."""
    instructions = list(struct.iter_unpack("HBBI", program))
    at = value = 0
    while True:
        code, if_true, if_false, k = instructions[at]
        at += 1
        if code == 0x06:
            return k
        if code in (0x28, 0x30):
            if k == 0xFFFFF004:
                value = packet_type
                continue
            size = 2 if code == 0x28 else 1
            if k + size > len(frame):
                return 0
            value = int.from_bytes(frame[k : k + size], "big")
        else:
            holds = {0x15: value == k, 0x25: value > k, 0x35: value >= k}[code]
            at += if_true if holds else if_false


ARP_PROGRAM, ND_PROGRAM = (program(checks, matched=listen._FRAME_BYTES, others=DROP) for checks in (listen._ARP_CHECKS, listen._ND_CHECKS))


@given(st.sampled_from([frame for frame, _ in WHOLE.values()]), st.integers(12, 85), st.integers(0, 255))
def test_the_filter_lets_through_every_frame_that_the_reader_takes_for_a_claim(frame, at, value):
    damaged = bytearray(frame)
    if at < len(damaged):
        damaged[at] = value
    if read_claim(bytes(damaged)) is not None:
        program = ARP_PROGRAM if damaged[12:14] == b"\x08\x06" else ND_PROGRAM
        assert run_filter(program, damaged) == 512


@pytest.mark.parametrize("packet_type", [3, 4, 5, 6])
def test_the_filter_drops_what_is_not_for_this_host(packet_type):
    assert run_filter(ARP_PROGRAM, WHOLE["ARP"][0], packet_type=packet_type) == 0
    assert run_filter(ND_PROGRAM, WHOLE["NA"][0], packet_type=packet_type) == 0
