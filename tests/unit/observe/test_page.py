"""The page and its JSON: who may read them, what the browser is told, and that nothing on the page can act or ask elsewhere."""

import asyncio
import gzip
import hashlib
import re
from base64 import b64encode
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from kvip.observe import http, page
from kvip.observe.http import running

ROOT = Path(__file__).parents[3]
LARGE = b'{"vips": [' + b", ".join(b'"10.0.0.1"' for _ in range(10_000)) + b"]}"


async def nothing():
    return b"{}"


@asynccontextmanager
async def served(state=nothing, *, loopback_only=True, host="127.0.0.1"):
    """Its address, and a client."""
    async with running(page.pages(state, loopback_only=loopback_only)) as runner:
        site = web.TCPSite(runner, host, 0)
        await site.start()
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            yield site.name, session


async def test_the_page_is_one_document_and_tells_the_browser_what_it_may_do():
    async with served() as (url, session), session.get(f"{url}/") as answer:
        assert (answer.status, answer.content_type, answer.charset) == (200, "text/html", "utf-8")
        assert await answer.text() == page.html()
        rules = dict(rule.strip().partition(" ")[::2] for rule in answer.headers["Content-Security-Policy"].split(";"))
        assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == rules["frame-ancestors"] == "'none'"
        assert rules["connect-src"] == "'self'"
        assert (rules["require-trusted-types-for"], rules["trusted-types"]) == ("'script'", "'none'")
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert "http" not in answer.headers["Content-Security-Policy"]
        for name, value in page.COMMON.items():
            assert answer.headers[name] == value


@pytest.mark.parametrize("tag", ["script", "style"])
def test_the_hash_is_that_of_the_one_script_and_the_one_style(tag):
    text = (ROOT / "kvip" / "observe" / "page.html").read_text()
    assert text.count(f"<{tag}") == text.count(f"</{tag}>") == 1
    inside = text[text.index(f"<{tag}>") + len(tag) + 2 : text.index(f"</{tag}>")]
    digest = b64encode(hashlib.sha256(inside.encode()).digest()).decode()
    assert f"{tag}-src 'sha256-{digest}';" in page.policy()


@pytest.mark.parametrize(
    "way",
    ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "createContextualFragment", "eval(", "new Function",
     "setAttribute(\"on", "srcdoc", " onclick=", " onerror=", "style="],
)  # fmt: skip
def test_no_text_becomes_html_or_code(way):
    assert way not in page.html()


def test_nothing_is_loaded_from_anywhere():
    text = page.html()
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"^\s*//.*", "", text, flags=re.MULTILINE))
    assert re.findall(r"""(?:src|href|action)="([^"]*)""", text) == ["data:,", "#changes", "status.json"]
    assert re.findall(r"fetch\(([^,]+),", text) == ['"status.json"']


async def test_the_json_is_what_it_is_given():
    async with served() as (url, session), session.get(f"{url}/status.json") as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert await answer.read() == b"{}"
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("accepted", ["gzip, deflate, br", "identity"])
async def test_a_large_document_is_compressed_for_those_who_take_it(accepted):
    async def state():
        return LARGE

    async with served(state) as (url, session), session.get(f"{url}/status.json", headers={"Accept-Encoding": accepted}) as answer:
        body = await answer.read()
        assert answer.headers["Vary"] == "Accept-Encoding"
        if accepted == "identity":
            assert body == LARGE
        else:
            assert answer.headers["Content-Encoding"] == "gzip"
            assert len(body) < len(LARGE) / 10
            assert gzip.decompress(body) == LARGE


# -- who may read ------------------------------------------------------------------------------------------------------


async def asked(peer, host, *, loopback_only=True):
    """The answers to one with this address, who named the server so: by path."""
    transport = SimpleNamespace(get_extra_info=lambda name, default=None: peer if name == "peername" else default)
    found = {}
    for path, handler in page.pages(nothing, loopback_only=loopback_only).items():
        request = make_mocked_request("GET", path, headers={"Host": host}, transport=transport)
        found[path] = (await handler(request)).status
    return found


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost:2112", "127.0.0.1:2112", "[::1]:2112", "localhost"])
async def test_loopback_may_read(peer, host):
    assert (await asked((peer, 4711), host))["/"] == 200


@pytest.mark.parametrize("peer", [("192.0.2.9", 4711), ("fe80::1%eth0", 4711, 0, 2), ("::ffff:192.0.2.9", 1), ("2001:db8::1", 1), "", None])
async def test_others_may_not_and_are_told_how(peer):
    assert await asked(peer, "localhost:2112") == {"/": 403, "/status.json": 403}
    assert "kubectl port-forward" in page.FOR_LOOPBACK


@pytest.mark.parametrize("host", ["evil.example:2112", "localhost.evil.example", "192.0.2.1:2112", "", "127.0.0.1.evil.example"])
async def test_a_name_that_only_resolves_to_the_loopback_may_not(host):
    """A web page of somebody else's, whose name server says 127.0.0.1 (DNS rebinding)."""
    assert await asked(("127.0.0.1", 4711), host) == {"/": 403, "/status.json": 403}


async def test_everybody_may_where_the_setting_says_so():
    assert (await asked(("192.0.2.9", 4711), "node1:2112", loopback_only=False))["/"] == 200


async def test_only_a_get_is_answered():
    async with served() as (url, session):
        for path in ("/", "/status.json"):
            async with session.post(f"{url}{path}") as answer:
                assert answer.status == 405


# -- what readers cost -------------------------------------------------------------------------------------------------


async def test_more_than_a_few_at_once_are_sent_away_and_served_later():
    gate = asyncio.Event()

    async def state():
        await gate.wait()
        return b"{}"

    async def status(session, url):
        async with session.get(f"{url}/status.json") as answer:
            return answer.status

    async with served(state) as (url, session):
        waiting = [asyncio.create_task(status(session, url)) for _ in range(page.MOST_READERS)]
        await asyncio.sleep(0.2)
        async with session.get(f"{url}/status.json") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        gate.set()
        assert await asyncio.gather(*waiting) == [200] * page.MOST_READERS
        assert await status(session, url) == 200


async def test_one_who_never_reads_his_answer_is_cut_off(monkeypatch):
    monkeypatch.setattr(page, "ANSWER_S", 0.3)

    async def state():
        return b"x" * (16 << 20)

    async with served(state) as (url, session):
        port = int(url.rpartition(":")[2])
        lazy = []
        for _ in range(page.MOST_READERS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(b"GET /status.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
            lazy.append((reader, writer))
        await asyncio.sleep(1)
        async with session.get(f"{url}/status.json", headers={"Accept-Encoding": "gzip"}) as answer:
            assert answer.status == 200
            await answer.read()
        for _, writer in lazy:
            writer.close()


async def test_a_daemon_that_takes_too_long_cuts_the_connection(monkeypatch, caplog):
    monkeypatch.setattr(page, "ANSWER_S", 0.1)

    async def state():
        await asyncio.sleep(30)

    async with served(state) as (url, session):
        with pytest.raises(aiohttp.ClientError):
            async with session.get(f"{url}/status.json") as answer:
                await answer.read()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


# -- beside the metrics ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [True, False])
async def test_it_is_served_beside_the_metrics_where_it_is_wanted(unused_tcp_port, more):
    verdict = SimpleNamespace(good=True, reasons=())
    pages = page.pages(nothing, loopback_only=True) if more else {}
    task = asyncio.create_task(
        http.serve(("127.0.0.1", unused_tcp_port), alive=lambda: verdict, ready=lambda: verdict, update=lambda: None, more=pages)
    )
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with aiohttp.ClientSession() as session:
        async with asyncio.timeout(5):
            while True:
                try:
                    async with session.get(f"{url}/healthz") as answer:
                        assert answer.status == 200
                    break
                except aiohttp.ClientConnectorError:
                    await asyncio.sleep(0.02)
        for path in ("/", "/status.json"):
            async with session.get(f"{url}{path}") as answer:
                assert answer.status == (200 if more else 404)
        async with session.get(f"{url}/metrics") as answer:
            assert answer.status == 200
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
