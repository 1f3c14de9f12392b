"""A cluster in simulated time: nodes that run the very decisions of the daemon, an API server, and everything that goes wrong between them.

One heap of events in true time; each node has a clock of its own rate. A node is killed, stalled or cut off from outside; what it
holds is judged by what is bound on it and its validity on its own clock, running or not, as the kernel's switch would.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter

from kvip.core.election import claims
from kvip.core.election.placement import ALIKE
from kvip.core.model import Vip
from tests.unit.core.election.simnode import Node
from tests.unit.core.election.simserver import Server


class TwoHolders(AssertionError):
    """Two nodes may act for one VIP at one instant."""


def settled(*names, vips=6, seed=1, **options):
    """A quiet cluster; the first of the nodes holds every VIP."""
    world = World(seed, vips=vips)
    nodes = [world.add(name, **options) for name in names]
    for node in nodes[1:]:
        node.able = set()
    world.until(world.all_held, limit_s=10)
    world.run(3.0)
    for node in nodes[1:]:
        node.able = set(world.vips)
        node.soon()
    world.run(3.0)
    assert nodes[0].acts() == set(world.vips)
    return world, *nodes


class World:
    """True time, and everything that is to happen."""

    def __init__(self, seed=0, *, vips=6):
        self.random = random.Random(seed)
        self.now = 0.0
        self.heap = []
        self.order = itertools.count()
        self.leaning = ALIKE
        self.nodes = []
        self.server = Server(self)
        self.vips = [Vip(f"192.0.2.{number}") for number in range(1, vips + 1)]
        self.shown = set()
        self.taken = set()
        """VIPs that another host answers for when it is asked: nobody binds them."""
        self.moved = set()
        self.unconfirmed = set()
        """VIPs that go to another segment than the one on which they are known."""
        self.requests = []
        """(time, node, op) of every request sent, for tests that judge their order."""

    def add(self, name, **options):
        node = Node(self, name, **options)
        node.asked = set(self.vips)
        node.able = set(self.vips)
        self.nodes.append(node)
        return node

    def at(self, when, action):
        heapq.heappush(self.heap, (when, next(self.order), action))

    def run(self, seconds):
        end = self.now + seconds
        while self.heap and self.heap[0][0] <= end:
            self.now, _, action = heapq.heappop(self.heap)
            action()
        self.now = end

    def until(self, condition, *, limit_s):
        """Seconds until the condition held; fails after the limit."""
        began = self.now
        while not condition():
            assert self.now - began < limit_s, f"not within {limit_s} s"
            self.run(0.01)
        return self.now - began

    # -- the network --------------------------------------------------------------------------------------------------

    def send(self, node, op):
        faults, epoch = node.faults, node.epoch
        self.requests.append((self.now, node, op))
        answered = []

        def finish(answer):
            if not answered:
                answered.append(True)
                node.answer(op, answer, epoch)

        self.at(self.now + op.deadline_s / node.rate, lambda: finish(claims.Answer(ok=False)))
        if node.hold is not None and node.hold(op):
            node.held.append(op)
            return
        if node.cut or self.now < node.deaf_until or self.random.random() < faults.lose_request:
            return
        store = self.server.epoch

        def arrive():
            if store != self.server.epoch:
                return
            answer = claims.Answer(ok=False, status=500) if self.random.random() < faults.refuse else self.perform(op)
            if not node.cut and self.random.random() >= faults.lose_answer:
                self.at(self.now + self.random.uniform(*faults.delay_s), lambda: finish(answer) if store == self.server.epoch else None)

        on_its_way_s = faults.late_s if self.random.random() < faults.late else faults.delay_s[1]
        self.at(self.now + self.random.uniform(faults.delay_s[0], on_its_way_s), arrive)

    def perform(self, op):
        server = self.server
        if op.kind == "list":
            return claims.Answer(ok=True, leases=tuple(server.labelled()), version=str(server.version))
        if op.kind == "read":
            return claims.Answer(ok=True, lease=server.leases.get(op.name))
        status, lease = server.put(op)
        return claims.Answer(ok=status == 200, lease=lease, status=status)

    # -- what must hold -----------------------------------------------------------------------------------------------

    def check(self, node):
        acts = node.acts()
        if not acts:
            return
        for other in self.nodes:
            if other is not node:
                both = acts & other.acts()
                if both:
                    raise TwoHolders(f"{sorted(both)} on {node.name} ({node.state.incarnation[-6:]}) and {other.name} at {self.now:.3f}")

    def node(self, name):
        return next(node for node in self.nodes if node.name == name)

    def sent(self, node, kind="", purpose="", name="", since=0.0):
        """(time, request) of what a node sent."""
        wanted = ((at, op) for at, sender, op in self.requests if sender is node and at >= since)
        return [(at, op) for at, op in wanted if kind in ("", op.kind) and purpose in ("", op.purpose) and op.name.startswith(name)]

    def holders(self, vip):
        return [node.name for node in self.nodes if vip in node.acts()]

    def all_held(self):
        wanted = set().union(*(node.asked & node.able for node in self.nodes))
        holders = Counter(itertools.chain.from_iterable(node.acts() for node in self.nodes))
        return all(holders[vip] == 1 for vip in self.vips if vip in wanted)
