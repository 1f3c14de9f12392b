"""Runs the lab's daemons as a manifest says: under its service account, with the environment of its container, and no other rights.

In: a `Cluster` with the real API server, and the manifest's objects. Out: a context in which every daemon runs so; afterwards the objects
are deleted and the daemons run as before. It must not judge, and must not add what a kubelet would not.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import yaml

from lab.admin import request
from lab.apihost import write_kubeconfig
from lab.cluster import Cluster
from lab.netns import LabError
from lab.realapi import RealApi

Json = dict[str, Any]
_OF_THE_LAB = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "KVIP_NO_EXTENSIONS", "KVIP_STATE_DIR")
"""What stands for the image and the hostPath of a Pod."""
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The same objects; PyYAML's own has libyaml where it was built with it, and takes a tenth of the time."""


class Shipped(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest that runs."""

    namespace: str
    token: str
    """Of the service account."""

    def may(self, cluster: Cluster, method: str, path: str) -> bool:
        """Whether the service account may do this; asked by doing it, so ask for what is refused or harmless."""
        status, _ = request(cluster.api.url, method, path, None, token=self.token, ca_file=cluster.api.ca_file)
        return status != http.client.FORBIDDEN


def objects_of(text: str) -> list[Json]:
    """The objects of a YAML text."""
    return [item for item in yaml.load_all(text, Loader=_LOADER) if item]


def pod_of(text: str) -> Json:
    """The PodSpec of the DaemonSet in a YAML text."""
    (found,) = (item for item in objects_of(text) if item["kind"] == "DaemonSet")
    spec: Json = found["spec"]["template"]["spec"]
    return spec


def environment(pod: Json, node: str) -> dict[str, str]:
    """The environment that a kubelet gives the container on this node."""
    fields = {"spec.nodeName": node}
    return {
        entry["name"]: entry["value"] if "value" in entry else fields[entry["valueFrom"]["fieldRef"]["fieldPath"]]
        for entry in pod["containers"][0]["env"]
    }


@contextmanager
def applied(cluster: Cluster, text: str) -> Iterator[Shipped]:
    """The objects exist, and every daemon is stopped; afterwards they are deleted, and the lab's own rights are as they were."""
    api = real_api(cluster)
    (account,) = (item["metadata"] for item in objects_of(text) if item["kind"] == "ServiceAccount")
    for node in cluster.nodes.values():
        if node.running:
            node.stop()
    # The lab's user has roles of the same names: what these objects do not say, nobody may.
    api.give_nothing()
    try:
        api.kubectl("apply", "--validate=strict", "-f", "-", stdin=text)
        token = api.kubectl("create", "token", account["name"], "--namespace", account["namespace"]).strip()
        yield Shipped(namespace=account["namespace"], token=token)
    finally:
        api.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=text)
        cluster.give_rights()


@contextmanager
def running(
    cluster: Cluster, text: str, work_dir: Path, *, extra: Mapping[str, str] | None = None, ready: bool = True
) -> Iterator[Shipped]:
    """Every daemon runs as these objects say, and is `ready`. `extra`: variables on top."""
    with applied(cluster, text) as shipped:
        pod = pod_of(text)
        path = work_dir / "shipped.kubeconfig"
        write_kubeconfig(path, url=cluster.api.url, token=shipped.token, user="kvip", ca_file=cluster.api.ca_file)
        before = {name: node.env for name, node in cluster.nodes.items()}
        try:
            for name, node in cluster.nodes.items():
                kept = {key: node.env[key] for key in _OF_THE_LAB if key in node.env}
                node.env = {**kept, "KUBECONFIG": str(path), **environment(pod, name), **(extra or {})}
                node.start()
            for node in cluster.nodes.values() if ready else ():
                node.wait_ready(25)
            yield shipped
        finally:
            for name, node in cluster.nodes.items():
                if node.running:
                    node.stop()
                node.env = before[name]


def real_api(cluster: Cluster) -> RealApi:
    """The real API server. Raises LabError where the lab has another."""
    if not isinstance(cluster.api, RealApi):
        raise LabError("only the real API server has service accounts and rights")
    return cluster.api
