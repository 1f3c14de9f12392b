"""Packet sockets on a real veth pair: what the peer receives, full queues, NICs that go down or away."""

from __future__ import annotations

import ctypes
import errno
import importlib
import importlib.util
import os
import socket
import subprocess

import pytest

from kvip.core.model import IfIndex, Link, Vip
from kvip.errors import AnnounceError
from kvip.kernel import packet

pytestmark = pytest.mark.netns

NIC, PEER = "kvps0", "kvps1"
MAC = bytes.fromhex("02005e102030")
ETH_P_ALL = 3
CLONE_NEWNET = 0x40000000
SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20
VIPS = [Vip("192.0.2.7"), Vip("2001:db8::7"), Vip("192.0.2.8"), Vip("2001:db8::8")]
NAMES = ["kvip._arp_py", "kvip._arp"] if importlib.util.find_spec("kvip._arp") else ["kvip._arp_py"]


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)


@pytest.fixture
def own_netns():
    """A network namespace for one test; os.unshare exists only since Python 3.12."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET) != 0:
            pytest.skip(f"needs root for a network namespace of its own: {os.strerror(ctypes.get_errno())}")
        yield
        assert libc.setns(home, CLONE_NEWNET) == 0
    finally:
        os.close(home)


@pytest.fixture
def link(own_netns):
    run("ip", "link", "add", NIC, "address", MAC.hex(":"), "type", "veth", "peer", "name", PEER)
    for name in (NIC, PEER):
        run("ip", "link", "set", name, "addrgenmode", "none")
        run("ip", "link", "set", name, "up")
    return Link(index=IfIndex(socket.if_nametoindex(NIC)), name=NIC, mac=MAC, up=True, carrier=True)


@pytest.fixture
def port(link):
    opened = packet.PacketSocket(link)
    yield opened
    opened.close()


@pytest.fixture(params=NAMES)
def implementation(request, monkeypatch):
    """The socket sends with each implementation that is installed."""
    monkeypatch.setattr(packet, "send_batch", importlib.import_module(request.param).send_batch)


def receive(sniffer: socket.socket, count: int) -> list[bytes]:
    """The next `count` announcement frames; the kernel's own chatter (MLD) is passed over."""
    frames: list[bytes] = []
    while len(frames) < count:
        frame = sniffer.recv(2000)
        if frame[12:14] == b"\x08\x06" or (frame[12:14] == b"\x86\xdd" and frame[54] == 136):
            frames.append(frame)
    return frames


@pytest.mark.usefixtures("implementation")
def test_the_peer_receives_both_families_byte_for_byte(port):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as sniffer:
        sniffer.bind((PEER, ETH_P_ALL))
        sniffer.settimeout(5)
        groups = packet.build_round(MAC, VIPS)
        assert [port.send(frames, length) for frames, length in groups] == [4, 2]
        received = receive(sniffer, 6)
    (arp, arp_len), (advert, advert_len) = groups
    assert [len(frame) for frame in received] == [60] * 4 + [86] * 2
    assert b"".join(received[:4]) == arp
    assert b"".join(received[4:]) == advert
    assert (arp_len, advert_len) == (60, 86)


@pytest.mark.usefixtures("implementation")
def test_a_full_queue_is_a_short_count_then_zero(port):
    # 3,000 bytes at 1 byte/s: the qdisc answers ENOBUFS (NET_XMIT_DROP) once its queue is full.
    run("tc", "qdisc", "add", "dev", NIC, "root", "tbf", "rate", "8bit", "burst", "1540", "limit", "3000")
    frames = packet.build_round(MAC, [Vip(f"192.0.2.{last}") for last in range(1, 129)])[0][0]
    sent = port.send(frames, 60)
    assert 0 < sent < 256
    assert port.send(frames[sent * 60 :], 60) == 0


@pytest.mark.usefixtures("implementation")
def test_an_egress_hook_that_drops_leaves_nothing_and_is_no_error(port):
    # The dead-man's switch drops in this hook.
    run("nft", f'add table netdev t; add chain netdev t out {{ type filter hook egress device "{NIC}" priority 0; policy drop; }}')
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as sniffer:
        sniffer.bind((PEER, ETH_P_ALL))
        sniffer.settimeout(5)
        frames, length = packet.build_round(MAC, VIPS[:1])[0]
        assert port.send(frames, length) == 0
        run("nft", "delete table netdev t")
        marker, length = packet.build_round(MAC, [Vip("203.0.113.1")])[0]
        assert port.send(marker, length) == 2
        assert b"".join(receive(sniffer, 2)) == marker


@pytest.mark.usefixtures("implementation")
def test_a_nic_that_is_down_or_gone_raises(link, port):
    frames, length = packet.build_round(MAC, VIPS[:1])[0]
    run("ip", "link", "set", NIC, "down")
    with pytest.raises(OSError) as caught:
        port.send(frames, length)
    assert caught.value.errno == errno.ENETDOWN
    run("ip", "link", "set", NIC, "up")
    assert port.send(frames, length) == 2
    run("ip", "link", "del", NIC)
    with pytest.raises(OSError) as caught:
        port.send(frames, length)
    assert caught.value.errno in (errno.ENODEV, errno.ENXIO)
    with pytest.raises(AnnounceError, match=f"cannot announce on {NIC}: there is no NIC with index {link.index}"):
        packet.PacketSocket(link)


def test_a_renamed_nic_keeps_its_socket_and_can_be_opened(link, port):
    frames, length = packet.build_round(MAC, VIPS[:1])[0]
    run("ip", "link", "set", NIC, "down")
    run("ip", "link", "set", NIC, "name", "kvps2")
    run("ip", "link", "set", "kvps2", "up")
    assert port.send(frames, length) == 2
    again = packet.PacketSocket(link)
    assert again.send(frames, length) == 2
    again.close()


def test_the_socket_receives_nothing_never_blocks_and_keeps_the_qdisc(port):
    sock = port._sock
    assert not sock.getblocking()
    assert not os.get_blocking(port.fileno())
    assert sock.getsockopt(SOL_PACKET, PACKET_QDISC_BYPASS) == 0
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) >= 1 << 20
    run("ip", "link", "set", PEER, "address", "02:00:5e:10:20:31")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        sender.bind((PEER, 0))
        sender.send(packet.build_round(MAC, VIPS[:1])[0][0][:60])
    with pytest.raises(BlockingIOError):
        sock.recv(100)


def test_a_closed_socket_sends_nothing(link):
    port = packet.PacketSocket(link)
    port.close()
    port.close()
    with pytest.raises(OSError) as caught:
        port.send(bytes(60), 60)
    assert caught.value.errno == errno.EBADF
