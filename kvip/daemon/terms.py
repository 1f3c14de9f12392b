"""What the settings mean for the decisions of the core. It must not read anything but settings, nor decide."""

from __future__ import annotations

from kvip.core.addresses import parse_networks
from kvip.core.desired import Rules
from kvip.core.objects import ManagedService, Service
from kvip.core.siting import NodeRules
from kvip.daemon.caches import Caches
from kvip.daemon.elections import lease_scheme
from kvip.daemon.whereabouts import Whereabouts
from kvip.settings import Settings, split_list


def rules_of(settings: Settings) -> Rules:
    """Which Services are served, and on what terms."""
    return Rules(
        load_balancer_class=settings.load_balancer_class,
        class_only=settings.class_only or not settings.class_legacy_handling,
        service_security=settings.service_security,
        namespaces=settings.served_namespaces,
        allowed=parse_networks(split_list(settings.allow_cidr)),
        addresses_from_status=settings.addresses_from_status,
        require_endpoints=settings.require_endpoints,
        leases=lease_scheme(settings),
    )


def whereabouts_of(settings: Settings, caches: Caches) -> Whereabouts:
    """Where VIPs may be held, by the settings."""
    rules = NodeRules(exclude_label=settings.exclude_label, cordon_hands_over=settings.cordon_hands_over)
    return Whereabouts(slices=caches.slices, nodes=caches.nodes, node=settings.node_name, rules=rules)


def service_kind(settings: Settings) -> type[Service]:
    """What of a Service is decoded."""
    return ManagedService if settings.addresses_from_status else Service
