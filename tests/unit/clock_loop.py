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
