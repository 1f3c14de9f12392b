"""A world and its judges, and short words for what happens in it."""

from __future__ import annotations

from kvip.core.model import MARK_PROTO, Address, IfIndex, Vip
from lab.sniffer import Frame
from lab.soak.checker import Checker, Violations
from lab.soak.claims import Claims
from lab.soak.model import FOREIGN, FOREIGN6, Fault
from lab.soak.world import World

VIP = "10.10.0.200"
MACS = {"n1": "02:00:00:00:00:01", "n2": "02:00:00:00:00:02"}
CLIENT_MAC = "02:00:00:00:00:64"


class Stage:
    """A world, its judges, and short words for what happens."""

    def __init__(self) -> None:
        self.world = World(0.0)
        self.violations = Violations(self.world, list)
        self.checker = Checker(self.world, self.violations, node_of={mac: node for node, mac in MACS.items()}, vips=(VIP,))
        self.claims = Claims(self.world, self.violations, seen_bound_s=self.checker.seen_bound_s)

    def create(self, at_s: float, name: str = "s00", *, uid: str = "u1") -> None:
        self.world.changing(name, (VIP,))
        self.world.asked(uid, (VIP,), at_s=at_s)
        self.world.settled(name, (VIP,), at_s=at_s)

    def delete(self, at_s: float, name: str = "s00") -> None:
        self.world.changing(name, ())
        self.world.settled(name, (), at_s=at_s)

    def fault(self, kind: str, began_s: float, ended_s: float | None = None, *, node: str = "n1") -> Fault:
        fault = self.world.begin(kind, node, at_s=began_s)  # type: ignore[arg-type]
        fault.ending_s = fault.ended_s = ended_s
        return fault

    def answers(self, node: str, since_s: float, until_s: float) -> None:
        """Asked every 30 ms, and answered by this node ("" = by nobody)."""
        at_s = since_s
        while at_s < until_s:
            self.checker.frames([frame(at_s, CLIENT_MAC, outgoing=True)])
            if node:
                self.checker.frames([frame(at_s + 0.0001, MACS[node])])
            self.checker.look(at_s + 0.0002)
            at_s += 0.03

    def announces(self, node: str, at_s: float) -> None:
        self.checker.frames([frame(at_s, MACS[node], announcement=True)])

    def kernel(self, node: str, *vips: str, at_s: float, missing: str = "") -> None:
        plain = [Address(ip=Vip(ip), prefix_len=32, index=IfIndex(2)) for ip in (*FOREIGN, FOREIGN6) if ip != missing]
        marked = [Address(ip=Vip(vip), prefix_len=32, index=IfIndex(2), proto=MARK_PROTO) for vip in vips]
        self.checker.kernel(node, [*plain, *marked], at_s=at_s)

    @property
    def found(self) -> list[str]:
        return [violation.invariant for violation in self.violations.found]


def frame(at_s: float, mac: str, *, outgoing: bool = False, announcement: bool = False) -> Frame:
    client = "10.10.0.100"
    return Frame(
        at_s=at_s, kind="arp", op=1 if outgoing else 2, eth_src=mac, eth_dst=CLIENT_MAC, sender_mac=mac,
        sender_ip=client if outgoing else VIP, target_ip=VIP if outgoing or announcement else client,
        outgoing=outgoing, announcement=announcement,
    )  # fmt: skip


def service(uid: str, *ingress: str, asks: str = VIP) -> dict[str, object]:
    return {
        "metadata": {"name": "s00", "uid": uid, "annotations": {"kube-vip.io/loadbalancerIPs": asks}},
        "spec": {"type": "LoadBalancer"},
        "status": {"loadBalancer": {"ingress": [{"ip": ip} for ip in ingress]}},
    }
