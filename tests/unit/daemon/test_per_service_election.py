"""Mode `per-service` on an event loop whose time is the hand-driven clock, against a compare-and-swap store with a watch."""

import asyncio

import pytest

from kvip.clock import ManualClock
from kvip.core.election.lease import PER_SERVICE, RELEASED_ANNOTATION, SUCCESSION_ANNOTATION, Timers
from kvip.core.objects import Lease, LeaseSpec, ObjectMeta
from kvip.daemon import lease_grants
from kvip.daemon.per_service_election import PerServiceElection
from kvip.daemon.supervision import Heartbeats
from kvip.errors import ApiError
from tests.unit.daemon.conflict_bench import ClockLoop

TIMERS = Timers(lease_duration_s=5.0, renew_deadline_s=3.0, retry_period_s=1.0)
SHARED = "kube-system/svcs"
WEB, MAIL = "shop/kubevip-web", "shop/kubevip-mail"
VIP, OTHER = "10.0.0.1", "10.0.0.2"
PEER = "n2_" + "0" * 32


class Store:
    """Leases of all namespaces; what is written is watched by every bench 1 ms later."""

    def __init__(self):
        self.leases = {}
        self.version = 0
        self.watchers = []
        self.down = set()  # nodes that get no answer
        self.requests = []

    def put(self, key, holder, *, duration=5, transitions=0, annotations=None):
        self.version += 1
        name = key.partition("/")[2]
        meta = ObjectMeta(name=name, namespace=key.partition("/")[0], resource_version=str(self.version), annotations=annotations)
        spec = LeaseSpec(holder_identity=holder, lease_duration_seconds=duration, lease_transitions=transitions)
        self.leases[key] = Lease(metadata=meta, spec=spec)
        for watch in self.watchers:
            asyncio.get_running_loop().call_later(0.001, watch, key, self.leases[key])
        return self.leases[key]

    def holder(self, key):
        lease = self.leases.get(key)
        return (lease.spec.holder_identity or "").partition("_")[0] if lease else None


class Client:
    """The port of `LeaseClient`: one node's requests about one namespace."""

    def __init__(self, store, node, namespace):
        self.store, self.node, self.namespace = store, node, namespace

    async def _ask(self, verb, deadline_s):
        self.store.requests.append((self.node, verb))
        await asyncio.sleep(0.001)
        if self.node in self.store.down:
            await asyncio.sleep(deadline_s)
            raise ApiError(verb, "lease", status=0, reason="Timeout")

    async def get(self, name, *, deadline_s):
        await self._ask("GET", deadline_s)
        return self.store.leases.get(f"{self.namespace}/{name}")

    async def list_all(self, *, labels, deadline_s):
        await self._ask("LIST", deadline_s)
        return [], str(self.store.version)

    async def create(self, name, spec, *, annotations=None, labels=None, deadline_s):
        return await self._put(name, spec, "", annotations, deadline_s)

    async def replace(self, name, spec, *, resource_version, uid="", annotations=None, labels=None, deadline_s):
        return await self._put(name, spec, resource_version, annotations, deadline_s)

    async def _put(self, name, spec, version, annotations, deadline_s):
        await self._ask("PUT", deadline_s)
        key = f"{self.namespace}/{name}"
        now = self.store.leases[key].metadata.resource_version if key in self.store.leases else ""
        if version != now:
            raise ApiError("PUT", key, status=409, reason="Conflict")
        transitions = spec.lease_transitions or 0
        return self.store.put(
            key, spec.holder_identity, duration=spec.lease_duration_seconds, transitions=transitions, annotations=dict(annotations or {})
        )


class Node:
    """One elector with its `Demand` and `Wires`. What is permitted is bound at once."""

    def __init__(self, bench, name):
        self.bench = bench
        self.name = name
        self.needs = {}  # VIP -> Leases in order
        self.unable = set()
        self.bound = set()
        self.told = []
        self.groups = {}  # group -> valid until
        self.seen_shown = False
        self.heartbeats = Heartbeats(bench.clock)
        self.elector = PerServiceElection(
            lambda namespace: Client(bench.store, name, namespace), shared=SHARED, on_demand=bench.on_demand, node=name, timers=TIMERS,
            clock=bench.clock, heartbeats=self.heartbeats, demand=self, wires=self, seen=lambda: bench.store.leases,
        )  # fmt: skip
        bench.store.watchers.append(self.watched)

    def watched(self, key, lease):
        if self.name not in self.bench.store.down:
            self.elector.lease_changed(key, lease)

    def need(self, vip, *leases):
        self.needs[vip] = leases
        if not leases:
            del self.needs[vip]
            self.bound.discard(vip)
        self.elector.demand_changed([vip])

    # Demand

    def vips(self):
        return tuple(self.needs)

    def asked(self, vip):
        return vip in self.needs

    def leases(self, vip):
        return self.needs.get(vip, ())

    def able(self, vip):
        return vip not in self.unable

    def held(self, vip):
        return vip in self.bound

    def shown(self, vip):
        return self.seen_shown

    def holder_able(self):
        return True

    # Wires

    def renewed(self, until, group):
        self.groups[group] = until
        return ""

    def regrouped(self, vip):
        self.told.append(("regrouped", vip))
        return ""

    def won(self, vips):
        for vip in vips:
            if self.elector.permit(vip) is not None:
                assert self.groups[self.elector.group(vip)] > self.bench.clock.now(), "armed before anything is bound"
                self.bound.add(vip)
                self.told.append(("bound", vip))
            else:
                self.bound.discard(vip)

    def withdrawn(self, vips, groups, *, stale):
        for group in groups:
            self.groups.pop(group, None)
        for vip in vips:
            self.bound.discard(vip)
            self.told.append(("withdrawn", vip))
        return True

    def fenced(self, reason):
        assert all(self.elector.permit(vip) is None for vip in self.needs)
        self.told.append(("fenced", reason))
        self.bound.clear()
        self.groups.clear()

    def heard(self):
        pass


class Bench:
    def __init__(self):
        self.clock = ManualClock()
        self.store = Store()
        self.on_demand = False

    def play(self, story, *names):
        async def turning(nodes):
            while True:
                for node in nodes:
                    node.heartbeats.beat("reconcile")
                    assert len([n for n in nodes if VIP in n.bound]) <= 1
                await asyncio.sleep(0.1)

        async def scene():
            nodes = [Node(self, name) for name in names or ("n1",)]
            for node in nodes:
                node.heartbeats.beat("reconcile")
            tasks = [asyncio.create_task(node.elector.run()) for node in nodes] + [asyncio.create_task(turning(nodes))]
            try:
                await story(*nodes)
            finally:
                for task in tasks:
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results), results

        with asyncio.Runner(loop_factory=lambda: ClockLoop(self.clock)) as runner:
            runner.run(scene())


@pytest.fixture
def bench():
    return Bench()


def test_a_new_service_gets_its_own_lease_and_its_address_is_held_by_it(bench):
    async def story(n1):
        n1.need(VIP, WEB)
        n1.need(OTHER, MAIL)
        await asyncio.sleep(0.5)
        assert n1.bound == {VIP, OTHER}
        assert bench.store.holder(WEB) == bench.store.holder(MAIL) == "n1"
        assert n1.elector.group(VIP) != n1.elector.group(OTHER)
        assert bench.store.leases[WEB].spec.holder_identity != bench.store.leases[MAIL].spec.holder_identity

    bench.play(story)


def test_a_lease_taken_by_another_takes_down_what_hangs_on_it_and_nothing_else(bench):
    async def story(n1):
        n1.need(VIP, WEB)
        n1.need(OTHER, MAIL)
        await asyncio.sleep(0.5)
        group = n1.elector.group(VIP)
        bench.store.put(WEB, PEER, transitions=3)
        await asyncio.sleep(0.1)
        assert n1.bound == {OTHER}
        assert group not in n1.groups
        assert n1.elector.permit(VIP) is None
        assert n1.elector.elsewhere(VIP)
        await asyncio.sleep(6)
        assert n1.bound == {VIP, OTHER}, "taken over once it stood still"

    bench.play(story)


def test_the_lease_is_given_back_with_the_service_and_the_next_of_its_name_is_served_at_once(bench):
    async def story(n1):
        for _ in range(3):
            n1.need(VIP, WEB)
            await asyncio.sleep(0.5)
            assert n1.bound == {VIP}
            n1.need(VIP)
            await asyncio.sleep(0.05)
            assert n1.bound == set()
        await asyncio.sleep(0.5)
        assert bench.store.holder(WEB) == ""
        assert bench.store.leases[WEB].metadata.annotations[RELEASED_ANNOTATION]

    bench.play(story)


@pytest.mark.parametrize("name", ["n2", "kube", "a-node-with-a-long-name", PEER])
def test_g1_the_lease_of_a_living_holder_is_left_alone_whatever_it_is_called(bench, name):
    async def story(n1):
        bench.store.put(WEB, name)
        n1.need(VIP, WEB)
        for _ in range(30):
            await asyncio.sleep(1)
            bench.store.put(WEB, name)
        assert n1.bound == set()
        assert bench.store.leases[WEB].spec.holder_identity == name

    bench.play(story)


def test_g3_an_address_waits_for_all_leases_of_the_services_that_share_it(bench):
    async def story(n1):
        bench.store.put(MAIL, PEER)
        n1.need(VIP, WEB, MAIL)
        await asyncio.sleep(3)
        assert bench.store.holder(WEB) == "n1"
        assert n1.bound == set()
        await asyncio.sleep(3)
        assert n1.bound == {VIP}
        assert bench.store.holder(MAIL) == "n1"

    bench.play(story)


def test_g3_a_sibling_comes_and_goes_without_a_gap(bench):
    async def story(n1, n2):
        for node in (n1, n2):
            node.need(VIP, WEB)
        await asyncio.sleep(1)
        (holder,) = [node for node in (n1, n2) if node.bound]
        holder.told.clear()
        for leases in ((WEB, MAIL), (MAIL,), (MAIL, WEB)):
            for node in (n2, n1):
                node.need(VIP, *leases)
            await asyncio.sleep(3)
            assert holder.bound == {VIP}
            assert all(bench.store.holder(lease) == holder.name for lease in leases)
        assert {what for what, _ in holder.told} == {"regrouped"}

    bench.play(story, "n1", "n2")


def test_g3_an_address_is_held_for_those_services_of_which_the_lease_is(bench):
    async def story(n1):
        n1.need(VIP, WEB)
        await asyncio.sleep(1)
        n1.need(VIP, WEB, MAIL)
        assert (n1.elector.covers(VIP, WEB), n1.elector.covers(VIP, MAIL)) == (True, False)
        await asyncio.sleep(1)
        assert (n1.elector.covers(VIP, WEB), n1.elector.covers(VIP, MAIL)) == (True, True)

    bench.play(story)


def test_g3_two_nodes_that_hold_one_lease_each_do_not_wait_for_each_other(bench):
    async def story(n1, n2):
        n1.need(VIP, WEB)
        n2.need(OTHER, MAIL)
        await asyncio.sleep(1)
        assert (bench.store.holder(WEB), bench.store.holder(MAIL)) == ("n1", "n2")
        for node in (n1, n2):
            node.need(VIP, WEB, MAIL)
            node.need(OTHER)
        await asyncio.sleep(0.2)
        assert bench.store.holder(WEB) == bench.store.holder(MAIL)
        assert len(n1.bound) + len(n2.bound) == 1

    bench.play(story, "n1", "n2")


def test_only_a_node_that_can_serve_it_stands_for_a_lease_and_who_no_longer_can_hands_it_over(bench):
    async def story(n1, n2):
        n1.unable = {VIP}
        for node in (n1, n2):
            node.need(VIP, WEB)
        await asyncio.sleep(1)
        assert n2.bound == {VIP}
        n1.unable, n2.unable = set(), {VIP}
        for node in (n1, n2):
            node.elector.demand_changed([VIP])
        await asyncio.sleep(2.5)
        assert (n1.bound, n2.bound) == ({VIP}, set())

    bench.play(story, "n1", "n2")


def test_without_an_answer_each_lease_ends_by_itself_and_the_next_node_takes_over(bench):
    async def story(n1, n2):
        for node in (n1, n2):
            node.need(VIP, WEB)
        await asyncio.sleep(1)
        holder, other = (n1, n2) if n1.bound else (n2, n1)
        bench.store.down.add(holder.name)
        cut = bench.clock.now()
        while holder.bound:
            await asyncio.sleep(0.05)
        assert bench.clock.now() - cut <= TIMERS.renew_deadline_s + 0.1
        await asyncio.sleep(4)
        assert other.bound == {VIP}

    bench.play(story, "n1", "n2")


def test_r4_a_suspend_fences_the_whole_node_once(bench):
    async def story(n1):
        n1.need(VIP, WEB)
        n1.need(OTHER, MAIL)
        await asyncio.sleep(0.5)
        bench.clock.suspend(0.2)
        assert n1.elector.permit(VIP) is None
        assert n1.elector.permit(OTHER) is None
        assert [entry for entry in n1.told if entry[0] == "fenced"] == [("fenced", "suspend")]
        await asyncio.sleep(1)
        assert n1.bound == {VIP, OTHER}

    bench.play(story)


def test_r5_a_node_that_cannot_act_renews_nothing(bench):
    async def story(n1):
        n1.need(VIP, WEB)
        await asyncio.sleep(0.5)
        n1.heartbeats.beat = lambda name: None
        await asyncio.sleep(2 * TIMERS.renew_deadline_s + 1)
        assert n1.bound == set()

    bench.play(story)


def test_r7_what_a_killed_predecessor_held_by_any_lease_is_free_at_once(bench):
    async def story(n1):
        life = "n1_" + "a" * 24
        bench.store.put(WEB, life + "00000007")
        bench.store.put(MAIL, "n1_" + "b" * 32)
        n1.elector.trust_predecessor(life + "00000000")
        n1.need(VIP, WEB)
        n1.need(OTHER, MAIL)
        await asyncio.sleep(0.5)
        assert n1.bound == {VIP}

    bench.play(story)


def test_g5_nothing_is_taken_beside_a_holder_of_the_shared_lease_in_another_mode(bench):
    async def story(n1):
        bench.store.put(SHARED, PEER)
        await asyncio.sleep(0.1)
        n1.need(VIP, WEB)
        await asyncio.sleep(3)
        assert n1.bound == set()
        assert PEER in n1.elector.blocked
        await asyncio.sleep(4)
        assert n1.bound == {VIP}
        assert bench.store.leases[SHARED].metadata.annotations[SUCCESSION_ANNOTATION].startswith(PER_SERVICE)

    bench.play(story)


def test_g5_a_node_that_starts_says_nothing_of_another_mode_before_it_read_the_lease(bench):
    async def story(n1):
        assert n1.elector.blocked == ""
        await asyncio.sleep(0.0005)
        assert n1.elector.blocked == ""

    bench.play(story)


def test_every_change_of_hands_is_another_succession_so_that_the_segment_is_asked(bench):
    async def story(n1):
        n1.need(VIP, WEB)
        await asyncio.sleep(0.5)
        first = n1.elector.succeeds(VIP)
        await asyncio.sleep(3)
        assert n1.elector.succeeds(VIP) == first != ""
        bench.store.put(WEB, PEER)
        await asyncio.sleep(7)
        assert n1.elector.succeeds(VIP) not in (first, "")

    bench.play(story)


def test_who_waits_asks_nothing_of_the_api_about_the_services_leases(bench):
    async def story(n1, n2):
        bench.store.put(SHARED, PEER, annotations={SUCCESSION_ANNOTATION: f"{PER_SERVICE}0"})
        for number in range(20):
            bench.store.put(f"shop/kubevip-{number}", PEER)
            n1.need(f"10.0.1.{number}", f"shop/kubevip-{number}")
        await asyncio.sleep(0.5)
        bench.store.requests.clear()
        for _ in range(10):
            await asyncio.sleep(1)
            for key in tuple(bench.store.leases):
                bench.store.put(key, PEER, annotations=bench.store.leases[key].metadata.annotations)
        assert len([node for node, _ in bench.store.requests if node == "n1"]) <= 10

    bench.play(story, "n1", "n2")


def test_a_node_holds_no_more_leases_than_there_are_groups(bench, monkeypatch):
    monkeypatch.setattr("kvip.daemon.candidacy.GROUPS", 5)
    monkeypatch.setattr(lease_grants, "group_names", lambda: ("s0", "s1", "s2", "s3", "s4"))

    async def story(n1, n2):
        for number in range(8):
            for node in (n1, n2):
                node.need(f"10.0.1.{number}", f"shop/kubevip-{number}")
        await asyncio.sleep(6)
        assert len(n1.bound | n2.bound) == 8
        assert not n1.bound & n2.bound
        assert max(len(n1.bound), len(n2.bound)) <= 5

    bench.play(story, "n1", "n2")
