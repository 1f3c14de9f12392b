"""Fixtures for the tests of `kvip sweep`; they reach a test module by `pytest_plugins`, and none is automatic."""

import json
import socket

import pytest

from kvip.cli import main
from kvip.daemon.supervision import LOCK_NAME
from kvip.kernel.batches import AddressSocket
from tests.netns.sweep_bench import OTHER_TABLES, OWN_TABLES, VIPS, add, nft


@pytest.fixture
def no_rules(own_namespace):
    """No firewall rules before and after a test."""
    nft("flush", "ruleset")
    yield
    nft("flush", "ruleset")


@pytest.fixture
def addresses(no_rules):
    """A socket for addresses."""
    with AddressSocket() as opened:
        yield opened


@pytest.fixture
def kvip(capsys, tmp_path):
    """`kvip sweep` as a function: exit code and rows."""

    def run(*arguments):
        code = main.main(["sweep", "--json", "--state-dir", str(tmp_path), *arguments])
        captured = capsys.readouterr()
        return code, json.loads(captured.out)["rows"] if captured.out else captured.err

    return run


@pytest.fixture
def mess(veth, addresses, run_ip):
    """kvip's addresses and tables beside those of others."""
    run_ip("addr", "add", "10.1.0.1/24", "dev", veth.name)
    run_ip("addr", "add", "10.1.0.50/32", "dev", veth.name)
    run_ip("addr", "add", "2001:db8::1/64", "dev", veth.name, "nodad")
    add(addresses, veth.index, *VIPS)
    add(addresses, veth.peer_index, "10.1.0.9")
    nft("-f", "-", script=OWN_TABLES + OTHER_TABLES)
    return veth


@pytest.fixture
def running(own_namespace):
    """Something that holds the daemons' lock."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        lock.bind(LOCK_NAME)
        yield
