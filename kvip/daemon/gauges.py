"""Brings the gauges up to date at a scrape: what is counted elsewhere, or hangs on the time.

Input: the parts of a running daemon. Output: `kvip.metrics`. It must not wait, decide or change anything.
"""

from __future__ import annotations

import asyncio

from kvip import metrics
from kvip.daemon.parts import Parts


def update_gauges(parts: Parts) -> None:
    """What is so now."""
    now = parts.clock.now()
    parts.caches.update_gauges()
    metrics.vips.labels("claimed").set(len(parts.ledger))
    metrics.vips.labels("bound").set(parts.facts.confirmed_count())
    metrics.vips.labels("announced").set(parts.outcome.announced_count())
    until = parts.elector.valid_until if parts.elector is not None else None
    metrics.lease_valid_seconds.set(0 if until is None else until - now)
    metrics.lease_age_seconds.set(-1 if parts.renewed_at is None else now - parts.renewed_at)
    metrics.switch_ready.set(not parts.guard.weak and not parts.guard.problem)
    metrics.service_rules_pending_seconds.set(parts.firewall.pending_s())
    metrics.loop_lag_seconds.set(parts.lag.longest_s)
    metrics.tasks.set(len(asyncio.all_tasks()))
    if parts.settings.vip_metrics:
        metrics.vip_series.rows = tuple(_series(parts))


def _series(parts: Parts) -> list[tuple[tuple[str, str, str], bool]]:
    rows: list[tuple[tuple[str, str, str], bool]] = []
    for vip in parts.facts.marked():
        if parts.facts.unconfirmed(vip):
            continue
        announced = parts.outcome.announced_since(vip) is not None
        for claimant in parts.ledger.claimants(vip).values():
            namespace, _, name = claimant.service.partition("/")
            rows.append(((vip, namespace, name), announced))
    return rows
