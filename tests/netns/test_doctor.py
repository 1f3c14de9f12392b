"""`kvip doctor` on the real kernel: it sees what is there, and changes nothing."""

import json
import os
import socket
from pathlib import Path

import pytest

from kvip.cli import main
from kvip.kernel.batches import AddressSocket
from tests.netns.sweep_bench import KUBE_VIP_NFT, add, nft, picture

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("no_rules")]
pytest_plugins = ["tests.netns.sweep_fixtures"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def doctor(capsys, tmp_path):
    """`kvip doctor` as a function: exit code, findings by check, what could not be seen."""
    (tmp_path / "proc").mkdir()

    def run(*arguments):
        code = main.main(["doctor", "--json", "--host-root", str(tmp_path), "--state-dir", str(tmp_path), "--node-name", "n1", *arguments])
        document = json.loads(capsys.readouterr().out)
        return code, {found["check"]: found for found in document["findings"]}, {unseen["what"] for unseen in document["unseen"]}

    return run


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")


@pytest.fixture
def sysctl():
    """Set one, and put it back."""
    before = {}

    def put(nic, name, value):
        path = Path(f"/proc/sys/net/ipv4/conf/{nic}/{name}")
        before.setdefault(path, path.read_text())
        path.write_text(str(value))

    yield put
    for path, value in before.items():
        if path.exists():
            path.write_text(value)


def test_without_an_api_server_it_says_what_it_could_not_look_at(veth, doctor):
    code, found, unseen = doctor("--interface", veth.name)
    assert code == 0, found
    assert set(found) <= {"clock-off"}
    assert unseen >= {"the cluster", "kube-proxy's mode"}


def test_what_is_wrong_here_is_found_and_nothing_is_changed(veth, addresses, run_ip, doctor, sysctl):
    run_ip("addr", "add", "10.1.0.1/24", "dev", veth.name)
    run_ip("addr", "add", "10.1.0.50/32", "dev", veth.name, "preferred_lft", "0")
    run_ip("link", "add", "kube-ipvs0", "type", "bridge")
    try:
        run_ip("addr", "add", "10.1.0.60/32", "dev", "kube-ipvs0")
        run_ip("link", "set", veth.peer, "down")
        add(addresses, veth.index, "10.1.0.7")
        nft("-f", "-", script=KUBE_VIP_NFT)
        sysctl(veth.name, "arp_ignore", 0)
        sysctl("all", "arp_ignore", 0)
        before = picture(addresses)
        code, found, _ = doctor("--interface", veth.name)
        assert picture(addresses) == before
    finally:
        run_ip("link", "del", "kube-ipvs0")
    assert code == 1
    assert set(found) - {"clock-off"} == {"nic-down", "ipvs-no-strict-arp", "looks-left", "kvip-left", "kube-vip-rules"}
    assert "arp_ignore is 0" in found["ipvs-no-strict-arp"]["what"]
    assert f"kvip sweep --also 10.1.0.50/32@{veth.name}" in found["looks-left"]["mend"]
    assert "10.1.0.7/32" in found["kvip-left"]["what"]


def test_the_command_that_it_gives_mends_it(veth, addresses, run_ip, doctor, capsys, tmp_path):
    run_ip("addr", "add", "10.1.0.1/24", "dev", veth.name)
    run_ip("addr", "add", "10.1.0.50/32", "dev", veth.name, "preferred_lft", "0")
    add(addresses, veth.index, "10.1.0.7")
    _, found, _ = doctor("--interface", veth.name)
    for check in ("looks-left", "kvip-left"):
        command = found[check]["mend"].partition("#")[0].split()
        assert command[:2] == ["kvip", "sweep"]
        assert main.main([*command[1:], "--state-dir", str(tmp_path)]) == 0
    capsys.readouterr()
    _, found, _ = doctor("--interface", veth.name)
    assert {"looks-left", "kvip-left"} & set(found) == set()


def test_a_running_daemon_is_seen_by_its_lock(veth, addresses, running, doctor):
    add(addresses, veth.index, "10.1.0.7")
    _, found, _ = doctor("--interface", veth.name)
    assert "kvip-left" not in found


def test_arp_ignore_8_is_a_problem_because_the_kernel_then_answers_nobody(veth, doctor, sysctl):
    sysctl(veth.name, "arp_ignore", 8)
    code, found, _ = doctor("--interface", veth.name)
    assert code == 1
    assert f"arp_ignore is 8 on {veth.name}" in found["arp-never-answered"]["what"]


def test_a_nic_that_is_not_there_and_one_that_cannot_announce(doctor, own_namespace):
    assert "'eth77'" in doctor("--interface", "eth77")[1]["nic-missing"]["what"]
    assert "loopback" in doctor("--interface", "lo")[1]["nic-missing"]["what"]


def test_without_root_it_says_what_it_could_not_see(veth, doctor, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    _, found, unseen = doctor("--interface", veth.name)
    assert "nf_tables" in unseen
    assert "no-nf-tables" not in found


def test_it_takes_no_lock(veth, doctor):
    doctor("--interface", veth.name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        lock.bind("\0kvip")


@pytest.mark.timeout(60)
def test_the_transcript_in_docs_is_what_doctor_says(own_namespace):
    from lab.doctor import transcript

    assert (ROOT / "docs" / "doctor.md").read_text() == transcript(), "regenerate it: make docs"


def test_no_socket_is_left_open(veth, doctor):
    with AddressSocket():
        before = len(os.listdir("/proc/self/fd"))
        doctor("--interface", veth.name)
        assert len(os.listdir("/proc/self/fd")) == before
