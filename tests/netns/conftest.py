"""Fixtures for tests that change a network namespace: they must run as root in one of their own."""

import contextlib
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import pytest

from kvip.kernel.switch import Switch
from lab.netns import leave_namespace
from tests.netns.switch_lab import StoppingClock

if "PYTEST_XDIST_WORKER" in os.environ:  # before anything opens a socket, in the thread that the tests run in
    with contextlib.suppress(PermissionError):  # `own_namespace` says what to do
        leave_namespace()

# NICs that some kernels put into every new namespace (net.core.fb_tunnels_only_for_init_net = 0).
FALLBACK = re.compile(r"(tunl|gre|gretap|erspan|ip_vti|ip6_vti|sit|ip6tnl|ip6gre)0")
AT_START = [name for _, name in socket.if_nameindex() if name != "lo" and not FALLBACK.fullmatch(name)]
HOW = "run these tests as: unshare -n -m python -m pytest tests/netns"

_numbers = count()


def ip(*arguments: str) -> str:
    """Run `ip` and return what it prints; a failure fails the test with ip's own text."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=10, check=False)
    if done.returncode:
        pytest.fail(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


@dataclass(frozen=True)
class Veth:
    """A pair of NICs, both up; IPv6 without link-local addresses, so that only what a test does makes events."""

    name: str
    index: int
    peer: str
    peer_index: int


@pytest.fixture(scope="session")
def own_namespace() -> None:
    """Fails unless this is root in a network namespace that nobody else uses."""
    if os.geteuid() != 0:
        pytest.fail(f"not root; {HOW}")
    if AT_START:
        pytest.fail(f"this network namespace has NICs already ({', '.join(AT_START)}), it is somebody's; {HOW}")
    ip("link", "set", "lo", "up")


@pytest.fixture(scope="session", autouse=True)
def own_lock(tmp_path_factory: pytest.TempPathFactory) -> None:
    """iptables does not run while another holds its lock: /run/xtables.lock, whatever the network namespace (iptables(8))."""
    os.environ["XTABLES_LOCKFILE"] = str(tmp_path_factory.mktemp("iptables") / "xtables.lock")


@pytest.fixture
def run_ip():
    """`ip` as a function of its arguments."""
    return ip


@pytest.fixture
def veth(own_namespace: None) -> Iterator[Veth]:
    """A fresh veth pair; it goes with the test, and every address on it."""
    number = next(_numbers)
    name, peer = f"kva{number}", f"kvb{number}"
    ip("link", "add", name, "type", "veth", "peer", "name", peer)
    try:
        for nic in (name, peer):
            ip("link", "set", nic, "addrgenmode", "none")
            ip("link", "set", nic, "up")
        yield Veth(name, socket.if_nametoindex(name), peer, socket.if_nametoindex(peer))
    finally:
        subprocess.run(["ip", "link", "del", name], capture_output=True, timeout=10, check=False)


@pytest.fixture
def clock() -> StoppingClock:
    """What the switch looks at."""
    return StoppingClock()


@pytest.fixture
def switch(veth: Veth, clock: StoppingClock) -> Iterator[Switch]:
    """The dead-man's switch, installed on a NIC and without VIPs."""
    switch = Switch(clock=clock)
    switch.install(nics=[veth.name], vips={})
    yield switch
    subprocess.run(["nft", "flush", "ruleset"], check=True, timeout=10)
    switch.close()
