"""Elections on a fake clock: a store of Leases with a watch, and nodes that take part in it. The ports are fakes, the loops are kvip's."""

import asyncio

import msgspec

from kvip.clock import ManualClock
from kvip.core.election.heartbeat import About, Nic
from kvip.core.election.lease import Timers
from kvip.core.election.placement import ALIKE
from kvip.core.objects import Lease, LeaseSpec, ObjectMeta
from kvip.daemon.claims_loop import ClaimsLoop
from kvip.daemon.claims_requests import ClaimsRequests
from kvip.daemon.global_election import GlobalElection
from kvip.daemon.supervision import Heartbeats
from kvip.errors import ApiError
from kvip.kube.decode import EnvelopeError
from tests.unit.clock_loop import ClockLoop

TIMERS = Timers(lease_duration_s=5.0, renew_deadline_s=3.0, retry_period_s=1.0)
SHARED = "svcs"
ANSWER_S = WATCH_S = 0.002
SLOW_S = 0.03
LABELS = {"app.kubernetes.io/managed-by": "kvip"}


class Store:
    """The port of `LeaseClient`, and who watches.

    `fault(verb, name)`: "hangs", "refused", "garbled", "slow" to be carried out, seconds from then until it is answered, or None.
    """

    def __init__(self, clock):
        self.clock = clock
        self.leases = {}
        self.version = 100
        self.watchers = []
        self.log = []
        """(when, verb, name)."""
        self.fault = lambda verb, name: None

    def write(self, name, *, holder="", annotations=None, labels=None, duration=5, transitions=0, uid=None):
        """As somebody else does."""
        spec = LeaseSpec(holder_identity=holder, lease_duration_seconds=duration, lease_transitions=transitions)
        return self.store(name, spec, annotations or {}, LABELS if labels is None else labels, uid=uid)

    def store(self, name, spec, annotations, labels, *, uid=None):
        self.version += 1
        known = self.leases.get(name)
        uid = uid or (known.metadata.uid if known is not None else f"uid-{self.version}")
        meta = ObjectMeta(name=name, uid=uid, resource_version=str(self.version), annotations=dict(annotations), labels=dict(labels))
        self.leases[name] = lease = Lease(metadata=meta, spec=spec)
        self.tell(name, lease)
        return lease

    def delete(self, name):
        del self.leases[name]
        self.tell(name, None)

    def tell(self, name, lease):
        for watcher in self.watchers:
            asyncio.get_running_loop().call_later(WATCH_S, watcher, name, lease)

    async def answer(self, verb, name, deadline_s):
        self.log.append((self.clock.now(), verb, name))
        fault = self.fault(verb, name)
        if fault == "refused":
            raise ApiError(verb, name, status=500, reason="InternalError")
        if fault == "hangs":
            await asyncio.sleep(deadline_s)
            raise ApiError(verb, name, status=0, reason="Timeout")
        if fault == "garbled":
            raise EnvelopeError("an answer that is no Lease")
        await asyncio.sleep(SLOW_S if fault == "slow" else ANSWER_S)
        return fault if isinstance(fault, float) else 0.0

    async def get(self, name, *, deadline_s):
        await self.answer("GET", name, deadline_s)
        return self.leases.get(name)

    async def list_all(self, *, labels, deadline_s):
        await self.answer("LIST", "*", deadline_s)
        return [lease for lease in self.leases.values() if LABELS.items() <= lease.metadata.labels.items()], str(self.version)

    async def create(self, name, spec, *, annotations=None, labels=None, deadline_s):
        delay_s = await self.answer("POST", name, deadline_s)
        if name in self.leases:
            raise ApiError("POST", name, status=409, reason="AlreadyExists")
        lease = self.store(name, spec, annotations or {}, labels or {})
        await asyncio.sleep(delay_s)
        return lease

    async def replace(self, name, spec, *, resource_version, uid="", annotations=None, labels=None, deadline_s):
        delay_s = await self.answer("PUT", name, deadline_s)
        found = self.leases.get(name)
        if found is None or found.metadata.resource_version != resource_version:
            raise ApiError("PUT", name, status=404 if found is None else 409, reason="Conflict")
        lease = self.store(name, spec, annotations or {}, labels or {})
        await asyncio.sleep(delay_s)
        return lease


class Hands:
    """Demand and wires of one node: what it could hold, what it has bound, and what it was told."""

    def __init__(self, clock, *vips):
        self.clock = clock
        self.wanted = set(vips)
        self.unable = set()
        self.bound = set()
        self.armed = []
        self.fences = []
        self.problem = ""
        self.on_renewed = lambda: None
        self.earlier = False
        self.loop = None

    def vips(self):
        return self.wanted

    def asked(self, vip):
        return vip in self.wanted

    def able(self, vip):
        return vip in self.wanted and vip not in self.unable

    def unconfirmed(self, vip):
        return False

    def held(self, vip):
        return vip in self.bound

    def unasked(self, vip):
        return False

    def shown(self, vip):
        return False

    def leaning(self, vip):
        return ALIKE

    def renewed(self, until):
        self.armed.append((self.clock.now(), until))
        self.on_renewed()
        return self.problem

    def won(self, vips):
        vips = self.wanted | self.bound if vips is None else vips
        self.bound = {vip for vip in self.bound | vips if self.loop.permit(vip) is not None and self.able(vip)}
        self.loop.demand_changed(vips)

    def fenced(self, reason):
        assert self.loop.valid_until is None, "nothing may be permitted any more"
        self.bound.clear()
        self.fences.append((self.clock.now(), reason))

    def heard(self, back):
        pass


class Node:
    """One node's election with its hands; `turning` False: its reconcile loop stands still."""

    def __init__(self, bench, name, vips, *, mode="claims"):
        self.name = name
        self.hands = Hands(bench.clock, *vips)
        self.turning = True
        self.heartbeats = Heartbeats(bench.clock)
        common = {"node": name, "timers": TIMERS, "clock": bench.clock, "heartbeats": self.heartbeats, "wires": self.hands}
        if mode == "claims":
            about = About(nics=(Nic(name="eth0", mac=f"02:00:00:00:00:0{name[-1]}"),))
            requests = ClaimsRequests(bench.store, bench.clock)
            self.loop = ClaimsLoop(requests, demand=self.hands, about=lambda: about, shared_name=SHARED, **common)
        else:
            self.loop = GlobalElection(
                bench.store, name=SHARED, able=lambda: True, earlier_holder=lambda: self.hands.earlier, proven=lambda: True, **common
            )
        self.hands.loop = self.loop
        bench.store.watchers.append(self.loop.lease_changed)

    async def reconcile(self):
        while True:
            if self.turning:
                self.heartbeats.beat("reconcile")
            await asyncio.sleep(0.25)


class Bench:
    """A store, a clock, and a story told beside the nodes' own tasks."""

    def __init__(self):
        self.clock = ManualClock()
        self.store = Store(self.clock)
        self.tasks = []

    def start(self, name, *vips, mode="claims"):
        node = Node(self, name, vips, mode=mode)
        node.heartbeats.beat("reconcile")
        node.task = asyncio.create_task(node.loop.run())
        self.tasks += [node.task, asyncio.create_task(node.reconcile())]
        return node

    async def stop(self, *tasks):
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, asyncio.CancelledError), result

    def play(self, story):
        async def scene():
            try:
                await story()
            finally:
                await self.stop(*(task for task in self.tasks if not task.cancelled()))

        with asyncio.Runner(loop_factory=lambda: ClockLoop(self.clock)) as runner:
            runner.run(scene())

    def edit(self, name, **spec):
        """Change the spec of a Lease as `kubectl edit` does: the rest stays as it is."""
        lease = self.store.leases[name]
        meta = lease.metadata
        return self.store.store(name, msgspec.structs.replace(lease.spec, **spec), meta.annotations, meta.labels)


async def holding(bench, *vips):
    """Node n1, which holds these."""
    node = bench.start("n1", *vips)
    await asyncio.sleep(0.3)
    assert node.hands.bound == set(vips)
    return node
