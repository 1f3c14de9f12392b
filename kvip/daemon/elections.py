"""Makes the elector of the mode that is set, with what it reads.

Input: settings and the parts that an election needs. Output: an `Elector`. It must not elect.
"""

from __future__ import annotations

from collections.abc import Callable

from kvip.clock import Clock
from kvip.core.election.heartbeat import About
from kvip.core.election.lease import Timers
from kvip.core.objects import Service
from kvip.daemon.bystander import Bystander
from kvip.daemon.claims_loop import ClaimsLoop
from kvip.daemon.claims_requests import SELECTOR, ClaimsRequests
from kvip.daemon.demand import NodeDemand
from kvip.daemon.elector import Elector, Wires
from kvip.daemon.global_election import GlobalElection
from kvip.daemon.supervision import Heartbeats
from kvip.kube.informer import Informer
from kvip.kube.leases import LeaseClient
from kvip.settings import Settings


def lease_filter(settings: Settings) -> dict[str, str]:
    """List parameters for the Leases that the mode needs to see."""
    if settings.election == "claims":
        return {"labelSelector": SELECTOR}
    return {"fieldSelector": f"metadata.name={settings.lease_name}"}


def build_elector(
    settings: Settings,
    *,
    client: LeaseClient,
    clock: Clock,
    heartbeats: Heartbeats,
    demand: NodeDemand,
    wires: Wires,
    services: Informer[Service],
    about: Callable[[], About],
) -> Elector:
    """The elector of `settings.election`. `about`: what this node says of itself."""
    members = {name.strip() for name in settings.members.split(",") if name.strip()}
    if members and settings.node_name not in members:
        return Bystander(settings.node_name, heartbeats)
    timers = Timers(
        lease_duration_s=settings.lease_duration_s,
        renew_deadline_s=settings.renew_deadline_s,
        retry_period_s=settings.retry_period_s,
    )
    if settings.election == "claims":
        return ClaimsLoop(
            ClaimsRequests(client, clock),
            node=settings.node_name,
            timers=timers,
            clock=clock,
            heartbeats=heartbeats,
            demand=demand,
            wires=wires,
            about=about,
            shared_name=settings.lease_name,
        )
    return GlobalElection(
        client,
        name=settings.lease_name,
        node=settings.node_name,
        timers=timers,
        clock=clock,
        heartbeats=heartbeats,
        wires=wires,
        able=demand.node_able,
        earlier_holder=lambda: not services.synced or any(service.ingress for service in services.store.values()),
    )
