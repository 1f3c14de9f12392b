"""The shared Lease: each rule in a table, then several nodes with drifting clocks against one compare-and-swap store."""

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kvip.core.election.lease import (
    PER_SERVICE,
    RELEASED_ANNOTATION,
    SUCCESSION_ANNOTATION,
    Election,
    Lost,
    Renew,
    Take,
    Timers,
    Wait,
    confirmed,
    deadline_s,
    decide,
    fenced,
    free_at,
    is_older,
    is_per_service,
    observe,
    succession,
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


# -- taking ----------------------------------------------------------------------------------------------------------


def test_nothing_is_decided_before_the_lease_was_read():
    assert decide(watcher(), now=100.0) == Wait(until=101.0)


def test_a_lease_that_was_never_there_is_created_at_once():
    assert decide(observe(watcher(), None, now=100.0), now=100.0) == Take(version="", transitions=0)


@pytest.mark.parametrize(
    ("found", "wait_s"),
    [
        (lease(PEER, 5), 5.0),
        (lease(PEER, 5, duration=15), 15.0),
        (lease(PEER, 5, duration=2), 5.0),
        (lease("client-go-host", 5), 10.0),
        (lease("client-go-host", 5, duration=15), 30.0),
        (lease("host_1234", 5), 10.0),
        (lease("", 5, transitions=3, released=f"{PEER}/3"), 0.0),
        (lease("", 5, duration=1, transitions=3), 2.0),
        (lease("", 5, transitions=4, released=f"{PEER}/3"), 2.0),
        (lease("", 5, transitions=3, released=f"{PEER}/13"), 2.0),
        (lease(None, 5), 2.0),
    ],
    ids=[
        "kvip", "longer", "never below one's own", "foreign", "foreign, longer", "nearly an incarnation", "released by kvip",
        "released by another", "kvip's release is an older one", "transitions are compared whole", "no holder field",
    ],
)  # fmt: skip
def test_how_long_a_lease_must_stand_still(found, wait_s):
    election = observe(watcher(), found, now=100.0)
    assert free_at(election) == 100.0 + wait_s
    if wait_s:
        assert decide(election, now=100.0 + wait_s - 0.001) == Wait(until=100.0 + wait_s)
    transitions = (found.spec.lease_transitions or 0) + 1
    assert decide(election, now=100.0 + wait_s) == Take(version="5", transitions=transitions)


def test_each_change_starts_the_wait_anew_and_an_unchanged_read_does_not():
    election = observe(watcher(), lease(PEER, 5), now=100.0)
    election = observe(election, lease(PEER, 5), now=103.0)
    assert free_at(election) == 105.0
    assert election.view.seen_at == 103.0
    election = observe(election, lease(PEER, 6), now=104.0)
    assert free_at(election) == 109.0


@pytest.mark.parametrize(("gone", "wait_s"), [(lease(PEER, 5), 5.0), (lease(PEER, 5, duration=15), 15.0)])
def test_a_lease_that_vanished_is_not_free_before_its_duration_passed(gone, wait_s):
    election = observe(observe(watcher(), gone, now=100.0), None, now=101.0)
    election = observe(election, None, now=102.0)
    assert decide(election, now=101.0 + wait_s - 0.01) == Wait(until=101.0 + wait_s)
    assert decide(election, now=101.0 + wait_s) == Take(version="", transitions=0)


def test_a_vanished_lease_of_a_foreign_holder_is_free_after_twice_its_duration():
    election = observe(observe(watcher(), lease("client-go-host", 5, duration=15), now=100.0), None, now=101.0)
    assert free_at(election) == 131.0


def test_a_lease_deleted_and_created_again_counts_from_its_creation():
    election = observe(observe(watcher(), lease(PEER, 5), now=100.0), None, now=101.0)
    assert free_at(observe(election, lease(PEER, 9), now=103.0)) == 108.0


def test_an_older_version_is_ignored():
    election = observe(watcher(), lease(PEER, 10), now=100.0)
    assert observe(election, lease("", 9, released=f"{PEER}/0"), now=101.0) == election


@pytest.mark.parametrize(
    ("version", "than", "older"), [("9", "10", True), ("10", "9", False), ("10", "10", False), ("", "1", False), ("x", "1", False)]
)
def test_versions_are_compared_as_numbers(version, than, older):
    assert is_older(version, than) is older


def test_what_a_retired_incarnation_holds_is_free_at_once():
    election = watcher(retired=frozenset({str(PEER)}))
    assert decide(observe(election, lease(PEER, 5, transitions=2), now=100.0), now=100.0) == Take(version="5", transitions=3)


def test_ones_own_unconfirmed_lease_is_renewed_not_taken():
    assert decide(observe(watcher(), lease(ME, 5, transitions=2), now=100.0), now=100.0) == Renew(version="5", transitions=2)


# -- holding ---------------------------------------------------------------------------------------------------------


def test_validity_counts_from_the_sending_of_the_request():
    election = confirmed(observe(watcher(), None, now=100.0), lease(ME, 1), sent_at=100.0, now=102.5)
    assert election.valid_until == 103.0


@pytest.mark.parametrize("late_s", [3.0, 3.001, 60.0])
def test_a_first_answer_that_comes_too_late_wins_nothing(late_s):
    election = confirmed(observe(watcher(), None, now=100.0), lease(ME, 1), sent_at=100.0, now=100.0 + late_s)
    assert not election.holding
    assert decide(election, now=100.0 + late_s) == Renew(version="1", transitions=0)


@pytest.mark.parametrize(("now", "until"), [(102.9, 105.5), (103.0, 103.0), (104.0, 103.0)])
def test_a_renewal_counts_only_while_the_last_one_is_valid(now, until):
    election = confirmed(holder(), lease(ME, 2), sent_at=102.5, now=now)
    assert election.valid_until == until
    if now >= 103.0:
        assert decide(election, now=now, renewed_at=100.0) == Lost(reason="renew deadline")


def test_a_holder_renews_each_retry_period():
    assert decide(holder(), now=100.9, renewed_at=100.0) == Wait(until=101.0)
    assert decide(holder(), now=101.0, renewed_at=100.0) == Renew(version="1", transitions=0)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [(lease(PEER, 2), "lease taken by another"), (lease("", 2), "lease taken by another"), (None, "lease deleted")],
)
def test_a_holder_that_sees_another_state_has_lost(seen, reason):
    assert decide(observe(holder(), seen, now=100.5), now=100.5, renewed_at=100.0) == Lost(reason=reason)


def test_a_holder_has_lost_at_the_deadline_exactly():
    assert decide(holder(), now=102.999, renewed_at=100.0) == Renew(version="1", transitions=0)
    assert decide(holder(), now=103.0, renewed_at=100.0) == Lost(reason="renew deadline")


def test_after_a_fence_nothing_is_held_and_the_old_name_is_retired():
    second = incarnation("n1", 1)
    election = fenced(holder(), second)
    assert not election.holding
    assert election.incarnation == second
    assert decide(election, now=103.0) == Take(version="1", transitions=1)


@pytest.mark.parametrize(
    ("seen", "deadline"),
    [
        ([], 3.0),
        ([("x", 15)], 3.0),
        ([("x", 5)], 3.0),
        ([("x", 4)], 2.4),
        ([("x", 2), ("x", 15)], 1.2),
        ([("", 1)], 3.0),
        ([("x", 0)], 3.0),
    ],
)
def test_the_deadline_is_at_most_six_tenths_of_the_shortest_duration_seen_with_a_holder(seen, deadline):
    election = watcher()
    for version, (name, duration) in enumerate(seen, start=1):
        election = observe(election, lease(name, version, duration=duration), now=100.0)
    assert deadline_s(election) == pytest.approx(deadline)
    taken = confirmed(election, lease(ME, 99), sent_at=200.0, now=200.0)
    assert taken.valid_until == pytest.approx(200.0 + deadline)


# -- several nodes ---------------------------------------------------------------------------------------------------


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
TestCluster.settings = settings(max_examples=150, stateful_step_count=25, deadline=None, database=None)


# -- what others do to the Lease -------------------------------------------------------------------------------------


def test_t4_a_lease_blanked_under_a_kvip_holder_is_not_free_before_its_duration():
    seen = observe(watcher(), lease(PEER, 5), now=100.0)
    blanked = observe(seen, lease("", 6), now=101.0)
    assert free_at(blanked) == 106.0


def test_t4_a_lease_deleted_and_created_anew_without_a_holder_is_not_free_before_its_duration():
    gone = observe(observe(watcher(), lease(PEER, 5), now=100.0), None, now=101.0)
    assert free_at(observe(gone, lease("", 9), now=101.5)) == 106.0


def test_an_answer_older_than_what_the_watch_brought_meanwhile_is_no_rewritten_history():
    seen = observe(watcher(), lease(PEER, 11), now=100.0)
    assert observe(seen, lease(PEER, 10), now=100.1, asked_at_version="9") == seen
    rewritten = observe(seen, lease(PEER, 3), now=100.1, asked_at_version="9")
    assert rewritten.not_before > 105.0


def test_ones_own_duration_does_not_shorten_ones_own_deadline():
    mine = confirmed(watcher(), lease(ME, 1, duration=1), sent_at=100.0, now=100.0)
    assert deadline_s(mine) == TIMERS.renew_deadline_s


# -- beside modes with Leases for Services (G5) -----------------------------------------------------------------------


def marked(holder, *, released=""):
    notes = {SUCCESSION_ANNOTATION: f"{PER_SERVICE}0"} | ({RELEASED_ANNOTATION: released} if released else {})
    spec = LeaseSpec(holder_identity=holder, lease_duration_seconds=5, lease_transitions=3)
    return Lease(metadata=ObjectMeta(name="svcs", resource_version="5", annotations=notes), spec=spec)


@pytest.mark.parametrize("found", [marked(PEER), marked("", released=f"{PEER}/3")], ids=["held", "released"])
def test_g5_the_shared_lease_of_such_a_mode_is_free_for_others_only_when_nobody_of_it_took_it(found):
    assert free_at(observe(watcher(), found, now=100.0)) == 110.0
    assert free_at(observe(watcher(mark=f"{PER_SERVICE}0"), found, now=100.0)) == (105.0 if found.spec.holder_identity else 100.0)


def test_g5_who_follows_such_a_mode_asks_for_every_vip():
    view = observe(watcher(), marked("", released=f"{PEER}/3"), now=100.0).view
    assert is_per_service(view)
    inherited = succession(view)
    assert inherited
    assert not inherited.startswith(PER_SERVICE), "what is inherited does not make a mode"
    foreign = observe(watcher(), marked("kube"), now=100.0).view
    assert not is_per_service(foreign)
    assert succession(foreign) == "kube/3"
