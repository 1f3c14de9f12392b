"""The page of a real daemon: what `kvip status --json` says, for the node's loopback alone."""

from __future__ import annotations

import http.client
import json
from typing import Any

from kvip.cli import daemon_view
from lab.cluster import Cluster, wait
from lab.lan import CLIENT, node_ip
from lab.node import METRICS_PORT, NodeProcess

VIP = "10.10.0.200"


def told_by(node: NodeProcess) -> dict[str, Any]:
    """What the socket says."""
    return json.loads(daemon_view.ask(str(node.state_dir / "kvip.sock"), "/state"))  # type: ignore[no-any-return]


def test_the_page_shows_the_same_and_to_the_loopback_alone(cluster: Cluster) -> None:
    cluster.create("web", VIP)
    cluster.wait_bound(VIP)
    holder = cluster.holder_of(VIP)
    wait(lambda: told_by(holder)["vips"][0]["state"] == "announced", "it is announced", timeout_s=5)
    code, text = holder.get("/")
    assert code == 200
    assert text.startswith("<!doctype html>")
    code, text = holder.get("/status.json")
    assert code == 200
    shown, told = json.loads(text), told_by(holder)
    assert shown.keys() == told.keys()
    assert [(vip["vip"], vip["state"], vip["since"]) for vip in shown["vips"]] == [
        (vip["vip"], vip["state"], vip["since"]) for vip in told["vips"]
    ]
    happened = [change["change"] for change in shown["changes"] if VIP in change["vips"]]
    assert happened[-1] == "announced"
    assert "able" in [change["change"] for change in shown["changes"]]

    def from_outside(path: str) -> int:
        connection = http.client.HTTPConnection(node_ip(holder.node), METRICS_PORT, timeout=2)
        try:
            connection.request("GET", path, headers={"Host": "localhost"})
            return connection.getresponse().status
        finally:
            connection.close()

    answers = {path: cluster.lan.ns(CLIENT).call(lambda path=path: from_outside(path)) for path in ("/", "/status.json", "/metrics")}  # type: ignore[misc]
    assert answers == {"/": 403, "/status.json": 403, "/metrics": 200}
