"""On which NIC of which node a VIP is, by the kernels and by a client on either segment, and a second NIC on the first.

In: a `Cluster` or its `Lan`. Out: places, and a `Prober` per segment. It must not judge: the tests do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lab.cluster import Cluster, wait
from lab.lan import CLIENT, Lan
from lab.netns import LabError
from lab.prober import Prober

NIC, VLAN = "kube-vip.io/serviceInterface", "kube-vip.io/serviceVLAN"


@contextmanager
def asking(lan: Lan, nic: str, *vips: str) -> Iterator[Prober]:
    """The client asks on one segment who has these addresses."""
    subnet = {"eth0": 10, "eth1": 20}[nic]
    with Prober(lan.ns(CLIENT), nic, list(vips), source_ip=f"10.{subnet}.0.100", source_ip6=f"fd00:{subnet}::100") as prober:
        yield prober


def places(cluster: Cluster, vip: str) -> list[tuple[str, str]]:
    """(node, NIC) wherever the VIP is."""
    found = []
    for name, node in cluster.nodes.items():
        indices = {address.index for address in node.marked_addresses() if address.ip == vip}
        if indices:
            found += [(name, address.nic) for address in cluster.lan.addresses(name) if address.ip == vip]
    return found


def on(cluster: Cluster, vip: str, nic: str, *, node: str = "", timeout_s: float = 5.0) -> str:
    """Wait until the VIP is on this NIC of one node and nowhere else; returns the node."""

    def there() -> bool:
        found = places(cluster, vip)
        return len(found) == 1 and found[0][1] == nic and node in ("", found[0][0])

    try:
        wait(there, f"{vip} on {nic} {node}", timeout_s=timeout_s)
    except LabError as error:
        raise LabError(f"{error}; it is on {places(cluster, vip)}") from error
    return places(cluster, vip)[0][0]


@contextmanager
def macvlans(cluster: Cluster) -> Iterator[dict[str, str]]:
    """A macvlan `mv0` on eth0 of each node: another NIC on the same segment. Yields their MACs."""
    macs = {name: f"02:00:00:00:04:{number:02x}" for number, name in enumerate(cluster.nodes)}
    for name, mac in macs.items():
        cluster.lan.ns(name).ip_batch([f"link add mv0 link eth0 address {mac} type macvlan mode bridge", "link set mv0 up"])
    try:
        yield macs
    finally:
        for name in macs:
            cluster.lan.run(name, "ip", "link", "del", "mv0")


def name_nic(cluster: Cluster, service: str, nic: str | None, key: str = NIC) -> None:
    """Edit the annotation by which a Service names its NIC, or its VLAN; None takes it away."""
    cluster.patch(service, {"metadata": {"annotations": {key: nic}}})
