"""The shared Lease as nodes see it, in short words."""

from kvip.core.election.lease import (
    RELEASED_ANNOTATION,
    Election,
    Timers,
    confirmed,
    observe,
)
from kvip.core.model import Incarnation
from kvip.core.objects import Lease, LeaseSpec, ObjectMeta

TIMERS = Timers(lease_duration_s=5.0, renew_deadline_s=3.0, retry_period_s=1.0)


def incarnation(node, life=0):
    return Incarnation(f"{node}_{life:032x}")


ME, PEER = incarnation("n1"), incarnation("n2")


def lease(holder, version, *, duration=5, transitions=0, released=""):
    notes = {RELEASED_ANNOTATION: released} if released else None
    return Lease(
        metadata=ObjectMeta(name="svcs", resource_version=str(version), annotations=notes),
        spec=LeaseSpec(holder_identity=holder, lease_duration_seconds=duration, lease_transitions=transitions),
    )


def watcher(**fields):
    return Election(incarnation=ME, timers=TIMERS, **fields)


def holder(at=100.0):
    return confirmed(observe(watcher(), None, now=at), lease(ME, 1), sent_at=at, now=at)
