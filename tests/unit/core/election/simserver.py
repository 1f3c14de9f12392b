"""The API server of the simulated cluster: Leases with versions and compare-and-swap, and a watch per node.

Input: requests and what an administrator does to Leases. Output: answers, and messages of watches. It must not know what a Lease means.
"""

from __future__ import annotations

import itertools

import msgspec

from kvip.core.election.heartbeat import LABELS
from kvip.core.objects import Lease, LeaseSpec, ObjectMeta


class Faults(msgspec.Struct, kw_only=True):
    """What one node's requests and watch suffer. Delays in seconds, drawn evenly; the others are probabilities."""

    delay_s: tuple[float, float] = (0.001, 0.01)
    late: float = 0.0
    """How many requests are on their way for up to `late_s`, mostly beyond their deadline."""
    late_s: float = 8.0
    lose_request: float = 0.0
    lose_answer: float = 0.0
    refuse: float = 0.0
    watch_delay_s: tuple[float, float] = (0.001, 0.01)
    resume: float = 0.5
    """How often a broken watch goes on from where it was, instead of from a snapshot."""


WELL = Faults()


class Server:
    """Leases with resourceVersions, compare-and-swap and UIDs."""

    def __init__(self, world):
        self.world = world
        self.version = 100
        self.leases = {}
        self.uids = itertools.count(1)
        self.epoch = 0
        self.restored_at = float("-inf")
        self.backups = []
        self.writes = 0
        self.log = []
        """(name, Lease or None) of each change, in order."""

    def put(self, op):
        """Compare-and-swap, or create: (status, lease)."""
        found = self.leases.get(op.name)
        if not op.version:
            if found is not None:
                return 409, None
            return 200, self.store(op.name, f"u{next(self.uids)}", op.spec, op.annotations, op.labels)
        if found is None:
            return 404, None
        if (op.uid and found.metadata.uid != op.uid) or found.metadata.resource_version != op.version:
            return 409, None
        return 200, self.store(op.name, found.metadata.uid, op.spec, op.annotations, op.labels)

    def store(self, name, uid, spec, annotations, labels):
        self.version += 1
        self.writes += 1
        meta = ObjectMeta(name=name, uid=uid, resource_version=str(self.version), annotations=dict(annotations), labels=dict(labels))
        self.leases[name] = Lease(metadata=meta, spec=spec)
        self.tell(name, self.leases[name])
        return self.leases[name]

    def tell(self, name, lease):
        shown = lease if lease is not None and LABELS.items() <= lease.metadata.labels.items() else None
        self.log.append((name, shown))
        for node in self.world.nodes:
            node.watch.event(name, shown)

    def labelled(self):
        return [lease for lease in self.leases.values() if LABELS.items() <= lease.metadata.labels.items()]

    # -- what an administrator may do ---------------------------------------------------------------------------------

    def delete(self, name):
        if self.leases.pop(name, None) is not None:
            self.version += 1
            self.tell(name, None)

    def blank(self, name):
        """Everything but the labels is taken out."""
        found = self.leases[name]
        self.store(name, found.metadata.uid, LeaseSpec(holder_identity=""), {}, found.metadata.labels)

    def unlabel(self, name):
        """The Lease stays, but no list or watch of ours shows it."""
        found = self.leases[name]
        self.store(name, found.metadata.uid, found.spec, found.metadata.annotations, {})

    def touch(self, name):
        """Somebody changes an annotation that is not kvip's."""
        found = self.leases[name]
        self.store(name, found.metadata.uid, found.spec, {**found.metadata.annotations, "x": str(self.version)}, found.metadata.labels)

    def put_back(self, lease):
        """An old content under a new version, as by `kubectl replace --force` of a backup: created anew where it is gone."""
        found = self.leases.get(lease.metadata.name)
        uid = found.metadata.uid if found is not None else f"u{next(self.uids)}"
        self.store(lease.metadata.name, uid, lease.spec, lease.metadata.annotations, lease.metadata.labels)

    def back_up(self):
        self.backups.append((self.version, dict(self.leases)))

    def restore(self, backup):
        """The whole store is set back, as by restoring etcd: connections break, what is under way is lost."""
        self.version, self.leases = backup[0], dict(backup[1])
        self.epoch += 1
        self.restored_at = self.world.now
        self.log = []
        for node in self.world.nodes:
            node.watch.break_off()


class Watch:
    """One node's watch: events in order, each late; when broken off it goes on from where it was, or from a consistent snapshot."""

    def __init__(self, node):
        self.node = node
        self.store = {}
        self.open = 0
        self.last_at = 0.0
        self.stalled_until = 0.0
        self.connected = False
        self.heard = None
        """(epoch of the store, place in its log) up to which everything was heard."""

    def event(self, name, lease):
        if self.connected:
            place = self._place(len(self.node.world.server.log))
            self._later(lambda: self._deliver(name, lease, place))

    def _place(self, index):
        return self.node.world.server.epoch, index

    def _later(self, action):
        world, number = self.node.world, self.open
        at = max(self.last_at, self.stalled_until, world.now + world.random.uniform(*self.node.faults.watch_delay_s))
        self.last_at = at
        world.at(at, lambda: self.node.run_now_or_later(action) if number == self.open else None)

    def _deliver(self, name, lease, place):
        self.heard = place
        if lease is None:
            if self.store.pop(name, None) is None:
                return
        else:
            self.store[name] = lease
        self.node.hear(name, lease)

    def forget(self):
        """The daemon starts anew."""
        self.store, self.heard = {}, None
        self.break_off()

    def break_off(self):
        self.open += 1
        self.connected = False
        number, world = self.open, self.node.world
        at = max(world.now, self.stalled_until) + world.random.uniform(0.0, 0.5)
        world.at(at, lambda: self.reconnect() if number == self.open else None)

    def reconnect(self):
        world = self.node.world
        if self.node.cut:
            self.break_off()
            return
        self.connected = True
        self.last_at = 0.0
        log = world.server.log
        if self.heard is not None and self.heard[0] == world.server.epoch and world.random.random() < self.node.faults.resume:
            for index in range(self.heard[1], len(log)):
                name, lease = log[index]
                place = self._place(index + 1)
                self._later(lambda name=name, lease=lease, place=place: self._deliver(name, lease, place))
            return
        snapshot = {lease.metadata.name: lease for lease in world.server.labelled()}
        place = self._place(len(log))
        self._later(lambda: self._replace(snapshot, place))

    def _replace(self, snapshot, place):
        """As the informer does it: what vanished is told first."""
        self.heard = place
        before, self.store = self.store, dict(snapshot)
        for name in [name for name in before if name not in snapshot]:
            self.node.hear(name, None)
        for name, lease in snapshot.items():
            if before.get(name) != lease:
                self.node.hear(name, lease)
        self.node.went_on_from_a_snapshot()
