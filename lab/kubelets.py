"""Stands in for the DaemonSet controller, the scheduler and the kubelets: runs what the DaemonSet `kvip` in the API server says.

In: a `Cluster` with the real API server, the image that `make image-lab` built and the name under which it would be pulled. Out: while the
context is open, a container per node as soon as there is a DaemonSet, until there is none, with Pods and the status of the DaemonSet in the
API server. Of a controller it lacks: node selectors, updates of a template. It must not run what no DaemonSet asks for.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.cluster import Cluster
from lab.container import ContainerNode, Image
from lab.lan import API_IP
from lab.netns import LabError
from lab.realapi import RealApi

Json = dict[str, Any]
NAMESPACE = "kube-system"
DAEMONSET = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/kvip"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
POLL_S = 0.1
"""A kubelet asks a Pod that is not ready as often as it likes (Kubernetes, "Configure Probes": periodSeconds)."""


class Kubelets:
    """The nodes of one cluster, seen from the DaemonSet."""

    def __init__(self, cluster: Cluster, api: RealApi, *, image: Image, pulled_as: str, work_dir: Path) -> None:
        self.nodes: dict[str, ContainerNode] = {}
        """The containers, after their end too."""
        self._cluster, self._api, self._image, self._pulled_as, self._work_dir = cluster, api, image, pulled_as, work_dir
        self._over = threading.Event()
        self._failure: BaseException | None = None

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Follow the DaemonSet. Raises LabError, at the end, for whatever could not be done."""
        thread = threading.Thread(target=self._work, name="kubelets", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join(30)
            for node in self.nodes.values():
                node.close()
            if self._failure is not None:
                raise LabError(f"kubelets: {self._failure}") from self._failure

    def _work(self) -> None:
        try:
            while not self._over.wait(POLL_S):
                status, daemonset = self._api.request("GET", DAEMONSET)
                running = any(node.running for node in self.nodes.values())
                if status == http.client.NOT_FOUND and running:
                    self._end()
                elif status == http.client.OK and not self.nodes:
                    self._begin(daemonset)
                elif status == http.client.OK:
                    self._report(daemonset)
        except BaseException as failure:  # handed to the caller by `at_work`
            self._failure = failure

    def _begin(self, daemonset: Json) -> None:
        template = daemonset["spec"]["template"]
        pod = template["spec"]
        if (asked := pod["containers"][0]["image"]) != self._pulled_as:
            raise LabError(f"the image {asked} cannot be pulled; there is {self._pulled_as}")
        token = self._api.kubectl("create", "token", pod["serviceAccountName"], "--namespace", NAMESPACE).strip()
        assert self._api.ca_file is not None
        for name in self._cluster.nodes:
            metadata = {"name": f"kvip-{name}", "labels": template["metadata"]["labels"]}
            self._cluster.request(
                "POST", PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**pod, "nodeName": name}}
            )
            self.nodes[name] = ContainerNode(
                self._cluster.lan, name, image=self._image, pod=pod, api_address=(API_IP, self._api.port), token=token,
                ca_file=self._api.ca_file, work_dir=self._work_dir,
            )  # fmt: skip
            self.nodes[name].start()

    def _report(self, daemonset: Json) -> None:
        """What `kubectl rollout status` waits for."""
        ready = [name for name, node in self.nodes.items() if self._ready(node)]
        count = daemonset["status"].get("numberReady", 0)
        if len(ready) == count:
            return
        for name in ready:
            state: Json = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
            self._cluster.request("PATCH", f"{PODS}/kvip-{name}/status", {"status": state})
        counts = {
            **dict.fromkeys(("desiredNumberScheduled", "currentNumberScheduled", "updatedNumberScheduled"), len(self.nodes)),
            **dict.fromkeys(("numberReady", "numberAvailable"), len(ready)),
        }
        state = {"observedGeneration": daemonset["metadata"]["generation"], **counts}
        self._cluster.request("PATCH", f"{DAEMONSET}/status", {"status": state})

    @staticmethod
    def _ready(node: ContainerNode) -> bool:
        if not node.running:
            raise LabError(f"the container on {node.node} ended by itself with {node.returncode}; see {node.log_path}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            return node.get("/readyz")[0] == http.client.OK
        return False

    def _end(self) -> None:
        for name, node in self.nodes.items():
            node.stop()
            self._cluster.request("DELETE", f"{PODS}/kvip-{name}", {"gracePeriodSeconds": 0})
