"""As many writes at once as the server answers without delay: of a crowd no more are under way than that, and all are made."""

import asyncio

import pytest

from kvip.clock import ManualClock
from kvip.daemon.width import FEWEST, LATE_S, MOST, SOON_S, Width
from tests.unit.clock_loop import ClockLoop


class Server:
    """Answers each request after a while: always the same (a disk that many writes share), or longer the more there are."""

    def __init__(self, answer_s, *, each=False):
        self.clock = ManualClock()
        self.answer_s = answer_s
        self.each = each
        self.under_way = self.longest = self.answered = 0
        self.late_from = float("inf")
        """How many are answered soon; then each takes too long."""

    def play(self, count):
        """So many requests at once; the width that was left."""

        async def request(width):
            async with width.place():
                self.under_way += 1
                self.longest = max(self.longest, self.under_way)
                late = self.answered >= self.late_from
                await asyncio.sleep(2 * LATE_S if late else self.answer_s * (self.under_way if self.each else 1))
                self.under_way -= 1
                self.answered += 1

        async def story():
            width = Width(self.clock)
            await asyncio.gather(*(request(width) for _ in range(count)))
            return width

        with asyncio.Runner(loop_factory=lambda: ClockLoop(self.clock)) as runner:
            return runner.run(story())


def test_where_answers_come_soon_more_and_more_are_under_way_up_to_the_most():
    server = Server(SOON_S / 2)
    width = server.play(200)
    assert (width.now, server.longest, server.answered) == (MOST, MOST, 200)


def test_where_answers_begin_to_come_late_fewer_and_fewer_down_to_the_fewest():
    server = Server(SOON_S / 2)
    server.late_from = 100
    width = server.play(300)
    assert (width.now, server.longest, server.answered) == (FEWEST, MOST, 300)


def test_in_between_it_stays_as_it_is():
    server = Server((SOON_S + LATE_S) / 2)
    assert server.play(40).now == FEWEST == server.longest


@pytest.mark.parametrize("answer_s", [0.002, 0.0085, 0.02])
def test_a_server_that_answers_one_after_the_other_is_given_hardly_more_at_once(answer_s):
    server = Server(answer_s, each=True)
    width = server.play(200)
    assert server.longest <= FEWEST + 3
    assert FEWEST <= width.now <= FEWEST + 3
    assert server.answered == 200


def test_a_request_that_fails_or_is_cancelled_gives_its_place_back():
    clock = ManualClock()

    async def story():
        width = Width(clock)
        for _ in range(3 * MOST):
            with pytest.raises(RuntimeError):
                await fail(width)
        waiting = [asyncio.create_task(hold(width)) for _ in range(FEWEST + 1)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        async with asyncio.timeout(1), width.place():
            pass

    async def fail(width):
        async with width.place():
            clock.advance((SOON_S + LATE_S) / 2)
            raise RuntimeError

    async def hold(width):
        async with width.place():
            await asyncio.Event().wait()

    asyncio.run(story())
