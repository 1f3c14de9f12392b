"""The rights that kvip asks for are the ones that its requests need: what it never asks for is not granted."""

from __future__ import annotations

import pytest

from kvip.core.rights import rules_for
from kvip.settings import Settings
from lab.cluster import CLAIMS, GLOBAL, LEASES, PER_SERVICE, Cluster, wait
from lab.embeddedapi import EmbeddedApi
from lab.lan import api_ip

MODES = (CLAIMS, GLOBAL, PER_SERVICE)
VIP = "10.10.0.200"
VERBS = {"GET": "get", "LIST": "list", "WATCH": "watch", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
"""Of the API server's authorizer (kubernetes.io, "Authorization", request verbs)."""


def asked(embedded: EmbeddedApi, cluster: Cluster) -> set[tuple[str, str]]:
    """(resource, verb) of every request of a daemon."""
    counts = [embedded.request_counts(client=api_ip(node)) for node in cluster.nodes]
    return {(resource, VERBS[verb]) for each in counts for verb, resource, _ in each}


def granted(election: str) -> set[tuple[str, str]]:
    rules = [rule for rules in rules_for(Settings(election=election)).values() for rule in rules]  # type: ignore[arg-type]
    return {(resource, verb) for rule in rules for resource in rule.resources for verb in rule.verbs}


@pytest.mark.parametrize("watch_list", [True, False])
def test_every_right_is_used_and_no_other(cluster: Cluster, embedded: EmbeddedApi, mode: str, watch_list: bool) -> None:
    for node in cluster.nodes.values():
        node.stop()
    for lease in cluster.request("GET", LEASES)["items"]:
        cluster.request("DELETE", f"{LEASES}/{lease['metadata']['name']}")
    embedded.reset()
    embedded.set_faults(no_watchlist=not watch_list)
    for node in cluster.nodes.values():
        node.start()
        node.wait_ready(25)
    uid = cluster.create("web", VIP)
    cluster.wait_bound(VIP, timeout_s=25)
    wait(lambda: cluster.ingress("web") == [VIP], "the status is written", timeout_s=5)
    wait(lambda: bool(cluster.events(uid, "VIPBound")), "the Event is posted", timeout_s=5)
    cluster.holder_of(VIP).stop()
    cluster.wait_bound(VIP, timeout_s=15)
    used = asked(embedded, cluster)
    assert used <= granted(mode)
    # A server with WatchList is asked for no list of what is watched.
    lists = {(resource, "list") for resource in ("nodes", "services", "endpointslices", "leases")}
    assert granted(mode) - used <= (lists if watch_list else set())
