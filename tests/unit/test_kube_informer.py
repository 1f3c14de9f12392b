import asyncio
import json
import logging
from contextlib import asynccontextmanager

import msgspec
import pytest

from kvip.clock import ManualClock
from kvip.core.objects import Service
from kvip.kube.decode import EnvelopeError, ObjectDecoder
from kvip.kube.informer import Informer
from kvip.kube.timing import Timing
from tests.unit.kube_server import (
    GONE,
    PATH,
    QUICK,
    Feed,
    added,
    answer,
    bookmark,
    event,
    hang,
    hang_up,
    informing,
    initial,
    listing,
    running,
    service,
    status,
    uids,
    until,
)


async def test_a_watch_list_stream_fills_the_store_at_its_end_only(tmp_path):
    feed = Feed(*added(service("a", 1), service("b", 2)))
    async with informing(tmp_path, feed, params={"labelSelector": "x=y"}) as (server, informer, told):
        await until(lambda: informer.last_heard)
        assert (informer.synced, informer.store, told) == (False, {}, [])
        feed.push(bookmark(5, initial_end=True))
        await until(lambda: informer.synced)
        assert list(informer.store) == told == ["default/a", "default/b"]
        feed.push(event("MODIFIED", service("a", 6)), event("DELETED", service("b", 7)), event("ADDED", service("c", 8)))
        await until(lambda: "default/c" in informer.store)
        assert list(informer.store) == ["default/a", "default/c"]
        assert told[2:] == ["default/a", "default/b", "default/c"]
    query = server.seen[0].query
    assert 300 <= int(query.pop("timeoutSeconds")) <= 600
    assert query == {
        "watch": "1",
        "allowWatchBookmarks": "true",
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "labelSelector": "x=y",
    }
    assert (len(server.seen), informer.relists) == (1, 0)


@pytest.mark.parametrize("code", [400, 422])
async def test_a_server_without_watch_list_is_listed_page_by_page(tmp_path, code):
    pages = answer(200, listing(9, service("a", 1), token="t1")), answer(200, listing(9, service("b", 2)))
    feed = Feed(event("DELETED", service("a", 10)))
    async with informing(tmp_path, answer(code, status(code, "Invalid")), *pages, feed) as (server, informer, told):
        await until(lambda: informer.synced and len(informer.store) == 1)
        assert (list(informer.store), told) == (["default/b"], ["default/a", "default/b", "default/a"])
    _, first, second, watch = [seen.query for seen in server.seen]
    assert first == {"limit": "500"}
    assert second == {"limit": "500", "continue": "t1"}
    assert (watch["watch"], watch["resourceVersion"], watch["allowWatchBookmarks"]) == ("1", "9", "true")


async def test_initial_events_without_an_end_fall_back_to_a_list(tmp_path):
    script = Feed(*added(service("a", 1))), answer(200, listing(9, service("a", 1))), Feed()
    async with informing(tmp_path, *script) as (server, informer, _):
        await until(lambda: len(server.seen) == 3)
        assert (informer.synced, list(informer.store)) == (True, ["default/a"])


async def test_a_list_whose_pages_expire_is_asked_for_in_one(tmp_path):
    script = (
        answer(422),
        answer(200, listing(9, service("a", 1), token="t")),
        answer(410, GONE),
        answer(200, listing(12, service("b", 2))),
        Feed(),
    )
    async with informing(tmp_path, *script) as (server, informer, _):
        await until(lambda: informer.synced)
        assert list(informer.store) == ["default/b"]
    assert [seen.query for seen in server.seen[1:4]] == [{"limit": "500"}, {"limit": "500", "continue": "t"}, {}]


async def test_a_watch_resumes_from_the_last_bookmark(tmp_path):
    first = initial(5, service("a", 1)).push(bookmark(42)).end()
    second = Feed(event("MODIFIED", service("a", 43)))
    async with informing(tmp_path, first, second) as (server, informer, told):
        await until(lambda: told == ["default/a"] * 2)
        assert (server.seen[1].query["resourceVersion"], informer.relists) == ("42", 0)
        assert "sendInitialEvents" not in server.seen[1].query


async def test_a_replayed_event_is_no_change(tmp_path):
    first = initial(5, service("a", 3)).end()
    second = Feed(event("MODIFIED", service("a", 3)), event("ADDED", service("b", 6)))
    async with informing(tmp_path, first, second) as (_server, informer, told):
        await until(lambda: "default/b" in informer.store)
        assert told == ["default/a", "default/b"]


TOO_LARGE = status(504, "Timeout", "Too large resource version")


@pytest.mark.parametrize("second", [lambda: answer(410, GONE), lambda: Feed(event("ERROR", GONE)), lambda: answer(504, TOO_LARGE)])
async def test_an_expired_version_leads_to_a_new_snapshot_and_its_difference(tmp_path, second):
    first = initial(5, service("kept", 1), service("moved", 2), service("again", 3), service("gone", 4)).end()
    hold = Feed(*added(service("kept", 1), service("moved", 20), service("again", 21, uid="other"), service("new", 22)))
    async with informing(tmp_path, first, second(), hold) as (server, informer, told):
        await until(lambda: len(server.seen) == 3)
        before = dict(informer.store)
        assert len(before) == 4
        told.clear()
        hold.push(bookmark(30, initial_end=True))
        await until(lambda: told)
        assert sorted(told) == ["default/again", "default/gone", "default/moved", "default/new"]
        assert uids(informer) == {
            "default/kept": "uid-kept",
            "default/moved": "uid-moved",
            "default/again": "other",
            "default/new": "uid-new",
        }
        assert (informer.synced, informer.relists) == (True, 1)
    assert server.seen[2].query["sendInitialEvents"] == "true"
    assert "resourceVersion" not in server.seen[2].query


async def test_another_uid_is_a_change_whatever_its_version(tmp_path):
    script = initial(5, service("a", 1)).end(), answer(410, GONE), initial(9, service("a", 1, uid="other"))
    async with informing(tmp_path, *script) as (_server, informer, told):
        await until(lambda: told == ["default/a"] * 2)
        assert uids(informer) == {"default/a": "other"}


async def test_the_old_store_stays_while_a_relist_fails(tmp_path):
    script = initial(5, service("a", 1)).end(), answer(410, GONE), answer(500), hang_up, Feed(*added(service("b", 1))).end()
    async with informing(tmp_path, *script) as (server, informer, told):
        await until(lambda: len(server.seen) == 6)
        assert (list(informer.store), told, informer.synced) == (["default/a"], ["default/a"], True)


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


async def test_a_pause_is_cut_short_when_the_server_is_heard_elsewhere(tmp_path):
    timing = msgspec.structs.replace(QUICK, backoff_min_s=60.0, backoff_max_s=60.0)
    async with informing(tmp_path, hang_up, hang_up, initial(5), timing=timing) as (server, informer, _):
        # A GET on a fresh connection is not sent again by aiohttp, so each hang-up is one failure.
        while not informer.synced:
            informer.retry_now()
            await asyncio.sleep(0.001)
        assert len(server.seen) == 3


async def test_a_state_change_is_one_line_and_an_event_none(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    script = initial(5, service("a", 1)).end(), answer(500), answer(500), answer(500), Feed(event("MODIFIED", service("a", 6)))
    async with informing(tmp_path, *script) as (_server, _informer, told):
        await until(lambda: len(told) == 2)
    assert [record.message for record in caplog.records if record.name == "kvip.kube.informer"] == [
        "synced",
        "watch lost",
        "watch open again",
    ]


async def test_many_objects_leave_other_tasks_their_turn(tmp_path):
    lines = [msgspec.json.encode(one) + b"\n" for one in added(*(service(f"s{n}", n + 1) for n in range(3000)))]
    feed = Feed(b"".join(lines), bookmark(9999, initial_end=True))
    turns = 0
    timing = msgspec.structs.replace(QUICK, watch_list_s=3.0)
    async with informing(tmp_path, feed, timing=timing) as (_server, informer, told):
        while not informer.synced:
            await asyncio.sleep(0)
            turns += 1
        assert len(told) == len(informer.store) == 3000
    assert turns >= 15


async def test_renewed_it_drops_its_stream_and_is_current_again_after_a_whole_snapshot(tmp_path):
    first, second = initial(5, service("a", 1)), Feed(*added(service("b", 8)))
    async with informing(tmp_path, first, second) as (server, informer, told):
        await until(lambda: informer.current)
        told.clear()
        informer.renew()
        assert (informer.current, informer.synced, list(informer.store)) == (False, True, ["default/a"])
        await until(lambda: len(server.seen) == 2)
        assert not informer.current
        second.push(bookmark(9, initial_end=True))
        await until(lambda: informer.current)
        assert list(informer.store) == ["default/b"]
        assert sorted(told) == ["default/a", "default/b"]
    assert "sendInitialEvents" in server.seen[1].query


async def test_after_a_long_outage_the_first_410_is_followed_by_a_snapshot_soon(tmp_path):
    async with informing(tmp_path, Feed(), timing=Timing(backoff_min_s=0.01, backoff_max_s=60.0)) as (_, informer, _told):
        informer._failures, informer._unreachable = 12, True
        async with asyncio.timeout(1.0):
            await informer._pause(EnvelopeError("410 Expired"))
        assert informer._failures == 1


class Buffered:
    """The port of `Api`: streams whose lines are all there already, end included; after them one that says nothing."""

    def __init__(self, *streams):
        self.streams = list(streams)
        self.asked = []

    @asynccontextmanager
    async def stream(self, path, *, params, headers_s, idle_s):
        self.asked.append(params)
        yield self._lines(self.streams.pop(0) if self.streams else None)

    async def _lines(self, events):
        if events is None:
            await asyncio.get_running_loop().create_future()
        for each in events:
            yield json.dumps(each).encode()


async def test_a_renewal_is_not_lost_when_the_stream_ends_at_that_very_instant():
    snapshot = [*added(service("a", 1)), bookmark(5, initial_end=True)]
    # As after a freeze: a fence, and in the same turn of the loop the rest of the stream with its end.
    api = Buffered([*snapshot, event("MODIFIED", service("a", 6)), event("ADDED", service("b", 7))], snapshot)
    told = []

    def changed(key):
        told.append(key)
        if len(told) == 2:
            informer.renew()

    informer = Informer(api, PATH, decoder=ObjectDecoder(Service), clock=ManualClock(), on_change=changed, timing=QUICK)
    async with running(informer.run()):
        await until(lambda: len(api.asked) >= 2)
        await until(lambda: informer.current)
    assert "sendInitialEvents" in api.asked[1]


async def test_a_second_renewal_while_the_first_is_under_way_is_no_failure(tmp_path):
    first, second = initial(5, service("a", 1)), initial(9, service("a", 1))
    async with informing(tmp_path, first, second) as (_server, informer, _told):
        await until(lambda: informer.current)
        for _ in range(4):
            informer.renew()
            await asyncio.sleep(0)
        await until(lambda: informer.current)
