"""The fields of Kubernetes objects that kvip reads, shaped as the API sends them.

`kube.decode` fills these straight from the wire; everything kvip does not read is skipped there.
Field meanings: the API reference of v1 Service, discovery.k8s.io/v1 EndpointSlice, v1 Node and
coordination.k8s.io/v1 Lease.
"""

from __future__ import annotations

import msgspec


class ApiStruct(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """Base of the API-shaped records: camelCase on the wire, frozen here."""


class ObjectMeta(ApiStruct, frozen=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    annotations: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class ServicePort(ApiStruct, frozen=True):
    name: str = ""
    protocol: str = "TCP"
    port: int = 0


class ServiceSpec(ApiStruct, frozen=True):
    type: str = "ClusterIP"
    load_balancer_class: str | None = None
    load_balancer_ip: str = msgspec.field(default="", name="loadBalancerIP")
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    external_traffic_policy: str = ""
    ip_families: tuple[str, ...] | None = None
    ip_family_policy: str | None = None
    ports: tuple[ServicePort, ...] | None = None


class IngressPort(ApiStruct, frozen=True, omit_defaults=True):
    port: int = 0
    protocol: str = ""
    error: str | None = None


class Ingress(ApiStruct, frozen=True, omit_defaults=True):
    """One entry of status.loadBalancer.ingress."""

    ip: str = ""
    hostname: str = ""
    ip_mode: str | None = None
    ports: tuple[IngressPort, ...] | None = None
    """Written by other controllers; kept, since the list is replaced whole."""


class LoadBalancerStatus(ApiStruct, frozen=True):
    ingress: tuple[Ingress, ...] | None = None


class ServiceStatus(ApiStruct, frozen=True):
    load_balancer: LoadBalancerStatus | None = None


class Service(ApiStruct, frozen=True):
    metadata: ObjectMeta
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()

    @property
    def ingress(self) -> tuple[Ingress, ...]:
        """status.loadBalancer.ingress, empty when absent."""
        balancer = self.status.load_balancer
        return (balancer.ingress or ()) if balancer else ()


class IngressFields(ApiStruct, frozen=True):
    """fieldsV1 of managedFields (structured-merge-diff): a key that is there is owned."""

    ingress: dict[str, msgspec.Raw] | None = msgspec.field(default=None, name="f:ingress")


class BalancerFields(ApiStruct, frozen=True):
    load_balancer: IngressFields = msgspec.field(default=IngressFields(), name="f:loadBalancer")


class StatusFields(ApiStruct, frozen=True):
    status: BalancerFields = msgspec.field(default=BalancerFields(), name="f:status")


class ManagedFields(ApiStruct, frozen=True):
    """One entry of metadata.managedFields: who last wrote which fields."""

    manager: str = ""
    fields_v1: StatusFields = msgspec.field(default=StatusFields(), name="fieldsV1")

    @property
    def owns_ingress(self) -> bool:
        """Did this manager write status.loadBalancer.ingress last?"""
        return self.fields_v1.status.load_balancer.ingress is not None


class ManagedMeta(ObjectMeta, frozen=True):
    managed_fields: tuple[ManagedFields, ...] | None = None


class ManagedService(Service, frozen=True):
    """A Service with who wrote what of it; decoded only where that is asked for, since it is most of an object's bytes."""

    metadata: ManagedMeta


class EndpointConditions(ApiStruct, frozen=True):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Endpoint(ApiStruct, frozen=True):
    node_name: str | None = None
    conditions: EndpointConditions | None = None


class EndpointSlice(ApiStruct, frozen=True):
    """An EndpointSlice; its Service is named by the label `kubernetes.io/service-name`."""

    metadata: ObjectMeta
    endpoints: tuple[Endpoint, ...] | None = None


class NodeAddress(ApiStruct, frozen=True):
    type: str = ""
    address: str = ""


class NodeStatus(ApiStruct, frozen=True):
    addresses: tuple[NodeAddress, ...] | None = None


class Taint(ApiStruct, frozen=True):
    key: str = ""


class NodeSpec(ApiStruct, frozen=True):
    taints: tuple[Taint, ...] | None = None
    unschedulable: bool = False


class Node(ApiStruct, frozen=True):
    metadata: ObjectMeta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class LeaseSpec(ApiStruct, frozen=True, omit_defaults=True):
    """coordination.k8s.io/v1 LeaseSpec. Times are RFC 3339 with microseconds, for readers only: nothing is decided by them."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(ApiStruct, frozen=True):
    metadata: ObjectMeta
    spec: LeaseSpec = LeaseSpec()
