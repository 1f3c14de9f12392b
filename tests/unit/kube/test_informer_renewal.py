"""A renewal of the informer: a whole new snapshot, whatever the stream does at that instant."""

import asyncio
import json
from contextlib import asynccontextmanager

from kvip.clock import ManualClock
from kvip.core.objects import Service
from kvip.kube.decode import ObjectDecoder
from kvip.kube.informer import Informer
from tests.unit.kube.kube_server import (
    PATH,
    QUICK,
    Feed,
    added,
    bookmark,
    event,
    informing,
    initial,
    running,
    service,
    until,
)


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
