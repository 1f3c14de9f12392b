"""Raw requests to the API server: bytes in, bytes out, each with a deadline, each failure an `ApiError`.

In: verb, path, parameters, body. Out: the body of a 2xx answer, or the lines of a watch. Must not decode objects, retry,
or wait without a limit. One caution: aiohttp sends an idempotent request (GET, PUT, DELETE) again when a kept-alive
connection turns out closed, so a PUT that arrived may be answered 409 by the second try.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from kvip.errors import UNREADABLE, ApiError
from kvip.kube.auth import Connection
from kvip.kube.stream import LineSplitter

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"

Params = Mapping[str, str]
Observer = Callable[[str, int], None]
"""Called with the verb and the HTTP status of each answer; 0 = no answer."""


class _Details(msgspec.Struct, rename="camel"):
    retry_after_seconds: float | None = None


class _Status(msgspec.Struct):
    """metav1.Status: the body of an error."""

    reason: str | None = None
    message: str | None = None
    details: _Details | None = None


_status_decoder = msgspec.json.Decoder(_Status)


def path_of(*segments: str) -> str:
    """An API path from its segments, each quoted: a name of ".." or "a/b" stays one segment."""
    return "".join("/" + (segment.replace(".", "%2E") if segment in (".", "..") else quote(segment, safe="")) for segment in segments)


class Api:
    """The verbs over one `Connection`; made once per connection, used by many tasks at once."""

    def __init__(self, connection: Connection, *, on_request: Observer | None = None) -> None:
        self._connection = connection
        self._on_request = on_request

    async def get(self, path: str, *, params: Params | None = None, deadline_s: float) -> bytes:
        """GET, done within `deadline_s` or `ApiError`."""
        return await self._request("GET", path, params=params, body=None, deadline_s=deadline_s, content_type=JSON)

    async def date(self, *, deadline_s: float) -> str:
        """The Date header of an answer: the server's wall clock, to the second; "" = it sent none."""
        response, _ = await self._exchange("GET", "/readyz", params=None, body=None, deadline_s=deadline_s, content_type=JSON)
        return response.headers.get("Date", "")

    async def post(
        self, path: str, *, params: Params | None = None, body: bytes | None, deadline_s: float, content_type: str = JSON
    ) -> bytes:
        """POST, done within `deadline_s` or `ApiError`; after a status of 0 it may still have been carried out."""
        return await self._request("POST", path, params=params, body=body, deadline_s=deadline_s, content_type=content_type)

    async def put(
        self, path: str, *, params: Params | None = None, body: bytes | None, deadline_s: float, content_type: str = JSON
    ) -> bytes:
        """PUT, done within `deadline_s` or `ApiError`; after a status of 0 it may still have been carried out."""
        return await self._request("PUT", path, params=params, body=body, deadline_s=deadline_s, content_type=content_type)

    async def patch(
        self, path: str, *, params: Params | None = None, body: bytes | None, deadline_s: float, content_type: str = MERGE_PATCH
    ) -> bytes:
        """PATCH (RFC 7386 merge patch unless told otherwise), done within `deadline_s` or `ApiError`."""
        return await self._request("PATCH", path, params=params, body=body, deadline_s=deadline_s, content_type=content_type)

    async def delete(
        self, path: str, *, params: Params | None = None, body: bytes | None = None, deadline_s: float, content_type: str = JSON
    ) -> bytes:
        """DELETE, done within `deadline_s` or `ApiError`; the body is a metav1.DeleteOptions."""
        return await self._request("DELETE", path, params=params, body=body, deadline_s=deadline_s, content_type=content_type)

    @asynccontextmanager
    async def stream(
        self, path: str, *, params: Params | None = None, headers_s: float, idle_s: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A watch, as an iterator over its lines; a line cut short by the end of the stream is left out.

        The answer must begin within `headers_s`, and something must come at least each `idle_s`; else `ApiError`.
        """
        response: aiohttp.ClientResponse | None = None
        try:
            with self._failures("WATCH", path):
                async with asyncio.timeout(headers_s):
                    response = await self._send("GET", path, params=params, body=None, content_type=JSON, idle_s=idle_s)
                    await _check(response, "WATCH", path)
        except BaseException:
            if response is not None:
                response.close()
            raise
        self._observe("WATCH", response.status)
        try:
            yield _lines(response, path)
        finally:
            response.close()

    async def _request(
        self, verb: str, path: str, *, params: Params | None, body: bytes | None, deadline_s: float, content_type: str
    ) -> bytes:
        return (await self._exchange(verb, path, params=params, body=body, deadline_s=deadline_s, content_type=content_type))[1]

    async def _exchange(
        self, verb: str, path: str, *, params: Params | None, body: bytes | None, deadline_s: float, content_type: str
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        with self._failures(verb, path):
            async with asyncio.timeout(deadline_s):
                response = await self._send(verb, path, params=params, body=body, content_type=content_type, idle_s=None)
                async with response:
                    await _check(response, verb, path)
                    answer = await response.read()
        self._observe(verb, response.status)
        return response, answer

    @contextmanager
    def _failures(self, verb: str, path: str) -> Iterator[None]:
        """Every failure is observed, those of transport become an `ApiError`; a cancellation, or a bug, passes as it is.

        None is kept in a variable: with its traceback it would hold this frame, and the frame would hold it."""
        try:
            yield
        except ApiError as error:
            self._observe(verb, error.status)
            raise
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._observe(verb, 0)
            raise ApiError(verb, path, status=0, reason=type(error).__name__, message=str(error)) from error
        except BaseException:
            self._observe(verb, 0)
            raise

    async def _send(
        self, verb: str, path: str, *, params: Params | None, body: bytes | None, content_type: str, idle_s: float | None
    ) -> aiohttp.ClientResponse:
        connection = self._connection
        headers = await connection.headers()
        if body is not None:
            headers["Content-Type"] = content_type
        return await connection.session.request(
            verb,
            URL(connection.host + path, encoded=True),
            params=params,
            data=body,
            headers=headers,
            allow_redirects=False,
            server_hostname=connection.tls_server_name,
            proxy=connection.proxy,
            proxy_headers=connection.proxy_headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_read=idle_s),
        )

    def _observe(self, verb: str, status: int) -> None:
        if self._on_request is not None:
            self._on_request(verb, status)


async def _lines(response: aiohttp.ClientResponse, path: str) -> AsyncIterator[bytes]:
    splitter = LineSplitter()
    try:
        async for chunk in response.content.iter_any():
            for line in splitter.feed(chunk):
                yield line
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise ApiError("WATCH", path, status=0, reason=type(error).__name__, message=str(error)) from error


async def _check(response: aiohttp.ClientResponse, verb: str, path: str) -> None:
    """Turn any answer but 2xx into an `ApiError` with what the server said about it."""
    if 200 <= response.status < 300:
        return
    body = await response.read()
    try:
        status = _status_decoder.decode(body)
    except UNREADABLE:
        status = _Status(message=body[:200].decode(errors="replace"))
    header = response.headers.get("Retry-After", "")
    retry_after_s = float(header) if header.isascii() and header.isdecimal() else 0.0
    if status.details and status.details.retry_after_seconds:
        retry_after_s = max(retry_after_s, status.details.retry_after_seconds)
    reason = status.reason or response.reason or "Unknown"
    raise ApiError(verb, path, status=response.status, reason=reason, message=status.message or "", retry_after_s=retry_after_s)
