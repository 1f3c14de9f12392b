"""Mode `per-service` on a fake clock: a store of Leases with a watch, and nodes that take part."""

import asyncio

from kvip.clock import ManualClock
from kvip.core.election.lease import Timers
from kvip.core.objects import Lease, LeaseSpec, ObjectMeta
from kvip.daemon.per_service_election import PerServiceElection
from kvip.daemon.supervision import Heartbeats
from kvip.errors import ApiError
from tests.unit.clock_loop import ClockLoop

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

    def unconfirmed(self, vip):
        return False

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

    def heard(self, back):
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
