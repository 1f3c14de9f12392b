"""Which Lease a Service hangs on where Services have Leases of their own, and what follows for its addresses (PROTOCOL G3). Pure.

Input: a Service's metadata, who holds which Lease. Output: names, and for each address the set of Leases by which it is held. It must not
know the time, nor decide about a single Lease: `core.election.lease` does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from enum import Enum, auto
from typing import NewType

import msgspec

from kvip.core import annotations as keys
from kvip.core.objects import Service

LeaseKey = NewType("LeaseKey", str)
"""namespace/name of a Lease."""

PREFIX = "kubevip-"
"""kube-vip's Lease of a Service is called so, and then as the Service (kube-vip: pkg/lease, ServiceName)."""

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_NAMESPACE = re.compile(_LABEL)


class Scheme(msgspec.Struct, frozen=True, kw_only=True):
    """How Services come by their Leases."""

    shared: LeaseKey = LeaseKey("")
    """The Lease of Services that do not ask for one of their own; "" = every Service has its own."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The Lease that a Service hangs on. `problem`: what is wrong with its annotation, "" = nothing."""

    lease: LeaseKey
    problem: str = ""


class Standing(Enum):
    """A Lease as this node sees it."""

    OURS = auto()
    FREE = auto()
    """Nobody is known to hold it."""
    OTHERS = auto()


def lease_of(service: Service, scheme: Scheme) -> Asked:
    """The Lease of a Service. An annotation that names none is reported, and the Service's own is used.

    As kube-vip has it, `kube-vip.io/leaseName` is `name` or `namespace/name`, and without effect where only nodes with endpoints may hold.
    """
    notes = service.metadata.annotations or {}
    namespace = service.metadata.namespace
    if scheme.shared and not keys.switch(notes, keys.FORCE_ELECTION)[0]:
        return Asked(lease=scheme.shared)
    own = LeaseKey(f"{namespace}/{PREFIX}{service.metadata.name}")
    named = notes.get(keys.LEASE_NAME, "").strip()
    if not named or service.spec.external_traffic_policy == "Local":
        return Asked(lease=own)
    problem = _problem(named, namespace)
    if problem:
        shown = named if len(named) <= 64 else f"{named[:61]}..."
        return Asked(lease=own, problem=f"annotation {keys.LEASE_NAME}: {shown!r} {problem}; the Lease {own} is used")
    return Asked(lease=LeaseKey(named if "/" in named else f"{namespace}/{named}"))


def _problem(named: str, namespace: str) -> str:
    where, slash, name = named.rpartition("/")
    if (slash and not _NAMESPACE.fullmatch(where)) or not _NAME.fullmatch(name) or len(name) > 253:
        return "is no name of a Lease (`name` or `namespace/name`)"
    if slash and where != namespace and where.startswith("kube-"):
        # Leases there are the heartbeats and locks of the cluster itself: a Service must not be able to take those.
        return "is in a namespace of the cluster's own"
    return ""


def granted(required: Collection[LeaseKey], under: frozenset[LeaseKey], standing: Mapping[LeaseKey, Standing]) -> frozenset[LeaseKey]:
    """By which Leases an address is held; empty = it is not.

    All that it requires are held before it is. `under`: by which it is held now. Should it come to require others, it stays while those
    by which it is held are, unless somebody else holds one of the new ones: then that one's address it is.
    """
    wanted = frozenset(required)
    if not wanted:
        return frozenset()
    if all(standing[lease] is Standing.OURS for lease in wanted):
        return wanted
    kept = bool(under) and all(standing.get(lease) is Standing.OURS for lease in under)
    if kept and not wanted <= under and all(standing[lease] is not Standing.OTHERS for lease in wanted):
        return under
    return frozenset()


def in_turn(lease: LeaseKey, needs: Iterable[Collection[LeaseKey]], standing: Mapping[LeaseKey, Standing], *, holding: bool) -> bool:
    """Is this Lease for this node to take, or with `holding` to keep?

    `needs`: for each address that requires it, all that it requires, in the order that is the same on all nodes. Who holds the first may
    take the next; who holds a later one while somebody else holds an earlier one gives it up. So no two nodes wait for each other.
    """
    for required in needs:
        for earlier in required:
            if earlier == lease:
                break
            if standing[earlier] is Standing.OTHERS or (standing[earlier] is Standing.FREE and not holding):
                return False
    return True
