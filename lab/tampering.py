"""What somebody else does to a node of the LAN: addresses, rules, the MAC and the NIC itself.

In: a `Lan`, the name of a node. Out: the kernel's state of that node. It must not know of daemons or of the API server.
"""

from __future__ import annotations

from lab.lan import Lan, node_ip, node_ip6


class Tampering:
    """The nodes of one LAN, as whoever has root there may change them."""

    def __init__(self, lan: Lan) -> None:
        self.lan = lan

    def drop_address(self, node: str, vip: str) -> None:
        """`ip addr del` of a VIP."""
        self.lan.run(node, "ip", "addr", "del", f"{vip}/{128 if ':' in vip else 32}", "dev", "eth0")

    def flush_addresses(self, node: str) -> None:
        """`ip addr flush dev eth0`, and the node's own addresses and routes back, as when a network manager is restarted."""
        self.lan.run(node, "ip", "addr", "flush", "dev", "eth0")
        self.restore_addresses(node)

    def restore_addresses(self, node: str) -> None:
        """The node's own addresses and routes, where they are missing."""
        self.lan.ns(node).ip_batch([line.replace("addr add", "addr replace") for line in _own_addresses(node)])

    def flush_rules(self, node: str) -> None:
        """`nft flush ruleset`."""
        self.lan.run(node, "nft", "flush", "ruleset")

    def change_mac(self, node: str, mac: str) -> None:
        """Give eth0 another MAC while it is up."""
        self.lan.run(node, "ip", "link", "set", "dev", "eth0", "address", mac)

    def remove_nic(self, node: str) -> None:
        """Take eth0 out of the node: for the node it is gone, with every address."""
        self.lan.run(node, "ip", "link", "set", "dev", "eth0", "netns", self.lan.ns("lab").path, "name", f"{node}-out")

    def return_nic(self, node: str) -> None:
        """Undo `remove_nic`, with the node's own addresses and routes."""
        self.lan.run("lab", "ip", "link", "set", "dev", f"{node}-out", "netns", self.lan.ns(node).path, "name", "eth0")
        self.lan.ns(node).ip_batch(["link set eth0 up", *_own_addresses(node)])


def _own_addresses(node: str) -> list[str]:
    lines = [f"addr add {node_ip(node)}/24 dev eth0", f"addr add {node_ip6(node)}/64 dev eth0 nodad"]
    return [*lines, "route replace default dev eth0", "route replace ::/0 dev eth0"]
