"""Which NIC the settings mean for VIPs.

Input: settings and the kernel's links. Output: the choice, or a ConfigError that names the setting and the ways out.
"""

from __future__ import annotations

import asyncio
import logging

from kvip.core.model import Link, Vip
from kvip.core.placing import AUTO, NicChoice, place, survey
from kvip.errors import ConfigError
from kvip.kernel.links import default_route_link, find_link, read_links
from kvip.kernel.transport import LoopIPRoute
from kvip.settings import Settings

log = logging.getLogger(__name__)

POLL_S = 1.0
READ_DEADLINE_S = 2.0


async def find_nic(settings: Settings) -> tuple[NicChoice, str]:
    """What the settings say, else the NIC of the default route; and the name of the NIC it leads to now ("" = that hangs on the address).

    Raises ConfigError when there is none and `wait_for_interface` is off, or when VIPs cannot be announced on it.
    """
    setting = "services-interface" if settings.services_interface else "interface"
    name = settings.services_interface or settings.interface
    if name == AUTO:
        return NicChoice(source=f"setting {setting}", value=AUTO), ""
    waiting = False
    while True:
        found, links = await _look(name)
        choice = NicChoice(source=f"setting {setting}", value=found, nic=found)
        if find_link(links, found) is not None:
            return choice, _usable(setting, choice, links)
        if not found:
            problem = "not set, and there is no default route to take the NIC from; name the NIC to announce on"
        else:
            problem = f"there is no NIC {found!r} here; the NICs are: {', '.join(sorted(link.name for link in links))}"
        if not settings.wait_for_interface:
            raise ConfigError(setting, problem)
        if not waiting:
            log.warning("the NIC is not there yet; waiting for it", extra={"reason": problem})
            waiting = True
        await asyncio.sleep(POLL_S)


async def _look(name: str) -> tuple[str, list[Link]]:
    async with LoopIPRoute() as ipr:
        links = await read_links(ipr)
        return name or await default_route_link(ipr) or "", links


def _usable(setting: str, choice: NicChoice, links: list[Link]) -> str:
    placed = place(choice, Vip(""), survey(links, ()))
    if placed.fault:
        raise ConfigError(setting, f"{choice.value!r} {placed.fault}")
    if placed.port:
        log.info("the NIC is a port; its master is used", extra={"port": placed.port, "nic": placed.nic})
    return placed.nic


async def read_all_links() -> list[Link]:
    """Every NIC of this network namespace. Raises NetlinkError, or TimeoutError after 2 s."""
    async with asyncio.timeout(READ_DEADLINE_S), LoopIPRoute() as ipr:
        return await read_links(ipr)
