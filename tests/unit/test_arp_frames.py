"""Frames byte for byte: both implementations against each other and against scapy, and what a send reports.

Sends go over a local datagram socket pair, which keeps frame borders and fills up, so no privileges are needed.
"""

from __future__ import annotations

import errno
import importlib
import importlib.util
import os
import socket
import subprocess
import sys
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from kvip import _arp_py
from kvip.core.model import IfIndex, Link, Vip
from kvip.errors import AnnounceError
from kvip.kernel import packet

MAC = bytes.fromhex("02005e102030")
MAC_TEXT = "02:00:5e:10:20:30"
BROADCAST = "ff:ff:ff:ff:ff:ff"

HAS_EXTENSION = importlib.util.find_spec("kvip._arp") is not None
NAMES = ["kvip._arp_py", "kvip._arp"] if HAS_EXTENSION else ["kvip._arp_py"]


@pytest.fixture(params=NAMES)
def arp(request) -> ModuleType:
    """Each implementation that is installed."""
    return importlib.import_module(request.param)


@pytest.fixture(scope="module")
def extension() -> ModuleType:
    try:
        return importlib.import_module("kvip._arp")
    except ImportError as problem:
        pytest.fail(f"kvip._arp cannot be imported ({problem}); build it: python setup.py build_ext --inplace")


@pytest.fixture
def pair():
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    right.setblocking(False)
    with left, right:
        yield left, right


def outcome(function, *args, **kwargs):
    try:
        return function(*args, **kwargs)
    except (ValueError, OSError) as problem:
        return type(problem), str(problem)


MACS = st.one_of(st.binary(min_size=6, max_size=6), st.binary(max_size=8))


@given(mac=MACS, vips=st.one_of(st.lists(st.binary(min_size=4, max_size=4)).map(b"".join), st.binary(max_size=40)))
def test_extension_and_twin_build_identical_arp(extension, mac, vips):
    assert outcome(extension.build_arp, mac, vips) == outcome(_arp_py.build_arp, mac, vips)


@given(
    mac=MACS,
    vips=st.one_of(st.lists(st.binary(min_size=16, max_size=16)).map(b"".join), st.binary(max_size=70)),
    router=st.booleans(),
)
def test_extension_and_twin_build_identical_advertisements(extension, mac, vips, router):
    assert outcome(extension.build_na, mac, vips, router=router) == outcome(_arp_py.build_na, mac, vips, router=router)


@given(size=st.integers(0, 300), frame_len=st.integers(-2, 90))
def test_extension_and_twin_refuse_the_same_batches(extension, size, frame_len):
    # Descriptor -1: what passes the checks of sizes comes back as EBADF from both.
    assert outcome(extension.send_batch, -1, bytes(size), frame_len) == outcome(_arp_py.send_batch, -1, bytes(size), frame_len)


ADDRESSES = st.one_of(
    st.ip_addresses().map(str), st.sampled_from(["", "192.0.2.300", "192.0.2.7\0", "::1%lo", "x", "::ffff:192.0.2.7", "ä"])
)


@given(mac=MACS, vips=st.lists(ADDRESSES, max_size=12), router=st.booleans())
def test_extension_and_twin_build_identical_rounds(extension, mac, vips, router):
    assert outcome(extension.build_round, mac, vips, router=router) == outcome(_arp_py.build_round, mac, vips, router=router)


def test_extension_and_twin_have_the_same_names_and_constants(extension):
    for name in ("ARP_FRAME_LEN", "NA_FRAME_LEN", "MAX_BATCH"):
        assert getattr(extension, name) == getattr(_arp_py, name)
    assert (_arp_py.ARP_FRAME_LEN, _arp_py.NA_FRAME_LEN, _arp_py.MAX_BATCH) == (60, 86, 1024)


def test_arp_is_announcement_then_reply_for_each_vip(arp):
    frames = arp.build_arp(MAC, socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.255"))
    assert len(frames) == 4 * 60
    for number, vip in enumerate(["192.0.2.7", "192.0.2.7", "198.51.100.255", "198.51.100.255"]):
        raw = frames[number * 60 : number * 60 + 60]
        assert raw[42:] == bytes(18)
        ether = Ether(raw)
        assert (ether.dst, ether.src, ether.type) == (BROADCAST, MAC_TEXT, 0x0806)
        decoded = ether[ARP]
        assert (decoded.hwtype, decoded.ptype, decoded.hwlen, decoded.plen) == (1, 0x0800, 6, 4)
        assert (decoded.psrc, decoded.pdst, decoded.hwsrc) == (vip, vip, MAC_TEXT)
        is_reply = number % 2 == 1
        assert decoded.op == (2 if is_reply else 1)
        assert decoded.hwdst == (MAC_TEXT if is_reply else "00:00:00:00:00:00")


# ffff:... and the all-zero address are the ends of the checksum's carries.
@pytest.mark.parametrize("router", [False, True])
@pytest.mark.parametrize("vip", ["2001:db8::7", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::", "fd00:1:2:3:4:5:6:7"])
def test_advertisement_is_unsolicited_overriding_and_has_the_right_checksum(arp, vip, router):
    raw = arp.build_na(MAC, socket.inet_pton(socket.AF_INET6, vip), router=router)
    assert len(raw) == 86
    ether = Ether(raw)
    assert (ether.dst, ether.src, ether.type) == ("33:33:00:00:00:01", MAC_TEXT, 0x86DD)
    ip = ether[IPv6]
    assert (ip.version, ip.tc, ip.fl, ip.plen, ip.nh, ip.hlim, ip.src, ip.dst) == (6, 0, 0, 32, 58, 255, vip, "ff02::1")
    advert = ether[ICMPv6ND_NA]
    assert (advert.type, advert.code, advert.R, advert.S, advert.O, advert.res, advert.tgt) == (136, 0, int(router), 0, 1, 0, vip)
    option = advert[ICMPv6NDOptDstLLAddr]
    assert (option.type, option.len, option.lladdr) == (2, 1, MAC_TEXT)
    recomputed = Ether(raw)
    del recomputed[ICMPv6ND_NA].cksum
    assert bytes(recomputed) == raw


@given(vips=st.lists(st.binary(min_size=16, max_size=16), max_size=8), mac=st.binary(min_size=6, max_size=6), router=st.booleans())
def test_advertisements_sum_to_all_ones_with_the_pseudo_header(vips, mac, router):
    # RFC 1071: over data that includes its own checksum, the ones' complement sum is 0xffff.
    frames = _arp_py.build_na(mac, b"".join(vips), router=router)
    for start, vip in zip(range(0, len(frames), 86), vips, strict=True):
        frame = frames[start : start + 86]
        assert (frame[22:38], frame[62:78]) == (vip, vip)
        data = frame[22:54] + (32).to_bytes(4, "big") + (58).to_bytes(4, "big") + frame[54:]
        total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        assert total == 0xFFFF


def test_no_vips_build_no_frames(arp):
    assert arp.build_arp(MAC, b"") == b""
    assert arp.build_na(MAC, b"", router=False) == b""


@pytest.mark.parametrize("size", [0, 5, 7, 20])
def test_wrong_mac_size_is_named(arp, size):
    with pytest.raises(ValueError, match=f"mac is {size} bytes, must be 6"):
        arp.build_arp(bytes(size), bytes(4))
    with pytest.raises(ValueError, match=f"mac is {size} bytes, must be 6"):
        arp.build_na(bytes(size), bytes(16), router=False)


def test_wrong_address_sizes_are_named(arp):
    with pytest.raises(ValueError, match="vips is 5 bytes, must be a multiple of 4"):
        arp.build_arp(MAC, bytes(5))
    with pytest.raises(ValueError, match="vips is 20 bytes, must be a multiple of 16"):
        arp.build_na(MAC, bytes(20), router=False)


@pytest.mark.parametrize(
    ("size", "frame_len", "message"),
    [
        (60, 0, "frame_len is 0, must be at least 1"),
        (60, -1, "frame_len is -1, must be at least 1"),
        (61, 60, "frames is 61 bytes, must be a multiple of frame_len 60"),
        (1025 * 60, 60, "frames holds 1025 frames, must be at most 1024"),
    ],
)
def test_wrong_batches_are_refused_before_anything_is_sent(arp, pair, size, frame_len, message):
    left, right = pair
    with pytest.raises(ValueError, match=message):
        arp.send_batch(left.fileno(), bytes(size), frame_len)
    with pytest.raises(BlockingIOError):
        right.recv(100)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_each_frame_leaves_whole_and_in_order(arp, pair, kind):
    left, right = pair
    frames = arp.build_arp(MAC, bytes(range(8)))
    assert arp.send_batch(left.fileno(), kind(frames), 60) == 4
    assert b"".join(right.recv(1000) for _ in range(4)) == frames
    with pytest.raises(BlockingIOError):
        right.recv(100)


def test_a_scattered_buffer_is_refused(arp, pair):
    with pytest.raises(BufferError):
        arp.send_batch(pair[0].fileno(), memoryview(bytes(240))[::2], 60)


def test_an_empty_batch_sends_nothing(arp):
    assert arp.send_batch(-1, b"", 60) == 0


def test_a_filling_queue_is_a_short_count_and_a_full_one_is_zero(arp, pair):
    left, right = pair
    frames = b"".join(number.to_bytes(2, "big") * 30 for number in range(1024))
    sent = arp.send_batch(left.fileno(), frames, 60)
    assert 0 < sent < 1024
    assert arp.send_batch(left.fileno(), frames[sent * 60 :], 60) == 0
    assert b"".join(right.recv(100) for _ in range(sent)) == frames[: sent * 60]
    assert arp.send_batch(left.fileno(), frames[sent * 60 : sent * 60 + 60], 60) == 1


def test_another_error_on_the_first_frame_is_raised(arp, pair):
    left, right = pair
    right.close()
    with pytest.raises(ConnectionRefusedError) as caught:
        arp.send_batch(left.fileno(), bytes(120), 60)
    assert caught.value.errno == errno.ECONNREFUSED
    with pytest.raises(OSError) as caught:
        arp.send_batch(-1, bytes(60), 60)
    assert caught.value.errno == errno.EBADF


def test_the_callers_descriptor_stays_open(arp, pair):
    left, _ = pair
    arp.send_batch(left.fileno(), bytes(60), 60)
    os.fstat(left.fileno())


def test_a_round_groups_families_and_keeps_order(arp):
    groups = arp.build_round(MAC, [Vip("192.0.2.7"), Vip("2001:db8::7"), Vip("192.0.2.1")], router=True)
    assert groups == [
        (_arp_py.build_arp(MAC, bytes([192, 0, 2, 7, 192, 0, 2, 1])), 60),
        (_arp_py.build_na(MAC, socket.inet_pton(socket.AF_INET6, "2001:db8::7"), router=True), 86),
    ]
    assert [length for _, length in arp.build_round(MAC, [Vip("::1")])] == [86]
    assert arp.build_round(MAC, []) == []


def test_what_is_no_address_is_named(arp):
    with pytest.raises(ValueError, match=r"'192\.0\.2\.300' is not an IP address"):
        arp.build_round(MAC, ["192.0.2.7", "192.0.2.300"])


@pytest.mark.parametrize(("arp_type", "mac"), [(32, bytes(20)), (772, bytes(6)), (1, b""), (65534, b"")])
def test_a_nic_that_is_not_ethernet_is_refused(arp_type, mac):
    link = Link(index=IfIndex(1), name="odd0", mac=mac, up=True, carrier=True, arp_type=arp_type)
    with pytest.raises(AnnounceError, match=f"cannot announce on odd0: it is not Ethernet .hardware type {arp_type}"):
        packet.PacketSocket(link)


def chosen(setup: str, **environment: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{setup}\nimport kvip.kernel.packet as p; print(p.IMPLEMENTATION, p.send_batch.__module__)"],
        env={**{key: value for key, value in os.environ.items() if key != "KVIP_NO_EXTENSIONS"}, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    return done.stdout.strip(), done.stderr.strip()


def test_the_twin_is_chosen_on_request_and_when_the_extension_is_absent():
    assert chosen("", KVIP_NO_EXTENSIONS="1") == ("python kvip._arp_py", "")
    assert chosen("import sys; sys.modules['kvip._arp'] = None") == ("python kvip._arp_py", "")


def test_a_broken_extension_is_replaced_by_the_twin_with_a_warning():
    refuse = (
        "import sys\n"
        "class Broken:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'kvip._arp': raise ImportError('undefined symbol: sendmmsg')\n"
        "sys.meta_path.insert(0, Broken())"
    )
    assert chosen(refuse) == ("python kvip._arp_py", "extension cannot be loaded, using the slower twin")


def test_the_extension_is_chosen_when_it_is_there(extension):
    assert extension is not None
    assert chosen("") == ("cython kvip._arp", "")


def test_an_extension_of_another_version_is_replaced_by_the_twin_with_a_warning():
    older = "import sys, types\nsys.modules['kvip._arp'] = types.ModuleType('kvip._arp')"
    assert chosen(older) == ("python kvip._arp_py", "extension is of another version, using the slower twin")
