"""`kvip sweep` against the real kernel: what carries the mark goes, and nothing else."""

import socket

import pytest

from kvip.cli import main, sweeper
from kvip.daemon.supervision import LOCK_NAME
from kvip.errors import SwitchError
from kvip.kernel.batches import AddressSocket
from tests.netns.sweep_bench import KUBE_VIP_NFT, add, list_tables, nft, of, on, picture

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("no_rules")]
pytest_plugins = ["tests.netns.sweep_fixtures"]


def test_what_is_marked_and_kvips_tables_go_and_nothing_else(mess, addresses, kvip):
    others_before = nft("-s", "list", "table", "ip", "raw")
    code, rows = kvip()
    assert code == 0
    assert on(addresses, mess.index) == {"10.1.0.1/24", "10.1.0.50/32", "2001:db8::1/64"}
    assert not any(address.marked for address in addresses.dump())
    tables = {(table["family"], table["name"]) for table in list_tables()}
    assert tables == {("ip", "kvip"), ("inet", "kviper"), ("ip", "kvip-services"), ("ip", "raw")}
    assert nft("-s", "list", "table", "ip", "raw") == others_before
    assert of(rows, "address") == dict.fromkeys(["10.1.0.7/32", "10.1.0.8/32", "2001:db8::7/128", "10.1.0.9/32"], "removed")
    assert of(rows, "table") == dict.fromkeys(["arp kvip", "inet kvip", "netdev kvip", "inet kvip-services"], "removed")
    assert kvip() == (0, [])


def test_a_dry_run_lists_it_all_and_changes_nothing(mess, addresses, kvip, monkeypatch):
    nft("-f", "-", script=KUBE_VIP_NFT)
    before = picture(addresses)
    code, rows = kvip("--dry-run")
    assert code == 0
    assert picture(addresses) == before
    assert {row["what"] for row in rows if row["result"] == "would be removed"} == {
        "10.1.0.7/32", "10.1.0.8/32", "2001:db8::7/128", "10.1.0.9/32", "arp kvip", "inet kvip", "netdev kvip", "inet kvip-services",
    }  # fmt: skip
    assert f"--also 10.1.0.50/32@{mess.name}" in of(rows, "address")["10.1.0.50/32"]
    assert "10.1.0.1/24" not in of(rows, "address")
    assert "--also nft:ip:kube_vip_v4" in of(rows, "table")["ip kube_vip_v4"]
    assert "--also kube-vip-iptables" in of(rows, "chain")["KUBE-VIP-EGRESS"]


def test_beside_a_running_daemon_it_refuses_and_touches_nothing(mess, addresses, kvip, running):
    before = picture(addresses)
    code, complaint = kvip("--also", "10.1.0.50")
    assert code == 1
    assert "Stop it first" in complaint
    assert picture(addresses) == before
    assert kvip("--dry-run")[0] == 0
    assert picture(addresses) == before


def test_it_holds_the_lock_while_it_works(mess, kvip, monkeypatch):
    seen = []

    def look(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other, pytest.raises(OSError):
            other.bind(LOCK_NAME)
        seen.append(True)
        return real(self)

    real = sweeper.Sweeper.run
    monkeypatch.setattr(sweeper.Sweeper, "run", look)
    assert kvip()[0] == 0
    assert seen
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(LOCK_NAME)


def test_tables_go_after_the_addresses_and_stay_while_one_is_left(mess, addresses, kvip, monkeypatch):
    order = []
    apply = AddressSocket.apply

    def refusing(self, operations):
        order.append(("addresses", {t["family"] for t in list_tables() if t["name"] == "kvip"} - {"ip"}))
        kept = [op for op in operations if op.address.ip != "10.1.0.8"]
        done = apply(self, kept)
        return [*done, *(sweeper.OpResult(operation=op, errno=1, ext_ack="no", seen=op.address) for op in operations if op not in kept)]

    monkeypatch.setattr(AddressSocket, "apply", refusing)
    code, rows = kvip()
    assert code == 1
    assert order[0] == ("addresses", {"arp", "inet", "netdev"})
    assert of(rows, "address")["10.1.0.8/32"] == "not removed: no"
    assert "guard 1 address" in of(rows, "table")["arp kvip"]
    assert len([table for table in list_tables() if table["name"] == "kvip"]) == 4
    monkeypatch.undo()
    assert on(addresses, mess.index) >= {"10.1.0.8/32"}


def test_a_marked_address_that_appears_meanwhile_goes_too(mess, addresses, kvip, monkeypatch):
    apply = AddressSocket.apply
    late = []

    def disturbed(self, operations):
        done = apply(self, operations)
        if not late:
            late.append(True)
            add(addresses, mess.index, "10.1.0.20")
        return done

    monkeypatch.setattr(AddressSocket, "apply", disturbed)
    code, rows = kvip()
    assert code == 0
    assert of(rows, "address")["10.1.0.20/32"] == "removed"
    assert not any(address.marked for address in addresses.dump())


def test_tables_that_cannot_be_seen_are_a_failure_and_the_addresses_go(mess, addresses, kvip, monkeypatch):
    def broken(*_, what):
        raise SwitchError(f"{what}: no right to use it")

    monkeypatch.setattr(sweeper, "Tables", broken)
    code, rows = kvip()
    assert code == 1
    assert all("cannot be seen" in of(rows, "table")[name] for name in ("kvip", "kvip-services"))
    assert not any(address.marked for address in addresses.dump())


def test_an_old_kernel_is_told_with_the_way_out(mess, kvip, monkeypatch):
    monkeypatch.setattr("os.uname", lambda: type("Uname", (), {"release": "5.10.0-28-amd64"})())
    code, rows = kvip()
    assert code == 1
    assert "--also" in of(rows, "kernel")["Linux 5.10.0-28-amd64"]


def test_the_table_is_for_people(mess, capsys, tmp_path):
    assert main.main(["sweep", "--dry-run", "--state-dir", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("KIND ")
    assert "dry run: nothing was changed" in text
    assert main.main(["sweep", "--state-dir", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main.main(["sweep", "--state-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "nothing of kvip's is left on this host\n"
