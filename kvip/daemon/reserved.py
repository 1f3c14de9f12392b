"""Addresses that no VIP may equal though no object names them: the default gateways', and the API server's.

Input: the kernel's routes, the API server's URL. Output: two sets, read at start and each minute. What cannot be read stays
as it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from kvip.core.model import Vip
from kvip.errors import KvipError
from kvip.kernel.routes import default_gateways
from kvip.kube.endpoint import server_addresses

log = logging.getLogger(__name__)

PERIOD_S = 60.0


class Reserved:
    """`run` keeps the sets fresh; `read` fills them once before anything is bound."""

    gateways: frozenset[Vip] = frozenset()
    api_servers: frozenset[Vip] = frozenset()

    def __init__(self, host: str, on_changed: Callable[[], None]) -> None:
        """`host`: the API server's URL, `Connection.host`."""
        self._host = host
        self._on_changed = on_changed

    async def read(self) -> None:
        """Both sets as they are now. Never raises for what cannot be read."""
        try:
            self.gateways = frozenset(await default_gateways())
        except (KvipError, OSError) as error:
            log.warning("the default gateways cannot be read; keeping what is known", extra={"reason": str(error)})
        try:
            self.api_servers = await server_addresses(self._host)
        except KvipError as error:
            log.warning("the API server's name cannot be resolved; keeping what is known", extra={"reason": str(error)})

    async def run(self) -> None:
        """Read for ever."""
        while True:
            before = (self.gateways, self.api_servers)
            await self.read()
            if before != (self.gateways, self.api_servers):
                self._on_changed()
            await asyncio.sleep(PERIOD_S)
