"""What `local` routes cost the kernel: the route of table `local` that it makes for each address, without the address.

In: a NIC and VIPs. Out: requests for benchmarks/changes.c. Layouts: linux/rtnetlink.h, struct rtmsg and enum rtattr_type_t; a route of this
kind makes its destination the machine's own, as an address does (ip-route(8), type `local`).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence

from benchmarks.binding import SLICE, SLICE_HEAD
from kvip.core.model import Link, Vip, host_prefix, is_ipv6, packed
from kvip.kernel.codec import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST

RTM_NEWROUTE, RTM_DELROUTE = 24, 25
_RTA_DST, _RTA_OIF = 1, 4
_TABLE_LOCAL, _PROTOCOL_STATIC, _TYPE_LOCAL = 255, 4, 2
_SCOPE = {socket.AF_INET: 254, socket.AF_INET6: 0}
"""RT_SCOPE_HOST; IPv6 has no scopes of routes."""
_HEAD = struct.Struct("=IHHII")
_RTMSG = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_INDEX = struct.Struct("=HHI")


def requests(link: Link, names: Sequence[Vip], *, delete: bool = False) -> bytes:
    """Add (or delete) a `local` route for each, in slices, for benchmarks/changes.c."""
    return b"".join(_slices(link, names, delete=delete))


def _slices(link: Link, names: Sequence[Vip], *, delete: bool) -> Iterator[bytes]:
    for start in range(0, len(names), SLICE):
        part = names[start : start + SLICE]
        request = b"".join(_encode(link, vip, sequence=number + 1, delete=delete) for number, vip in enumerate(part))
        yield SLICE_HEAD.pack(len(request), len(part)) + request


def _encode(link: Link, vip: Vip, *, sequence: int, delete: bool) -> bytes:
    family = socket.AF_INET6 if is_ipv6(vip) else socket.AF_INET
    route = _RTMSG.pack(family, host_prefix(vip), 0, 0, _TABLE_LOCAL, _PROTOCOL_STATIC, _SCOPE[family], _TYPE_LOCAL, 0)
    destination = packed(vip)
    route += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(destination), _RTA_DST) + destination + _INDEX.pack(_INDEX.size, _RTA_OIF, link.index)
    flags = NLM_F_REQUEST | NLM_F_ACK | (0 if delete else NLM_F_CREATE | NLM_F_EXCL)
    return _HEAD.pack(_HEAD.size + len(route), RTM_DELROUTE if delete else RTM_NEWROUTE, flags, sequence, 0) + route
