"""A rush: what only tells of VIPs waits while a crowd of them is on its way to the wire, but never for long."""

import asyncio

import pytest

from kvip.clock import ManualClock
from kvip.daemon.rush import CALM_S, CROWD, LONGEST_S, SERVICES_PER_TURN, Rush, Telling
from tests.unit.clock_loop import play


class Bench:
    def __init__(self):
        self.clock = ManualClock()
        self.rush = Rush(self.clock)
        self.looked = []
        self.telling = Telling(self.rush, lambda key: self.looked.append((self.clock.now(), key)))

    def play(self, story):
        play(self.clock, self.telling.run, story)

    async def waits(self):
        """How long what tells is held back now."""
        began = self.clock.now()
        await self.rush.over()
        return self.clock.now() - began


@pytest.fixture
def bench():
    return Bench()


@pytest.mark.parametrize("waiting", [0, 1, CROWD])
def test_what_comes_by_itself_is_told_at_once(bench, waiting):
    async def story():
        bench.rush.note(waiting)
        assert await bench.waits() == 0.0

    bench.play(story)


def test_after_a_crowd_it_is_told_once_nothing_was_seen_for_a_moment(bench):
    async def story():
        for _ in range(5):
            bench.rush.note(CROWD + 1)
            await asyncio.sleep(CALM_S / 2)
        assert await bench.waits() == pytest.approx(CALM_S / 2)
        assert await bench.waits() == 0.0

    bench.play(story)


def test_a_rush_that_does_not_end_holds_back_nothing_after_a_while(bench):
    async def story():
        async def crowd():
            while True:
                bench.rush.note(1_000)
                await asyncio.sleep(0.01)

        rushing = asyncio.create_task(crowd())
        await asyncio.sleep(0)
        assert await bench.waits() == pytest.approx(LONGEST_S)
        assert await bench.waits() == 0.0
        rushing.cancel()

    bench.play(story)


def test_each_service_is_looked_at_once_when_the_rush_is_over_some_at_a_time(bench):
    async def story():
        bench.rush.note(CROWD + 1)
        for number in (*range(2 * SERVICES_PER_TURN), 0):
            bench.telling.later(f"ns/s{number}")
        await asyncio.sleep(CALM_S / 2)
        assert bench.looked == []
        await asyncio.sleep(CALM_S)
        assert [key for _, key in bench.looked] == [f"ns/s{number}" for number in range(2 * SERVICES_PER_TURN)]

    bench.play(story)


def test_a_service_that_is_announced_alone_is_looked_at_at_once(bench):
    async def story():
        bench.telling.later("ns/a")
        await asyncio.sleep(0.0001)
        assert [key for _, key in bench.looked] == ["ns/a"]

    bench.play(story)


def test_what_a_run_that_failed_left_is_looked_at_by_the_next(bench):
    async def story():
        broken = Telling(bench.rush, lambda key: 1 / 0)
        for key in ("ns/a", "ns/b"):
            broken.later(key)
        with pytest.raises(ZeroDivisionError):
            await broken.run()
        looked = []
        broken._look = looked.append
        again = asyncio.create_task(broken.run())
        await asyncio.sleep(0.0001)
        again.cancel()
        assert looked == ["ns/b"]

    bench.play(story)
