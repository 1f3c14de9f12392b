"""The runner of the shared Lease on a fake clock, against a store with faults."""

import asyncio

from kvip.clock import ManualClock
from kvip.core.election.lease import Timers
from kvip.core.objects import Lease, LeaseSpec, ObjectMeta
from kvip.daemon.lease_loop import LeaseLoop
from kvip.daemon.lease_writer import new_incarnation
from kvip.daemon.stakes import Stakes
from kvip.daemon.supervision import Heartbeats
from kvip.daemon.validity import Footing
from kvip.errors import ApiError
from kvip.kube.decode import EnvelopeError
from tests.unit.clock_loop import ClockLoop

TIMERS = Timers(lease_duration_s=5.0, renew_deadline_s=3.0, retry_period_s=1.0)
PEER = "n2_" + "0" * 32


class Server:
    """The port of `LeaseClient`: a compare-and-swap store. `rules` say what happens to the next writes, in order."""

    def __init__(self, clock):
        self.clock = clock
        self.lease = None
        self.version = 0
        self.rules = []
        self.writes = []
        self.reads = 0
        self.read_fault = None

    def store(self, holder, *, annotations=None, duration=5, transitions=0):
        self.version += 1
        self.lease = Lease(
            metadata=ObjectMeta(name="svcs", resource_version=str(self.version), annotations=annotations),
            spec=LeaseSpec(holder_identity=holder, lease_duration_seconds=duration, lease_transitions=transitions),
        )
        return self.lease

    async def get(self, name, *, deadline_s):
        self.reads += 1
        await asyncio.sleep(0.001)
        if self.read_fault:
            raise self.read_fault
        return self.lease

    async def create(self, name, spec, *, annotations=None, labels=None, deadline_s):
        return await self.put("", spec, annotations, deadline_s)

    async def replace(self, name, spec, *, resource_version, uid="", annotations=None, labels=None, deadline_s):
        assert resource_version
        return await self.put(resource_version, spec, annotations, deadline_s)

    async def put(self, version, spec, annotations, deadline_s):
        self.writes.append((self.clock.now(), spec.holder_identity))
        rule = self.rules.pop(0) if self.rules else "well"
        if rule == "lost request":
            await self.time_out(deadline_s)
        if rule == "refused":
            raise ApiError("PUT", "lease", status=500, reason="InternalError")
        if rule == "hangs for ever":
            await asyncio.sleep(3600)
        await asyncio.sleep(0.001)
        if version != (self.lease.metadata.resource_version if self.lease else ""):
            raise ApiError("PUT", "lease", status=409, reason="Conflict")
        stored = self.store(spec.holder_identity, annotations=annotations, duration=spec.lease_duration_seconds)
        if rule == "lost answer":
            await self.time_out(deadline_s)
        if rule == "garbled":
            raise EnvelopeError("an answer that is no Lease")
        if isinstance(rule, float):
            await asyncio.sleep(rule)
        return stored

    async def time_out(self, deadline_s):
        await asyncio.sleep(deadline_s)
        raise ApiError("PUT", "lease", status=0, reason="Timeout")


class Bench:
    """One LeaseLoop, its server, and what it called back and when."""

    def __init__(self):
        self.clock = ManualClock()
        self.server = Server(self.clock)
        self.heartbeats = Heartbeats(self.clock)
        self.won = []
        self.fences = []
        self.turning = True
        self.earlier_holder = False
        self.proven = True
        self.problem = ""

    def loop(self):
        return LeaseLoop(
            self.server,
            name="svcs",
            timers=TIMERS,
            footing=Footing(self.clock, self.heartbeats),
            draw=lambda: new_incarnation("n1"),
            stakes=Stakes(
                on_won=lambda: self.won.append(self.clock.now()),
                on_fence=lambda reason: self.fences.append((self.clock.now(), reason)),
                on_renewed=lambda until: self.problem,
                earlier_holder=lambda: self.earlier_holder,
                proven=lambda: self.proven,
            ),
        )

    async def reconcile(self):
        while True:
            if self.turning:
                self.heartbeats.beat("reconcile")
            await asyncio.sleep(0.25)

    def play(self, story):
        """Run `story(loop)` beside the loop's own task."""

        async def scene():
            loop = self.loop()
            self.heartbeats.beat("reconcile")
            tasks = [asyncio.create_task(loop.run()), asyncio.create_task(self.reconcile())]
            try:
                await story(loop)
            finally:
                for task in tasks:
                    task.cancel()
                for result in await asyncio.gather(*tasks, return_exceptions=True):
                    assert isinstance(result, asyncio.CancelledError), result

        with asyncio.Runner(loop_factory=lambda: ClockLoop(self.clock)) as runner:
            runner.run(scene())


async def won(bench, loop):
    await asyncio.sleep(0.2)
    assert loop.election.holding
    assert loop.valid_until is not None
