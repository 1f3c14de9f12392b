import pytest

from tests.unit.kube.kube_server import GONE, Feed, added, answer, bookmark, event, informing, initial, listing, service, uids, until


async def test_a_malformed_object_disturbs_no_other(tmp_path):
    feed = Feed(*added(service("a", 1), service("bad", 2, spec={"ports": 5}), service("b", 3)), bookmark(5, initial_end=True))
    async with informing(tmp_path, feed) as (server, informer, told):
        await until(lambda: informer.synced)
        assert (list(informer.store), informer.broken) == (["default/a", "default/b"], 1)
        feed.push(event("MODIFIED", service("a", 6, spec=7)), event("MODIFIED", service("b", 7)))
        await until(lambda: len(told) == 3)
        assert informer.store["default/a"].metadata.resource_version == "1"
        feed.push(event("DELETED", service("a", 8, spec=7)))
        await until(lambda: "default/a" not in informer.store)
        assert len(server.seen) == 1


async def test_a_known_object_that_turns_malformed_survives_a_relist(tmp_path):
    script = (
        answer(400),
        answer(200, listing(5, service("same", 1), service("other", 2), service("gone", 3))),
        answer(410, GONE),
        answer(200, listing(9, service("same", 6, spec=1), service("other", 7, uid="new-uid", spec=1), service("b", 8))),
    )
    async with informing(tmp_path, *script) as (_server, informer, _):
        await until(lambda: "default/b" in informer.store)
        # The one with another uid is another object: its predecessor is gone for certain.
        assert uids(informer) == {"default/same": "uid-same", "default/b": "uid-b"}


async def test_an_object_without_a_readable_name_may_be_any_so_nothing_is_missing(tmp_path):
    script = (
        answer(400),
        answer(200, listing(5, service("a", 1))),
        answer(410, GONE),
        answer(200, listing(9, service("b", 8), {"metadata": 5})),
    )
    async with informing(tmp_path, *script) as (_server, informer, told):
        await until(lambda: "default/b" in informer.store)
        assert list(informer.store) == ["default/a", "default/b"]
        assert told == ["default/a", "default/b"]


@pytest.mark.parametrize("line", [b"not json\n", b'{"type":"ADDED"}\n'])
async def test_a_line_that_is_no_event_leads_to_a_new_snapshot(tmp_path, line):
    script = initial(5, service("a", 1)).end(), Feed(line), initial(9, service("b", 8))
    async with informing(tmp_path, *script) as (_server, informer, _):
        await until(lambda: list(informer.store) == ["default/b"])
