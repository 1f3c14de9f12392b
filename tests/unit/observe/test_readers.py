"""The socket for readers: its owner's alone, in place of a dead daemon's, and nobody who hangs or floods holds up another."""

import asyncio
import contextlib
import json
import os
import socket
import stat
from urllib.parse import quote

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from kvip.cli import daemon_view
from kvip.errors import KvipError
from kvip.observe import readers
from kvip.observe.readers import MOST_READERS, open_listener


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "state" / "kvip.sock")


class Served:
    """A server beside the test; its documents say how often they were asked for."""

    def __init__(self, path, *, answer=b""):
        self.path = path
        self.answer = answer
        self.asked = 0

    async def state(self):
        self.asked += 1
        return json.dumps({"asked": self.asked}).encode()

    def explanation(self, service):
        return self.answer or json.dumps({"service": service}).encode()

    async def __aenter__(self):
        self.task = asyncio.create_task(readers.serve(self.path, state=self.state, explanation=self.explanation))
        async with asyncio.timeout(5):
            while not os.path.exists(self.path):  # noqa: ASYNC240
                await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def ask(self, target="/state"):
        return json.loads(await asyncio.to_thread(daemon_view.ask, self.path, target))


async def test_one_request_gets_one_document(path):
    async with Served(path) as served:
        assert await served.ask() == {"asked": 1}
        assert await served.ask("/explain?service=default%2Fweb") == {"service": "default/web"}


async def test_only_the_owner_may_open_it_and_it_goes_with_the_daemon(path):
    async with Served(path):
        found = os.stat(path).st_mode
        assert stat.S_ISSOCK(found)
        assert stat.S_IMODE(found) == 0o600
        assert os.listdir(os.path.dirname(path)) == ["kvip.sock"]
    assert os.listdir(os.path.dirname(path)) == []


@pytest.mark.parametrize("target", ["/explain", "/explain?service=web", "/explain?service=a/b/c", "/explain?service=/x", "/nothing"])
async def test_a_request_that_cannot_be_answered_is_refused(path, target):
    async with Served(path) as served:
        with pytest.raises(KvipError, match=r"with 40[04]"):
            await served.ask(target)
        assert served.asked == 0


async def test_the_socket_of_a_dead_daemon_is_replaced(path):
    os.makedirs(os.path.dirname(path))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    async with Served(path) as served:
        async with asyncio.timeout(5):
            while stat.S_IMODE(os.stat(path).st_mode) != 0o600:
                await asyncio.sleep(0.01)
        assert await served.ask() == {"asked": 1}


def test_the_socket_of_a_living_daemon_and_a_file_that_is_none_are_left_alone(tmp_path):
    taken, other = str(tmp_path / "a.sock"), tmp_path / "b.sock"
    other.write_text("precious")
    with open_listener(taken), pytest.raises(OSError, match="another daemon serves it"):
        open_listener(taken)
    with pytest.raises(OSError, match="no socket"):
        open_listener(str(other))
    assert other.read_text() == "precious"


async def test_a_place_that_cannot_be_written_is_one_warning_and_the_rest_goes_on(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(readers, "RETRY_S", 0.01)
    obstacle = tmp_path / "file"
    obstacle.write_text("")
    path = str(obstacle / "kvip.sock")
    task = asyncio.create_task(readers.serve(path, state=None, explanation=None))
    await asyncio.sleep(0.1)
    assert not task.done()
    assert [record.message for record in caplog.records] == ["the socket for readers cannot be opened; trying again"]
    obstacle.unlink()
    async with asyncio.timeout(5):
        while not os.path.exists(path):  # noqa: ASYNC240
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_readers_that_ask_nothing_hold_up_nobody_for_longer_than_their_time(path):
    async with Served(path) as served:
        hung = [socket.socket(socket.AF_UNIX) for _ in range(MOST_READERS)]
        for each in hung:
            each.connect(path)
        hung[0].sendall(b"GET /state HTTP/1.1\r\nX-Slow: ")
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await served.ask() == {"asked": 1}
        assert loop.time() - began < 2
        for each in hung:
            each.close()


async def test_a_reader_that_asked_has_longer_for_the_answer(path, monkeypatch):
    monkeypatch.setattr(readers, "ASK_S", 0.1)
    async with Served(path) as served:
        served.state = lambda: asyncio.sleep(0.5, b"{}")
        served.task.cancel()
        await asyncio.gather(served.task, return_exceptions=True)
        served.task = asyncio.create_task(readers.serve(path, state=served.state, explanation=served.explanation))
        await asyncio.sleep(0.1)
        assert await served.ask() == {}


async def test_a_reader_that_never_reads_its_answer_is_cut_off(path, monkeypatch):
    monkeypatch.setattr(readers, "READER_S", 0.3)
    async with Served(path) as served:
        served.state = lambda: asyncio.sleep(0, b"x" * (4 << 20))
        served.task.cancel()
        await asyncio.gather(served.task, return_exceptions=True)
        served.task = asyncio.create_task(readers.serve(path, state=served.state, explanation=served.explanation))
        await asyncio.sleep(0.1)
        with socket.socket(socket.AF_UNIX) as lazy:
            lazy.connect(path)
            lazy.sendall(b"GET /state HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.sleep(1)
            lazy.settimeout(1)
            got = b""
            while chunk := _read(lazy):
                got += chunk
            assert 0 < len(got) < 4 << 20


def _read(one):
    try:
        return one.recv(1 << 20)
    except ConnectionResetError:
        return b""


async def test_a_flood_is_served_at_a_pace(path):
    async with Served(path) as served:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout(10):
            await asyncio.gather(*(served.ask() for _ in range(20)))
        assert served.asked == 20
        assert loop.time() - began >= 19 * readers.PACE_S


async def test_one_connection_gets_one_answer(path):
    async with Served(path) as served:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /state HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        async with asyncio.timeout(5):
            answer = await reader.read()
        assert answer.count(b"HTTP/1.1 200") == served.asked == 1
        writer.close()


REQUESTS = st.binary(max_size=120) | st.builds(
    lambda method, target, version, headers, body: b" ".join((method, target, version)) + b"\r\n" + headers + b"\r\n" + body,
    st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"PRI", b"\xff", b"get"]),
    st.sampled_from([b"/state", b"/explain", b"*", b"http://x/state", b"/explain?service=", b"/../state", b"//"])
    | st.binary(max_size=20).map(lambda raw: b"/explain?service=default/" + raw)
    | st.text(max_size=8).map(lambda text: b"/explain?service=default/" + quote(text, errors="surrogatepass").encode()),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9", b""]),
    st.sampled_from(
        [b"", b"Host: x\r\n", b"Content-Length: 9999999999\r\n", b"Transfer-Encoding: chunked\r\n", b"Upgrade: websocket\r\n", b":\r\n"]
    ),
    st.sampled_from([b"", b"ffffffffffffffff\r\n", b"x" * 8_500, b"GET /state HTTP/1.1\r\n\r\n" * 20]),
)


async def _sent(path, raw):
    """What came back for these bytes."""
    reader, writer = await asyncio.open_unix_connection(path)
    answer = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        writer.write(raw)
        await writer.drain()
        async with asyncio.timeout(0.05):
            answer = await reader.read(10_000)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return answer


def test_whatever_a_reader_sends_the_next_one_is_answered(path, monkeypatch, caplog):
    monkeypatch.setattr(readers, "PACE_S", 0.0)
    monkeypatch.setattr(readers, "ASK_S", 5.0)
    with asyncio.Runner() as runner:
        served = runner.run(Served(path).__aenter__())

        @settings(max_examples=60, deadline=None, phases=(Phase.explicit, Phase.generate))
        @given(raw=REQUESTS)
        @example(raw=b"GET /explain?service=default/%ED%A0%80 HTTP/1.1\r\n\r\n")
        @example(raw=b"GET /explain?service=default/\xff HTTP/1.1\r\n\r\n")
        def one(raw):
            answer = runner.run(asyncio.wait_for(_sent(path, raw), 5))
            assert b"HTTP/1.1 500" not in answer
            assert runner.run(asyncio.wait_for(served.ask("/explain?service=default%2Fweb"), 5)) == {"service": "default/web"}
            assert not served.task.done()

        one()
        runner.run(served.__aexit__())
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []


async def test_an_answer_that_is_read_to_its_end_late_ends_no_server(path):
    """Of some size, what the kernel does not take at once is no reason to wait: the connection is closed with the rest still to go out."""
    await asyncio.gather(*(_read_late(f"{path}.{size}", size) for size in range(100 << 10, 500 << 10, 40 << 10)))


async def _read_late(path, size):
    async with Served(path, answer=b"x" * size) as served:
        with socket.socket(socket.AF_UNIX) as late:
            late.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(late, path)
            await loop.sock_sendall(late, b"GET /explain?service=default/web HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.sleep(0.05)
            got = 0
            async with asyncio.timeout(5):
                while chunk := await loop.sock_recv(late, 1 << 20):
                    got += len(chunk)
            assert got > size
        await asyncio.sleep(0.05)
        assert not served.task.done(), size
