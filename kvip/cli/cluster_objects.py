"""Reads objects of the API server, for commands that run beside no daemon. It only lists.

Input: a kubeconfig. Output: objects. It must not interpret them.
"""

from __future__ import annotations

from kvip.core.objects import EndpointSlice, Lease, Node, Service
from kvip.errors import ApiError
from kvip.kube.api import Api, path_of
from kvip.kube.auth import connect
from kvip.kube.listing import list_all
from kvip.observe.cluster import Objects

_LEASES = ("apis", "coordination.k8s.io", "v1")


async def read_objects(kubeconfig: str, *, namespace: str) -> Objects:
    """Services, Nodes, EndpointSlices and Leases. Leases of all namespaces where that is allowed, else of this one.

    Raises ConfigError for a kubeconfig that cannot be used, ApiError when the API server gives no complete answer.
    """
    async with await connect(kubeconfig=kubeconfig or None) as connection:
        api = Api(connection)
        services = await list_all(api, "/api/v1/services", Service)
        nodes = await list_all(api, "/api/v1/nodes", Node)
        slices = await list_all(api, "/apis/discovery.k8s.io/v1/endpointslices", EndpointSlice)
        try:
            leases = await list_all(api, path_of(*_LEASES, "leases"), Lease)
        except ApiError as error:
            if error.status != 403:
                raise
            leases = await list_all(api, path_of(*_LEASES, "namespaces", namespace, "leases"), Lease)
    return Objects(services=tuple(services), nodes=tuple(nodes), slices=tuple(slices), leases=tuple(leases))
