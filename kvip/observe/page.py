"""The page at `/` of the metrics address, and the JSON that it shows: `/status.json`, the same document as `kvip status --json`.

Input: what gives the document, and who may read. Output: what answers a GET. It must not know how the daemon works; and the page must
load nothing but that document, nor run anything but its own script: the browser is told so by hashes.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import zlib
from base64 import b64encode
from collections.abc import Awaitable, Callable
from functools import cache
from hashlib import sha256
from importlib import resources

from aiohttp import web

from kvip.observe.http import Pages

MOST_READERS = 4
"""Documents that are being sent at once."""
ANSWER_S = 10.0
"""From the question to the last byte of the answer."""
COMPRESSED_FROM = 16_384
"""Bytes."""
_GZIP = 16 + zlib.MAX_WBITS
COMMON = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
FOR_LOOPBACK = (
    "this page is for the node's own loopback: kubectl port-forward -n kube-system POD PORT, then http://localhost:PORT/; "
    "the setting page=all opens it to whoever reaches this port\n"
)


@cache
def html() -> str:
    """The page, one document."""
    return resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")


@cache
def policy() -> str:
    """The Content-Security-Policy of the page: its own script and style by their hashes, its own origin to ask, and nothing else.

    Trusted Types (W3C) with no policy: the browser itself refuses text where it expects HTML.
    """
    text = html()
    hashes = {tag: _hashes(text, tag) for tag in ("script", "style")}
    return (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hashes(text: str, tag: str) -> str:
    found = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return " ".join(f"'sha256-{b64encode(sha256(each.encode()).digest()).decode()}'" for each in found)


def pages(state: Callable[[], Awaitable[bytes]], *, loopback_only: bool) -> Pages:
    """`/` and `/status.json`. `state` gives the document, as JSON; it waits rather than hold the event loop."""
    readers = 0

    async def page(request: web.Request) -> web.Response:
        if refused := _refusal(request, loopback_only=loopback_only):
            return refused
        return web.Response(text=html(), content_type="text/html", headers={"Content-Security-Policy": policy(), **COMMON})

    async def document(request: web.Request) -> web.Response:
        nonlocal readers
        if refused := _refusal(request, loopback_only=loopback_only):
            return refused
        if readers >= MOST_READERS:
            return web.Response(status=503, text="others are being answered; ask again\n", headers={"Retry-After": "1", **COMMON})
        readers += 1
        try:
            async with asyncio.timeout(ANSWER_S):
                response = await _json(await state(), compress="gzip" in request.headers.get("Accept-Encoding", ""))
                await response.prepare(request)
                await response.write_eof()
                return response
        except (TimeoutError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=503)
        finally:
            readers -= 1

    return {"/": page, "/status.json": document}


async def _json(document: bytes, *, compress: bool) -> web.Response:
    headers = {"Vary": "Accept-Encoding", **COMMON}
    if compress and len(document) >= COMPRESSED_FROM:
        headers["Content-Encoding"] = "gzip"
        # zlib lets go of the interpreter's lock.
        document = await asyncio.to_thread(zlib.compress, document, 1, _GZIP)
    return web.Response(body=document, content_type="application/json", headers=headers)


def _refusal(request: web.Request, *, loopback_only: bool) -> web.Response | None:
    """What is answered to one who may not read; None = he may."""
    if not loopback_only or (_from_loopback(request) and _named_as_loopback(request)):
        return None
    return web.Response(status=403, text=FOR_LOOPBACK, headers=COMMON)


def _from_loopback(request: web.Request) -> bool:
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    if not isinstance(peer, tuple):
        return False
    address = ipaddress.ip_address(peer[0])
    return ((isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address).is_loopback


def _named_as_loopback(request: web.Request) -> bool:
    """Not a name that somebody's name server resolves to 127.0.0.1 for a page of his own (DNS rebinding)."""
    try:
        name = request.url.host or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
