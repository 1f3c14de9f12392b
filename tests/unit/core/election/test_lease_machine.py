"""Several nodes with drifting clocks against one compare-and-swap store: the shared Lease has one holder at most."""

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kvip.core.election.lease import (
    Election,
    Lost,
    Renew,
    Take,
    confirmed,
    decide,
    fenced,
    observe,
)
from tests.unit.core.election.sharedlease import TIMERS, incarnation, lease


class Node:
    def __init__(self, number, rate, offset):
        self.name = f"n{number}"
        self.rate = rate
        self.offset = offset
        self.life = 0
        self.renewed_at = 0.0
        self.election = Election(incarnation=incarnation(self.name), timers=TIMERS)

    def now(self, true):
        return self.offset + self.rate * true

    def next_incarnation(self):
        self.life += 1
        return incarnation(self.name, self.life)

    def fence(self):
        self.election = fenced(self.election, self.next_incarnation())


class Write(msgspec.Struct):
    node: int
    me: str
    sent_at: float
    version: str
    holder: str
    transitions: int
    released: str = ""


class Cluster(RuleBasedStateMachine):
    """Nodes, one Lease under compare-and-swap, and everything between them slow, lost, or out of order."""

    @initialize(
        clocks=st.lists(st.tuples(st.sampled_from([0.99, 1.0, 1.01]), st.floats(0, 1e6)), min_size=2, max_size=4),
        held_before=st.booleans(),
    )
    def begin(self, clocks, held_before):
        self.true = 0.0
        self.version = 0
        self.lease = None
        self.history = []
        self.writes = []
        self.answers = []
        self.nodes = [Node(number, rate, offset) for number, (rate, offset) in enumerate(clocks)]
        if held_before:
            self.store("gone_" + "f" * 32, 0, "")
        for node in self.nodes:
            node.election = observe(node.election, self.lease, now=node.now(self.true))

    def store(self, name, transitions, released):
        self.version += 1
        self.lease = lease(name, self.version, transitions=transitions, released=released)
        self.history.append(self.lease)

    def read(self, node):
        node.election = observe(node.election, self.lease, now=node.now(self.true))

    def perform(self, write):
        """The server's side of a write; None = conflict."""
        current = self.lease.metadata.resource_version if self.lease else ""
        if write.version != current:
            return None
        self.store(write.holder, write.transitions, write.released)
        return self.lease

    def answer(self, write, result):
        node = self.nodes[write.node]
        if result is None:
            self.read(node)
        elif write.holder and node.election.incarnation == write.me:
            before = node.election.valid_until
            node.election = confirmed(node.election, result, sent_at=write.sent_at, now=node.now(self.true))
            if node.election.valid_until != before:
                node.renewed_at = write.sent_at

    def step(self, number):
        """One turn of a node; returns the write it sends."""
        node = self.nodes[number]
        now = node.now(self.true)
        decision = decide(node.election, now=now, renewed_at=node.renewed_at)
        if isinstance(decision, Lost):
            node.fence()
        if not isinstance(decision, Take | Renew):
            return None
        me = node.election.incarnation
        return Write(number, me, now, decision.version, me, decision.transitions)

    @rule(seconds=st.sampled_from([0.05, 0.5, 1.0, 2.0, 2.9, 3.0, 4.9, 5.2]))
    def time_passes(self, seconds):
        self.true += seconds

    @rule(data=st.data())
    def a_node_acts(self, data):
        write = self.step(data.draw(st.integers(0, len(self.nodes) - 1)))
        if write:
            self.writes.append(write)

    @rule(data=st.data())
    def a_node_acts_and_all_goes_well(self, data):
        write = self.step(data.draw(st.integers(0, len(self.nodes) - 1)))
        if write:
            self.answer(write, self.perform(write))

    @rule(data=st.data(), seconds=st.sampled_from([1.0, 3.0, 5.5, 8.0]))
    def some_nodes_are_cut_off_and_the_others_go_on(self, data, seconds):
        cut = data.draw(st.sets(st.integers(0, len(self.nodes) - 1)))
        self.go_on(seconds, without=cut)

    def go_on(self, seconds, *, without=frozenset()):
        end = self.true + seconds
        while self.true < end:
            for number, node in enumerate(self.nodes):
                if number not in without:
                    self.read(node)
                    write = self.step(number)
                    if write:
                        self.answer(write, self.perform(write))
                    self.at_most_one_node_may_act()
            self.true += 0.25

    @rule(data=st.data())
    def a_node_reads(self, data):
        self.read(data.draw(st.sampled_from(self.nodes)))

    @precondition(lambda self: self.history)
    @rule(data=st.data())
    def an_old_event_arrives(self, data):
        node = data.draw(st.sampled_from(self.nodes))
        view = node.election.view
        if view is not None and view.version:
            node.election = observe(node.election, data.draw(st.sampled_from(self.history)), now=node.now(self.true))

    @precondition(lambda self: self.writes)
    @rule(data=st.data())
    def a_write_reaches_the_server(self, data):
        write = self.writes.pop(data.draw(st.integers(0, len(self.writes) - 1)))
        self.answers.append((write, self.perform(write)))

    @precondition(lambda self: self.answers)
    @rule(data=st.data(), lost=st.booleans())
    def an_answer_arrives_or_is_lost(self, data, lost):
        write, result = self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1)))
        if not lost:
            self.answer(write, result)

    @rule(data=st.data())
    def a_holder_releases(self, data):
        number = data.draw(st.integers(0, len(self.nodes) - 1))
        node = self.nodes[number]
        view = node.election.view
        if node.election.holding:
            me = node.election.incarnation
            node.fence()
            if view is not None and view.holder == me:
                released = f"{me}/{view.transitions}"
                self.writes.append(Write(number, me, node.now(self.true), view.version, "", view.transitions, released))

    @precondition(lambda self: self.lease is not None)
    @rule(data=st.data(), trusted=st.booleans())
    def a_daemon_is_killed_and_starts_again(self, data, trusted):
        node = data.draw(st.sampled_from(self.nodes))
        retired = frozenset({str(node.election.incarnation)}) if trusted else frozenset()
        node.election = Election(incarnation=node.next_incarnation(), timers=TIMERS, retired=retired)
        self.read(node)

    @precondition(lambda self: self.lease is not None)
    @rule()
    def someone_deletes_the_lease(self):
        """Every node has seen it before, and no create is under way: a Lease that a node never saw leaves no trace there."""
        for node in self.nodes:
            self.read(node)
        self.writes = [write for write in self.writes if write.version]
        self.version += 1
        self.lease = None
        for node in self.nodes:
            self.read(node)

    @invariant()
    def at_most_one_node_may_act(self):
        valid = [
            node.name
            for node in getattr(self, "nodes", [])
            if node.election.valid_until is not None and node.now(self.true) < node.election.valid_until
        ]
        assert len(valid) <= 1, f"{valid} at {self.true}"

    def teardown(self):
        """Once faults stop, the Lease is held within its duration on the slowest clock, and three retry periods."""
        if not hasattr(self, "nodes"):
            return
        for write in self.writes:
            self.perform(write)
        self.go_on(TIMERS.lease_duration_s / 0.99 + 3 * TIMERS.retry_period_s)
        self.true -= 0.25
        assert any(node.election.holding and node.now(self.true) < node.election.valid_until for node in self.nodes)


TestCluster = Cluster.TestCase
TestCluster.settings = settings(max_examples=settings.default.max_examples * 3 // 2, stateful_step_count=25, deadline=None, database=None)
