"""Lists, selectors and watches of the embedded API server; over loopback."""

import pytest

from lab.apiserver import ApiServer
from lab.apiserver.patch import merge_patch
from lab.apiserver.selectors import field_predicate, label_predicate
from lab.apiserver.status import StatusError
from lab.kubeapi import KubeApi
from lab.kubewatch import refused, watching
from tests.unit.lab.leases import lease

WATCH_LIST = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}


async def test_pages_show_one_moment_and_expire_with_the_history(api, server):
    for index in range(5):
        await api.create_service(f"s{index}")
    page = await api.request("GET", "/api/v1/services", query={"limit": "2"})
    assert page["metadata"]["remainingItemCount"] == 3
    await api.delete_service("s3")
    rest = await api.request("GET", "/api/v1/services", query={"limit": "9", "continue": page["metadata"]["continue"]})
    assert [item["metadata"]["name"] for item in page["items"] + rest["items"]] == [f"s{index}" for index in range(5)]
    assert rest["metadata"]["resourceVersion"] == page["metadata"]["resourceVersion"]
    assert "continue" not in rest["metadata"]
    server.store.compact()
    error = await refused(api.request("GET", "/api/v1/services", query={"limit": "9", "continue": page["metadata"]["continue"]}))
    assert (error.status, error.reason) == (410, "Expired")


async def test_lists_cover_one_namespace_or_all(api):
    await api.create("namespaces", {"metadata": {"name": "other"}})
    await api.create_service("a")
    await api.create_service("b", namespace="other")
    assert [item["metadata"]["name"] for item in await api.list("services")] == ["a", "b"]
    assert [item["metadata"]["name"] for item in await api.list("services", namespace="other")] == ["b"]
    assert [item["metadata"]["name"] for item in await api.list("services", query={"fieldSelector": "metadata.namespace!=other"})] == ["a"]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("", True),
        ("a=1", True),
        ("a==1,b=2", True),
        ("a!=1", False),
        ("c!=1", True),
        ("a in (0, 1)", True),
        ("a notin (0,1)", False),
        ("c notin (0)", True),
        ("a,!c", True),
        ("!a", False),
        ("x.y/z=", True),
    ],
)
def test_label_selectors(selector, expected):
    assert label_predicate(selector)({"metadata": {"labels": {"a": "1", "b": "2", "x.y/z": ""}}}) is expected


@pytest.mark.parametrize("selector", ["a b", "in (x)", "a=b=c", "a in x", ","])
def test_malformed_label_selectors_are_refused(selector):
    with pytest.raises(StatusError) as caught:
        label_predicate(selector)
    assert caught.value.code == 400


def test_field_selectors_compare_by_text_and_allow_only_known_fields():
    allowed = frozenset({"metadata.name", "spec.n"})
    matches = field_predicate("metadata.name=x,spec.n!=2", allowed=allowed)
    assert matches({"metadata": {"name": "x"}, "spec": {"n": 1}})
    assert not matches({"metadata": {"name": "x"}, "spec": {"n": 2}})
    with pytest.raises(StatusError):
        field_predicate("spec.m=1", allowed=allowed)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_follows_the_table_of_rfc_7396(target, patch, result):
    assert merge_patch(target, patch) == result


async def test_watch_replays_what_followed_a_version_then_goes_on(api):
    first = await api.create_service("a")
    second = await api.create_service("b")
    await api.create("leases", lease(), namespace="kube-system")
    await api.delete_service("b")
    async with watching(api, "services", resourceVersion=first["metadata"]["resourceVersion"]) as watch:
        assert (await watch.next())[0] == "ADDED"
        kind, gone = await watch.next()
        assert (kind, gone["metadata"]["name"]) == ("DELETED", "b")
        assert int(gone["metadata"]["resourceVersion"]) > int(second["metadata"]["resourceVersion"])
        await api.set_addresses("a", ["10.0.0.1"])
        assert await watch.seen(1) == [("MODIFIED", "a")]


async def test_watch_without_a_version_begins_with_all_objects(api):
    await api.create_service("a")
    async with watching(api, "services") as watch:
        assert await watch.seen(1) == [("ADDED", "a")]
        await api.create_service("b")
        assert await watch.seen(1) == [("ADDED", "b")]


async def test_watch_with_selector_sees_entering_and_leaving(api):
    made = await api.create_service("a")
    async with watching(api, "services", labelSelector="k=1", resourceVersion=made["metadata"]["resourceVersion"]) as watch:
        for value in ("1", "2"):
            await api.patch_service("a", {"metadata": {"labels": {"k": value}}})
        events = [await watch.next() for _ in range(2)]
        assert [(kind, obj["metadata"]["labels"]) for kind, obj in events] == [("ADDED", {"k": "1"}), ("DELETED", {"k": "1"})]
        assert int(events[1][1]["metadata"]["resourceVersion"]) == int(events[0][1]["metadata"]["resourceVersion"]) + 1


async def test_watch_list_ends_its_initial_events_with_a_bookmark(api):
    for name in "ab":
        await api.create_service(name)
    last = await api.create("leases", lease(), namespace="kube-system")
    async with watching(api, "services", **WATCH_LIST) as watch:
        assert await watch.seen(2) == [("ADDED", "a"), ("ADDED", "b")]
        kind, mark = await watch.next()
        assert (kind, mark["metadata"]["annotations"]) == ("BOOKMARK", {"k8s.io/initial-events-end": "true"})
        assert mark["metadata"]["resourceVersion"] == last["metadata"]["resourceVersion"]
        await api.delete_service("a")
        assert await watch.seen(1) == [("DELETED", "a")]


async def test_watch_list_switched_off_is_refused(api):
    await api.set_faults(no_watchlist=True)
    async with watching(api, "services", **WATCH_LIST) as watch:
        assert (await refused(watch.next())).status == 422
    async with watching(api, "services", resourceVersion="0") as watch:
        await api.create_service("a")
        assert await watch.seen(1) == [("ADDED", "a")]


async def test_bookmarks_carry_the_version_of_other_kinds_too():
    async with ApiServer(bookmark_period_s=0.02) as server, KubeApi(server.url) as api:
        made = await api.create("leases", lease(), namespace="kube-system")
        async with watching(api, "services", resourceVersion=made["metadata"]["resourceVersion"], allowWatchBookmarks="true") as watch:
            kind, mark = await watch.next()
            assert (kind, mark["metadata"]) == ("BOOKMARK", {"resourceVersion": made["metadata"]["resourceVersion"]})


async def test_watch_ends_cleanly_at_its_timeout(api):
    events = [event async for event in api.watch("services", query={"timeoutSeconds": "1"}, timeout_s=3)]
    assert events == []


@pytest.mark.parametrize("cause", ["compact", "limit"])
async def test_watch_from_forgotten_history_gets_410_in_stream(cause):
    async with ApiServer(history_limit=3) as server, KubeApi(server.url) as api:
        first = await api.create_service("a")
        for index in range(1 if cause == "compact" else 5):
            await api.create_service(f"b{index}")
        if cause == "compact":
            await api.set_faults(compact=True)
        events = [event async for event in api.watch("services", query={"resourceVersion": first["metadata"]["resourceVersion"]})]
        assert [(kind, obj["code"], obj["reason"]) for kind, obj in events] == [("ERROR", 410, "Expired")]
        await api.set_faults(http_410=True)
        async with watching(api, "services", resourceVersion=first["metadata"]["resourceVersion"]) as watch:
            error = await refused(watch.next())
        assert (error.status, error.reason) == (410, "Expired")


async def test_watch_from_a_version_of_the_future_waits_for_it(api, server):
    async with watching(api, "services", resourceVersion=str(server.store.version + 1)) as watch:
        await api.create_service("a")
        await api.create_service("b")
        assert await watch.seen(1) == [("ADDED", "b")]
