"""What is written to Services: the node that holds, by option; nothing at all, by option."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from lab.cluster import Cluster, wait
from lab.endpoints import endpoints_of

VIP, VIP6 = "10.10.0.200", "fd00:10::200"
KEY = "kube-vip.io/vipHost"


@pytest.fixture
def may_patch_services(cluster: Cluster) -> Iterator[None]:
    """The right that the option needs, on a server that asks for rights."""
    cluster.give_rights(vip_host_annotation=True)
    yield
    cluster.give_rights()


def _host(cluster: Cluster) -> str | None:
    notes = cluster.get("web")["metadata"].get("annotations") or {}
    value: str | None = notes.get(KEY)
    return value


def test_the_holder_is_named_and_removed_when_nobody_holds(cluster: Cluster, mode: str, may_patch_services: None) -> None:
    env = {"KVIP_VIP_HOST_ANNOTATION": "true"}
    with cluster.restarted("n1", **env), cluster.restarted("n2", **env):
        cluster.create("web", VIP, VIP6)
        cluster.wait_bound(VIP, VIP6)
        wait(lambda: _host(cluster) == cluster.holder_of(VIP).node, "the holder is named", timeout_s=5)
        version = cluster.get("web")["metadata"]["resourceVersion"]
        cluster.patch("web", {"metadata": {"annotations": {KEY: "elsewhere"}}})
        wait(lambda: _host(cluster) == cluster.holder_of(VIP).node, "a wrong name is put right", timeout_s=5)
        assert len(cluster.left()) in (1, 2), "it is never read as state"
        holder = cluster.holder_of(VIP)
        heir = cluster.other(holder)
        holder.stop()
        wait(lambda: _host(cluster) == heir.node, "the next holder is named", timeout_s=5)
        cluster.patch("web", {"metadata": {"annotations": {"kube-vip.io/ignore": "true"}}})
        cluster.wait_gone(VIP, VIP6)
        wait(lambda: _host(cluster) is None, "nobody holds, nobody is named", timeout_s=5)
        assert cluster.get("web")["metadata"]["resourceVersion"] != version
        cluster.delete("web")
        holder.start()
        holder.wait_ready(15)


def test_no_endpoints_no_holder_no_name(cluster: Cluster, may_patch_services: None) -> None:
    env = {"KVIP_VIP_HOST_ANNOTATION": "true"}
    with cluster.restarted("n1", **env), cluster.restarted("n2", **env), endpoints_of(cluster, "web", "n1", "n2") as endpoints:
        cluster.create("web", VIP, spec={"externalTrafficPolicy": "Local"})
        cluster.wait_bound(VIP)
        wait(lambda: _host(cluster) in cluster.nodes, "the holder is named", timeout_s=5)
        endpoints.put()
        cluster.wait_gone(VIP)
        wait(lambda: _host(cluster) is None, "nobody is named", timeout_s=5)
        cluster.delete("web")


def test_by_option_nothing_of_a_service_is_written_and_events_are(cluster: Cluster, mode: str) -> None:
    env = {"disable_service_updates": "true", "KVIP_VIP_HOST_ANNOTATION": "true"}
    with cluster.restarted("n1", **env), cluster.restarted("n2", **env):
        uid = cluster.create("web", VIP)
        version = cluster.get("web")["metadata"]["resourceVersion"]
        cluster.wait_bound(VIP)
        wait(lambda: bool(cluster.events(uid, "VIPBound")), "an Event", timeout_s=3)
        time.sleep(0.5)
        assert cluster.get("web")["metadata"]["resourceVersion"] == version
        cluster.delete("web")
        cluster.wait_gone(VIP)
