"""Looks at the demo's LAN, for the picture below its narration.

In: the LAN, its nodes' processes, who asks for which VIP. Out: a `Picture`. Must not: change anything, or ask for the VIP itself: answers
would refresh the client's neighbour table.
"""

from __future__ import annotations

from collections.abc import Iterable

from lab.demoview import NodePicture, Picture
from lab.lan import CLIENT, Lan, node_ip
from lab.narration import now_s
from lab.node import NodeProcess
from lab.prober import Prober


def look(lan: Lan, nodes: Iterable[NodeProcess], *, vip: str, prober: Prober | None) -> Picture:
    """What can be observed now. `vip` "" = none yet; `prober` None = nobody asks. Raises OSError, LabError or NetlinkError."""
    report = prober.report(vip) if prober is not None else None
    last = report.last_answer if report is not None else None
    return Picture(
        nodes=tuple(_node(lan, node) for node in nodes),
        vip=vip,
        asked=report is not None,
        answered_by=last.mac if last is not None else "",
        silent_s=now_s() - last.at_s if last is not None else report.observed_s if report is not None else 0.0,
        neighbour=(lan.neighbour(CLIENT, vip) or "") if vip else "",
    )


def _node(lan: Lan, node: NodeProcess) -> NodePicture:
    ended = "not started" if node.returncode is None else f"dead (exit {node.returncode})"
    return NodePicture(
        name=node.node,
        ip=node_ip(node.node),
        mac=lan.mac(node.node),
        daemon=f"pid {node.pid}" if node.running else ended,
        runs=node.running,
        bound=tuple(f"{address.ip} (valid for {address.valid_s} s)" for address in node.marked_addresses()),
    )
