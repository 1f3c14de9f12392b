"""What benchmarks of the frame path stand on: a network namespace, a veth pair in it, and the C limit, compiled.

Fails, with the command to type, where root or a C compiler is missing: a benchmark that measured nothing is no result.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvip.core.model import IfIndex, Link

NIC, PEER = "kvbench0", "kvbench1"
MAC = bytes.fromhex("02005e102030")
CLONE_NEWNET = 0x40000000


def run(*command: str) -> str:
    """Run to the end within 60 s and give what it printed; raises CalledProcessError."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture
def own_netns() -> Iterator[None]:
    """A network namespace for one test; os.unshare exists only since Python 3.12."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET) != 0:
            pytest.fail(f"no network namespace ({os.strerror(ctypes.get_errno())}); as root: unshare -n -m python -m pytest benchmarks")
        yield
        assert libc.setns(home, CLONE_NEWNET) == 0
    finally:
        os.close(home)


@pytest.fixture
def veth(own_netns: None) -> Link:
    """The sending end of a veth pair. The peer does no ARP: frames are counted there and dropped, for all alike."""
    run("ip", "link", "add", NIC, "address", MAC.hex(":"), "type", "veth", "peer", "name", PEER)
    for name in (NIC, PEER):
        run("ip", "link", "set", name, "addrgenmode", "none", "arp", "off")
        run("ip", "link", "set", name, "up")
    return Link(index=IfIndex(socket.if_nametoindex(NIC)), name=NIC, mac=MAC, up=True, carrier=True)


@pytest.fixture(scope="session")
def limit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """benchmarks/limit.c as a program."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.fail("no C compiler to measure against: apt-get install gcc libc6-dev")
    program = tmp_path_factory.mktemp("limit") / "limit"
    run(compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(Path(__file__).with_name("limit.c")))
    return program
