"""The LAN of the lab and its nodes: what later tests conclude from them is checked here against the plain kernel."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from kvip.core.model import IfIndex, Vip
from kvip.kernel.batches import AddressOp, AddressSocket, vip_address
from lab.lan import API_IP, Lan
from lab.netns import LabError, NetNamespace, require_private_namespace
from lab.node import NodeProcess
from tests.netns.lab_frames import CLIENT_MAC, OUT_OF_SUBNET, VIP, VIP6, unbind

pytestmark = pytest.mark.netns
pytest_plugins = ["tests.netns.lab_fixtures"]


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
