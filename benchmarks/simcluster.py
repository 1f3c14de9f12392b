"""A large cluster in simulated time: the daemon's own decisions on each node, on the simulated API server of the election's tests.

In: a number of nodes. Out: a `Crowd` to run, stop and count in. Of VIPs that are alike those of one claim record are taken, held and handed
over together, by one write; so one VIP for each record stands for all of it, and figures in VIPs weigh it by how many the record has.
Against the tests' cluster, which looks for a second holder after every step, this one delivers each change to all nodes at one instant
and tells a node its demand once: it is for counting, not for finding faults.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from kvip.core.election import claims, heartbeat, placement, records
from kvip.core.election.state import State, replace, valid, valid_until
from kvip.core.model import Vip
from kvip.core.objects import Lease
from tests.unit.core.election.simnode import Node
from tests.unit.core.election.simserver import Server
from tests.unit.core.election.simulation import World

RECORDS = records.DEFAULT_COUNT
WATCH_S = 0.005
COALESCE_S = 0.02
"""What a node hears within this time it decides upon at once, as a daemon does that is woken while it works; longer in a large crowd."""


def one_per_record() -> list[Vip]:
    """A VIP for each claim record, in order."""
    found: dict[int, Vip] = {}
    number = 0
    while len(found) < RECORDS:
        number += 1
        vip = Vip(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        found.setdefault(records.number_of(vip, RECORDS), vip)
    return [found[record] for record in range(RECORDS)]


def _addresses(vips: int) -> list[Vip]:
    return [Vip(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}") for number in range(1, vips + 1)]


def weights(vips: int) -> list[int]:
    """How many of so many VIPs each record has."""
    counts = Counter(records.number_of(vip, RECORDS) for vip in _addresses(vips))
    return [counts[record] for record in range(RECORDS)]


class _NoWatch:
    """A member hears by `_Broadcast`."""

    def forget(self) -> None:
        pass

    def break_off(self) -> None:
        pass


class _Broadcast(Server):
    """Every change reaches every node that runs, after one delay."""

    def __init__(self, world: Crowd) -> None:
        super().__init__(world)
        self.events = 0
        self.last_write: dict[str, float] = {}

    def tell(self, name: str, lease: Lease | None) -> None:
        self.last_write[name] = self.world.now
        listeners = [node for node in self.world.nodes if node.running and not node.cut]
        self.events += len(listeners)

        def deliver() -> None:
            for node in listeners:
                if node.running:
                    node.hear(name, lease)

        self.world.at(self.world.now + WATCH_S, deliver)


class Member(Node):
    """A node that decides once for what came within a moment."""

    def __init__(self, world: Crowd, name: str) -> None:
        self._due = float("inf")
        self._permitted = {}
        self.cpu_s = 0.0
        super().__init__(world, name, count=RECORDS)
        self.watch = _NoWatch()

    def hear(self, name: str, lease: Lease | None) -> None:
        began = time.perf_counter()
        self._learn(claims.watched(self.state, name, lease, now=self.now()))
        self.cpu_s += time.perf_counter() - began
        self.soon(self.world.now + COALESCE_S * max(1.0, len(self.world.nodes) / 100))

    def _learn(self, state: State) -> None:
        """As the daemon: what was learnt may make this node's claims void, which nothing here does."""
        self.state = state
        if state.lost or (state.renewed_until is not None and not valid(state, self.now())):
            raise AssertionError(f"{self.name} fences without a fault: {state.lost}")

    def soon(self, at: float | None = None) -> None:
        """One turn is due at a time, at the earliest instant asked for."""
        due = self.world.now if at is None else max(self.world.now, at + 1e-6)
        if due >= self._due or due == float("inf"):
            return
        self._due = due
        epoch = self.epoch

        def turn() -> None:
            if self._due == due and epoch == self.epoch and self.running:
                self.turn()

        self.world.at(due, turn)

    def turn(self) -> None:
        self._due = float("inf")
        began = time.perf_counter()
        if self.state.count is not None and self.world.demand and not self.told:
            self.told = {vip: self.want(vip) for vip in self.world.vips}
            self.state = claims.demanded(self.state, self.told, now=self.now())
        step = claims.step(self.state, self.now())
        self.state = step.state
        self.cpu_s += time.perf_counter() - began
        if step.fence:
            raise AssertionError(f"{self.name} fences without a fault: {step.fence}")
        for op in step.ops:
            self.world.send(self, op)
        self.bound = set(claims.permits(self.state)) if valid_until(self.state) is not None else set()
        self.soon(step.wake_at)


@contextmanager
def shared_answers() -> Iterator[None]:
    """Inside, what follows alike on all nodes is computed once for all: a heartbeat read, the order of the same candidates.
    What hundreds of nodes decide becomes affordable, and what one of them spends on it is no longer seen."""
    plain_order, orders = placement.order, dict[object, list[str]]()
    plain_parse, beats = heartbeat.parse, dict[object, heartbeat.Heartbeat]()

    def order(record: int, nodes: Iterable[str], loads: Mapping[str, int], *, total: int) -> list[str]:
        candidates = tuple(nodes)
        key = record, frozenset(candidates), frozenset(loads.items()), total
        if key not in orders:
            if len(orders) > 5_000:
                orders.clear()
            orders[key] = plain_order(record, candidates, loads, total=total)
        return orders[key]

    def parse(lease: Lease) -> heartbeat.Heartbeat:
        key = lease.metadata.name, lease.metadata.resource_version
        if key not in beats:
            beats[key] = plain_parse(lease)
        return beats[key]

    placement.order, heartbeat.parse = order, parse
    try:
        yield
    finally:
        placement.order, heartbeat.parse = plain_order, plain_parse


class Crowd(World):
    """So many members, started within a retry period; nobody asks for VIPs before `ask`, so that all are there to share them."""

    def __init__(self, nodes: int, *, seed: int = 1) -> None:
        super().__init__(seed)
        self.server = _Broadcast(self)
        self.vips = one_per_record()
        self.demand = False
        for number in range(nodes):
            self.at(self.random.uniform(0.0, 1.0), lambda number=number: self._join(number))  # type: ignore[misc]

    def ask(self) -> None:
        """The Services are there from now on."""
        self.demand = True
        for node in self.nodes:
            node.soon()

    def _join(self, number: int) -> None:
        node = Member(self, f"n{number}")
        node.asked = node.able = set(self.vips)
        self.nodes.append(node)
        snapshot = {lease.metadata.name: lease for lease in self.server.labelled()}

        def begin() -> None:
            for name, lease in snapshot.items():
                node.hear(name, lease)

        self.at(self.now + WATCH_S, begin)

    def check(self, node: Node) -> None:
        pass

    def held(self) -> bool:
        """Has every VIP exactly one holder among the daemons that run?"""
        holders = Counter(vip for node in self.nodes if node.running for vip in node.acts())
        return len(holders) == len(self.vips) and set(holders.values()) == {1}

    def loads(self, vips: int) -> list[int]:
        """VIPs per living node, of so many."""
        of = dict(zip(self.vips, weights(vips), strict=True))
        return [sum(of[vip] for vip in node.acts()) for node in self.nodes if node.running]

    def until_held(self, *, limit_s: float) -> float:
        """Seconds until every VIP has its holder; raises AssertionError after the limit."""
        began = self.now
        while not self.held():
            assert self.now - began < limit_s, f"VIPs without a holder after {limit_s} s"
            self.run(0.05)
        return self.now - began


def with_all_vips(state: State, vips: int) -> State:
    """What a node knows, with every VIP of each record in place of the one that stands for it: as large as in a cluster of so many VIPs."""
    of: dict[int, list[Vip]] = {}
    for vip in _addresses(vips):
        of.setdefault(records.number_of(vip, RECORDS), []).append(vip)
    slots = {}
    for number, slot in state.slots.items():
        record, all_of_it = slot.record, of.get(number, [])
        assert record is not None
        (holder,) = record.claims
        (wanted,) = slot.wanted.values()
        full = replace(record, claims={holder: tuple(all_of_it)}, holder=dict.fromkeys(all_of_it, holder))
        settled = frozenset(all_of_it) if slot.settled else frozenset[Vip]()
        slots[number] = replace(slot, record=full, wanted=dict.fromkeys(all_of_it, wanted), settled=settled, look_at=0.0)
    return replace(state, slots=slots)
