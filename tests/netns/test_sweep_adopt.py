"""`kvip sweep --adopt` against the real kernel: a killed daemon's addresses become kvip's, without a gap."""

import socket
import subprocess
import threading
import time

import pytest

from kvip.core.model import MARK_PROTO
from tests.netns.sweep_bench import OWN_TABLES, add, list_tables, nft, of, on, picture

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("no_rules")]
pytest_plugins = ["tests.netns.sweep_fixtures"]

LEFT = ["10.1.0.7", "2001:db8::7"]


@pytest.fixture
def left(veth, addresses, run_ip):
    """What a killed kube-vip leaves: valid for ever, preferred 0, no mark."""
    run_ip("addr", "add", "10.1.0.1/24", "dev", veth.name)
    run_ip("addr", "add", "2001:db8::1/64", "dev", veth.name, "nodad")
    for vip in (*LEFT, "10.1.0.99"):
        prefix = 128 if ":" in vip else 32
        extra = ["nodad"] if ":" in vip else []
        run_ip("addr", "add", f"{vip}/{prefix}", "dev", veth.name, *extra, "valid_lft", "forever", "preferred_lft", "0")
    run_ip("addr", "add", "10.1.0.8/24", "dev", veth.name)
    return veth


def test_g4_adoption_marks_the_vips_gives_them_a_lifetime_and_touches_no_other(left, addresses, kvip):
    before = {address for address in addresses.dump() if address.ip not in LEFT}
    code, rows = kvip("--adopt", "--vips", ",".join([*LEFT, "10.1.0.8", "10.1.0.200"]), "--lifetime", "120")
    assert code == 1, "10.1.0.8 has a subnet's prefix and stays"
    assert "/32 only" in of(rows, "address")["10.1.0.8/24"]
    found = {address.ip: address for address in addresses.dump()}
    for vip in LEFT:
        assert (found[vip].proto, found[vip].preferred_s) == (MARK_PROTO, 0)
        assert 118 <= found[vip].valid_s <= 120
    assert {address for address in addresses.dump() if address.ip not in LEFT} == before
    assert kvip("--adopt", "--vips", LEFT[0]) == (0, [])
    assert kvip()[0] == 0
    assert on(addresses, left.index) == {"10.1.0.1/24", "10.1.0.8/24", "10.1.0.99/32", "2001:db8::1/64"}


def test_g4_a_dry_run_of_an_adoption_changes_nothing(left, addresses, kvip):
    before = picture(addresses)
    code, rows = kvip("--dry-run", "--adopt", "--vips", LEFT[0])
    assert (code, of(rows, "address")["10.1.0.7/32"]) == (0, "would be adopted")
    assert picture(addresses) == before


def test_g4_adoption_goes_beside_a_running_daemon_and_removes_nothing_of_kvips(left, addresses, kvip, running):
    add(addresses, left.index, "10.1.0.30")
    nft("-f", "-", script=OWN_TABLES)
    code, rows = kvip("--adopt", "--vips", LEFT[0])
    assert code == 0
    assert of(rows, "address") == {"10.1.0.7/32": "adopted: marked, valid for 60 s unless kvip refreshes it"}
    assert "10.1.0.30/32" in on(addresses, left.index)
    assert len(list_tables()) == 3


def test_g4_an_adopted_address_answers_without_a_gap(left, addresses, kvip):
    """A server on the VIP is asked all the time, and the kernel announces no removal."""
    stop, answers, failures = threading.Event(), [], []
    servers = [socket.create_server(("10.1.0.7", 0)), socket.create_server(("2001:db8::7", 0), family=socket.AF_INET6)]

    def ask():
        while not stop.is_set():
            for server in servers:
                try:
                    with socket.create_connection(server.getaddressesname()[:2], timeout=1):
                        answers.append(time.monotonic())
                    server.accept()[0].close()
                except OSError as error:
                    failures.append(error)

    asking = threading.Thread(target=ask)
    events = subprocess.Popen(["ip", "-o", "monitor", "address"], stdout=subprocess.PIPE, text=True)
    asking.start()
    try:
        while len(answers) < 50:
            time.sleep(0.01)
        began = time.monotonic()
        assert kvip("--adopt", "--vips", ",".join(LEFT))[0] == 0
        count = len(answers)
        while len(answers) < count + 50:
            time.sleep(0.01)
    finally:
        stop.set()
        asking.join(10)
        events.terminate()
        seen = events.communicate(timeout=10)[0]
        for server in servers:
            server.close()
    assert failures == []
    assert any(at > began for at in answers)
    assert "10.1.0.7" in seen
    assert "Deleted" not in seen
