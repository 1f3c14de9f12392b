import asyncio
import logging
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvip.clock import ManualClock, SystemClock
from kvip.core.model import ServiceKey, Uid
from kvip.kube import events
from kvip.kube.events import EventWriter, TokenBucket, cut
from tests.unit.kube.kube_server import answer, api_of, hang, kube_server, running, status

WEB = ServiceKey("default/web")


def post(writer, number=0, *, message="bound", **options):
    writer.post(WEB, Uid(f"u{number}"), reason="VIPBound", message=message, **options)


@given(st.text(max_size=60), st.integers(3, 40))
def test_a_cut_message_is_short_enough_and_whole_utf8(text, limit):
    short = cut(text, limit_bytes=limit)
    assert len(short.encode()) <= limit
    assert short == text or (short.endswith("...") and text.startswith(short[:-3]))


def test_a_burst_passes_and_then_a_steady_rate():
    clock = ManualClock()
    bucket = TokenBucket(clock, rate_per_s=20, burst=3)
    assert [bucket.take() for _ in range(5)] == [0.0, 0.0, 0.0, 0.05, 0.1]
    clock.advance(0.15)
    assert bucket.take() == pytest.approx(0.0)
    clock.advance(3600)
    assert [bucket.take() for _ in range(4)] == [0.0, 0.0, 0.0, 0.05]


async def test_an_event_has_what_kubectl_describe_needs(tmp_path):
    async with kube_server(answer(201, b"{}")) as server, api_of(server, tmp_path) as api:
        writer = EventWriter(api, node="n1", clock=ManualClock())
        post(writer, warning=True)
        async with running(writer.run()):
            assert await writer.drain(timeout_s=2) == 0
    request = server.seen[0]
    assert (request.method, request.path) == ("POST", "/api/v1/namespaces/default/events")
    metadata = request.body.pop("metadata")
    assert metadata["namespace"] == "default"
    assert metadata["name"].startswith("web.")
    assert request.body == {
        "apiVersion": "v1",
        "kind": "Event",
        "involvedObject": {"apiVersion": "v1", "kind": "Service", "namespace": "default", "name": "web", "uid": "u0"},
        "reason": "VIPBound",
        "message": "bound",
        "type": "Warning",
        "source": {"component": "kvip", "host": "n1"},
        "reportingComponent": "kvip",
        "reportingInstance": "n1",
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "count": 1,
    }


async def test_names_are_unique_and_within_the_limit(tmp_path):
    async with kube_server() as server, api_of(server, tmp_path) as api:
        server.default = answer(201, b"{}")
        writer = EventWriter(api, node="n1", clock=ManualClock())
        for number in range(5):
            writer.post(ServiceKey("default/" + "x" * 253), Uid(str(number)), reason="VIPBound", message="m" * 5000)
        async with running(writer.run()):
            await writer.drain(timeout_s=2)
    names = {request.body["metadata"]["name"] for request in server.seen}
    assert len(names) == 5
    assert max(map(len, names)) <= 253
    assert {len(request.body["message"]) for request in server.seen} == {1024}


async def test_the_same_event_is_left_out_for_ten_minutes(tmp_path):
    async with kube_server() as server, api_of(server, tmp_path) as api:
        clock = ManualClock()
        writer = EventWriter(api, node="n1", clock=clock)
        post(writer)
        post(writer)
        post(writer, 1)
        assert (writer.pending, writer.repeated) == (2, 1)
        clock.advance(601)
        post(writer)
        assert (writer.pending, writer.repeated) == (3, 1)
    assert server.seen == []


async def test_a_full_queue_drops_its_oldest(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "QUEUE_LIMIT", 3)
    async with kube_server() as server, api_of(server, tmp_path) as api:
        server.default = answer(201, b"{}")
        writer = EventWriter(api, node="n1", clock=ManualClock())
        for number in range(5):
            post(writer, number)
        async with running(writer.run()):
            await writer.drain(timeout_s=2)
        assert (writer.overflowed, writer.posted) == (2, 3)
    assert {request.body["involvedObject"]["uid"] for request in server.seen} == {"u2", "u3", "u4"}


async def test_the_rate_holds_on_the_wire(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "RATE_PER_S", 100.0)
    monkeypatch.setattr(events, "BURST", 5)
    async with kube_server() as server, api_of(server, tmp_path) as api:
        server.default = answer(201, b"{}")
        began = time.monotonic()
        writer = EventWriter(api, node="n1", clock=SystemClock())
        for number in range(15):
            post(writer, number)
        async with running(writer.run()):
            assert await writer.drain(timeout_s=2) == 0
        assert server.seen[-1].at - began >= 0.08


@pytest.mark.parametrize(("code", "posted", "failures"), [(409, 1, 0), (404, 0, 1), (403, 0, 1), (422, 0, 1)])
async def test_an_answer_that_no_retry_cures_ends_the_event(tmp_path, code, posted, failures):
    async with kube_server(answer(code, status(code, "X"))) as server, api_of(server, tmp_path) as api:
        writer = EventWriter(api, node="n1", clock=ManualClock())
        post(writer)
        async with running(writer.run()):
            await writer.drain(timeout_s=2)
        assert (writer.posted, writer.failures, len(server.seen)) == (posted, failures, 1)


async def test_a_busy_server_is_tried_again_and_the_trouble_logged_once(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(events, "RETRY_MIN_S", 0.001)
    async with kube_server(answer(500), answer(503), answer(201, b"{}")) as server, api_of(server, tmp_path) as api:
        writer = EventWriter(api, node="n1", clock=ManualClock())
        post(writer)
        async with running(writer.run()):
            await writer.drain(timeout_s=2)
        assert (writer.posted, writer.failures, len(server.seen)) == (1, 2, 3)
    assert [record.message for record in caplog.records if record.name == events.__name__] == [
        "events cannot be posted",
        "events are posted again",
    ]


async def test_draining_ends_at_its_limit(tmp_path, caplog):
    async with kube_server() as server, api_of(server, tmp_path) as api:
        server.default = hang
        writer = EventWriter(api, node="n1", clock=ManualClock())
        post(writer)
        async with running(writer.run()):
            assert await writer.drain(timeout_s=0.03) == 1
    assert caplog.records[-1].message == "events not posted before the end"


async def test_an_event_waits_for_its_turn(tmp_path):
    turn = asyncio.Event()
    async with kube_server() as server, api_of(server, tmp_path) as api:
        server.default = answer(201, b"{}")
        writer = EventWriter(api, node="n1", clock=ManualClock(), turn=lambda: turn.wait())
        post(writer)
        async with running(writer.run()):
            await asyncio.sleep(0.05)
            assert not server.seen
            assert writer.pending == 1
            turn.set()
            assert await writer.drain(timeout_s=2) == 0
    assert len(server.seen) == 1
