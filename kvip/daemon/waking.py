"""How a loop waits for its next turn: until something woke it, or for so long.

Input: its event and the longest wait. Output: the event set. It must not know why.
"""

from __future__ import annotations

import asyncio


async def woken(wake: asyncio.Event, *, within_s: float) -> None:
    """Until `wake` is set, which it is after `within_s` seconds at the latest. Each loop waits like this several times a second for ever,
    and `asyncio.timeout` does more: it cancels the waiting task, and turns that into its error."""
    timer = asyncio.get_running_loop().call_later(within_s, wake.set)
    try:
        await wake.wait()
    finally:
        timer.cancel()
