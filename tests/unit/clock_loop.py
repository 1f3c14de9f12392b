"""An event loop whose time is the hand-driven clock."""

import asyncio


class ClockLoop(asyncio.SelectorEventLoop):
    """An event loop that does not wait: its pauses move the clock."""

    def __init__(self, clock):
        super().__init__()
        self._clock = clock
        self.turns = 0
        poll = self._selector.select

        def select(timeout):
            assert timeout is not None, "everything waits, and no timer runs"
            self.turns += 1
            clock.advance(max(0.0, timeout))
            return poll(0)

        self._selector.select = select

    def time(self):
        return self._clock.now()


async def cancelled(task):
    """End a task that does not end by itself; how it ended."""
    task.cancel()
    (result,) = await asyncio.gather(task, return_exceptions=True)
    return result


def play(clock, component, story):
    """Run `story()` beside `component()`, which must go on until it is cancelled, on a loop whose pauses move the clock."""

    async def scene():
        task = asyncio.create_task(component())
        try:
            await story()
        finally:
            result = await cancelled(task)
        assert isinstance(result, asyncio.CancelledError), result

    with asyncio.Runner(loop_factory=lambda: ClockLoop(clock)) as runner:
        runner.run(scene())
