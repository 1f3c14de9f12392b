"""The order in which a daemon stops: nothing is given back before the kernel confirmed that nothing is held."""

import asyncio
from types import SimpleNamespace

import pytest

from kvip.clock import ManualClock
from kvip.daemon.life import LAST_WORDS_S, Life
from tests.unit.clock_loop import ClockLoop


class Daemon:
    """The parts that `Life` runs and stops, as a diary of what happened and when."""

    def __init__(self):
        self.clock = ManualClock()
        self.diary = []
        self.bound = {"192.0.2.7"}
        self.clean = True
        self.running = set()
        self.bind_when_cancelled = False
        self.flush_s = 0.0
        self.drain_s = 0.0
        self.reconcile_hangs = False
        self.reserved_s = 0.0
        note = self.note
        self.executor = SimpleNamespace(resync=self.resync, fence=self.fence)
        self.reserved = SimpleNamespace(read=self.read_reserved, run=self.component("reserved"))
        self.desire = SimpleNamespace(surroundings_changed=lambda: note("surroundings"))
        self.monitor = SimpleNamespace(run=self.component("monitor"))
        self.caches = SimpleNamespace(components=lambda: {"informer-services": self.component("informer-services")}, names=lambda: ())
        self.status = SimpleNamespace(run=self.component("status"))
        self.hosts = SimpleNamespace(run=self.component("annotations"))
        self.events = SimpleNamespace(run=self.component("events"), drain=self.drain)
        self.telling = SimpleNamespace(run=self.component("telling"))
        self.journal = SimpleNamespace(run=self.component("journal"), flush=self.flush)
        self.announcer = SimpleNamespace(run=self.component("announcer"))
        self.disputes = SimpleNamespace(components=lambda: {"conflicts": self.component("conflicts")})
        self.lag = SimpleNamespace(run=self.component("lag"))
        self.leftovers = SimpleNamespace(run=self.component("leftovers"))
        self.lag = SimpleNamespace(run=self.component("lag"))
        self.ports = None
        self.firewall = SimpleNamespace(run=self.component("firewall"), remove=lambda: note("ports open"))
        self.guard = SimpleNamespace(weak=True, uninstall=lambda: note("uninstall"))
        self.settings = SimpleNamespace(metrics_address="", socket="", health_check_port=0, node_name="n1", renew_deadline_s=3.0)
        self.heartbeats = SimpleNamespace(expect=lambda name, *, within_s: None)
        self.reconcile = SimpleNamespace(run=self.reconcile_run)
        self.elector = SimpleNamespace(run=self.component("election"), release=self.release)
        self.facts = SimpleNamespace(marked_count=lambda: len(self.bound))

    async def resync(self, cause):
        self.note(f"resync {cause}")

    def note(self, word):
        self.diary.append((round(self.clock.now() - 1000.0, 3), word))

    def component(self, name):
        async def run():
            self.running.add(name)
            try:
                await asyncio.Event().wait()
            finally:
                self.running.discard(name)

        return run

    async def reconcile_run(self):
        self.running.add("reconcile")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if self.bind_when_cancelled:
                self.bound.add("192.0.2.8")
            if self.reconcile_hangs:
                await asyncio.sleep(30)
            raise
        finally:
            self.running.discard("reconcile")

    def fence(self):
        self.note("fence")
        if self.clean:
            self.bound.clear()
        return self.clean

    async def read_reserved(self):
        await asyncio.sleep(self.reserved_s)
        self.note("reserved")

    async def release(self):
        assert not {"reconcile", "election"} & self.running
        assert {"events", "status", "journal"} <= self.running
        assert not self.bound
        self.note("release")

    async def flush(self):
        await asyncio.sleep(self.flush_s)
        self.note("journal")

    async def drain(self, *, timeout_s):
        await asyncio.sleep(min(self.drain_s, timeout_s))
        self.note("events")

    def live(self, seconds=1.0):
        """Start, serve for so long, and stop; returns how long the stop took."""

        async def scene():
            task = asyncio.create_task(Life(self).serve())
            await asyncio.sleep(seconds)
            self.served = set(self.running)
            began = self.clock.now()
            self.diary.clear()
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(result, asyncio.CancelledError), result
            return self.clock.now() - began

        with asyncio.Runner(loop_factory=lambda: ClockLoop(self.clock)) as runner:
            return runner.run(scene())

    def words(self):
        return [word for _, word in self.diary]


@pytest.fixture
def daemon():
    return Daemon()


def test_vips_go_first_then_the_lease_then_the_last_words_then_the_rules(daemon):
    assert daemon.live() < 0.1
    assert daemon.words() == ["fence", "fence", "release", "journal", "events", "uninstall", "ports open"]
    assert daemon.running == set()


def test_every_part_runs_until_then(daemon):
    daemon.live()
    assert daemon.served == {
        "monitor",
        "informer-services",
        "status",
        "annotations",
        "events",
        "telling",
        "journal",
        "announcer",
        "reserved",
        "conflicts",
        "leftovers",
        "lag",
        "reconcile",
        "election",
    }


def test_what_the_last_decision_still_bound_is_let_go_of_too(daemon):
    daemon.bind_when_cancelled = True
    daemon.live()
    assert daemon.bound == set()
    assert "release" in daemon.words()


def test_what_the_kernel_keeps_is_neither_released_nor_let_through_by_removing_the_rules(daemon):
    daemon.clean = False
    daemon.live()
    assert daemon.words() == ["fence", "fence", "journal", "events"]


def test_a_decision_that_does_not_end_holds_nothing_up_before_the_vips_are_gone(daemon):
    daemon.reconcile_hangs = True

    async def release():
        daemon.note("release")

    daemon.elector.release = release
    daemon.live()
    assert daemon.diary[0][1] == "fence"
    assert daemon.words()[:3] == ["fence", "fence", "release"]
    assert daemon.diary[1][0] - daemon.diary[0][0] == pytest.approx(LAST_WORDS_S, abs=0.01)


@pytest.mark.parametrize("slow", ["flush_s", "drain_s"])
def test_last_words_that_cannot_be_said_do_not_keep_the_daemon(daemon, slow):
    setattr(daemon, slow, 60.0)
    assert daemon.live() <= LAST_WORDS_S + 0.1
    assert daemon.words()[-2:] == ["uninstall", "ports open"]


def test_a_stop_right_after_the_start_lets_go_as_well(daemon):
    daemon.live(seconds=0.001)
    assert daemon.bound == set()
    assert daemon.words() == ["fence", "fence", "release", "journal", "events", "uninstall", "ports open"]


def test_at_start_the_kernel_is_read_before_anything_else_and_a_slow_name_service_holds_nothing_up(daemon):
    daemon.reserved_s = 60.0
    seen = []

    async def informer():
        seen.extend(daemon.words())
        daemon.note("informer")
        await asyncio.Event().wait()

    daemon.caches.components = lambda: {"informer-services": informer}
    daemon.live(seconds=1.0)
    assert seen == ["resync start", "surroundings"]


def test_a_part_that_fails_is_started_again_and_the_others_go_on(daemon, caplog):
    starts = []

    async def status():
        starts.append(round(daemon.clock.now() - 1000.0))
        daemon.running.add("status")
        if len(starts) < 3:
            raise RuntimeError("broken")
        await asyncio.Event().wait()

    daemon.status.run = status
    daemon.live(seconds=5.0)
    assert starts == [0, 1, 2]
    assert "announcer" in daemon.served
    assert [record.component for record in caplog.records] == ["status", "status"]
