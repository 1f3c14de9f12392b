"""A dump is read and taken over while the rest goes on: what kvip does meanwhile counts, and what others do is read again."""

import asyncio

import pytest

from tests.unit.daemon.executor_bench import VIP, Bench, many, marked, take

CROWD = 3_000


class Beside(Bench):
    """A dump that was taken already, and is delivered when the test says so."""

    def __init__(self):
        super().__init__(dump_beside=self.deliver)
        self.asked = asyncio.Event()
        self.delivered = asyncio.Event()

    async def deliver(self):
        found = list(self.kernel.table.values())
        self.asked.set()
        await self.delivered.wait()
        return found


async def resync_while(bench, happens):
    """What the resync says, when this happened between the reading of the dump and its taking over."""
    resync = asyncio.create_task(bench.executor.resync("audit"))
    await bench.asked.wait()
    await happens()
    bench.delivered.set()
    return await resync


@pytest.fixture
async def bench():
    return Beside()


async def test_what_was_bound_during_the_dump_stays_known(bench):
    async def happens():
        await bench.executor.take([take()], epoch=bench.executor.epoch)

    assert await resync_while(bench, happens) == set()
    assert bench.facts.marked() == (VIP,)


async def test_what_a_fence_removed_during_the_dump_does_not_come_back(bench):
    bench.know(marked())

    async def happens():
        assert bench.executor.fence()

    assert await resync_while(bench, happens) == set()
    assert bench.facts.marked() == ()


async def test_what_others_did_before_the_dump_is_taken_over(bench):
    bench.know(marked())
    bench.kernel.table.clear()

    async def happens():
        pass

    assert await resync_while(bench, happens) == {VIP}
    assert bench.facts.marked() == ()


async def test_i6_facts_that_came_in_doubt_during_the_dump_stay_in_doubt_after_it(bench):
    bench.facts.doubt()

    async def happens():
        assert bench.facts.doubted
        bench.facts.doubt()

    await resync_while(bench, happens)
    assert bench.facts.doubted
    bench.asked.clear()
    await bench.executor.resync("event")
    assert not bench.facts.doubted


@pytest.mark.parametrize("moment", [0, 2, 4, 8])
async def test_others_get_their_turn_while_it_is_taken_over_and_what_they_do_counts(bench, moment):
    """A fence at any moment between two parts: nothing that it removed is known as bound afterwards."""
    bench.know(*(marked(vip) for vip in many(CROWD)))
    bench.delivered.set()
    resync = asyncio.create_task(bench.executor.resync("audit"))
    await bench.asked.wait()
    turns = 0
    while not resync.done():
        if turns == moment:
            bench.executor.fence()
        await asyncio.sleep(0)
        turns += 1
    assert turns > max(moment, 3)
    assert await resync == set()
    assert bench.facts.marked() == ()
