"""Replaces the daemons of nodes as a rolling update does: an old one ends, its successor begins with what is on the node's disk.

In: a node's daemon, the folder of the code that it is to run. Out: nothing but the daemons. Must not: judge, or choose the order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab.cluster import Cluster
from lab.manifests import DEPLOY
from lab.node import NodeProcess
from lab.shipped import objects_of

HAND_OVER_S = 0.5
"""Most silence of a VIP whose holder stops in order, as in the fault table."""
SIGTERM, SIGKILL = "SIGTERM", "SIGKILL"
ENDS = (SIGTERM, SIGKILL)
READY_S = 15.0


def end(node: NodeProcess, how: str) -> None:
    """The old daemon ends."""
    if how == SIGKILL:
        node.kill9()
    else:
        node.stop()


def begin(node: NodeProcess, code: Path) -> None:
    """Its successor starts; it need not be ready yet."""
    node.env["PYTHONPATH"] = str(code)
    node.start()


def replace(node: NodeProcess, code: Path, *, how: str = SIGTERM) -> None:
    """The old daemon ends, its successor starts and gets ready."""
    end(node, how)
    begin(node, code)
    node.wait_ready(READY_S)


def replace_all(cluster: Cluster, code: Path) -> None:
    """Every daemon runs this code, those that do so already excepted."""
    others = [node for node in cluster.nodes.values() if node.env["PYTHONPATH"] != str(code)]
    for node in others:
        if node.running:
            node.thaw()
            end(node, SIGTERM)
        begin(node, code)
    for node in others:
        node.wait_ready(READY_S)


def shipped_strategy() -> dict[str, Any]:
    """The update strategy of the DaemonSet in deploy/base; the chart's is the same."""
    (found,) = objects_of((DEPLOY / "base" / "daemonset.yaml").read_text())
    strategy: dict[str, Any] = found["spec"]["updateStrategy"]
    return strategy
