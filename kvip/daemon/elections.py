"""Makes the elector of the mode that is set, with what it reads.

Input: settings and the parts that an election needs. Output: an `Elector`. It must not elect.
"""

from __future__ import annotations

from collections.abc import Callable

from kvip.clock import Clock
from kvip.core.election.heartbeat import About
from kvip.core.election.lease import Timers
from kvip.core.election.services import LeaseKey, Scheme
from kvip.core.objects import Lease, Service
from kvip.daemon.bystander import Bystander
from kvip.daemon.claims_loop import ClaimsLoop
from kvip.daemon.claims_requests import SELECTOR, ClaimsRequests
from kvip.daemon.demand import NodeDemand
from kvip.daemon.elector import Elector, Wires
from kvip.daemon.global_election import GlobalElection
from kvip.daemon.guard import GROUP
from kvip.daemon.lease_groups import group_names
from kvip.daemon.per_service_election import PerServiceElection
from kvip.daemon.supervision import Heartbeats
from kvip.kube.informer import Informer
from kvip.kube.leases import LeaseClient
from kvip.settings import Settings


def lease_filter(settings: Settings) -> tuple[str, dict[str, str]]:
    """The namespace ("" = all) and the list parameters of the Leases that the mode needs to see."""
    if uses_service_leases(settings):
        return "", {}
    if settings.election == "claims":
        return settings.namespace, {"labelSelector": SELECTOR}
    return settings.namespace, {"fieldSelector": f"metadata.name={settings.lease_name}"}


def uses_service_leases(settings: Settings) -> bool:
    """May a Service have a Lease of its own?"""
    return settings.election == "per-service" or (settings.election == "global" and settings.per_service_on_demand)


def shared_lease(settings: Settings) -> LeaseKey:
    """kube-vip's one Lease."""
    return LeaseKey(f"{settings.namespace}/{settings.lease_name}")


def lease_scheme(settings: Settings) -> Scheme | None:
    """How Services come by Leases of their own; None = none has one."""
    if not uses_service_leases(settings):
        return None
    return Scheme(shared=LeaseKey("") if settings.election == "per-service" else shared_lease(settings))


def switch_groups(settings: Settings) -> tuple[str, ...]:
    """The lease groups that the switch needs."""
    return group_names() if uses_service_leases(settings) else (GROUP,)


def build_elector(
    settings: Settings,
    *,
    client: Callable[[str], LeaseClient],
    clock: Clock,
    heartbeats: Heartbeats,
    demand: NodeDemand,
    wires: Wires,
    services: Informer[Service],
    leases: Informer[Lease],
    about: Callable[[], About],
) -> Elector:
    """The elector of `settings.election`. `client`: of the Leases of a namespace. `about`: what this node says of itself."""
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
            ClaimsRequests(client(settings.namespace), clock),
            node=settings.node_name,
            timers=timers,
            clock=clock,
            heartbeats=heartbeats,
            demand=demand,
            wires=wires,
            about=about,
            shared_name=settings.lease_name,
            rebalance=settings.rebalance,
        )
    if uses_service_leases(settings):
        return PerServiceElection(
            client,
            shared=shared_lease(settings),
            on_demand=settings.election == "global",
            node=settings.node_name,
            timers=timers,
            clock=clock,
            heartbeats=heartbeats,
            demand=demand,
            wires=wires,
            seen=lambda: leases.store,
        )
    return GlobalElection(
        client(settings.namespace),
        name=settings.lease_name,
        node=settings.node_name,
        timers=timers,
        clock=clock,
        heartbeats=heartbeats,
        wires=wires,
        able=demand.holder_able,
        earlier_holder=lambda: not services.synced or any(service.ingress for service in services.store.values()),
        proven=lambda: services.synced and all(demand.held(vip) and not demand.unconfirmed(vip) for vip in demand.vips()),
    )
