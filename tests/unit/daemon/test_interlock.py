"""Many Leases ask at once what mode `claims` holds: looks are shared, but never one that began before it was asked for."""

import asyncio

import pytest

from kvip.clock import ManualClock
from kvip.core.election.lease import Timers
from kvip.daemon.interlock import Interlock
from kvip.errors import ApiError

TIMERS = Timers(lease_duration_s=5.0, renew_deadline_s=3.0, retry_period_s=1.0)


class Client:
    def __init__(self):
        self.lists = 0
        self.gate = asyncio.Event()
        self.fails = False

    async def list_all(self, *, labels, deadline_s):
        self.lists += 1
        await self.gate.wait()
        if self.fails:
            raise ApiError("LIST", "leases", status=500, reason="InternalError")
        return [], "1"


def look(interlock):
    return asyncio.create_task(interlock.look_once("n1_0", retired=frozenset(), deadline_s=5))


async def test_who_asks_while_a_look_is_under_way_shares_the_next_one():
    client = Client()
    interlock = Interlock(client, clock=ManualClock(), timers=TIMERS)
    first = look(interlock)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert client.lists == 1
    others = [look(interlock) for _ in range(20)]
    await asyncio.sleep(0)
    client.gate.set()
    assert [await task for task in (first, *others)] == [""] * 21
    assert client.lists == 2


async def test_a_look_that_failed_answers_nobody():
    client = Client()
    client.fails = True
    client.gate.set()
    interlock = Interlock(client, clock=ManualClock(), timers=TIMERS)
    tasks = [look(interlock) for _ in range(3)]
    for task in tasks:
        with pytest.raises(ApiError):
            await task
    assert client.lists == 3
