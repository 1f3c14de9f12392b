"""The claim records: which incarnation holds which VIPs, and in which of the Leases that is written.

Input: a Lease as read, or the claims to write. Output: `Record`, or spec and annotations. It must not decide who may claim what.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec

from kvip.core.election.heartbeat import LABELS, WRITTEN, node_of
from kvip.core.election.seal import seal, unbroken
from kvip.core.model import Incarnation, Vip
from kvip.core.natural import natural
from kvip.core.objects import Lease, LeaseSpec
from kvip.errors import UNREADABLE

PREFIX = "kvip-claims-"
CLUSTER = "kvip-cluster"
CLAIMS = "kvip.io/claims"
"""JSON: incarnation -> the VIPs it holds."""
UNPROVEN = "kvip.io/unproven"
"""JSON: the VIPs listed here that were taken although nobody of kvip is known to have held them, and that nobody has bound since."""
COUNT = "kvip.io/records"
"""Over how many records the VIPs are spread; decided once for a cluster."""
OWN_ANNOTATIONS = frozenset({CLAIMS, UNPROVEN, COUNT, WRITTEN})
DEFAULT_COUNT = 64
MOST_RECORDS = 4096

Claims = Mapping[str, tuple[Vip, ...]]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A claim record as read. One that is not intact may say too little of who holds what, and must not be acted upon for a while."""

    version: str
    uid: str
    mark: str
    intact: bool
    duration_s: float
    """The longest lease duration of those who hold something by it."""
    claims: dict[str, tuple[Vip, ...]]
    holder: dict[Vip, str]
    """The same the other way round."""
    noted: frozenset[Vip] = frozenset()
    """What is noted as unproven."""
    foreign: dict[str, str] = {}
    labels: dict[str, str] = {}

    def proves(self, vip: Vip) -> bool:
        """Is a kvip known to have bound this VIP?"""
        return self.intact and vip in self.holder and vip not in self.noted

    @property
    def unproven(self) -> frozenset[Vip]:
        """The VIPs that no kvip is known to have bound: some other host may have the address. What somebody else wrote proves nothing."""
        return self.noted & self.holder.keys() if self.intact else frozenset(self.holder)


@lru_cache(maxsize=131_072)
def number_of(vip: Vip, count: int) -> int:
    """The record of a VIP: the same on every node and in every version of kvip."""
    return int.from_bytes(hashlib.sha256(vip.encode()).digest()[:8], "big") % count


def name_of(number: int) -> str:
    """The name of a record's Lease."""
    return f"{PREFIX}{number}"


def number_in(name: str) -> int | None:
    """The number of the record that a Lease is; None = it is none."""
    number = natural(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None
    return number if number is not None and name == name_of(number) else None


def count_in(lease: Lease) -> int | None:
    """How many records there are, as `kvip-cluster` or a record says; None = it does not."""
    count = natural((lease.metadata.annotations or {}).get(COUNT, ""))
    return count if count is not None and 1 <= count <= MOST_RECORDS else None


def mark_of(lease: Lease) -> str:
    """The seal of the last writer, whether it is broken or not; "" = none."""
    return (lease.metadata.annotations or {}).get(WRITTEN, "")


def parse(lease: Lease) -> Record:
    """Read a record. A VIP that is listed twice, or a text that is no list of claims, leaves it not intact."""
    notes = lease.metadata.annotations or {}
    labels = lease.metadata.labels or {}
    mark, text = mark_of(lease), notes.get(CLAIMS, "")
    claims = _claims(text)
    holder = {vip: incarnation for incarnation, vips in (claims or {}).items() for vip in vips}
    readable = claims is not None and len(holder) == sum(map(len, claims.values()))
    intact = readable and unbroken(mark, uid=lease.metadata.uid, content=text) and LABELS.items() <= labels.items()
    return Record(
        version=lease.metadata.resource_version,
        uid=lease.metadata.uid,
        mark=mark,
        intact=intact,
        duration_s=float(lease.spec.lease_duration_seconds or 0),
        claims=claims if readable and claims is not None else {},
        holder=holder if readable else {},
        noted=_noted(notes.get(UNPROVEN, "[]"), holder),
        foreign={key: value for key, value in notes.items() if key not in OWN_ANNOTATIONS},
        labels=labels,
    )


def claim(
    claims: Claims,
    writer: Incarnation,
    *,
    count: int,
    duration_s: float,
    before: Record | None,
    proven: frozenset[Vip] = frozenset(),
    asking: frozenset[Vip] = frozenset(),
) -> tuple[LeaseSpec, dict[str, str]]:
    """Spec and annotations of a record with these claims, upon what was there `before`. `proven`: VIPs that the writer has bound; `asking`:
    VIPs that it has to ask the segment for, on another NIC say, before it binds them.

    A VIP that `before` does not list is unproven, and stays so from holder to holder until one of them has bound it.

    The holder that `kubectl get lease` shows is for readers only: each node with the number of VIPs it holds by this record.
    """
    full = {incarnation: sorted(vips) for incarnation, vips in claims.items() if vips}
    text = msgspec.json.encode(full, order="sorted").decode()
    base, uid = (before.version, before.uid) if before is not None else ("", "")
    longest_s = max(duration_s, before.duration_s if before is not None and set(full) - {writer} else 0.0)
    spec = LeaseSpec(holder_identity=shown_holder(full), lease_duration_seconds=math.ceil(longest_s))
    mark = seal(writer=writer, sequence=0, base=base, uid=uid, content=text)
    listed = {vip for vips in full.values() for vip in vips}
    known, unproven = (before.holder.keys(), before.unproven) if before is not None else (set(), frozenset())
    asked = sorted(((listed - known) | (listed & (unproven | asking))) - proven)
    notes = {CLAIMS: text, COUNT: str(count), WRITTEN: mark, **({UNPROVEN: msgspec.json.encode(asked).decode()} if asked else {})}
    return spec, {**(before.foreign if before is not None else {}), **notes}


def cluster(count: int) -> tuple[LeaseSpec, dict[str, str]]:
    """Spec and annotations of the Lease that says how many records there are."""
    return LeaseSpec(holder_identity=f"{count} records"), {COUNT: str(count)}


def shown_holder(claims: Mapping[str, list[Vip]]) -> str:
    """`node (3)`, or several with commas, for readers."""
    return ", ".join(f"{node_of(incarnation)} ({len(vips)})" for incarnation, vips in sorted(claims.items()))


def _noted(text: str, listed: Iterable[Vip]) -> frozenset[Vip]:
    """What cannot be read proves nothing."""
    try:
        return msgspec.json.decode(text, type=frozenset[Vip])
    except UNREADABLE:
        return frozenset(listed)


def _claims(text: str) -> dict[str, tuple[Vip, ...]] | None:
    try:
        return msgspec.json.decode(text, type=dict[str, tuple[Vip, ...]])
    except UNREADABLE:
        return None
