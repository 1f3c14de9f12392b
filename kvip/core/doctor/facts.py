"""What was seen of a host and its cluster, for `kvip doctor`. Frozen data: no I/O, no judgement.

None means that it was not looked at, or could not be; then an `Unseen` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from kvip.core.model import Vip
from kvip.core.objects import Lease, Node
from kvip.core.strays import Owner
from kvip.core.sweeping import Host
from kvip.settings import Settings


class Unseen(msgspec.Struct, frozen=True, kw_only=True):
    """Something that could not be looked at."""

    what: str
    why: str


class Keeping(msgspec.Struct, frozen=True, kw_only=True):
    """How systemd-networkd is set up for a NIC that it manages."""

    file: str
    """The .network file that it uses."""
    keep: str = ""
    """KeepConfiguration=, "" = not set."""


class ForeignRules(msgspec.Struct, frozen=True, kw_only=True):
    """Firewall rules of kube-vip: how many, and the word by which `kvip sweep --also` removes them."""

    word: str
    count: int


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One machine, and one network namespace of it."""

    release: str
    """Of the kernel, as uname(2) gives it."""
    net: Host = Host(addresses=())
    sysctls: Mapping[str, Mapping[str, int]] = {}
    """NIC (or "all") -> name -> value, of net.ipv4.conf."""
    switch_problem: str | None = None
    """Why the kernel or nft(8) does not take the dead-man's switch; "" = it does."""
    daemon_runs: bool | None = None
    """Does a kvip daemon run in this network namespace?"""
    programs: frozenset[str] | None = None
    """Running programs, of those that doctor knows something about, by name."""
    proxy_mode: str | None = None
    """Of kube-proxy, as it says itself."""
    networkd: Mapping[str, Keeping] = {}
    """By the NICs that it manages."""
    network_manager: frozenset[str] = frozenset()
    """The NICs that it manages."""
    clock_synchronised: bool | None = None
    foreign_rules: tuple[ForeignRules, ...] | None = None
    former: Mapping[Vip, Owner] = {}
    """VIPs in the journal of the last daemon of this boot."""


class Pod(msgspec.Struct, frozen=True, kw_only=True):
    """A Pod on this node."""

    key: str
    """namespace/name."""
    images: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    """Variables of its containers with a literal value."""


class Right(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One verb on one resource; namespace "" = in all."""

    namespace: str
    group: str
    resource: str
    verb: str


class ClusterFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the API server said."""

    server: str
    user: str | None = None
    """Who it takes us for."""
    skew_s: float | None = None
    """Its wall clock minus ours, to about a second."""
    nodes: tuple[Node, ...] | None = None
    vips: Mapping[Vip, tuple[Owner, ...]] | None = None
    """Every address of a Service of type LoadBalancer."""
    leases: tuple[Lease, ...] | None = None
    """In the namespace of the settings."""
    pods: tuple[Pod, ...] | None = None
    """On this node."""
    asked: tuple[Right, ...] = ()
    """Rights that the settings need."""
    denied: tuple[Right, ...] = ()


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that was seen, and the settings that the daemon would run with."""

    settings: Settings
    host: HostFacts
    cluster: ClusterFacts | None = None
    looked_at: datetime | None = None
    """By the wall clock of this host, UTC-aware."""
    unseen: tuple[Unseen, ...] = ()
