"""The NICs of this network namespace, and the one of the default route.

In: rtnetlink, through pyroute2. Out: `Link`s. It never reads /sys/class/net: that shows the namespace in which it was
mounted, which is not always this one. It keeps nothing: whoever wants to follow changes uses `kernel.monitor`.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pyroute2.netlink.exceptions import NetlinkDecodeError, NetlinkHeaderDecodeError
from pyroute2.netlink.exceptions import NetlinkError as Pyroute2Error
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from kvip.core.model import IfIndex, Link
from kvip.errors import NetlinkError
from kvip.kernel.codec import NLM_F_DUMP_INTR, DecodeError
from kvip.kernel.transport import LoopIPRoute

_DEADLINE_S: Final = 5.0
_DUMP_ATTEMPTS: Final = 5
_IFF_UP: Final = 0x1
_IFF_NOARP: Final = 0x80
_IFF_LOWER_UP: Final = 0x10000
_RTNH_F_DEAD: Final = 0x1
_RTN_UNICAST: Final = 1
_RT_TABLE_MAIN: Final = 254
_IP6_RT_PRIO_USER: Final = 1024


async def read_links(ipr: LoopIPRoute) -> list[Link]:
    """All NICs, in the order of their indices. Raises `NetlinkError`; an interrupted dump is repeated, never an answer."""
    found = [link for message in await dump(ipr, "link") if (link := link_of(message)) is not None]
    return sorted(found, key=lambda link: link.index)


def find_link(links: Iterable[Link], name: str) -> Link | None:
    """The NIC of that name, None when there is none."""
    return next((link for link in links if link.name == name), None)


async def default_route_link(ipr: LoopIPRoute) -> str | None:
    """The name of the NIC that the default route with the lowest metric leaves by: IPv4's, else IPv6's, else None."""
    for family in (socket.AF_INET, socket.AF_INET6):
        routes = await dump(ipr, "route", family=family, table=_RT_TABLE_MAIN)
        best = min((found for route in routes if (found := _default_route(route, family)) is not None), default=None)
        if best is not None:
            return next((link.name for link in await read_links(ipr) if link.index == best[1]), None)
    return None


def link_of(message: Mapping[str, Any]) -> Link | None:
    """The NIC in a decoded ifinfomsg; None for one that does not describe a NIC in full.

    A bridge announces its ports as ifinfomsg of family AF_BRIDGE, and one that leaves as RTM_DELLINK of that family though
    the NIC stays (br_ifinfo_notify); wireless events carry the name only (wext-core.c, rtnetlink_ifinfo_prep).
    """
    attributes = dict(message["attrs"])
    if message["family"] != socket.AF_UNSPEC or "IFLA_IFNAME" not in attributes or "IFLA_MTU" not in attributes:
        return None
    info = dict(info["attrs"]) if (info := attributes.get("IFLA_LINKINFO")) else {}
    data = info.get("IFLA_INFO_DATA") if info.get("IFLA_INFO_KIND") == "vlan" else None
    # With IFLA_LINK_NETNSID the index counts in another namespace (rtnetlink.c, nla_put_iflink).
    parent = attributes.get("IFLA_LINK") if "IFLA_LINK_NETNSID" not in attributes else None
    mac = attributes.get("IFLA_ADDRESS") or ""
    master = attributes.get("IFLA_MASTER")
    return Link(
        index=IfIndex(message["index"]),
        name=attributes["IFLA_IFNAME"],
        mac=bytes.fromhex(mac.replace(":", "")),
        up=bool(message["flags"] & _IFF_UP),
        carrier=bool(message["flags"] & _IFF_LOWER_UP),
        arp_type=message["ifi_type"],
        mtu=attributes["IFLA_MTU"],
        master=IfIndex(master) if master else None,
        kind=info.get("IFLA_INFO_KIND", ""),
        parent=IfIndex(parent) if parent else None,
        vlan_id=dict(data["attrs"]).get("IFLA_VLAN_ID") if data else None,
        arp=not message["flags"] & _IFF_NOARP,
    )


def decode_link(data: bytes) -> Link | None:
    """The NIC in the bytes of one RTM_NEWLINK or RTM_DELLINK, header included; None as for `link_of`. Raises `DecodeError`."""
    message = ifinfmsg(data)
    try:
        message.decode()
        return link_of(message)
    except (NetlinkDecodeError, NetlinkHeaderDecodeError, struct.error, LookupError, ValueError, TypeError, AttributeError) as error:
        raise DecodeError(f"link message of {len(data)} bytes: {error!r}; it is discarded") from error


def _default_route(route: Mapping[str, Any], family: int) -> tuple[int, int] | None:
    """Metric and NIC of a usable default route; the first next hop of a multipath one."""
    if route["family"] != family or route["dst_len"] != 0 or route["type"] != _RTN_UNICAST or route["flags"] & _RTNH_F_DEAD:
        return None
    attributes = dict(route["attrs"])
    if attributes.get("RTA_TABLE", _RT_TABLE_MAIN) != _RT_TABLE_MAIN:
        return None
    hops = attributes.get("RTA_MULTIPATH") or ()
    index = attributes.get("RTA_OIF") or next((hop["oif"] for hop in hops), None)
    return None if index is None else (attributes.get("RTA_PRIORITY", _IP6_RT_PRIO_USER if family == socket.AF_INET6 else 0), index)


async def dump(ipr: LoopIPRoute, what: str, **selection: int) -> list[Any]:
    """A complete dump of links or routes within the deadline. Of routes the kernel itself selects, on a socket with `strict_check`
    (rtnetlink, NETLINK_GET_STRICT_CHK); without it, and without pyroute2's own filter, which decodes all before it drops, it gives all."""
    try:
        async with asyncio.timeout(_DEADLINE_S):
            for _ in range(_DUMP_ATTEMPTS):
                async with ipr.dump_lock:
                    answer = await (ipr.link("dump") if what == "link" else ipr.route("dump", dump_filter=None, **selection))
                    found = [message async for message in answer]
                if not any(message["header"]["flags"] & NLM_F_DUMP_INTR for message in found):
                    return found
    except TimeoutError as error:
        raise NetlinkError(errno.ETIMEDOUT, "dump", f"all {what}s") from error
    except Pyroute2Error as error:
        raise NetlinkError(error.code, "dump", f"all {what}s", ext_ack=str(error)) from error
    except OSError as error:
        raise NetlinkError(error.errno or errno.EIO, "dump", f"all {what}s") from error
    raise NetlinkError(errno.EINTR, "dump", f"all {what}s", ext_ack=f"interrupted {_DUMP_ATTEMPTS} times, keeping what is known")
