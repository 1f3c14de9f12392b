"""Which NIC the VIPs go to.

Input: settings and the kernel's links. Output: one Link, or a ConfigError that names the setting and the choices.
"""

from __future__ import annotations

import asyncio
import logging

from kvip.core.model import Link
from kvip.errors import ConfigError
from kvip.kernel.links import default_route_link, find_link, read_links
from kvip.kernel.transport import LoopIPRoute
from kvip.settings import Settings

log = logging.getLogger(__name__)

POLL_S = 1.0
READ_DEADLINE_S = 2.0
ETHERNET = 1
"""ARPHRD_ETHER (linux/if_arp.h)."""


async def find_nic(settings: Settings) -> Link:
    """The NIC that the settings name, else that of the default route.

    Raises ConfigError when there is none and `wait_for_interface` is off, or when it is not an Ethernet NIC.
    """
    waiting = False
    while True:
        link, problem = await _look(settings)
        if link is not None:
            return link
        if not settings.wait_for_interface:
            raise problem
        if not waiting:
            log.warning("the NIC is not there yet; waiting for it", extra={"reason": str(problem)})
            waiting = True
        await asyncio.sleep(POLL_S)


async def _look(settings: Settings) -> tuple[Link | None, ConfigError]:
    setting, name = (
        ("services-interface", settings.services_interface) if settings.services_interface else ("interface", settings.interface)
    )
    async with LoopIPRoute() as ipr:
        links = await read_links(ipr)
        if not name:
            name = await default_route_link(ipr) or ""
    if not name:
        return None, ConfigError(setting, "not set, and there is no default route to take the NIC from; name the NIC to announce on")
    link = find_link(links, name)
    if link is None:
        there = ", ".join(sorted(found.name for found in links))
        return None, ConfigError(setting, f"there is no NIC {name!r} here; the NICs are: {there}")
    if link.arp_type != ETHERNET or len(link.mac) != 6:
        raise ConfigError(setting, f"{name!r} is not an Ethernet NIC (type {link.arp_type}); VIPs are announced on Ethernet only")
    return link, ConfigError(setting, "")


async def read_all_links() -> list[Link]:
    """Every NIC of this network namespace. Raises NetlinkError, or TimeoutError after 2 s."""
    async with asyncio.timeout(READ_DEADLINE_S), LoopIPRoute() as ipr:
        return await read_links(ipr)
