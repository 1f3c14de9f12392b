"""A loop's wait for its next turn."""

import asyncio

from kvip.daemon.waking import woken


async def test_it_ends_with_the_event_and_leaves_no_timer_behind():
    wake = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.call_soon(wake.set)
    began = loop.time()
    await woken(wake, within_s=0.05)
    assert loop.time() - began < 0.05
    wake.clear()
    await asyncio.sleep(0.1)
    assert not wake.is_set()


async def test_it_ends_by_itself_in_time():
    wake = asyncio.Event()
    async with asyncio.timeout(5):
        await woken(wake, within_s=0.01)


async def test_what_is_cancelled_meanwhile_ends_and_leaves_no_timer_behind():
    wake = asyncio.Event()
    waiting = asyncio.create_task(woken(wake, within_s=0.05))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    await asyncio.sleep(0.1)
    assert not wake.is_set()
