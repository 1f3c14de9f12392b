"""The addresses at which this daemon reaches the API server.

In: the server's URL from a `Connection`. Out: addresses that no VIP may equal. It must not open a connection.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from urllib.parse import urlsplit

from kvip.core.model import Vip, canonical
from kvip.errors import ApiError

RESOLVE_DEADLINE_S = 5.0


async def server_addresses(host: str) -> frozenset[Vip]:
    """The addresses behind the server's URL, `Connection.host`: the one written there, or what its name resolves to now.

    For a pod that is the ClusterIP of `default/kubernetes`; the servers behind it are not asked for. Raises ApiError
    (status 0) when the name cannot be resolved within 5 s: keep what was known.
    """
    name = urlsplit(host if "//" in host else f"//{host}").hostname or ""
    try:
        return frozenset({canonical(ipaddress.ip_address(name))})
    except ValueError:
        pass
    try:
        async with asyncio.timeout(RESOLVE_DEADLINE_S):
            found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        raise ApiError("resolve", host, status=0, reason=type(error).__name__, message=str(error)) from error
    # An IPv6 address with a zone ("fe80::1%eth0") is link-local, which no VIP may be.
    return frozenset(canonical(ipaddress.ip_address(str(entry[4][0]))) for entry in found if "%" not in str(entry[4][0]))
