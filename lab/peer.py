"""A client-go peer on a node of the lab: `lab/assets/kube/peer`, which behaves as kube-vip does in ARP mode for Services.

In: a `Lan`, the node's name, a kubeconfig, and for each Lease the VIPs that go with it. Out: `PeerProcess`, with the verbs of
`LabProcess`, and what of its VIPs is on the node. Its addresses carry no mark, and nothing silences them when it is killed.
Must not: know what kvip does.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Collection, Mapping

from lab.lan import Lan
from lab.process import LabProcess
from lab.realapi import assets_dir

SHARED_LEASE = "kube-system/plndr-svcs-lock"
"""kube-vip's one Lease when it does not elect per Service."""


def binary() -> pathlib.Path:
    """Where `make assets` puts the peer."""
    return assets_dir() / "peer"


def lease_of(service: str, namespace: str = "default") -> str:
    """kube-vip's Lease of a Service when it elects per Service."""
    return f"{namespace}/kubevip-{service}"


class PeerProcess(LabProcess):
    """The peer on one node. `leases`: "namespace/name" -> the VIPs that it binds while it leads that one."""

    def __init__(
        self,
        lan: Lan,
        node: str,
        leases: Mapping[str, Collection[str]],
        *,
        kubeconfig: str | os.PathLike[str],
        work_dir: pathlib.Path,
        timers_s: tuple[float, float, float] = (5, 3, 1),
    ) -> None:
        """`timers_s`: lease duration, renew deadline, retry period."""
        super().__init__(f"peer on {node}", lan.ns(node), log_path=work_dir / node / "peer.log", env={"PATH": os.environ["PATH"]})
        self.node = node
        self._lan = lan
        self._leases = {lease: tuple(vips) for lease, vips in leases.items()}
        self._kubeconfig = os.fspath(kubeconfig)
        self._timers_s = timers_s

    def _command(self) -> tuple[str, ...]:
        elections = (f"{lease}={','.join(vips)}" for lease, vips in self._leases.items())
        names = ("-lease-duration", "-renew-deadline", "-retry-period")
        timers = (word for name, seconds in zip(names, self._timers_s, strict=True) for word in (name, f"{seconds}s"))
        return (str(binary()), "-node", self.node, "-kubeconfig", self._kubeconfig, *timers, *elections)

    def vips(self) -> list[str]:
        """Its VIPs that are on the node now, whether it runs or not."""
        mine = {vip for vips in self._leases.values() for vip in vips}
        return sorted(address.ip for address in self._lan.addresses(self.node, "eth0") if address.ip in mine)

    def sweep(self) -> None:
        """Remove what it left behind, as an administrator would."""
        for vip in self.vips():
            self._lan.run(self.node, "ip", "addr", "del", f"{vip}/{128 if ':' in vip else 32}", "dev", "eth0")
