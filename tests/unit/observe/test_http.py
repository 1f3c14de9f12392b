"""The server behind the metrics port: whoever reaches it can send anything, and fill no log with it."""

import asyncio
import contextlib
import logging

import pytest
from aiohttp import web

from kvip.observe.http import running

NONSENSE = [
    b"\r\n\r\n",
    b"nonsense\r\n\r\n",
    b"GET / HTTP/9\r\n\r\n",
    b"GET /x?\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\0" * 100_000,
]


@contextlib.asynccontextmanager
async def serving(path):
    """One page that fails, and one that does not, on a socket in place of the port."""

    async def well(_):
        return web.Response(text="well")

    async def broken(_):
        raise RuntimeError("a bug")

    async with running({"/well": well, "/broken": broken}) as runner:
        await web.UnixSite(runner, path).start()
        yield


async def ask(path, raw):
    reader, writer = await asyncio.open_unix_connection(path)
    answer = b""
    with contextlib.suppress(ConnectionError, TimeoutError, asyncio.IncompleteReadError):
        writer.write(raw)
        async with asyncio.timeout(0.5):
            answer = await reader.readuntil(b"\r\n\r\n") + await reader.read(100)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return answer


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "page.sock")


@pytest.mark.parametrize("raw", NONSENSE, ids=range(len(NONSENSE)))
async def test_nonsense_writes_no_line_and_the_next_request_is_answered(path, caplog, raw):
    caplog.set_level(logging.INFO)
    async with serving(path):
        answer = await ask(path, raw)
        assert not answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 5"))
        assert b"well" in await ask(path, b"GET /well HTTP/1.1\r\nHost: x\r\n\r\n")
    assert [record.getMessage() for record in caplog.records] == []


async def test_a_bug_of_a_page_is_an_error_in_the_log(path, caplog):
    async with serving(path):
        assert b" 500 " in await ask(path, b"GET /broken HTTP/1.1\r\nHost: x\r\n\r\n")
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("ERROR", "kvip.observe.requests")
    assert isinstance(record.exc_info[1], RuntimeError)
