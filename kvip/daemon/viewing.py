"""Collects the state view from the parts of a running daemon: for its readers, and for the log on SIGUSR1.

Input: the parts. Output: `StateView` and explanations as JSON. It must not change anything, nor hold the event loop for long: readers
together get at most a tenth of its time.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from operator import itemgetter
from time import perf_counter

import msgspec

from kvip import __version__
from kvip.core.model import ServiceKey
from kvip.daemon import inquiry
from kvip.daemon.parts import Parts
from kvip.observe import health
from kvip.observe.explaining import explain
from kvip.observe.state import Header, Instants, Order, StateView, VipView, order, unready, view

log = logging.getLogger(__name__)

SLICE = 32
"""VIPs or Services gathered in one go."""
MERGED = 512
"""Rows put in order in one go."""
REST = 9.0
"""A document is given out again for so many times what it cost to make."""


def header_of(parts: Parts, instants: Instants) -> Header:
    """What the daemon says of itself."""
    elector = parts.elected()
    header = Header(
        version=__version__,
        node=parts.settings.node_name,
        election=parts.settings.election,
        incarnation=elector.incarnation,
        epoch=parts.executor.epoch,
        valid_until=instants.text(elector.valid_until),
        valid_s=instants.left_s(elector.valid_until),
        observed=elector.observed,
        blocked=elector.blocked,
        banned=parts.guard.problem or parts.desire.whereabouts.exclusion(),
        fencing=health.WEAK if parts.guard.weak else parts.guard.problem or "switch",
        nics=tuple(sorted(parts.nics.announcing())),
        synced=parts.caches.synced(),
        known=parts.desire.known,
        loop_lag_s=round(parts.lag.longest_s, 4),
    )
    return msgspec.structs.replace(header, unready=unready(header))


def _instants(parts: Parts) -> Instants:
    return Instants(now=parts.clock.now(), wall=parts.clock.wall())


def _slices(parts: Parts, instants: Instants, why: str) -> Iterator[list[VipView]]:
    """The rows, some at a time; each is true of the instant at which it is made."""
    vips, services = inquiry.vips(parts), inquiry.services(parts)
    for start in range(0, len(vips), SLICE):
        yield [inquiry.row_of(parts, vip, instants, unready=why) for vip in vips[start : start + SLICE]]
    for start in range(0, len(services), SLICE):
        yield [row for key in services[start : start + SLICE] for row in inquiry.unmet_of(parts, key)]


def state_of(parts: Parts) -> StateView:
    """What the daemon knows and does now."""
    instants = _instants(parts)
    header = header_of(parts, instants)
    rows = [row for rows in _slices(parts, instants, header.unready) for row in rows]
    return view(header, rows, instants, parts.chronicle.view(instants))


class Views:
    """The documents for readers, as JSON."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._lock = asyncio.Lock()
        self._document = b""
        self._good_until = float("-inf")

    async def state(self) -> bytes:
        """The state view; who asks at once with others gets the same one."""
        async with self._lock:
            if not self._document or self._parts.clock.now() >= self._good_until:
                self._document = await self._make()
            return self._document

    async def _make(self) -> bytes:
        parts, busy_s, began = self._parts, 0.0, perf_counter()
        instants = _instants(parts)
        header, changes = header_of(parts, instants), parts.chronicle.view(instants)
        runs: list[list[tuple[Order, msgspec.Raw]]] = []
        for rows in _slices(parts, instants, header.unready):
            runs.append(sorted(((order(row), msgspec.Raw(msgspec.json.encode(row))) for row in rows), key=itemgetter(0)))
            busy_s += perf_counter() - began
            await asyncio.sleep(0)
            began = perf_counter()
        merged = heapq.merge(*runs, key=itemgetter(0))
        found: list[msgspec.Raw] = []
        while part := [row for _, row in islice(merged, MERGED)]:
            found += part
            busy_s += perf_counter() - began
            await asyncio.sleep(0)
            began = perf_counter()
        document = msgspec.json.encode({"at": instants.now(), "daemon": header, "vips": found, "changes": changes})
        busy_s += perf_counter() - began
        self._good_until = parts.clock.now() + REST * busy_s
        return document

    def explanation(self, service: str) -> bytes:
        """Why a Service (namespace/name) has its VIPs, or has not."""
        instants = _instants(self._parts)
        case = inquiry.case_of(self._parts, ServiceKey(service), header_of(self._parts, instants))
        return msgspec.json.encode(explain(case, instants))


@contextmanager
def on_sigusr1(parts: Parts) -> Iterator[None]:
    """SIGUSR1 writes the state to the log, as one document."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: log.info("state", extra={"state": state_of(parts)}))
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
        # Its default action would end a daemon that is stopping (signal(7)).
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
