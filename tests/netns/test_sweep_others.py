"""`kvip sweep --also` against the real kernel: what is not kvip's goes only when it was named."""

import subprocess

import pytest

from kvip.core.model import MARK_PROTO, Address
from kvip.kernel import foreign_rules
from kvip.kernel.batches import AddressOp
from kvip.kernel.firewall import ToolError, find_tool
from tests.netns.sweep_bench import COMMENT, KUBE_VIP_NFT, list_tables, nft, of, on

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("no_rules")]
pytest_plugins = ["tests.netns.sweep_fixtures"]


def test_only_what_was_named_goes_besides(mess, addresses, kvip):
    code, rows = kvip("--also", "10.1.0.50,10.1.0.99")
    assert code == 0
    assert on(addresses, mess.index) == {"10.1.0.1/24", "2001:db8::1/64"}
    assert of(rows, "address")["10.1.0.99"] == "not on this host"


def test_the_nodes_own_address_is_refused_unless_named_in_full(mess, addresses, kvip, run_ip):
    run_ip("route", "add", "default", "via", "10.1.0.254")
    run_ip("addr", "add", "192.0.2.1/32", "dev", mess.peer)
    code, rows = kvip("--also", f"10.1.0.1,2001:db8::1@{mess.name}")
    assert code == 1
    assert on(addresses, mess.index) >= {"10.1.0.1/24", "2001:db8::1/64"}
    assert all("refused" in row["result"] for row in rows if row["whose"] == "unmarked")
    assert kvip("--also", f"10.1.0.1/24@{mess.name}")[0] == 0
    assert "10.1.0.1/24" not in on(addresses, mess.index)


def test_the_only_address_of_the_default_routes_nic_is_refused(veth, addresses, kvip, run_ip):
    run_ip("addr", "add", "192.0.2.1/32", "dev", veth.name)
    run_ip("route", "add", "default", "dev", veth.name)
    code, rows = kvip("--also", "192.0.2.1")
    assert code == 1
    assert "NIC of the default route" in of(rows, "address")["192.0.2.1"]
    assert on(addresses, veth.index) == {"192.0.2.1/32"}


@pytest.mark.parametrize("promote", ["0", "1"])
def test_a_leftover_with_a_subnets_prefix_never_takes_the_nodes_address_along(veth, addresses, kvip, run_ip, promote):
    with open(f"/proc/sys/net/ipv4/conf/{veth.name}/promote_secondaries", "w", encoding="ascii") as file:
        file.write(promote)
    run_ip("addr", "add", "10.1.0.7/24", "dev", veth.name, "valid_lft", "forever", "preferred_lft", "0")
    run_ip("addr", "add", "10.1.0.1/24", "dev", veth.name)
    code, _ = kvip("--also", "10.1.0.7/24")
    assert "10.1.0.1/24" in on(addresses, veth.index)
    assert (code, "10.1.0.7/24" in on(addresses, veth.index)) == ((1, True) if promote == "0" else (0, False))


def test_kube_vips_nft_leftovers_go_when_named_and_the_neighbours_stay(mess, kvip):
    nft("-f", "-", script=KUBE_VIP_NFT)
    assert kvip()[0] == 0
    assert "kube_vip_v4" in nft("list", "ruleset"), "nothing of others without its word"
    code, rows = kvip("--also", "kube-vip-iptables")
    assert code == 0
    rules = nft("list", "ruleset")
    assert "KUBE-VIP-EGRESS" not in rules
    assert "kube_vip_v4" in rules
    assert "meta mark 0x00000005 accept" in rules
    code, rows = kvip("--also", "nft:ip:kube_vip_v4,nft:ip:nobody")
    assert code == 0
    assert of(rows, "table") == {"ip kube_vip_v4": "removed", "nft:ip:nobody": "not on this host"}
    assert {table["name"] for table in list_tables()} == {"kvip", "kviper", "kvip-services", "raw", "mangle"}


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_kube_vips_iptables_rules_go_when_named_and_the_neighbours_stay(veth, kvip, variant):
    tools = {name: find_tool(f"{name}-{variant}") for name in ("iptables", "ip6tables")}
    if not all(tools.values()):
        pytest.skip(f"iptables-{variant} is not installed (apt-get install iptables)")

    def rules(*arguments, tool="iptables"):
        done = subprocess.run([tools[tool], *arguments], capture_output=True, text=True, timeout=10, check=False)
        if done.returncode:
            pytest.skip(f"iptables-{variant} does not work in this kernel: {done.stderr.strip()}")

    mark = ["-m", "comment", "--comment", COMMENT]
    rules("-t", "mangle", "-N", "KUBE-VIP-EGRESS")
    rules("-t", "mangle", "-A", "KUBE-VIP-EGRESS", "-d", "10.0.0.0/16", "-j", "RETURN", *mark)
    rules("-t", "mangle", "-I", "PREROUTING", "1", "-j", "KUBE-VIP-EGRESS", *mark)
    rules("-t", "nat", "-I", "POSTROUTING", "1", "-s", "10.0.1.2/32", "-j", "SNAT", "--to-source", "192.168.0.9", *mark)
    service = ["-m", "comment", "--comment", "default/web kube-vip load balancer IP"]
    rules("-I", "INPUT", "1", "-d", "192.168.0.9", "-p", "udp", "--dport", "68", *service, "-j", "ACCEPT")
    rules("-I", "INPUT", "1", "-d", "192.168.0.9", *service, "-j", "DROP")
    rules("-A", "INPUT", "-p", "tcp", "--dport", "22", "-m", "comment", "--comment", "mine", "-j", "ACCEPT")
    rules("-I", "INPUT", "1", "-d", "2001:db8::9", *service, "-j", "DROP", tool="ip6tables")

    def saved():
        texts = [subprocess.run([f"{tool}-save"], capture_output=True, text=True, timeout=10, check=True).stdout for tool in tools.values()]
        return [line for text in texts for line in text.splitlines() if line.startswith(("-A", ":KUBE"))]

    before = saved()
    _, rows = kvip("--dry-run")
    assert saved() == before
    assert len([row for row in rows if "--also kube-vip-iptables" in row["result"]]) == 7
    assert kvip("--also", "kube-vip-iptables")[0] == 0
    assert saved() == ["-A INPUT -p tcp -m tcp --dport 22 -m comment --comment mine -j ACCEPT"]
    assert kvip("--dry-run")[1] == []
    for tool in tools:
        for table in ("filter", "nat", "mangle"):
            rules("-t", table, "-F", tool=tool)


def test_a_missing_nft_is_told_with_the_way_out_and_kvips_own_go_all_the_same(mess, addresses, kvip, monkeypatch):
    def missing(tool, *_, **__):
        raise ToolError(tool, "is not installed here", missing=True)

    monkeypatch.setattr(foreign_rules, "run_tool", missing)
    assert kvip()[0] == 0
    assert not any(address.marked for address in addresses.dump())
    assert [table["family"] for table in list_tables() if table["name"] == "kvip"] == ["ip"]
    code, rows = kvip("--also", "nft:ip:kube_vip_v4")
    assert code == 1
    assert "install it" in of(rows, "tool")["nft"]


def test_a_marked_address_that_would_take_the_nodes_own_along_stays(veth, addresses, kvip, run_ip):
    marked = Address(ip="10.1.0.7", prefix_len=24, index=veth.index, proto=MARK_PROTO, valid_s=60, preferred_s=0)
    assert [result.errno for result in addresses.apply([AddressOp(kind="add", address=marked)])] == [0]
    run_ip("addr", "add", "10.1.0.1/24", "dev", veth.name)
    code, rows = kvip()
    assert code == 1
    assert f"10.1.0.1/24@{veth.name} with it" in of(rows, "address")["10.1.0.7/24"]
    assert on(addresses, veth.index) == {"10.1.0.7/24", "10.1.0.1/24"}
