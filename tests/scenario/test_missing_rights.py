"""With each right of deploy/ taken away, one at a time, a daemon says in its log which one it lacks, in the API server's words."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lab.cluster import Cluster, wait
from lab.manifests import DEPLOY
from lab.realapi import RealApi
from lab.shipped import objects_of, running

VIP = "10.10.0.200"
BASE = objects_of((DEPLOY / "base" / "rbac.yaml").read_text())
RIGHTS = [(resource, verb) for item in BASE for rule in item.get("rules", ()) for resource in rule["resources"] for verb in rule["verbs"]]
NOT_ASKED_FOR = {(resource, "list") for resource in ("nodes", "services", "endpointslices", "leases")}
"""Of an API server with WatchList (tests/scenario/test_rights.py has both kinds)."""


def without(resource: str, verb: str, text: str) -> str:
    """The objects, less one right."""
    objects = objects_of(text)
    for item in objects:
        for rule in item.get("rules", ()):
            if rule["resources"] == [resource]:
                rule["verbs"].remove(verb)
        if "rules" in item:
            item["rules"] = [rule for rule in item["rules"] if rule["verbs"]]
    return yaml.safe_dump_all(objects)


def says(cluster: Cluster, resource: str, verb: str, *, since: dict[str, int]) -> bool:
    """Does some daemon's log name the right, after so many lines by node?"""
    words = f'cannot {verb} resource "{resource}"'
    return any(words in str(record) for name, node in cluster.nodes.items() for record in node.logs()[since[name] :])


@pytest.fixture
def base(cluster: Cluster) -> str:
    if not isinstance(cluster.api, RealApi):
        pytest.skip("only the real API server asks for rights")
    return cluster.api.kubectl("kustomize", str(DEPLOY / "base"))


@pytest.mark.parametrize(
    ("resource", "verb"),
    [right for right in RIGHTS if right not in NOT_ASKED_FOR],
    ids=[" ".join(right) for right in RIGHTS if right not in NOT_ASKED_FOR],
)
def test_a_right_that_is_lacking_is_named(cluster: Cluster, base: str, tmp_path: Path, resource: str, verb: str) -> None:
    before = {name: len(node.logs()) for name, node in cluster.nodes.items()}
    for node in cluster.nodes.values():
        node.stop()
    # Nothing is created where other tests left it.
    cluster.api.kubectl("delete", "leases", "--namespace", "kube-system", "--selector", "app.kubernetes.io/managed-by=kvip")
    with running(cluster, without(resource, verb, base), tmp_path, ready=False):
        cluster.create("web", VIP)
        wait(lambda: says(cluster, resource, verb, since=before), f"a daemon says that it cannot {verb} {resource}", timeout_s=20)
        cluster.delete("web")
    assert cluster.left() == {}
