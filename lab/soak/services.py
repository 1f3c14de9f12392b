"""Creates, changes and deletes Services, and tells the `World` before and after.

In: operations, a `Cluster`. Out: writes through the API server. A write whose answer is lost leaves the Service unknown until it is read
again. It must not judge, nor know of faults.
"""

from __future__ import annotations

from lab.admin import Json
from lab.cluster import ADDRESSES, Cluster, now
from lab.netns import LabError
from lab.soak.model import FOREIGN_VIP, Operation
from lab.soak.world import World

IGNORE = "kube-vip.io/ignore"
OTHER_CLASS = "example.com/other"

_CLUSTER_IP: Json = {"spec": {"type": "ClusterIP", "allocateLoadBalancerNodePorts": None, "loadBalancerClass": None}}


def asked_by(service: Json) -> tuple[str, ...]:
    """The VIPs that a Service asks of kvip, the one that must be refused left out. The soak's own reading of the contract."""
    notes, spec = service["metadata"].get("annotations") or {}, service["spec"]
    if spec.get("type") != "LoadBalancer" or spec.get("loadBalancerClass") or notes.get(IGNORE) == "true":
        return ()
    return tuple(vip for vip in notes.get(ADDRESSES, "").split(",") if vip and vip != FOREIGN_VIP)


class ServiceWriter:
    """See the module."""

    def __init__(self, cluster: Cluster, world: World) -> None:
        self._cluster = cluster
        self._world = world

    def write(self, operation: Operation) -> bool:
        """Do it; False when it makes no sense any more. Errors: `model.FAILURES`; then the Service is unknown."""
        name = operation.service
        exists = self._read(name) is not None
        match operation.kind:
            case "create":
                if exists:
                    return False
                self._create(name, operation.vips)
            case _ if not exists:
                if operation.kind == "delete":
                    return False
                self._create(name, operation.vips)  # an earlier create was skipped
            case "delete":
                self._delete(name)
            case "recreate":
                self._delete(name)
                self._create(name, operation.vips)
            case "move":
                self._patch(name, {"metadata": {"annotations": {ADDRESSES: ",".join(operation.vips)}}}, operation.vips)
            case "retype":
                self._patch(name, _CLUSTER_IP)
            case "reclass":
                self._patch(name, _CLUSTER_IP)
                self._patch(name, {"spec": {"type": "LoadBalancer", "loadBalancerClass": OTHER_CLASS}})
            case "ignore":
                self._patch(name, {"metadata": {"annotations": {IGNORE: "true"}}})
            case "restore":
                self._patch(name, _CLUSTER_IP)
                balanced = {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False}
                notes = {IGNORE: None, ADDRESSES: ",".join(operation.vips)}
                self._patch(name, {"metadata": {"annotations": notes}, "spec": balanced}, operation.vips)
        return True

    def _create(self, name: str, vips: tuple[str, ...]) -> None:
        sent_s = now()
        self._world.changing(name, vips)
        port = {"name": "http", "port": 8000 + int(name[1:]), "protocol": "TCP"}
        body = self._cluster.service(name, *vips, spec={"ports": [port]})
        answer = self._cluster.request("POST", "/api/v1/namespaces/default/services", body)
        self._settle(name, answer, sent_s=sent_s)

    def _delete(self, name: str) -> None:
        self._world.changing(name, ())
        self._cluster.delete(name)
        self._world.settled(name, (), at_s=now())

    def _patch(self, name: str, patch: Json, vips: tuple[str, ...] = ()) -> None:
        sent_s = now()
        self._world.changing(name, vips)
        self._settle(name, self._cluster.patch(name, patch), sent_s=sent_s)

    def _settle(self, name: str, answer: Json, *, sent_s: float) -> None:
        vips = asked_by(answer)
        self._world.asked(answer["metadata"]["uid"], vips, at_s=sent_s)
        self._world.settled(name, vips, at_s=now())

    def _read(self, name: str) -> Json | None:
        try:
            return self._cluster.get(name)
        except LabError as error:
            if ": 404 " in str(error):
                return None
            raise

    def reread(self, name: str) -> None:
        """Find out what became of a Service that is unknown."""
        found = self._read(name)
        if found is None:
            self._world.settled(name, (), at_s=now())
        else:
            self._settle(name, found, sent_s=self._world.began_s)
