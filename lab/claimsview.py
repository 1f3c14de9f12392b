"""The Leases of mode `claims` as an administrator reads them, and what is done to them by hand.

In: a `Cluster`. Out: heartbeats, records, and who holds what by them; edits. It shares no code with `kvip.core`, so that a mistake there is
not made twice. It must not judge.
"""

from __future__ import annotations

import json
from urllib.parse import quote

import msgspec

from lab.admin import Json
from lab.cluster import LEASES, Cluster

LABEL = "app.kubernetes.io/managed-by=kvip"
CLAIMS = "kvip.io/claims"
HEARTBEAT, RECORD, COUNT = "kvip-node-", "kvip-claims-", "kvip-cluster"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One Lease."""

    name: str
    holder: str
    """spec.holderIdentity, "" = none."""
    version: int
    """metadata.resourceVersion."""
    notes: dict[str, str]

    @property
    def claims(self) -> dict[str, list[str]]:
        """Incarnation -> the VIPs that it holds by this record."""
        held: dict[str, list[str]] = json.loads(self.notes.get(CLAIMS) or "{}")
        return held


def leases(cluster: Cluster) -> dict[str, Seen]:
    """Every Lease of mode `claims` that has kvip's label, by name (`kubectl get lease -l ...`); that of `global` may be left."""
    items = cluster.request("GET", f"{LEASES}?labelSelector={quote(LABEL)}")["items"]
    return {item["metadata"]["name"]: _seen(item) for item in items if item["metadata"]["name"].startswith("kvip-")}


def every_name(cluster: Cluster) -> set[str]:
    """The names of all Leases of mode `claims` that there are, with the label or without."""
    names = {str(item["metadata"]["name"]) for item in cluster.request("GET", LEASES)["items"]}
    return {name for name in names if name.startswith((HEARTBEAT, RECORD)) or name == COUNT}


def _seen(item: Json) -> Seen:
    metadata = item["metadata"]
    return Seen(
        name=metadata["name"],
        holder=item["spec"].get("holderIdentity") or "",
        version=int(metadata["resourceVersion"]),
        notes=metadata.get("annotations") or {},
    )


def heartbeat(cluster: Cluster, node: str) -> Seen:
    """The heartbeat of a node."""
    return _seen(cluster.request("GET", f"{LEASES}/{HEARTBEAT}{node}"))


def records(cluster: Cluster) -> dict[str, Seen]:
    """The claim records, by name."""
    return {name: lease for name, lease in leases(cluster).items() if name.startswith(RECORD)}


def holders(cluster: Cluster) -> dict[str, str]:
    """VIP -> the incarnation that holds it by the records."""
    pairs = ((vip, who) for record in records(cluster).values() for who, vips in record.claims.items() for vip in vips)
    return dict(pairs)


def record_of(cluster: Cluster, vip: str) -> Seen:
    """The record that lists the VIP."""
    return next(record for record in records(cluster).values() if any(vip in vips for vips in record.claims.values()))


def edit(cluster: Cluster, name: str, *, holder: str | None = None, notes: dict[str, str | None] | None = None) -> None:
    """Change a Lease as `kubectl edit` does; a note that is None is removed."""
    patch: Json = {"metadata": {"annotations": notes or {}}}
    if holder is not None:
        patch["spec"] = {"holderIdentity": holder}
    cluster.request("PATCH", f"{LEASES}/{name}", patch)


def delete(cluster: Cluster, name: str) -> None:
    """`kubectl delete lease`."""
    cluster.request("DELETE", f"{LEASES}/{name}")
