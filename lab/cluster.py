"""A whole cluster of the lab: the LAN, an API server, and a kvip daemon per node, with the verbs that scenarios use.

In: a `Lan`, an API host, a directory. Out: Services made and changed through the API, and what the kernels hold.
It must not judge: the tests do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from kvip.settings import Settings
from lab.admin import Json, request
from lab.apihost import ApiHost
from lab.lan import CLIENT, Lan, node_ip
from lab.netns import LabError
from lab.node import NodeProcess
from lab.prober import Prober
from lab.sniffer import Sniffer
from lab.tampering import Tampering

ADDRESSES = "kube-vip.io/loadbalancerIPs"
SERVICES = "/api/v1/namespaces/default/services"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
LEASE = f"{LEASES}/plndr-svcs-lock"
POLL_S = 0.002
CLAIMS, GLOBAL = "claims", "global"
PER_SERVICE = "per-service"
SERVICE_LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"


def now() -> float:
    """CLOCK_BOOTTIME, the clock of the sniffer and the prober."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wait(check: Callable[[], bool], what: str, *, timeout_s: float) -> float:
    """Poll until true; returns the seconds it took. Raises LabError naming `what`."""
    began = now()
    while not check():
        if now() - began > timeout_s:
            raise LabError(f"did not happen within {timeout_s} s: {what}")
        time.sleep(POLL_S)
    return now() - began


class Cluster(Tampering):
    """The LAN, the API server, and one daemon per node."""

    def __init__(
        self, lan: Lan, api: ApiHost, *, work_dir: Path, nodes: tuple[str, ...] = ("n1", "n2"), env: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(lan)
        self.api = api
        self._work_dir = work_dir
        self._env = dict(env or {})
        self.mode = self._env.get("KVIP_ELECTION") or CLAIMS
        self.nodes = {name: self._node(name) for name in nodes}

    def _node(self, name: str) -> NodeProcess:
        env = {**self._env, "KVIP_ELECTION": self.mode}
        return NodeProcess(self.lan, name, kubeconfig=self.api.kvip_kubeconfig, work_dir=self._work_dir, env=env)

    def register_nodes(self) -> None:
        """Create a Node object for each node, with its address, as a kubelet would."""
        for name in self.nodes:
            self.create_node(name, node_ip(name))

    def create_node(self, name: str, ip: str) -> None:
        """Create a Node object with this InternalIP."""
        self.request("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        self.request("PATCH", f"/api/v1/nodes/{name}/status", {"status": {"addresses": [{"type": "InternalIP", "address": ip}]}})

    # -- daemons ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start every daemon that does not run, and wait until all are ready (mode `global`: and one of them holds)."""
        for node in self.nodes.values():
            if not node.running:
                node.start()
        for node in self.nodes.values():
            node.wait_ready(15)
        if self.mode == GLOBAL:
            self.holder()

    def use(self, mode: str) -> None:
        """Stop every daemon (SIGTERM) and have the next start use this election mode; nothing when it is in use already."""
        if mode == self.mode:
            return
        for node in self.nodes.values():
            if node.running:
                node.stop()
            node.env["KVIP_ELECTION"] = mode
        left = {f"{LEASES}/{item['metadata']['name']}" for item in self.request("GET", LEASES)["items"]}
        if mode == CLAIMS and LEASE in left:
            # A daemon that finds it cannot tell when it was released, and waits.
            self.request("DELETE", LEASE)
        self.mode = mode
        self.give_rights()

    def give_rights(self, **settings: bool | str) -> None:
        """What the daemons may do is what they need in this mode with these settings, where the server asks for rights."""
        self.api.give_rights(msgspec.convert({"election": self.mode, **settings}, Settings))

    @contextmanager
    def joined_by(self, name: str) -> Iterator[NodeProcess]:
        """One more node of the LAN takes part, and leaves gracefully."""
        node = self.nodes[name] = self._node(name)
        try:
            self.create_node(name, node_ip(name))
            with node:
                node.wait_ready(15)
                yield node
                if node.running:
                    node.stop()
        finally:
            for vip in node.vips():
                self.drop_address(name, vip)
            del self.nodes[name]
            self.request("DELETE", f"/api/v1/nodes/{name}")

    @contextmanager
    def restarted(self, name: str, *arguments: str, **env: str) -> Iterator[NodeProcess]:
        """A node's daemon, stopped and started again with more settings, as flags or variables; without them again afterwards."""
        node = self.nodes[name]
        before, node.arguments = dict(node.env), arguments
        if node.running:
            node.stop()
        node.env.update(env)
        try:
            node.start()
            node.wait_ready(15)
            yield node
        finally:
            if node.running:
                node.thaw()
                node.stop()
            node.env, node.arguments = before, ()

    def stop(self) -> None:
        """Stop every daemon."""
        for node in self.nodes.values():
            node.close()

    def holder(self, *, timeout_s: float = 20) -> NodeProcess:
        """The daemon that holds the Lease now, by its own word."""
        found: list[NodeProcess] = []

        def one() -> bool:
            running = [node for node in self.nodes.values() if node.running]
            found[:] = [node for node in running if node.metrics().get("kvip_lease_holding") == 1]
            return len(found) == 1

        wait(one, "one node holds the lease", timeout_s=timeout_s)
        return found[0]

    def holder_of(self, vip: str, *, timeout_s: float = 20) -> NodeProcess:
        """The one node that answers for the VIP and has it bound, judged by the wire and the kernel."""
        found: list[NodeProcess] = []

        def one() -> bool:
            macs = prober.holders_now(vip)
            found[:] = [node for name, node in self.nodes.items() if self.lan.mac(name) in macs and vip in node.vips()]
            return len(macs) == len(found) == 1

        with self.probing(vip) as prober:
            wait(one, f"one node answers for {vip}", timeout_s=timeout_s)
        return found[0]

    def own_lease(self, node: NodeProcess) -> str:
        """The path of the Lease by which a node that holds VIPs (with a Lease per Service: that of `web`) stays a holder."""
        if self.mode == PER_SERVICE:
            return f"{SERVICE_LEASES}/kubevip-web"
        return LEASE if self.mode == GLOBAL else f"{LEASES}/kvip-node-{node.node}"

    def incarnation(self, node: NodeProcess) -> str:
        """holderIdentity of that Lease, "" when it names none."""
        return str(self.request("GET", self.own_lease(node))["spec"].get("holderIdentity") or "")

    def other(self, node: NodeProcess) -> NodeProcess:
        """Another node than this one."""
        return next(each for each in self.nodes.values() if each is not node)

    # -- Services ------------------------------------------------------------------------------------------------------------

    @staticmethod
    def service(name: str, *vips: str, annotations: Mapping[str, str] | None = None, spec: Mapping[str, Any] | None = None) -> Json:
        """A LoadBalancer Service that asks for these addresses; of both families, unless `spec` says otherwise."""
        notes = {**({ADDRESSES: ",".join(vips)} if vips else {}), **(annotations or {})}
        ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
        families = {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}
        body = {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False, "ports": ports, **families, **(spec or {})}
        metadata = {"name": name, "namespace": "default", "annotations": notes}
        return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": body}

    def create(self, name: str, *vips: str, annotations: Mapping[str, str] | None = None, spec: Mapping[str, Any] | None = None) -> str:
        """Create a Service; returns its UID."""
        body = self.request("POST", SERVICES, self.service(name, *vips, annotations=annotations, spec=spec))
        return str(body["metadata"]["uid"])

    def get(self, name: str) -> Json:
        """The Service as the API server has it."""
        return self.request("GET", f"{SERVICES}/{name}")

    def patch(self, name: str, patch: Json) -> Json:
        """Merge-patch a Service."""
        return self.request("PATCH", f"{SERVICES}/{name}", patch)

    def delete(self, name: str) -> None:
        """Delete a Service."""
        self.request("DELETE", f"{SERVICES}/{name}")

    def delete_all(self) -> None:
        """Delete every Service that a test may have made."""
        for item in self.request("GET", SERVICES)["items"]:
            if item["metadata"]["name"] != "kubernetes":
                self.delete(item["metadata"]["name"])

    def ingress(self, name: str) -> list[str]:
        """The addresses in status.loadBalancer.ingress."""
        entries = self.get(name)["status"].get("loadBalancer", {}).get("ingress") or []
        return [entry["ip"] for entry in entries]

    def events(self, uid: str, reason: str = "") -> list[str]:
        """Messages of the Events about this object, of one reason or all."""
        items = self.request("GET", "/api/v1/namespaces/default/events")["items"]
        mine = [item for item in items if item["involvedObject"].get("uid") == uid]
        return [item["message"] for item in mine if not reason or item["reason"] == reason]

    def request(self, method: str, path: str, body: Json | None = None) -> Json:
        """One request as administrator; raises LabError for any answer but 2xx."""
        status, answer = request(self.api.url, method, path, body, token=self.api.admin_token, ca_file=self.api.ca_file)
        if not 200 <= status < 300:
            raise LabError(f"{method} {path}: {status} {answer.get('message', '')}")
        return answer

    # -- the kernels and the wire --------------------------------------------------------------------------------------------

    def bound(self, vip: str) -> list[str]:
        """The nodes that have this address bound with kvip's mark."""
        return [name for name, node in self.nodes.items() if vip in node.vips()]

    def left(self) -> dict[str, list[str]]:
        """Marked addresses per node that has any."""
        found = {name: node.vips() for name, node in self.nodes.items()}
        return {name: vips for name, vips in found.items() if vips}

    def wait_bound(self, *vips: str, timeout_s: float = 5.0) -> float:
        """Until each is bound on exactly one node; returns seconds."""
        return wait(lambda: all(len(self.bound(vip)) == 1 for vip in vips), f"{vips} bound on one node each", timeout_s=timeout_s)

    def wait_gone(self, *vips: str, timeout_s: float = 5.0) -> float:
        """Until none is bound anywhere; returns seconds."""
        return wait(lambda: not any(self.bound(vip) for vip in vips), f"{vips} gone from every node", timeout_s=timeout_s)

    @contextmanager
    def sniffing(self, *vips: str) -> Iterator[Sniffer]:
        """The client listens."""
        with Sniffer(self.lan.ns(CLIENT), "eth0", vips=vips or None) as sniffer:
            yield sniffer

    @contextmanager
    def probing(self, *vips: str) -> Iterator[Prober]:
        """The client asks who has these addresses, all the time."""
        with Prober(self.lan.ns(CLIENT), "eth0", list(vips)) as prober:
            yield prober

    @contextmanager
    def judging(self, *vips: str) -> Iterator[Prober]:
        """As `probing`, from the instant on at which each of them has been answered: a report that begins in health."""
        with self.probing(*vips) as prober:
            for vip in vips:
                if prober.wait_answer(vip, timeout_s=5) is None:
                    raise LabError(f"{vip} is not answered before the fault")
            prober.clear()
            yield prober
