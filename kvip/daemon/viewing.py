"""Collects the state view from the parts of a running daemon, and writes it to the log on SIGUSR1.

Input: the parts. Output: `StateView`, one log line. It must not change anything.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from kvip import __version__
from kvip.daemon.parts import Parts
from kvip.observe import health
from kvip.observe.state import Answers, Header, Instants, StateView, view

log = logging.getLogger(__name__)


def state_of(parts: Parts) -> StateView:
    """What the daemon knows and does now."""
    instants = Instants(now=parts.clock.now(), wall=parts.clock.wall())
    elector = parts.elected()
    header = Header(
        version=__version__,
        node=parts.settings.node_name,
        election=parts.settings.election,
        incarnation=elector.incarnation,
        valid_until=instants.text(elector.valid_until),
        blocked=elector.blocked,
        fencing=health.WEAK if parts.guard.weak else parts.guard.problem or "switch",
        nics=tuple(sorted(parts.nics.announcing())),
        synced=parts.caches.synced(),
    )
    answers = Answers(
        permit=parts.permit,
        holder=elector.holder,
        announced_since=parts.outcome.announced_since,
        conflicting=parts.disputes.watch.conflicting,
    )
    return view(header, parts.ledger, parts.facts, answers, instants)


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
