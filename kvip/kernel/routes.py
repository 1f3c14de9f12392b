"""The default gateways of this network namespace.

In: rtnetlink's routes of the main table, through pyroute2. Out: addresses that no VIP may equal. It keeps nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kvip.core.model import Vip, canonical
from kvip.kernel import links
from kvip.kernel.transport import LoopIPRoute

_RTN_UNICAST: Final = 1
_RT_TABLE_MAIN: Final = 254


async def default_gateways() -> set[Vip]:
    """The next hop of every default route, of both families; empty when default routes are on-link or absent.

    Raises `NetlinkError` when the kernel gives no complete answer within 5 s per family.
    """
    found: set[Vip] = set()
    # The table "local" has a route for each VIP: 3,000 of them were decoded in 300 ms, each minute, to be dropped.
    async with LoopIPRoute(strict_check=True) as ipr:
        for family in (socket.AF_INET, socket.AF_INET6):
            for route in await links.dump(ipr, "route", family=family, table=_RT_TABLE_MAIN):
                found.update(gateways_of(route))
    return found


def gateways_of(route: Mapping[str, Any]) -> Iterator[Vip]:
    """The next hops of a decoded rtmsg, when it is a default route of the main table."""
    attributes = dict(route["attrs"])
    if route["dst_len"] != 0 or route["type"] != _RTN_UNICAST or attributes.get("RTA_TABLE", _RT_TABLE_MAIN) != _RT_TABLE_MAIN:
        return
    # With nexthop objects (RTA_NH_ID) the kernel gives the next hops as well (fib_nexthop_info, nexthop_compat_mode).
    for hop in (attributes, *(dict(hop["attrs"]) for hop in attributes.get("RTA_MULTIPATH") or ())):
        # RTA_VIA is a next hop of the other family (RFC 5549).
        via = hop.get("RTA_GATEWAY") or (hop.get("RTA_VIA") or {}).get("addr")
        if via:
            yield canonical(ipaddress.ip_address(via))
