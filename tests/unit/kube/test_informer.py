"""How the informer fills and follows: a stream, a list page by page, bookmarks, expired versions, other UIDs."""

import asyncio
import logging

import msgspec
import pytest

from tests.unit.kube.kube_server import (
    GONE,
    QUICK,
    Feed,
    added,
    answer,
    bookmark,
    event,
    hang_up,
    informing,
    initial,
    listing,
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
