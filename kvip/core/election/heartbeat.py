"""The heartbeat Lease of a node: what is read of it, and what is written into it.

Input: a Lease as read, or what a node has to say. Output: `Heartbeat`, or spec and annotations. It must not decide who
is alive (`members` does), nor believe a time that it finds in the Lease.
"""

from __future__ import annotations

import math

import msgspec

from kvip.core.election.seal import seal, sequence_of, unbroken
from kvip.core.model import Incarnation, Vip
from kvip.core.objects import Lease, LeaseSpec
from kvip.errors import UNREADABLE

PREFIX = "kvip-node-"
LABELS = {"app.kubernetes.io/managed-by": "kvip"}
WRITTEN = "kvip.io/written"
"""The seal of the last writer."""
ENDED = "kvip.io/ended"
"""Which incarnation ended here and how: the holder is "" then."""
NICS, ELIGIBLE, REFUSES, SHARED = "kvip.io/nics", "kvip.io/eligible", "kvip.io/refuses", "kvip.io/shared-lease-dead"
OWN_ANNOTATIONS = frozenset({WRITTEN, ENDED, NICS, ELIGIBLE, REFUSES, SHARED})


class Nic(msgspec.Struct, frozen=True, kw_only=True):
    """A NIC that announces."""

    name: str
    mac: str
    subnets: tuple[str, ...] = ()


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of itself."""

    nics: tuple[Nic, ...] = ()
    eligible: bool = True
    """May this node hold VIPs at all?"""
    refuses: tuple[Vip, ...] = ()
    """VIPs that it could not bind."""
    shared_dead: str = ""
    """Version of the shared Lease (mode `global`) that this node saw stand still for long enough."""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """A heartbeat as read."""

    node: str
    holder: str
    """The incarnation it names; "" = none: it was killed, or given back."""
    version: str
    uid: str
    mark: str
    sequence: int
    duration_s: float
    transitions: int
    intact: bool
    """Written by kvip as it stands. One that is not says nothing: it may hide who lives."""
    about: About
    foreign: dict[str, str] = {}
    """Annotations of others, kept."""
    labels: dict[str, str] = {}


def node_of(incarnation: str) -> str:
    """The node of an incarnation."""
    return incarnation.rpartition("_")[0]


def name_of(node: str) -> str:
    """The name of a node's heartbeat Lease."""
    return PREFIX + node


def parse(lease: Lease) -> Heartbeat:
    """Read a heartbeat; what cannot be read leaves it not intact, or counts as unsaid."""
    notes = lease.metadata.annotations or {}
    labels = lease.metadata.labels or {}
    holder = lease.spec.holder_identity or ""
    mark, ended = notes.get(WRITTEN, ""), notes.get(ENDED, "")
    whole = unbroken(mark, uid=lease.metadata.uid, content=_content(holder, ended)) and bool(holder) != bool(ended)
    return Heartbeat(
        node=lease.metadata.name.removeprefix(PREFIX),
        holder=holder,
        version=lease.metadata.resource_version,
        uid=lease.metadata.uid,
        mark=mark,
        sequence=sequence_of(mark),
        duration_s=float(lease.spec.lease_duration_seconds or 0),
        transitions=lease.spec.lease_transitions or 0,
        intact=whole and LABELS.items() <= labels.items(),
        about=About(
            nics=_decoded(notes.get(NICS, "[]"), tuple[Nic, ...], ()),
            eligible=notes.get(ELIGIBLE, "true") == "true",
            refuses=_decoded(notes.get(REFUSES, "[]"), tuple[Vip, ...], ()),
            shared_dead=notes.get(SHARED, ""),
        ),
        foreign={key: value for key, value in notes.items() if key not in OWN_ANNOTATIONS},
        labels=labels,
    )


def beat(
    incarnation: Incarnation, about: About, *, sequence: int, duration_s: float, before: Heartbeat | None
) -> tuple[LeaseSpec, dict[str, str]]:
    """Spec and annotations of a heartbeat that names `incarnation`, upon what was there `before`."""
    spec = LeaseSpec(
        holder_identity=incarnation, lease_duration_seconds=math.ceil(duration_s), lease_transitions=_transitions(incarnation, before)
    )
    # A life that has just begun knows no better than the one before it.
    shared_dead = about.shared_dead or (before.about.shared_dead if before is not None and before.intact else "")
    notes = {
        NICS: msgspec.json.encode(about.nics).decode(),
        ELIGIBLE: "true" if about.eligible else "false",
        REFUSES: msgspec.json.encode(about.refuses).decode(),
        SHARED: shared_dead,
    }
    return spec, {**_kept(before), **notes, WRITTEN: _seal(incarnation, sequence, before, _content(incarnation, ""))}


def ending(writer: Incarnation, how: str, *, sequence: int, before: Heartbeat) -> tuple[LeaseSpec, dict[str, str]]:
    """Spec and annotations of a heartbeat that names nobody any more: killed, or given back."""
    duration = max(1, math.ceil(before.duration_s))
    spec = LeaseSpec(holder_identity="", lease_duration_seconds=duration, lease_transitions=before.transitions)
    ended = f"{before.holder or NOBODY} {how}"
    kept = {**_kept(before), SHARED: before.about.shared_dead}
    return spec, {**kept, ENDED: ended, WRITTEN: _seal(writer, sequence, before, _content("", ended))}


NOBODY = "nobody"


def _content(holder: str, ended: str) -> str:
    return f"{holder}\n{ended}"


def _seal(writer: str, sequence: int, before: Heartbeat | None, content: str) -> str:
    base, uid = (before.version, before.uid) if before is not None else ("", "")
    return seal(writer=writer, sequence=sequence, base=base, uid=uid, content=content)


def _kept(before: Heartbeat | None) -> dict[str, str]:
    return dict(before.foreign) if before is not None else {}


def _transitions(incarnation: str, before: Heartbeat | None) -> int:
    return 0 if before is None else before.transitions + (before.holder != incarnation)


def _decoded(text: str, kind: type[tuple[msgspec.Struct, ...]] | type[tuple[Vip, ...]], default: tuple[()]) -> tuple:  # type: ignore[type-arg]
    try:
        return msgspec.json.decode(text, type=kind)
    except UNREADABLE:
        return default
