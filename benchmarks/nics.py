"""A veth pair to send on and to bind addresses to, in whatever namespace the caller is in."""

from __future__ import annotations

import socket
import subprocess

from kvip.core.model import IfIndex, Link

NIC, PEER = "kvbench0", "kvbench1"
MAC = bytes.fromhex("02005e102030")


def run(*command: str) -> str:
    """Run to the end within 60 s and give what it printed; raises CalledProcessError."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def make_veth() -> str:
    """A veth pair in the current namespace; the name of the sending end. The peer does no ARP: frames are counted there and dropped."""
    run("ip", "link", "add", NIC, "address", MAC.hex(":"), "type", "veth", "peer", "name", PEER)
    for name in (NIC, PEER):
        run("ip", "link", "set", name, "addrgenmode", "none", "arp", "off")
        run("ip", "link", "set", name, "up")
    return NIC


def link_of(name: str) -> Link:
    """A NIC of `make_veth` in the current namespace."""
    return Link(index=IfIndex(socket.if_nametoindex(name)), name=name, mac=MAC, up=True, carrier=True)
