"""The lag of the event loop is seen when something holds it, and forgotten after a while."""

import asyncio
import time

from kvip.daemon import lag


async def test_a_held_loop_is_seen(monkeypatch):
    monkeypatch.setattr(lag, "PERIOD_S", 0.01)
    probe = lag.LoopLag()
    task = asyncio.ensure_future(probe.run())
    try:
        await asyncio.sleep(0.03)
        time.sleep(0.2)  # noqa: ASYNC251 - the loop is to be held
        async with asyncio.timeout(2):
            while probe.longest_s < 0.15:
                await asyncio.sleep(0.005)
    finally:
        task.cancel()


def test_before_the_first_measure_there_is_none():
    assert lag.LoopLag().longest_s == 0.0
