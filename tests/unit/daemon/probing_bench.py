"""A segment that is asked, with hosts that answer, and the probing over it, on an event loop whose time is the hand-driven clock."""

import asyncio

from kvip.clock import ManualClock
from kvip.daemon.conflicts import BRIEF_S
from kvip.daemon.probing import Probing
from tests.unit.clock_loop import ClockLoop
from tests.unit.daemon.fake_ports import ETH0, OTHER, THIRD, VIP

STRANGER = b"\2\0\0\0\0\x99"
PROBE_S = 0.15


class Watch:
    """The side of `ConflictWatch` that is asked: hosts answer for their addresses, and the NIC may refuse."""

    def __init__(self):
        self.asked = []
        self.brief = []
        self.hosts = {}
        self.failures = []
        self.contested = set()

    async def probe(self, vips, link, *, brief=False):
        self.asked.append(list(vips))
        self.brief.append(brief)
        await asyncio.sleep(BRIEF_S if brief else PROBE_S)
        if self.failures:
            raise self.failures.pop(0)
        return {vip: mac for vip, mac in self.hosts.items() if vip in vips}

    def may_bind(self, vip):
        return vip not in self.hosts and vip not in self.contested

    def forget(self, vip):
        self.contested.discard(vip)


class Bench:
    def __init__(self):
        self.clock = ManualClock()
        self.watch = Watch()
        self.had = set()
        self.homes = {}  # VIP -> the NIC on which it is bound here
        self.before = {}
        self.claimed = {VIP, OTHER, THIRD}
        self.answers = []  # (seconds since start, VIPs)
        self.probing = Probing(
            self.watch,
            had=lambda vip: vip in self.had,
            succeeds=lambda vip: self.before.get(vip, ""),
            home=lambda vip: self.homes.get(vip),
            claimed=lambda vip: vip in self.claimed,
            clock=self.clock,
            on_answer=lambda vips: self.answers.append((round(self.clock.now() - 1000.0, 3), list(vips))),
        )

    def asks(self, vip, link):
        """As a turn does."""
        self.probing.look(vip, link)
        return self.probing.unprobed(vip, link)

    def play(self, story):
        async def scene():
            self.task = asyncio.create_task(self.probing.run())
            try:
                await story(self.probing)
            finally:
                result = await self.stop()
            assert isinstance(result, asyncio.CancelledError), result

        with asyncio.Runner(loop_factory=lambda: ClockLoop(self.clock)) as runner:
            runner.run(scene())

    async def stop(self):
        self.task.cancel()
        (result,) = await asyncio.gather(self.task, return_exceptions=True)
        return result

    async def start_again(self):
        await self.stop()
        self.task = asyncio.create_task(self.probing.run())


def bound_for_an_hour(bench):
    """It was found free, was bound here, and its claim says so."""

    async def story(probing):
        probing.ask([VIP], ETH0)
        await asyncio.sleep(1)
        bench.had, bench.homes = {VIP}, {VIP: ETH0}
        assert not bench.asks(VIP, ETH0)
        await asyncio.sleep(3600)

    return story
