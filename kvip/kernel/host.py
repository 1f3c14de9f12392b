"""What this network namespace looks like, read once: for commands of an administrator.

In: rtnetlink and two sysctls. Out: a `Host`. It changes and keeps nothing.
"""

from __future__ import annotations

from pathlib import Path

from kvip.core.model import Link
from kvip.core.sweeping import Host
from kvip.kernel.batches import AddressSocket
from kvip.kernel.links import default_route_link, read_links
from kvip.kernel.transport import LoopIPRoute

_SYSCTLS = Path("/proc/sys/net/ipv4/conf")


async def read_host(addresses: AddressSocket) -> Host:
    """The addresses, NICs and default route of this network namespace. Raises `NetlinkError`; each dump has a deadline."""
    async with LoopIPRoute() as ipr:
        links = await read_links(ipr)
        default_nic = await default_route_link(ipr)
    return Host(
        addresses=tuple(addresses.dump()),
        links={link.index: link for link in links},
        default_nic=default_nic or "",
        promoting=frozenset(link.index for link in links if _promotes(link)),
    )


def _promotes(link: Link) -> bool:
    """Does a secondary outlive its primary here? The larger of the two sysctls counts (IN_DEV_PROMOTE_SECONDARIES); unread = no."""
    for name in ("all", link.name):
        try:
            if (_SYSCTLS / name / "promote_secondaries").read_text(encoding="ascii").strip() != "0":
                return True
        except (OSError, ValueError):
            continue
    return False
