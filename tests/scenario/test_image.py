"""The image runs as the shipped Pod would have it run: as PID 1 with two capabilities, on a read-only root, under the service account."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvip import __version__
from lab import container
from lab.cluster import Cluster, wait
from lab.container import ContainerNode, Image
from lab.lan import API_IP
from lab.manifests import DEPLOY
from lab.realapi import RealApi
from lab.shipped import applied, pod_of

VIP, VIP6 = "10.10.0.200", "fd00:10::200"
HAND_OVER_S = 1.0
"""Most silence of a VIP whose holder stops in order."""
CAP_NET_ADMIN, CAP_NET_RAW = 12, 13
"""linux/capability.h."""


@pytest.fixture(scope="module")
def image() -> Image:
    if why := container.missing():
        pytest.skip(why)
    image = container.built()
    print(image.summary)
    assert __version__ in image.summary
    return image


@pytest.fixture
def nodes(cluster: Cluster, image: Image, tmp_path: Path) -> Iterator[dict[str, ContainerNode]]:
    """A container on each node, instead of the cluster's own daemons."""
    api = cluster.api
    if not isinstance(api, RealApi):
        pytest.skip("only the real API server has service accounts")
    text = api.kubectl("kustomize", str(DEPLOY / "base"))
    assert api.ca_file is not None
    with applied(cluster, text) as shipped:
        before = dict(cluster.nodes)
        made = {
            name: ContainerNode(
                cluster.lan, name, image=image, pod=pod_of(text), api_address=(API_IP, api.port), token=shipped.token,
                ca_file=api.ca_file, work_dir=tmp_path,
            )
            for name in before
        }  # fmt: skip
        cluster.nodes.update(made)
        try:
            for node in made.values():
                node.start()
            took = [node.wait_ready(30) for node in made.values()]
            print(f"containers ready after {', '.join(f'{seconds:.1f}' for seconds in took)} s")
            yield made
        finally:
            for node in made.values():
                node.close()
            cluster.nodes.update(before)


def tables(cluster: Cluster, node: str) -> str:
    """The nf_tables tables of a node, as nft lists them."""
    return cluster.lan.run(node, "nft", "list", "tables").stdout


def test_image_runs_as_a_node(cluster: Cluster, nodes: dict[str, ContainerNode]) -> None:
    for node in nodes.values():
        assert "kvip" in tables(cluster, node.node)
        status = node.status()
        assert status["NSpid"].split()[-1] == "1"
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == 1 << CAP_NET_ADMIN | 1 << CAP_NET_RAW
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        started = next(record for record in node.logs() if record.get("msg") == "kvip started")
        assert (started["version"], started["node"], started["frames"]) == (__version__, node.node, "cython")
    with cluster.sniffing(VIP, VIP6) as sniffer:
        uid = cluster.create("web", VIP, VIP6)
        cluster.wait_bound(VIP, VIP6, timeout_s=25)
        for vip in (VIP, VIP6):
            assert sniffer.wait_for(lambda frame, vip=vip: frame.claimed == vip, 5), f"{vip} is not announced"
        wait(lambda: set(cluster.ingress("web")) == {VIP, VIP6}, "the status shows both", timeout_s=5)
        wait(lambda: bool(cluster.events(uid, "VIPBound")), "the Event says so", timeout_s=5)
    holder = cluster.holder_of(VIP)
    other = cluster.other(holder)
    with cluster.judging(VIP) as prober:
        took = holder.stop()
        wait(lambda: VIP in other.vips(), "the other node has it", timeout_s=3)
        assert prober.report(VIP).two_answers_s == 0
    print(f"ended {took:.2f} s after SIGTERM")
    assert took < 2.0, "PID 1 does not take SIGTERM"
    assert holder.vips() == []
    assert "kvip" not in tables(cluster, holder.node)
    assert "nothing of kvip's is left" in holder.once("sweep")
    other.kill9()
    assert set(other.vips()) == {VIP, VIP6}
    swept = other.once("sweep")
    print(swept)
    assert swept.count("removed") >= 2
    assert "default/web" in swept, "the journal on the node's own /run/kvip is read"
    assert other.vips() == []
    assert "kvip" not in tables(cluster, other.node)
    cluster.delete("web")
    assert cluster.left() == {}


def test_a_rolling_update_never_has_two_holders_and_no_gap(cluster: Cluster, nodes: dict[str, ContainerNode]) -> None:
    """As the DaemonSet has it (maxSurge 0, maxUnavailable 1): a node's container ends, its successor gets ready, then the next node's."""
    cluster.create("web", VIP, VIP6)
    cluster.wait_bound(VIP, VIP6, timeout_s=25)
    with cluster.judging(VIP, VIP6) as prober:
        for node in nodes.values():
            node.stop()
            node.start()
            node.wait_ready(15)
        reports = [prober.report(vip) for vip in (VIP, VIP6)]
    print(f"longest silence {max(report.longest_silence_s for report in reports):.2f} s")
    assert [report.two_answers_s for report in reports] == [0, 0]
    assert max(report.longest_silence_s for report in reports) < HAND_OVER_S
    assert all(len(cluster.bound(vip)) == 1 for vip in (VIP, VIP6))
    cluster.delete("web")
    cluster.wait_gone(VIP, VIP6)
