"""The informer against a server that refuses, stalls, falls silent, or says 410 for ever."""

import asyncio

import msgspec
import pytest

from kvip.kube.decode import EnvelopeError
from kvip.kube.timing import Timing
from tests.unit.kube.kube_server import (
    GONE,
    QUICK,
    Feed,
    answer,
    bookmark,
    event,
    hang,
    hang_up,
    informing,
    initial,
    listing,
    service,
    status,
    until,
)


async def test_a_relist_is_never_immediate(tmp_path):
    timing = msgspec.structs.replace(QUICK, backoff_min_s=0.03, backoff_max_s=0.03)
    script = initial(5, service("a", 1)).push(event("ERROR", GONE)).end(), initial(9)
    async with informing(tmp_path, *script, timing=timing) as (server, informer, _):
        await until(lambda: informer.relists and not informer.store)
        assert server.seen[1].at - server.seen[0].at >= 0.0225


@pytest.mark.parametrize("stream", [True, False])
async def test_410_for_ever_is_no_busy_loop(tmp_path, stream):
    timing = msgspec.structs.replace(QUICK, backoff_min_s=0.02, backoff_max_s=0.1, steady_s=1.0)
    async with informing(tmp_path, timing=timing) as (server, informer, _):

        async def alternate(request):
            if "sendInitialEvents" in request.query:
                return await initial(5, service("a", 1)).end()(request)
            return await (Feed(event("ERROR", GONE)).end() if stream else answer(410, GONE))(request)

        server.default = alternate
        await until(lambda: informer.relists >= 3)
        gaps = [late.at - early.at for early, late in zip(server.seen, server.seen[1:], strict=False)]
    # Each wait after the first is at least 0.75 of 20, 40, 80, 100 ... ms.
    assert len(server.seen) <= 9
    assert all(gap >= 0.010 for gap in gaps[1:])
    assert gaps[3] > gaps[1]


async def test_a_watch_that_always_ends_at_once_is_no_busy_loop(tmp_path):
    timing = msgspec.structs.replace(QUICK, backoff_min_s=0.2, backoff_max_s=0.2, steady_s=3.0)
    async with informing(tmp_path, initial(5).end(), timing=timing) as (server, informer, _):
        version = iter(range(6, 1000))

        async def brief(request):
            return await Feed(bookmark(next(version))).end()(request)

        server.default = brief
        await until(lambda: len(server.seen) >= 4)
        gaps = [late.at - early.at for early, late in zip(server.seen, server.seen[1:], strict=False)]
    assert gaps[0] < 0.14, "the first time it is opened anew at once"
    assert all(gap >= 0.14 for gap in gaps[1:])
    assert informer.relists == 0


async def test_a_server_that_accepts_and_says_nothing_is_noticed(tmp_path, caplog):
    timing = msgspec.structs.replace(QUICK, headers_s=0.03)
    async with informing(tmp_path, hang, initial(5, service("a", 1)), timing=timing) as (server, informer, _):
        await until(lambda: informer.synced)
        assert len(server.seen) == 2
    assert "TimeoutError" in caplog.records[0].error


async def test_a_stream_that_falls_silent_is_opened_anew_from_where_it_was(tmp_path):
    timing = msgspec.structs.replace(QUICK, idle_s=0.05)
    async with informing(tmp_path, initial(5, service("a", 1)), Feed(event("DELETED", service("a", 6))), timing=timing) as (
        server,
        informer,
        told,
    ):
        await until(lambda: len(told) == 2)
        assert (informer.store, server.seen[1].query["resourceVersion"]) == ({}, "5")


async def test_a_list_that_stalls_is_given_up(tmp_path):
    timing = msgspec.structs.replace(QUICK, page_s=0.03)
    async with informing(tmp_path, answer(400), hang, answer(200, listing(3, service("a", 1))), timing=timing) as (_server, informer, _):
        await until(lambda: informer.synced)


@pytest.mark.parametrize("code", [401, 403, 404, 429, 500, 503])
async def test_other_refusals_are_waited_out_and_the_watch_resumes(tmp_path, code):
    third = Feed(event("DELETED", service("a", 6)))
    async with informing(tmp_path, initial(5, service("a", 1)).end(), answer(code), third) as (server, informer, told):
        await until(lambda: len(told) == 2)
        assert (server.seen[2].query["resourceVersion"], informer.relists) == ("5", 0)


async def test_retry_after_is_obeyed(tmp_path):
    busy = answer(429, status(429, "TooManyRequests", retryAfterSeconds=1))
    timing = msgspec.structs.replace(QUICK, retry_after_max_s=0.05)
    async with informing(tmp_path, busy, initial(5), timing=timing) as (server, informer, _):
        await until(lambda: informer.synced)
        assert server.seen[1].at - server.seen[0].at >= 0.05


async def test_a_refusal_for_good_is_no_busy_loop_however_often_the_server_is_heard_elsewhere(tmp_path):
    timing = msgspec.structs.replace(QUICK, backoff_min_s=60.0, backoff_max_s=60.0, hurry_s=0.1)
    async with informing(tmp_path, timing=timing) as (server, informer, _):
        server.default = answer(403)
        await until(lambda: server.seen)
        ends = asyncio.get_running_loop().time() + 0.55
        while asyncio.get_running_loop().time() < ends:
            informer.retry_now()
            await asyncio.sleep(0.001)
        gaps = [late.at - early.at for early, late in zip(server.seen, server.seen[1:], strict=False)]
    assert 3 <= len(server.seen) <= 8
    # The first is hurried at once.
    assert all(gap >= 0.09 for gap in gaps[1:])


@pytest.mark.parametrize(
    "trouble",
    [[hang_up] * 2, [answer(403)] * 2, [answer(410, GONE)] * 2, [answer(500)] * 2, [Feed(event("ERROR", GONE)).end() for _ in range(2)]],
    ids=["hang-up", "403", "410", "500", "410 in the stream"],
)
async def test_a_pause_is_cut_short_when_the_server_is_heard_elsewhere(tmp_path, trouble):
    timing = msgspec.structs.replace(QUICK, backoff_min_s=60.0, backoff_max_s=60.0)
    async with informing(tmp_path, *trouble, initial(5), timing=timing) as (server, informer, _):
        # A GET on a fresh connection is not sent again by aiohttp, so each hang-up is one failure.
        while not informer.synced:
            informer.retry_now()
            await asyncio.sleep(0.001)
        assert len(server.seen) == 3


async def test_after_a_long_outage_the_first_410_is_followed_by_a_snapshot_soon(tmp_path):
    async with informing(tmp_path, Feed(), timing=Timing(backoff_min_s=0.01, backoff_max_s=60.0)) as (_, informer, _told):
        informer._failures, informer._unreachable = 12, True
        async with asyncio.timeout(1.0):
            await informer._pause(EnvelopeError("410 Expired"))
        assert informer._failures == 1
