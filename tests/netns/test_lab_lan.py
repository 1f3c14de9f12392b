"""The LAN of the lab, its sniffer and its prober: what later tests conclude from them is checked here against the plain kernel."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from kvip.core.model import IfIndex, Vip
from kvip.kernel.batches import AddressOp, AddressSocket, vip_address
from lab.lan import API_IP, CLIENT_IP, Lan
from lab.netns import LabError, NetNamespace, require_private_namespace
from lab.node import NodeProcess
from lab.prober import Prober, probe_request
from lab.sniffer import Frame, Sniffer, decode

pytestmark = pytest.mark.netns

VIP, VIP6 = "10.10.0.200", "fd00:10::200"
OUT_OF_SUBNET = "192.0.2.7"
CLIENT_MAC = "02:00:00:00:00:64"


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    with Lan(3) as lan:
        yield lan


@pytest.fixture
def bind(lan: Lan) -> Iterator[Callable[[str, str], None]]:
    """Bind an address on a node's eth0 as kvip does: /32 or /128, usable at once; taken off after the test."""
    bound: list[tuple[str, str]] = []

    def bind(node: str, ip: str) -> None:
        host = f"{ip}/{128 if ':' in ip else 32}"
        lan.run(node, "ip", "addr", "add", host, "dev", "eth0", *(("nodad",) if ":" in ip else ()))
        bound.append((node, host))

    yield bind
    for node, host in bound:
        lan.run(node, "ip", "addr", "del", host, "dev", "eth0", check=False)


def unbind(lan: Lan, node: str, ip: str) -> None:
    lan.run(node, "ip", "addr", "del", f"{ip}/{128 if ':' in ip else 32}", "dev", "eth0")


def send_frame(lan: Lan, machine: str, frame: bytes) -> None:
    with lan.ns(machine).socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind(("eth0", 0))
        sender.send(frame)


def arp_frame(op: int, mac: str, sender: str, target: str) -> bytes:
    raw = bytes.fromhex(mac.replace(":", ""))
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, op) + raw + socket.inet_aton(sender) + bytes(6) + socket.inet_aton(target)
    return b"\xff" * 6 + raw + b"\x08\x06" + arp + bytes(18)


def test_machines_reach_each_other_by_both_families_at_once(lan: Lan):
    assert lan.reaches("client", "10.10.0.11")
    assert lan.reaches("client", "fd00:10::13")
    assert lan.reaches("n3", "fd00:10::100")
    assert lan.reaches("n2", API_IP)
    assert not lan.reaches("client", VIP, timeout_s=0.1)
    assert not lan.reaches("client", API_IP, timeout_s=0.1)  # the client is not on the management LAN


def test_macs_and_addresses_are_the_documented_ones(lan: Lan):
    assert [(a.ip, a.prefix_len) for a in lan.addresses("n1", "eth0")][:2] == [("10.10.0.11", 24), ("fd00:10::11", 64)]
    assert [a.ip for a in lan.addresses("n2") if a.nic == "api0" and "." in a.ip] == ["10.99.0.12"]
    assert lan.reaches("client", "10.10.0.12")
    assert lan.neighbour("client", "10.10.0.12") == lan.mac("n2") == "02:00:00:00:00:02"
    assert lan.neighbour("client", "10.10.0.99") is None
    assert lan.mac("client") == CLIENT_MAC


def test_bridged_frames_do_not_pass_the_rules_of_the_lab_namespace(lan: Lan):
    lan.run("lab", "nft", "add table inet lab_drop; add chain inet lab_drop f { type filter hook forward priority 0; policy drop; }")
    try:
        assert lan.reaches("client", "10.10.0.13", timeout_s=0.5)
    finally:
        lan.run("lab", "nft", "delete table inet lab_drop")


def test_cutting_a_lan_stops_its_frames_but_not_the_carrier(lan: Lan):
    lan.cut_api("n1", True)
    assert not lan.reaches("n1", API_IP, timeout_s=0.15)
    assert lan.reaches("n1", "10.10.0.12")
    assert "LOWER_UP" in lan.run("n1", "ip", "link", "show", "api0").stdout
    lan.cut_api("n1", False)
    assert lan.reaches("n1", API_IP)
    lan.cut_lan("n1")
    assert not lan.reaches("n2", "10.10.0.11", timeout_s=0.15)
    lan.cut_lan("n1", False)
    assert lan.reaches("client", "10.10.0.11")


def test_nic_down_and_pulled_cable_differ_and_can_be_undone(lan: Lan):
    lan.pull_cable("n3")
    assert "NO-CARRIER" in lan.run("n3", "ip", "link", "show", "eth0").stdout
    lan.pull_cable("n3", False)
    lan.nic_down("n3")
    assert not lan.reaches("client", "10.10.0.13", timeout_s=0.1)
    lan.nic_up("n3")
    assert lan.reaches("client", "10.10.0.13")
    assert lan.reaches("client", "fd00:10::13")
    assert lan.run("n3", "ip", "route", "get", OUT_OF_SUBNET).stdout.split()[2] == "eth0"


def test_commands_and_failures_name_the_machine(lan: Lan):
    assert lan.run("n1", "ip", "-br", "addr", "show", "eth0").stdout.split()[2].startswith("10.10.0.11/")
    command = lan.ns("n2").command("ip", "-br", "addr", "show", "eth0")
    by_nsenter = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
    assert "10.10.0.12/24" in by_nsenter.stdout
    with pytest.raises(LabError, match=r"in n1: exit"):
        lan.run("n1", "ip", "link", "show", "nosuch0")
    with pytest.raises(LabError, match=r"(?s)in n1.*line: link set nosuch0 up"):
        lan.ns("n1").ip_batch(["link set lo up", "link set nosuch0 up"])
    with pytest.raises(LabError, match="no machine 'n9'"):
        lan.run("n9", "true")


def test_a_function_run_inside_leaves_the_calling_thread_where_it_was(lan: Lan):
    before = os.readlink("/proc/thread-self/ns/net")
    inside = lan.ns("n1").call(lambda: os.readlink("/proc/thread-self/ns/net"))
    assert inside != before == os.readlink("/proc/thread-self/ns/net")
    with pytest.raises(ZeroDivisionError):
        lan.ns("n1").call(lambda: 1 // 0)


def test_a_namespace_with_a_real_nic_is_refused(monkeypatch: pytest.MonkeyPatch):
    require_private_namespace()
    listing = '[{"ifname": "lo", "link_type": "loopback"}, {"ifname": "ens3", "link_type": "ether"}]'
    real = subprocess.CompletedProcess(["ip"], 0, stdout=listing)
    monkeypatch.setattr(NetNamespace, "run", lambda *_, **__: real)
    with pytest.raises(LabError, match="ens3"):
        require_private_namespace()


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


def test_node_process_starts_freezes_and_ends_inside_its_namespace(lan: Lan, tmp_path, monkeypatch: pytest.MonkeyPatch):
    # A stand-in for the interpreter: prints where it runs and what it was told, as a log line, then waits.
    stand_in = tmp_path / "python"
    stand_in.write_text(
        f"#!{sys.executable}\nimport os, signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        'print(\'{"args": "%s", "ns": "%s", "nic": "%s"}\' % ("".join(sys.argv[1:]), os.readlink("/proc/self/ns/net"), '
        'os.environ["vip_interface"]), "no json", sep="\\n", flush=True)\ntime.sleep(60)\n'
    )
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    with NodeProcess(lan, "n1", kubeconfig=tmp_path / "kubeconfig", work_dir=tmp_path) as node:
        deadline = time.monotonic() + 5
        while len(node.logs()) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        space = lan.ns("n1").call(lambda: os.readlink("/proc/thread-self/ns/net"))
        assert node.logs() == [{"args": "-mkvipmanager", "ns": space, "nic": "eth0"}, {"unparsed": "no json"}]
        node.freeze()
        assert _state(node.pid) == "T"
        with pytest.raises(LabError, match=r"not ready after 0.1 s .*no answer"):
            node.wait_ready(0.1)
        node.thaw()
        assert node.stop() < 2.0
        node.start()
        node.kill9()
        assert node.returncode == -signal.SIGKILL
        with pytest.raises(LabError, match="does not run"):
            node.stop()
        with pytest.raises(LabError, match="ended with -9"):
            node.wait_ready(0.1)
        node.start()
        node.freeze()
    assert not node.running


def _state(pid: int) -> str:
    deadline = time.monotonic() + 2
    state = ""
    while time.monotonic() < deadline and state != "T":
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            state = file.read().rpartition(")")[2].split()[0]
    return state


def test_marked_addresses_are_told_from_others(lan: Lan, bind: Callable[[str, str], None], tmp_path):
    node = NodeProcess(lan, "n2", kubeconfig=tmp_path / "kubeconfig", work_dir=tmp_path)
    bind("n2", VIP)
    assert node.vips() == []

    def add() -> None:
        index = IfIndex(socket.if_nametoindex("eth0"))
        with AddressSocket() as addresses:
            wanted = [AddressOp(kind="add", address=vip_address(Vip(ip), index, valid_s=60)) for ip in (VIP6, "10.10.0.202", "10.10.0.21")]
            assert [result.errno for result in addresses.apply(wanted)] == [0, 0, 0]

    lan.ns("n2").call(add)
    assert node.vips() == ["10.10.0.21", "10.10.0.202", VIP6]
    for ip in node.vips():
        unbind(lan, "n2", ip)
    assert node.vips() == []
