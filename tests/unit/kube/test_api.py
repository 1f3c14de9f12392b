import asyncio
import gc
import weakref

import pytest

from kvip.errors import ApiError
from kvip.kube.api import path_of
from tests.unit.kube.kube_server import Feed, answer, api_of, hang, hang_up, kube_server, status, until


def test_names_are_quoted_as_one_segment():
    assert path_of("api", "v1", "a/b c?", "..", "é") == "/api/v1/a%2Fb%20c%3F/%2E%2E/%C3%A9"


async def test_verbs_send_path_parameters_and_body(tmp_path):
    codes = []
    async with kube_server() as server, api_of(server, tmp_path, on_request=lambda verb, code: codes.append((verb, code))) as api:
        server.default = answer(200, b'{"a":1}')
        path = path_of("x", "a/b")
        assert await api.get(path, params={"fieldSelector": "metadata.name=é"}, deadline_s=2) == b'{"a":1}'
        await api.post(path, body=b"{}", deadline_s=2)
        await api.put(path, body=b"{}", deadline_s=2)
        await api.patch(path, body=b"{}", deadline_s=2)
        await api.delete(path, deadline_s=2)
    assert [seen.method for seen in server.seen] == ["GET", "POST", "PUT", "PATCH", "DELETE"]
    assert {seen.path for seen in server.seen} == {"/x/a%2Fb"}
    assert server.seen[0].query == {"fieldSelector": "metadata.name=é"}
    assert server.seen[3].headers["Content-Type"] == "application/merge-patch+json"
    assert codes == [(verb, 200) for verb in ("GET", "POST", "PUT", "PATCH", "DELETE")]


async def test_an_error_carries_what_the_server_said(tmp_path):
    async with kube_server() as server, api_of(server, tmp_path) as api:
        server.default = answer(429, status(429, "TooManyRequests", "slow down", retryAfterSeconds=3), {"Retry-After": "2"})
        with pytest.raises(ApiError) as caught:
            await api.get("/x", deadline_s=2)
    error = caught.value
    assert (error.status, error.reason, error.message, error.retry_after_s) == (429, "TooManyRequests", "slow down", 3.0)


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (502, b"<html>\xff"),
        (403, b""),
        (302, b"{}"),
        (500, b'{"reason":5}'),
        (500, b'{"reason":"\xff"}'),
        (500, b'{"x":' + b"[" * 100_000),
        (500, b'{"details":{"retryAfterSeconds":' + b"9" * 400 + b"}}"),
    ],
)
async def test_an_error_of_another_shape_is_an_error_as_well(tmp_path, code, body):
    async with kube_server(answer(code, body, {"Location": "/elsewhere"})) as server, api_of(server, tmp_path) as api:
        with pytest.raises(ApiError) as caught:
            await api.get("/x", deadline_s=2)
    assert caught.value.status == code
    assert caught.value.reason
    # A redirect is never followed: it would carry the token elsewhere.
    assert len(server.seen) == 1


async def test_a_server_that_never_answers_meets_the_deadline(tmp_path):
    codes = []
    async with kube_server(hang) as server, api_of(server, tmp_path, on_request=lambda verb, code: codes.append(code)) as api:
        before = asyncio.get_running_loop().time()
        with pytest.raises(ApiError) as caught:
            await api.put("/x", body=b"{}", deadline_s=0.05)
        assert asyncio.get_running_loop().time() - before < 0.5
    assert (caught.value.status, caught.value.reason, codes) == (0, "TimeoutError", [0])


async def test_a_body_that_never_ends_meets_the_deadline(tmp_path):
    async with kube_server(Feed(b"{")) as server, api_of(server, tmp_path) as api:
        with pytest.raises(ApiError) as caught:
            await api.get("/x", deadline_s=0.05)
    assert caught.value.status == 0


async def test_a_refused_or_broken_connection_is_an_api_error(tmp_path):
    async with kube_server() as server:
        server.default = hang_up
        async with api_of(server, tmp_path) as api:
            with pytest.raises(ApiError) as caught:
                await api.post("/x", body=b"{}", deadline_s=2)
            assert caught.value.reason == "ServerDisconnectedError"
    async with api_of(server, tmp_path) as api:
        with pytest.raises(ApiError) as caught:
            await api.get("/x", deadline_s=2)
    assert (caught.value.status, caught.value.reason) == (0, "ClientConnectorError")


async def test_cancellation_passes(tmp_path):
    async with kube_server(hang) as server, api_of(server, tmp_path) as api:
        task = asyncio.ensure_future(api.get("/x", deadline_s=5))
        await until(lambda: server.seen)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_stream_yields_lines_and_drops_a_torn_end(tmp_path):
    feed = Feed(b"on", b"e\ntwo\nth").end()
    async with kube_server(feed) as server, api_of(server, tmp_path) as api, api.stream("/x", headers_s=1, idle_s=1) as lines:
        assert [line async for line in lines] == [b"one", b"two"]


async def test_silence_in_a_stream_is_an_error(tmp_path):
    async with kube_server(Feed(b"one\n")) as server, api_of(server, tmp_path) as api:
        got = []

        async def follow():
            async with api.stream("/x", headers_s=1, idle_s=0.05) as lines:
                async for line in lines:
                    got.append(line)  # noqa: PERF401  (what came before the failure is the point)

        with pytest.raises(ApiError) as caught:
            await follow()
    assert (got, caught.value.status, caught.value.reason) == ([b"one"], 0, "SocketTimeoutError")


async def test_a_stream_that_does_not_begin_is_an_error(tmp_path):
    async with kube_server(hang) as server, api_of(server, tmp_path) as api:
        with pytest.raises(ApiError) as caught:
            async with api.stream("/x", headers_s=0.05, idle_s=5):
                pass
    assert caught.value.reason == "TimeoutError"


async def test_leaving_a_stream_closes_its_connection(tmp_path):
    gone = asyncio.Event()

    async def watched(request):
        try:
            return await Feed(b"one\n")(request)
        finally:
            gone.set()

    async with kube_server(watched) as server, api_of(server, tmp_path) as api:
        async with api.stream("/x", headers_s=1, idle_s=5) as lines:
            assert await anext(aiter(lines)) == b"one"
        async with asyncio.timeout(1):
            await gone.wait()


@pytest.mark.parametrize("how", ["refused", "unanswered", "cut off", "refused stream", "unanswered stream"])
async def test_failures_without_end_leave_none_of_them_behind(tmp_path, how):
    """Its traceback holds the frames of all who waited for the answer: in a circle with one of them it stays until the collector comes."""
    left = []

    async def fail(api):
        try:
            if how.endswith("stream"):
                async with api.stream("/x", headers_s=0.05, idle_s=1):
                    pass
            else:
                await api.put("/x", body=b"{}", deadline_s=0.05)
        except ApiError as error:
            left.append(weakref.ref(error))

    async with kube_server() as server, api_of(server, tmp_path) as api:
        server.default = hang if how.startswith("unanswered") else hang_up if how == "cut off" else answer(409, status(409, "Conflict"))
        gc.disable()
        try:
            for _ in range(5):
                await fail(api)
            assert [ref() is None for ref in left] == [True] * 5
        finally:
            gc.enable()
