"""Runs the daemon from start to stop.

Start: lock of the network namespace -> silence and remove what a former daemon left -> NIC -> API -> journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from contextlib import AsyncExitStack

from kvip import metrics
from kvip.clock import SystemClock
from kvip.core.strays import parse_ranges
from kvip.daemon.assembly import assemble
from kvip.daemon.elections import switch_groups
from kvip.daemon.life import Life
from kvip.daemon.nic import find_nic, read_all_links
from kvip.daemon.parts import Parts
from kvip.daemon.stopping import stop_signals
from kvip.daemon.supervision import lock_namespace
from kvip.daemon.viewing import on_sigusr1
from kvip.errors import ConfigError, SwitchError
from kvip.kernel.batches import AddressSocket
from kvip.kernel.service_rules import ServiceRules
from kvip.kernel.switch import Switch
from kvip.kube.api import Api
from kvip.kube.auth import connect
from kvip.observe import health
from kvip.settings import Settings

log = logging.getLogger(__name__)

COLLECT = (10_000, 100, 100)
"""How many objects more before the garbage collector looks through the new ones, and how often before it looks through older ones.

What pyroute2 decodes refers to itself: 150 objects for each NIC at each audit, which only the collector frees. It must not let them pile
up, nor look through all that is known of a large cluster for them.
"""
GROUPS_AT_START = 16
"""Lease groups that the switch has from the start: their rules are loaded in 44 ms (nft 1.0.6, measured); 256 would take 539 ms."""


async def run(settings: Settings) -> None:
    """Run the daemon until SIGTERM or SIGINT; everything is let go of before it returns.

    Raises ConfigError when a setting cannot be used on this node, NetlinkError when the kernel cannot be read at start.
    """
    gc.set_threshold(*COLLECT)
    stop = asyncio.Event()
    with stop_signals(stop.set):
        started = asyncio.create_task(_run(settings), name="daemon")
        waiting = asyncio.create_task(stop.wait(), name="signal")
        try:
            await asyncio.wait({started, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            started.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await started


async def _run(settings: Settings) -> None:
    clock = SystemClock()
    try:
        parse_ranges(settings.stray_ranges)
    except ValueError as error:
        raise ConfigError("stray-ranges", str(error)) from error
    if settings.switch:
        try:
            Switch.require()
        except SwitchError as error:
            problem = f"the dead-man's switch cannot work here: {error}; without it (--no-switch) a killed daemon's node goes on answering"
            raise ConfigError("switch", problem) from error
    else:
        log.warning(health.WEAK)
    if settings.service_security:
        try:
            await ServiceRules.require()
        except SwitchError as error:
            raise ConfigError("service-security", f"ports cannot be filtered here: {error}") from error
    groups = switch_groups(settings)
    lock = await lock_namespace()
    with (
        lock,
        AddressSocket() as addresses,
        AddressSocket() as dumps,
        contextlib.closing(Switch(clock=clock, groups=groups[:GROUPS_AT_START], spare=groups[GROUPS_AT_START:]))
        if settings.switch
        else contextlib.nullcontext() as switch,
        contextlib.closing(ServiceRules()) if settings.service_security else contextlib.nullcontext() as ports,
    ):
        parts = Parts(settings, clock=clock, addresses=addresses, dumps=dumps, switch=switch, ports=ports)
        parts.facts.links.update((link.index, link) for link in await read_all_links())
        found = parts.executor.clear(nics=[])
        if ports is None:
            _remove_service_rules()
        choice, nic = await find_nic(settings)
        parts.facts.links.update((link.index, link) for link in await read_all_links())
        if nic and not parts.guard.covers(nic):
            parts.executor.clear(nics=[nic])
        async with AsyncExitStack() as stack:
            stack.callback(parts.executor.fence)
            connections = [await stack.enter_async_context(await connect(kubeconfig=settings.kubeconfig or None)) for _ in range(2)]
            lease_api, api = (Api(connection, on_request=_count_request) for connection in connections)
            assemble(parts, lease_api=lease_api, api=api, api_host=connections[0].host, nic=choice)
            parts.remember(found)
            with on_sigusr1(parts):
                await Life(parts).serve()


def _remove_service_rules() -> None:
    """Service security is off: a former daemon's rules go, before they shut out what is let through now."""
    try:
        with contextlib.closing(ServiceRules()) as ports:
            if ports.remove():
                log.warning("the rules of service security that a former daemon left were removed: it is off now")
    except SwitchError as error:
        log.warning("rules of service security cannot be looked for", extra={"reason": str(error)})


def _count_request(verb: str, code: int) -> None:
    metrics.api_requests_total.labels(verb, str(code)).inc()
