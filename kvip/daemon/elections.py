"""Makes the elector of the mode that is set, with what it reads.

Input: settings and the parts that an election needs. Output: an `Elector`. It must not elect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kvip.clock import Clock
from kvip.core.election.lease import Timers
from kvip.core.model import Link
from kvip.core.objects import Lease, Service
from kvip.daemon.demand import NodeDemand
from kvip.daemon.elector import Elector, Wires
from kvip.daemon.lease_loop import LeaseLoop
from kvip.daemon.supervision import Heartbeats
from kvip.errors import ConfigError
from kvip.kube.informer import Informer
from kvip.kube.leases import LeaseClient
from kvip.settings import Settings


def lease_filter(settings: Settings) -> dict[str, str]:
    """List parameters for the Leases that the mode needs to see."""
    return {"fieldSelector": f"metadata.name={settings.lease_name}"}


def build_elector(
    settings: Settings,
    *,
    client: LeaseClient,
    clock: Clock,
    heartbeats: Heartbeats,
    demand: NodeDemand,
    wires: Wires,
    store: Mapping[str, Lease],
    services: Informer[Service],
    link: Callable[[], Link | None],
) -> Elector:
    """The elector of `settings.election`."""
    timers = Timers(
        lease_duration_s=settings.lease_duration_s,
        renew_deadline_s=settings.renew_deadline_s,
        retry_period_s=settings.retry_period_s,
    )
    if settings.election != "global":
        raise ConfigError("election", f"{settings.election!r} is not available in this version; set election=global on every node")
    return LeaseLoop(
        client,
        name=settings.lease_name,
        node=settings.node_name,
        timers=timers,
        clock=clock,
        heartbeats=heartbeats,
        on_won=lambda: wires.won(None),
        on_fence=wires.fenced,
        on_renewed=wires.renewed,
        on_heard=wires.heard,
        able=demand.node_able,
        earlier_holder=lambda: not services.synced or any(service.ingress for service in services.store.values()),
    )
