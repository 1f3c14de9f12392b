"""`kvip sweep --adopt` against the real kernel: a killed daemon's addresses become kvip's, without a gap."""

import socket
import struct
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
    assert len(list_tables()) == 4


def arp_probe(mac, ip):
    """An ARP probe (RFC 5227): who has `ip`, tell 0.0.0.0."""
    ethernet = b"\xff" * 6 + mac + b"\x08\x06"
    return ethernet + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + bytes(4) + bytes(6) + socket.inet_aton(ip)


class Asker(threading.Thread):
    """Asks for an IPv4 address on the wire, one probe after the other, and connects to an IPv6 one; `silent` counts what got no answer."""

    def __init__(self, nic):
        super().__init__()
        self.answered = self.connected = 0
        self.silent = []
        self._ended = threading.Event()
        self._wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
        self._wire.bind((nic, 0x0806))
        self._wire.settimeout(1)
        self._probe = arp_probe(self._wire.getsockname()[4], "10.1.0.7")
        self._server = socket.create_server(("2001:db8::7", 0), family=socket.AF_INET6)

    def run(self):
        try:
            while not self._ended.is_set():
                self._wire.send(self._probe)
                while self._wire.recv(128)[20:22] != b"\x00\x02":
                    pass
                self.answered += 1
                with socket.create_connection(self._server.getsockname()[:2], timeout=1):
                    self._server.accept()[0].close()
                self.connected += 1
        except OSError as error:
            self.silent.append(error)

    def wait_for(self, more):
        """Until so many further answers came, or none did for good; at most 10 s."""
        until, wanted = time.monotonic() + 10, self.connected + more
        while self.connected < wanted and not self.silent and time.monotonic() < until:
            time.sleep(0.005)
        return self.connected >= wanted

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self.join(10)
        self._wire.close()
        self._server.close()


def test_g4_an_adopted_address_answers_without_a_gap(left, addresses, kvip):
    events = subprocess.Popen(["ip", "-o", "monitor", "address"], stdout=subprocess.PIPE, text=True)
    try:
        with Asker(left.peer) as asker:
            assert asker.wait_for(50)
            assert kvip("--adopt", "--vips", ",".join(LEFT))[0] == 0
            assert asker.wait_for(50)
            assert asker.silent == []
    finally:
        time.sleep(0.1)
        events.terminate()
        seen = events.communicate(timeout=10)[0]
    assert all(vip in seen for vip in LEFT), "the kernel announced the change"
    assert "Deleted" not in seen
