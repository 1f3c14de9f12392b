"""What runs beside the event loop: a dump waits for nobody else's blocking call and never runs twice at once; a thread is there or not."""

import asyncio
import threading

import pytest

from kvip.daemon import beside
from kvip.daemon.beside import DumpsBeside, a_thread
from kvip.errors import NetlinkError
from tests.unit.daemon.fake_ports import marked

PATIENCE_S = 10.0


async def test_r5_a_dump_is_made_although_all_of_the_loops_own_threads_are_blocked():
    free = threading.Event()
    blocked = [asyncio.create_task(asyncio.to_thread(free.wait)) for _ in range(64)]
    try:
        await asyncio.sleep(0.01)
        async with asyncio.timeout(PATIENCE_S):
            assert await DumpsBeside(lambda: [marked()])() == [marked()]
    finally:
        free.set()
        await asyncio.gather(*blocked)


async def test_a_dump_that_nobody_waits_for_any_more_ends_before_the_next_begins():
    begun, free, running = threading.Event(), threading.Event(), []

    def dump():
        running.append(True)
        assert len(running) == 1
        begun.set()
        free.wait()
        running.pop()
        return []

    dumps = DumpsBeside(dump)
    first = asyncio.create_task(dumps())
    await asyncio.to_thread(begun.wait)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    second = asyncio.create_task(dumps())
    await asyncio.sleep(0.01)
    free.set()
    async with asyncio.timeout(PATIENCE_S):
        assert await second == []


async def test_what_the_dump_raises_comes_through():
    def dump():
        raise NetlinkError(4, "dump", "all addresses")

    with pytest.raises(NetlinkError):
        await DumpsBeside(dump)()


def test_a_thread_runs_before_it_has_work():
    thread = a_thread("bind")
    assert thread is not None
    with thread:
        assert any(each.name.startswith("bind") for each in threading.enumerate())
        assert thread.submit(int, "7").result() == 7


def test_where_none_can_be_started_there_is_none_to_give_work_to(monkeypatch, caplog):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert a_thread("bind") is None
    assert "can't start new thread" in caplog.records[0].reason


async def test_where_there_is_no_thread_a_dump_is_made_all_the_same(monkeypatch):
    monkeypatch.setattr(beside, "a_thread", lambda name: None)
    assert await DumpsBeside(lambda: [marked()])() == [marked()]
