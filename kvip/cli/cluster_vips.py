"""Which VIPs are ours by the API server, for commands that run beside no daemon.

Input: a kubeconfig. Output: VIP -> the Services that ask kvip for it. It only lists Services and Nodes.
"""

from __future__ import annotations

from kvip.cli.known_vips import Owners
from kvip.core.addresses import Surroundings, addresses_of
from kvip.core.desired import Rules, interpret
from kvip.core.model import Vip
from kvip.core.objects import Node, Service
from kvip.kube.api import Api
from kvip.kube.auth import connect
from kvip.kube.listing import list_all


async def from_api(kubeconfig: str, rules: Rules) -> Owners:
    """What the Services of the cluster ask kvip for; never the address of a Node.

    Raises ConfigError for a kubeconfig that cannot be used, ApiError when the API server gives no complete answer.
    """
    async with await connect(kubeconfig=kubeconfig) as connection:
        api = Api(connection)
        nodes = await list_all(api, "/api/v1/nodes", Node)
        services = await list_all(api, "/api/v1/services", Service)
    surroundings = Surroundings(node_addresses=frozenset(vip for node in nodes for vip in addresses_of(node)))
    owners: dict[Vip, tuple[str, ...]] = {}
    for service in services:
        wish = interpret(service, rules, surroundings)
        for vip in wish.addresses:
            owners[vip] = (*owners.get(vip, ()), wish.key)
    return owners
