"""Runs the daemon from start to stop.

Start: lock of the network namespace -> remove what a former daemon left -> NIC -> journal -> API. Stop (SIGTERM): no
further decision -> let go of every VIP -> release the Lease -> last Events and journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack

from kvip import metrics
from kvip.clock import SystemClock
from kvip.daemon.nic import find_nic
from kvip.daemon.parts import Daemon
from kvip.daemon.supervision import lock_namespace
from kvip.kernel.batches import AddressSocket
from kvip.kube.api import Api
from kvip.kube.auth import connect
from kvip.settings import Settings


async def run(settings: Settings) -> None:
    """Run the daemon until SIGTERM or SIGINT; everything is let go of before it returns.

    Raises ConfigError when a setting cannot be used on this node, NetlinkError when the kernel cannot be read at start.
    """
    gc.set_threshold(50_000, 20, 100)
    stop = asyncio.Event()
    with _stop_signals(stop):
        started = asyncio.create_task(_run(settings), name="daemon")
        waiting = asyncio.create_task(stop.wait(), name="signal")
        try:
            await asyncio.wait({started, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            started.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await started


@contextlib.contextmanager
def _stop_signals(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _run(settings: Settings) -> None:
    clock = SystemClock()
    lock = await lock_namespace()
    with lock, AddressSocket() as addresses:
        daemon = Daemon(settings, clock=clock, addresses=addresses)
        found = daemon.executor.silence()
        link = await find_nic(settings)
        async with AsyncExitStack() as stack:
            stack.callback(daemon.executor.fence)
            lease_api = Api(
                await stack.enter_async_context(await connect(kubeconfig=settings.kubeconfig or None)), on_request=_count_request
            )
            api = Api(await stack.enter_async_context(await connect(kubeconfig=settings.kubeconfig or None)), on_request=_count_request)
            daemon.build(lease_api=lease_api, api=api, link=link)
            daemon.remember(found)
            await daemon.serve()


def _count_request(verb: str, code: int) -> None:
    metrics.api_requests_total.labels(verb, str(code)).inc()
